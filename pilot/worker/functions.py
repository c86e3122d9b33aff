"""The functions of a worker's tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

from pilot.wire import payload
from pilot.wire.callables import Snapshot, is_lasting


class Functions:
    """Functions by digest, each as it was when its task was submitted, also when earlier tasks have changed it."""

    def __init__(self) -> None:
        #: Pickles, by digest.
        self.codes: dict[str, bytes] = {}
        #: Functions that are kept for all tasks.
        self._lasting: dict[str, Any] = {}
        #: Others, with what tells whether they are still as they were loaded; None: not asked for a second time yet.
        self._copies: dict[str, tuple[Any, Snapshot] | None] = {}

    def get(self, digest: str) -> Any:
        """The function. One that cannot be loaded becomes one that raises the error."""
        if (function := self._lasting.get(digest)) is not None:
            return function
        if (copy := self._copies.get(digest)) is not None and copy[1].holds(copy[0]):
            return copy[0]
        try:
            function = payload.load(self.codes[digest])
        except BaseException as error:
            return partial(_raise, error)
        if is_lasting(function):
            self._lasting[digest] = function
        elif digest not in self._copies:
            self._copies[digest] = None
        elif (snapshot := Snapshot.of(function, owned=True)) is not None:
            self._copies[digest] = function, snapshot
        return function


def _raise(error: BaseException, *args: Any, **kwargs: Any) -> None:
    raise error
