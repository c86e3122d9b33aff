"""Waits for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    condition: Callable[[], T], timeout: float = 60.0, *, complaint: Callable[[], str] = lambda: "it did not come true"
) -> T:
    """Wait until the condition returns something true, and return that. Blocks.

    Args:
        condition: called again and again, 100 times a second.
        timeout: seconds.
        complaint: the error text when the time is over.

    Raises:
        AssertionError: the time is over.
    """
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s: {complaint()}")
        time.sleep(0.01)
    return answer
