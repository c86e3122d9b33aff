"""Times, rates and numbers as short texts."""

from __future__ import annotations

import time

NOTHING = "–"


def span(seconds: float | None) -> str:
    """A time span: ``0.35 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds is None:
        return NOTHING
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds < 9.995 else f"{seconds:.0f} s"
    for length, unit, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} {seconds % length // part:.0f} {smaller}"
    raise AssertionError(seconds)


def clock(moment: float | None) -> str:
    """A wall clock, with the date where that is another day."""
    if moment is None:
        return NOTHING
    then = time.localtime(moment)
    is_today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", then)


def ago(moment: float | None) -> str:
    """How long ago that was."""
    return NOTHING if moment is None else f"{span(time.time() - moment)} ago"


def rate(value: float | None) -> str:
    """An error rate."""
    return NOTHING if value is None else f"{value:.1e}"


def count(number: int) -> str:
    """A whole number, with groups of three digits."""
    return f"{number:,}"
