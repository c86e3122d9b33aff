"""Where the progress of a session is shown: on a terminal, in the cell of a notebook, or line by line in a file."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from pilot import html
from pilot.manager.notebook import is_notebook

#: Seconds between two lines in a file, such as the output of a batch job.
LINE_SECONDS = 60.0


class PilotRow(NamedTuple):
    """A pilot, its state, and its tasks: those that have ended, and those that it has."""

    name: str
    engine: str
    state: str
    done: int
    sent: int
    note: str


class Snapshot(NamedTuple):
    """What is shown."""

    total: int
    finished: int
    failed: int
    cancelled: int
    #: Tasks per second; and seconds since the display began.
    rate: float
    seconds: float
    pilots: list[PilotRow]

    @property
    def text(self) -> str:
        """All but the pilots, in one line."""
        text = f"{self.finished - self.cancelled}/{self.total} tasks"
        if self.failed:
            text += f", {self.failed} failed"
        if self.cancelled:
            text += f", {self.cancelled} cancelled"
        text += f"  {self.rate:,.0f}/s  {self.seconds:.0f} s"
        left = self.total - self.finished
        return text + (f", about {left / self.rate:.0f} s left" if left and self.rate > 0 else "")


class Display(ABC):
    """Shows snapshots. One thread calls it."""

    #: Seconds between two snapshots.
    pause = 0.25

    @abstractmethod
    def show(self, snapshot: Snapshot, last: bool = False) -> None:
        """Show one; ``last``: it stays."""


def display() -> Display:
    """The right one for this process."""
    if is_notebook():
        return Cell()
    return Terminal() if sys.stderr.isatty() else Lines()


class Terminal(Display):
    """A bar and a table that are drawn over again."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, markup=False, emoji=False)  # names are no markup
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def show(self, snapshot: Snapshot, last: bool = False) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line, pilots = Table.grid(), Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(snapshot.total, 1), completed=snapshot.finished, width=40)
        line.add_row(bar, Text(f" {snapshot.text}"))
        for one in snapshot.pilots:
            pilots.add_row(f"  {one.name}", one.engine, one.state, f"{one.done} done", f"{one.sent} sent", one.note)
        self._live.update(Group(line, pilots), refresh=True)
        if last:
            self._live.stop()


class Cell(Display):
    """HTML in the cell that made it."""

    pause = 0.5

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._handle: Any = display(HTML(""), display_id=True)

    def show(self, snapshot: Snapshot, last: bool = False) -> None:
        rows = [(one.name, one.engine, one.state, one.done, one.sent, one.note) for one in snapshot.pilots]
        shown = html.progress(snapshot.finished, snapshot.total, snapshot.text)
        if rows:
            shown += html.table(("pilot", "engine", "state", "tasks done", "sent", ""), rows)
        self._handle.update(self._html(shown))  # type: ignore[no-untyped-call]


class Lines(Display):
    """A line on stderr each minute, and one at the end: for the output file of a batch job."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_SECONDS

    def show(self, snapshot: Snapshot, last: bool = False) -> None:
        if not last and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LINE_SECONDS
        pilots = ", ".join(
            f"{one.name} {one.state}" + (f" ({one.note})" if one.note else "") for one in snapshot.pilots
        )
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {snapshot.text}; {pilots or 'no pilots'}\n")
        sys.stderr.flush()
