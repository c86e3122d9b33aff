"""`LogLines`: warnings about tasks, of which a failure of many cannot make a flood."""

from __future__ import annotations

import logging
import time

#: So many lines may come at once; then one a second.
MOST_AT_ONCE = 10


class LogLines:
    """Warnings that tasks failed. For one thread.

    A line that would be one too many is left out, and the next one says about how many tasks those were.
    """

    def __init__(self, log: logging.Logger) -> None:
        """Write to this log."""
        self._log = log
        self._left = float(MOST_AT_ONCE)
        self._last = time.monotonic()
        self._left_out = 0

    def warn(self, tasks: int, how: str) -> None:
        """So many tasks failed; ``how`` is the end of the line."""
        now = time.monotonic()
        self._left, self._last = min(float(MOST_AT_ONCE), self._left + now - self._last), now
        if self._left < 1:
            self._left_out += tasks
            return
        before = f", and {self._left_out} before that have no line" if self._left_out else ""
        self._log.warning("%d task(s) failed%s%s", tasks, how, before)
        self._left, self._left_out = self._left - 1, 0
