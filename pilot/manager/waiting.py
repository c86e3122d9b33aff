"""Waiting that Ctrl-C ends."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable
from numbers import Real
from threading import Condition
from typing import TypeVar

from pilot.errors import invalid

T = TypeVar("T")

#: Seconds that a thread sleeps at a time.
STEP_SECONDS = 0.5


def end_of(timeout: float | None) -> float | None:
    """The time of `time.monotonic` at which a timeout that begins now is over; None: never.

    Raises:
        DescriptionError: it is no number of seconds.
    """
    if timeout is None:
        return None
    if not isinstance(timeout, Real) or math.isnan(timeout):
        raise invalid("timeout", timeout, "a number of seconds, or None to wait for ever")
    return time.monotonic() + float(timeout)


def wait_for(
    condition: Condition,
    is_true: Callable[[], bool],
    timeout: float | None,
    interrupted: Callable[[], None] | None = None,
) -> bool:
    """`Condition.wait_for`, in steps: Python calls signal handlers in the main thread between two of its calls, so a
    thread that sleeps without end may miss a Ctrl-C that came just before, or in another thread.

    Args:
        condition: held.
        is_true: what is waited for.
        timeout: seconds to wait at most; None: for ever.
        interrupted: called when Ctrl-C ends the waiting.
    """
    end = end_of(timeout)
    try:
        while not condition.wait_for(is_true, _step(end)):
            if end is not None and time.monotonic() >= end:
                return False
    except KeyboardInterrupt:
        if interrupted is not None:
            interrupted()
        raise
    return True


def take_from(waiting: queue.SimpleQueue[T], end: float | None, interrupted: Callable[[], None]) -> T:
    """The next of a queue, waited for in steps as well.

    Args:
        waiting: taken from.
        end: the time of `time.monotonic` until which to wait; None: for ever.
        interrupted: called when Ctrl-C ends the waiting.

    Raises:
        queue.Empty: it had none until then.
    """
    try:
        while True:
            try:
                return waiting.get(timeout=max(0.0, _step(end)))
            except queue.Empty:
                if end is not None and time.monotonic() >= end:
                    raise
    except KeyboardInterrupt:
        interrupted()
        raise


def _step(end: float | None) -> float:
    return STEP_SECONDS if end is None else min(STEP_SECONDS, end - time.monotonic())
