"""Tasks, rates and pilots on the terminal, while a manager works."""

from __future__ import annotations

import threading
import time
from collections import Counter

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pilot.interfaces import SessionEvent, TaskChanged, TaskEnded, TaskSubmitted
from pilot.manager.pilots import Pilot
from pilot.manager.session import Session
from pilot.states import PilotState, TaskState

_SECONDS = 0.25


class Progress:
    """A live display of a session, from now until `stop`; nothing when the output is no terminal."""

    def __init__(self, session: Session, finished: int) -> None:
        """Show the tasks of a session, of which so many are finished."""
        self._session = session
        self._console = Console(stderr=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pilot-progress", daemon=True)
        self._began = time.monotonic()
        self._last = (self._began, 0)
        self._rate = 0.0
        self._tasks, self._finished = len(session.tasks), finished
        #: Since this was made.
        self._cancelled = 0
        #: Pilot id → tasks that ended there. Task → pilot id, of tasks that were sent and have not ended.
        self._ended: Counter[str] = Counter()
        self._sent: dict[int, str] = {}
        if self._console.is_terminal:
            session.subscribe(self._happened, kinds=(TaskSubmitted, TaskChanged, TaskEnded))
            self._thread.start()

    def stop(self) -> None:
        """Show it one last time, and leave it standing."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _happened(self, events: list[SessionEvent]) -> None:
        for event in events:
            if isinstance(event, TaskSubmitted):
                self._tasks += 1
            elif isinstance(event, TaskChanged):
                self._sent[event.task] = event.pilot
            elif isinstance(event, TaskEnded):
                self._finished += 1
                self._cancelled += event.state is TaskState.CANCELLED
                self._sent.pop(event.task, None)
                if event.pilot is not None:
                    self._ended[event.pilot] += 1

    def _run(self) -> None:
        with Live(self._show(), console=self._console, auto_refresh=False) as live:
            while not self._over.wait(_SECONDS):
                live.update(self._show(), refresh=True)
            live.update(self._show(), refresh=True)

    def _show(self) -> RenderableType:
        total, finished = self._tasks, self._finished
        now = time.monotonic()
        then, before = self._last
        if now - then >= 1.0 or not before:
            self._rate = (finished - before) / max(now - then, 1e-9)
            self._last = (now, finished)
        bar = ProgressBar(total=max(total, 1), completed=finished, width=40)
        ended = f"{finished - self._cancelled}/{total} tasks"
        if self._cancelled:
            ended += f", {self._cancelled} cancelled"
        text = Text(f" {ended}  {self._rate:,.0f}/s  {now - self._began:.0f} s")
        line = Table.grid()
        line.add_row(bar, text)
        return Group(line, self._pilots())

    def _pilots(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        sent = Counter(self._sent.copy().values())
        for pilot in self._session.pilots:
            done, has = f"{self._ended[pilot.id]} done", f"{sent[pilot.id]} sent"
            table.add_row(f"  {pilot.name}", pilot.description.engine, pilot.state.value, done, has, _note(pilot))
        return table


def _note(pilot: Pilot) -> str:
    """Why it is not active: the resource manager's text about its job, or why it failed."""
    if pilot.state is PilotState.FAILED:
        return pilot.reason
    return pilot.job if pilot.state in (PilotState.NEW, PilotState.QUEUED) else ""
