"""The thread that calls users' callbacks, so that a slow one keeps no other thread waiting."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds that a callback has to return when the manager is closed.
CLOSE_SECONDS = 5.0


class Callbacks:
    """What is to be called, in order."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._wake = threading.Semaphore(0)
        self._is_over = False
        self.thread = threading.Thread(target=self._run, name="pilot-callbacks", daemon=True)

    def add(self, call: Callable[[], object]) -> None:
        """Have this called; here, when the thread has ended."""
        self._calls.append(call)
        self._wake.release()
        if self._is_over and not self.thread.is_alive():
            self._call_next()

    def close(self) -> None:
        """Wait until those are called that were added; not in a callback."""
        self._is_over = True
        self._wake.release()
        if self.thread.is_alive() and threading.current_thread() is not self.thread:
            self.thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            if not self._calls:
                if self._is_over:
                    return
                continue
            self._call_next()

    def _call_next(self) -> None:
        try:
            self._calls.popleft()()
        except BaseException:
            log.exception("a callback cannot be called")
