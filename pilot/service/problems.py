"""`Problem`: why a request is refused. ``answers.py`` makes the answers."""

from __future__ import annotations

from typing import Any

from pilot.errors import PilotError


class Problem(PilotError):
    """The request is refused with a status; ``field`` and ``given`` say what is wrong where that is one value."""

    def __init__(self, status: int, detail: str, **data: Any) -> None:
        super().__init__(detail, **data)
        self.status = status
        #: Of the answer.
        self.headers: dict[str, str] = data.pop("headers", {})

    def __reduce__(self) -> tuple[Any, ...]:
        return Problem, (self.status, str(self))
