"""New tasks on their way from the mailbox to the controller."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pilot.manager.state import SessionState
from pilot.manager.tasks import TaskRecorder
from pilot.results import Value
from pilot.scheduling import events
from pilot.scheduling.records import FunctionRecord, TaskRecord


class Submissions:
    """Hands new tasks on to the controller, in their order. For the manager's thread.

    A task that is submitted with a key waits until it is in the journal, and those behind it with it: what has run is
    then known there by its key, and does not run again for a manager that attaches after this one was killed.
    """

    def __init__(self, state: SessionState, recorder: TaskRecorder, feed: Callable[[events.Event], None]) -> None:
        self._state, self._recorder, self._feed = state, recorder, feed
        self._waiting: deque[TaskRecord] = deque()
        #: Tasks that were taken, and that were handed on.
        self._taken = self._handed_on = 0
        self._is_closed = False
        #: Those that wait for their arguments, by id.
        self._held: dict[int, TaskRecord] = {}

    def take(self) -> None:
        """Record what was submitted, and hand it on as soon as that may be."""
        if self._is_closed:
            self._state.cancel_late_tasks()
        elif entries := self._state.mailbox.take_tasks():
            self._recorder.record(entries)
            self._waiting.extend(entries)
            self._taken += len(entries)
            if len(self._waiting) == len(entries) and not any(entry.has_key for entry in entries):
                self.hand_on(self._taken)
            else:
                number, put = self._taken, self._state.mailbox.put
                self._state.journal.mark(lambda: put(lambda: self.hand_on(number)), soon=True)

    def hand_on(self, upto: int | None = None) -> None:
        """Give the controller the tasks up to this number; None: all, since what comes next may be about them."""
        count = (self._taken if upto is None else upto) - self._handed_on
        if count > 0:
            self._handed_on += count
            entries = [self._waiting.popleft() for _ in range(count)]
            self._held.update((entry.id, entry) for entry in entries if entry.held)
            ready = [entry for entry in entries if not entry.held] if self._held else entries
            self._feed(events.TasksSubmitted(self._recorder.resolve(ready)))

    def release(self, task: int, function: FunctionRecord | None = None, arguments: Value = None) -> None:
        """Give a held task what it is called with, and hand it on; without these it is called as it is."""
        entry = self._held.pop(task, None)
        waits = entry is None  # for the journal: it is handed on with those before it
        if entry is None:
            entry = next((one for one in self._waiting if one.id == task and one.held), None)
        if entry is None:
            return
        entry.held = False
        if function is not None:
            entry.function, entry.payload = function, arguments
        if not waits:
            self._feed(events.TasksSubmitted(self._recorder.resolve([entry])))

    def close(self) -> None:
        """From now on tasks are cancelled instead."""
        self.hand_on()
        for task in list(self._held):
            self.release(task)
        self._is_closed = True
