"""Tasks, rates and pilots, shown while a manager works."""

from __future__ import annotations

import threading
import time
from collections import Counter

from pilot.interfaces import SessionEvent, TaskChanged, TaskEnded, TaskSubmitted
from pilot.manager.displays import PilotRow, Snapshot, display
from pilot.manager.observers import NO_LIMIT
from pilot.manager.pilots import Pilot
from pilot.manager.session import Session
from pilot.states import PilotState, TaskState


class Progress:
    """A live display of a session, from now until `stop`: on the terminal, in a notebook's cell, or lines in a file."""

    def __init__(self, session: Session, finished: int) -> None:
        """Show the tasks of a session, of which so many are finished."""
        self._session = session
        self._display = display()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pilot-progress", daemon=True)
        self._began = time.monotonic()
        self._last = (self._began, 0)
        self._rate = 0.0
        self._tasks, self._finished = len(session.tasks), finished
        #: Since this was made, by the state in which tasks ended.
        self._ends: Counter[TaskState] = Counter()
        #: Pilot id → tasks that ended there. Task → pilot id, of tasks that were sent and have not ended.
        self._ended: Counter[str] = Counter()
        self._sent: dict[int, str] = {}
        session.subscribe(self._happened, kinds=(TaskSubmitted, TaskChanged, TaskEnded), limit=NO_LIMIT)
        self._thread.start()

    def stop(self) -> None:
        """Show it one last time, and leave it standing."""
        self._over.set()
        self._thread.join()

    def _happened(self, events: list[SessionEvent]) -> None:
        for event in events:
            if isinstance(event, TaskSubmitted):
                self._tasks += 1
            elif isinstance(event, TaskChanged):
                self._sent[event.task] = event.pilot
            elif isinstance(event, TaskEnded):
                self._finished += 1
                self._ends[event.state] += 1
                self._sent.pop(event.task, None)
                if event.pilot is not None:
                    self._ended[event.pilot] += 1

    def _run(self) -> None:
        while not self._over.wait(self._display.pause):
            self._display.show(self._snapshot())
        self._display.show(self._snapshot(), last=True)

    def _snapshot(self) -> Snapshot:
        now, (then, before) = time.monotonic(), self._last
        if now - then >= 1.0 or not before:
            self._rate = (self._finished - before) / max(now - then, 1e-9)
            self._last = (now, self._finished)
        failed, cancelled = self._ends[TaskState.FAILED], self._ends[TaskState.CANCELLED]
        seconds = now - self._began
        return Snapshot(self._tasks, self._finished, failed, cancelled, self._rate, seconds, self._pilots())

    def _pilots(self) -> list[PilotRow]:
        sent = Counter(self._sent.copy().values())
        return [
            PilotRow(
                pilot.name,
                pilot.description.engine,
                pilot.state.value,
                self._ended[pilot.id],
                sent[pilot.id],
                _note(pilot),
            )
            for pilot in self._session.pilots
        ]


def _note(pilot: Pilot) -> str:
    """Why it is not active: the resource manager's text about its job, or why it failed."""
    if pilot.state is PilotState.FAILED:
        return pilot.reason
    return pilot.job if pilot.state in (PilotState.NEW, PilotState.QUEUED) else ""
