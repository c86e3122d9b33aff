"""Tasks, rates and pilots on the terminal, while a manager works."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pilot.states import PilotState

if TYPE_CHECKING:
    from pilot.manager.handles import Pilot
    from pilot.manager.manager import PilotManager

_SECONDS = 0.25


class Progress:
    """A live display; quiet when the output is no terminal."""

    def __init__(self, manager: PilotManager) -> None:
        self._manager = manager
        self._console = Console(stderr=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pilot-progress", daemon=True)
        self._began = time.monotonic()
        self._last = (self._began, 0)
        self._rate = 0.0

    def start(self) -> None:
        """Show it from now on."""
        if self._console.is_terminal:
            self._thread.start()

    def stop(self) -> None:
        """Show it one last time, and leave it standing."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with Live(self._show(), console=self._console, auto_refresh=False) as live:
            while not self._over.wait(_SECONDS):
                live.update(self._show(), refresh=True)
            live.update(self._show(), refresh=True)

    def _show(self) -> RenderableType:
        conductor = self._manager._conductor
        total, finished = len(conductor.tasks), conductor.finished
        now = time.monotonic()
        then, before = self._last
        if now - then >= 1.0 or not before:
            self._rate = (finished - before) / max(now - then, 1e-9)
            self._last = (now, finished)
        bar = ProgressBar(total=max(total, 1), completed=finished, width=40)
        words = Text(f" {finished}/{total} tasks  {self._rate:,.0f}/s  {now - self._began:.0f} s")
        line = Table.grid()
        line.add_row(bar, words)
        return Group(line, self._pilots())

    def _pilots(self) -> RenderableType:
        pilots = self._manager._conductor.controller.pilots.by_id
        bound = Counter(
            {id: sum(len(sent.entries) for sent in list(one.sent.values())) for id, one in list(pilots.items())}
        )
        table = Table.grid(padding=(0, 2))
        for pilot in self._manager.pilots:
            known = pilots.get(pilot.id)
            done = known.finished if known is not None else 0
            table.add_row(
                f"  {pilot.name}",
                pilot.description.engine,
                pilot.state.value,
                f"{done} done",
                f"{bound[pilot.id]} sent",
                _words(pilot),
            )
        return table


def _words(pilot: Pilot) -> str:
    """Why a pilot is not active: what the resource manager says of its job, or why it failed."""
    if pilot.state is PilotState.FAILED:
        return pilot.reason
    return pilot.job if pilot.state in (PilotState.NEW, PilotState.QUEUED) else ""
