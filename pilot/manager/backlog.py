"""`Backlog`: how many tasks were submitted and are not in the journal yet."""

from __future__ import annotations

import threading

from pilot.manager.journal import Journal

#: So many tasks at most; who submits more waits for the journal.
MOST = 10_000
#: Seconds that a thread sleeps at a time: Python calls the handlers of signals in between.
STEP_SECONDS = 0.5


class Backlog:
    """Tasks between their submission and the journal. Any thread may call it.

    It is bounded, so that little is lost when this process is killed, and memory does not grow when tasks are submitted
    faster than they can be written.
    """

    def __init__(self, journal: Journal, most: int = MOST) -> None:
        self._journal = journal
        self._most = most
        #: The last task that was submitted; and the one from which on the next one waits.
        self.last, self.limit = 0, most
        self._condition = threading.Condition()
        self._is_over = False

    def wait(self) -> None:
        """Block until there is room, while the disk is full also for long; at once when the manager has ended."""
        while self.last >= self.limit and not self._is_over:
            self._journal.mark(_nothing, soon=True)
            with self._condition:
                self._condition.wait_for(lambda: self.last < self.limit or self._is_over, STEP_SECONDS)

    def reached(self, task: int) -> None:
        """All tasks up to this one are in the journal. Called in its thread."""
        with self._condition:
            self.limit = max(self.limit, task + self._most)
            self._condition.notify_all()

    def begin(self, task: int) -> None:
        """This is the last task of the manager before."""
        self.last, self.limit = task, task + self._most

    def close(self) -> None:
        """The manager has ended: nobody waits any more."""
        with self._condition:
            self._is_over = True
            self._condition.notify_all()


def _nothing() -> None:
    pass
