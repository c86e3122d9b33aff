"""The thread that calls the callbacks of finished tasks, so that a slow one keeps no other thread waiting."""

from __future__ import annotations

import logging
import threading
from collections import deque

from pilot.manager.handles import Task, call_back

log = logging.getLogger(__name__)

#: Seconds that a callback has to return when the manager is closed.
CLOSE_SECONDS = 5.0


class Callbacks:
    """Tasks whose callbacks are to be called, in order."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._wake = threading.Semaphore(0)
        self._is_over = False
        self.thread = threading.Thread(target=self._run, name="pilot-callbacks", daemon=True)

    def add(self, task: Task) -> None:
        """Have the callbacks of a finished task called."""
        self._tasks.append(task)
        self._wake.release()

    def close(self) -> None:
        """Wait until those are called that were added; not in a callback."""
        self._is_over = True
        self._wake.release()
        if self.thread.is_alive() and threading.current_thread() is not self.thread:
            self.thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            if not self._tasks:
                if self._is_over:
                    return
                continue
            try:
                call_back(self._tasks.popleft())
            except BaseException:
                log.exception("the callbacks of a task cannot be called")
