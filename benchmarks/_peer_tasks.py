"""What peers run: functions of a module, which every worker can import."""

from __future__ import annotations

import time


def noop(number: int) -> int:
    return number


def busy(number: int, seconds: float) -> int:
    """Keeps a core for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return number
