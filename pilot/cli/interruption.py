"""Ctrl-C, SIGTERM (`timeout`, a batch system's walltime) and SIGHUP (the terminal is gone), taken in order."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

#: Seconds after which another signal raises again: code that catches everything may have kept the first one.
AGAIN_SECONDS = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """This process was asked to end by a signal (``number``)."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Interruption:
    """The signals that came: the first one counts. It raises `Interrupted`, unless it is put off; for
    `AGAIN_SECONDS` no other does, so that what has to be done at the end is not interrupted again."""

    def __init__(self) -> None:
        #: The first signal that came; None: none yet.
        self.number: int | None = None
        self._put_off = False
        self._raised: float | None = None

    def take(self, number: int, frame: object) -> None:
        """The handler of the signals."""
        self.number = self.number or number
        if not self._put_off and (self._raised is None or time.monotonic() - self._raised > AGAIN_SECONDS):
            self._raise(self.number)

    @contextlib.contextmanager
    def put_off(self) -> Iterator[None]:
        """Within it a signal is only noted, in `number`."""
        before, self._put_off = self._put_off, True
        try:
            yield
        finally:
            self._put_off = before

    def check(self) -> None:
        """Raise what was put off."""
        if self.number is not None:
            self._raise(self.number)

    def _raise(self, number: int) -> NoReturn:
        self._raised = time.monotonic()
        raise Interrupted(number)


@contextlib.contextmanager
def taken(*, for_good: bool) -> Iterator[Interruption]:
    """Take these signals from now on, except those that this process was started to ignore, as by nohup(1).

    Outside of the main thread, which alone can, nothing changes.

    Args:
        for_good: the process ends behind this; a signal changes nothing any more then.
    """
    interruption = Interruption()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interruption.take)
    try:
        yield interruption
    finally:
        for number, handler in before.items():  # the interpreter, when it ends, takes our handlers away
            signal.signal(number, signal.SIG_IGN if for_good else handler)
