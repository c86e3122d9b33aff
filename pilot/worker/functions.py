"""The functions of a worker's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pilot.wire import payload
from pilot.wire.callables import Snapshot, is_lasting
from pilot.wire.messages import RunBatch


class Functions:
    """Functions by digest, each as it was when its task was submitted, also when earlier tasks have changed it."""

    def __init__(self) -> None:
        #: Pickles, by digest, that the agent sends once.
        self._codes: dict[str, bytes] = {}
        #: Functions that are kept for all tasks.
        self._lasting: dict[str, Any] = {}
        #: Others, with what tells whether they are still as they were loaded; None: not asked for a second time yet.
        self._copies: dict[str, tuple[Any, Snapshot] | None] = {}

    def take(self, run: RunBatch, sent: Sequence[bytes]) -> list[tuple[str, bytes]]:
        """The functions of a batch: digests and pickles, those that were sent with it and those that were before.

        Another thread may use `get` meanwhile.
        """
        if run.renewed:
            self._codes, self._lasting, self._copies = {}, {}, {}
        self._codes.update(zip(run.sent, sent, strict=True))
        return [(digest, self._codes[digest]) for digest in run.functions]

    def get(self, digest: str, code: bytes) -> Any:
        """The function with this digest and pickle. One that cannot be loaded becomes one that raises the error."""
        if (function := self._lasting.get(digest)) is not None:
            return function
        if (copy := self._copies.get(digest)) is not None and copy[1].holds(copy[0]):
            return copy[0]
        try:
            function = payload.load(code)
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
