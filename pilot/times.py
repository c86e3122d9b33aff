"""Times as users write them: numbers, texts in Slurm's form, dates in ISO's."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from numbers import Real
from typing import Any

#: What a field for a time takes.
TIMES = 'seconds above 0, a timedelta, or a text such as "1:30:00" (hours:minutes:seconds) or "2-12" (days-hours)'

#: Times as batch systems write them: minutes:seconds, hours:minutes:seconds, days-hours, with minutes, with seconds.
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def seconds_of(given: Any) -> Any:
    """Seconds from a number of seconds, a timedelta, or a text in Slurm's form, such as "1:30:00" or "2-12". None and
    values of other types are returned unchanged.

    Raises:
        ValueError: the text is not a time; the message says what is expected.
    """
    if isinstance(given, timedelta):
        return given.total_seconds()
    if type(given).__name__ == "timedelta64":  # of numpy, which counts as a whole number
        given = float(given / type(given)(1, "s"))
    seconds = _seconds_of_text(given) if isinstance(given, str) else given
    if isinstance(seconds, Real) and not math.isfinite(seconds):
        raise ValueError(TIMES)
    return seconds


def moment(text: str) -> float:
    """Seconds since the epoch of a date and time in ISO's form, as files have them; without an offset it is UTC.

    Raises:
        ValueError, OverflowError: it is none.
    """
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _seconds_of_text(text: str) -> float:
    """NaN when the text is not a time. A number alone is not accepted: Slurm reads minutes, this library seconds."""
    match = _TIME.fullmatch(text.strip())
    if match is None or text.strip().isdecimal():
        return math.nan
    days, first, second, third = match.groups()
    if days is not None:
        hours, minutes, seconds = first, second or 0, third or 0
    elif third is not None:
        hours, minutes, seconds = first, second, third
    else:
        hours, minutes, seconds = 0, first, second
    return 86400 * int(days or 0) + 3600 * int(hours) + 60 * int(minutes) + int(seconds)
