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
    """What is to be called, in order. Any thread may call it."""

    def __init__(self) -> None:
        #: Held for a moment, to read or write the next three.
        self._changed = threading.Condition()
        self._calls: deque[Callable[[], object]] = deque()
        self._is_over = self._has_ended = False
        self.thread = threading.Thread(target=self._run, name="pilot-callbacks", daemon=True)

    def add(self, call: Callable[[], object]) -> None:
        """Have this called; here, when the thread has ended."""
        with self._changed:
            has_ended = self._has_ended
            if not has_ended:
                self._calls.append(call)
                self._changed.notify()
        if has_ended:
            _make(call)

    def close(self) -> None:
        """Wait until those are called that were added; not in a callback."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        if self.thread.is_alive() and threading.current_thread() is not self.thread:
            self.thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (call := self._next()) is not None:
            _make(call)

    def _next(self) -> Callable[[], object] | None:
        """What is to be called next, waited for; None: nothing any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._is_over)
            self._has_ended = not self._calls
            return self._calls.popleft() if self._calls else None


def _make(call: Callable[[], object]) -> None:
    try:
        call()
    except BaseException:
        log.exception("a callback cannot be called")
