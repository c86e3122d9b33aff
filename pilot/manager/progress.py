"""Tasks, rates and pilots on the terminal, while a manager works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pilot.manager.status import PilotStatus, Status

_SECONDS = 0.25


class Progress:
    """A live display; quiet when the output is no terminal."""

    def __init__(self, status: Callable[[], Status]) -> None:
        """Make it.

        Args:
            status: asked four times a second, from the display's own thread.
        """
        self._status = status
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
        status = self._status()
        total, finished = status.tasks, status.finished
        now = time.monotonic()
        then, before = self._last
        if now - then >= 1.0 or not before:
            self._rate = (finished - before) / max(now - then, 1e-9)
            self._last = (now, finished)
        bar = ProgressBar(total=max(total, 1), completed=finished, width=40)
        text = Text(f" {finished}/{total} tasks  {self._rate:,.0f}/s  {now - self._began:.0f} s")
        line = Table.grid()
        line.add_row(bar, text)
        return Group(line, _pilots(status.pilots))


def _pilots(pilots: list[PilotStatus]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for one in pilots:
        done, sent = f"{one.finished} done", f"{one.sent} sent"
        table.add_row(f"  {one.name}", one.engine, one.state.value, done, sent, one.note)
    return table
