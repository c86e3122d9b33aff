"""`Problem`: why a request is refused. ``answers.py`` makes the answers."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from pilot.errors import PilotError, SessionError

#: What is raised when the store cannot be read or written.
STORE_ERRORS = (SQLAlchemyError, SessionError)


class Problem(PilotError):
    """The request is refused with a status; ``field`` and ``given`` say what is wrong where that is one value."""

    def __init__(self, status: int, detail: str, **data: Any) -> None:
        super().__init__(detail, **data)
        self.status = status
        #: Of the answer.
        self.headers: dict[str, str] = data.pop("headers", {})

    def __reduce__(self) -> tuple[Any, ...]:
        return Problem, (self.status, str(self))


def store_away(error: Exception) -> Problem:
    """The store cannot be read or written: nothing of the request was done, and a later one may succeed."""
    text = str(error)
    if isinstance(error, SQLAlchemyError):
        text = f"the service's store cannot be used now: {cause(error)}"
    return Problem(503, text, headers={"Retry-After": "10"})


def cause(error: Exception) -> str:
    """What the database says, in one line, without statements and their values."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
