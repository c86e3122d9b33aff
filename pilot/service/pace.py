"""`Pace`: keeps work in the background from delaying answers."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The most that the background takes of the time, while answers are waited for.
SHARE = 0.1
#: Seconds of work after which it rests.
_AT_LEAST = 0.001


class Pace:
    """For one thread, which shares Python's lock with the one that answers requests."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        """Make it; ``is_busy`` is true while somebody waits for an answer."""
        self._is_busy = is_busy
        self._worked = time.thread_time()

    def rest(self) -> None:
        """Called between two pieces of work: while somebody waits, sleep so long that the thread has its share only."""
        worked = time.thread_time() - self._worked
        if worked < _AT_LEAST:
            return
        if self._is_busy():
            time.sleep(worked * (1 / SHARE - 1))
        self._worked = time.thread_time()
