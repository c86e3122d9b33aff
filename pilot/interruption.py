"""Ctrl-C, SIGTERM (`timeout`, a batch system's walltime) and SIGHUP (the terminal is gone), taken in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """This process was told to end by a signal (``number``)."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Interruption:
    """What the signals have said: the first one counts. One raises `Interrupted`, unless it is put off; none does so
    after that one, so that what has to be done at the end is not interrupted again."""

    def __init__(self) -> None:
        #: The first signal that came; None: none yet.
        self.number: int | None = None
        self._put_off = False
        self._raised = False

    def take(self, number: int, frame: object) -> None:
        """The handler of the signals."""
        self.number = self.number or number
        if not self._put_off and not self._raised:
            self._raised = True
            raise Interrupted(self.number)

    @contextlib.contextmanager
    def put_off(self) -> Iterator[None]:
        """Within it a signal is only noted: `number` says so."""
        before, self._put_off = self._put_off, True
        try:
            yield
        finally:
            self._put_off = before

    def check(self) -> None:
        """Raise what was put off."""
        if self.number is not None:
            self._raised = True
            raise Interrupted(self.number)


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
