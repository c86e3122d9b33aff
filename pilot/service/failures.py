"""Why a task did not end well, as JSON."""

from __future__ import annotations

from typing import Any

from pilot.errors import PilotError, text_of

#: Characters of a message at most.
MOST = 4000
#: What an error tells beside its message, where it has it.
_DATA = ("field", "line", "column", "expected")


def error_of(error: BaseException) -> dict[str, Any]:
    """The class of an error, its message, and where it is: ``field``, ``line`` and ``column``."""
    found: dict[str, Any] = {"kind": type(error).__name__, "message": text_of(error)[:MOST]}
    if isinstance(error, PilotError):
        found |= {name: error.data[name] for name in _DATA if error.data.get(name) is not None}
    return found
