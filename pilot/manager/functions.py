"""The callables that were submitted, as the workers know them."""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from pilot.errors import invalid
from pilot.interfaces import WorkFunction
from pilot.manager.state import SessionState
from pilot.scheduling.records import FunctionRecord
from pilot.scheduling.run_times import RunTimes
from pilot.wire import payload
from pilot.wire.callables import Snapshot, is_immutable, name_of, together
from pilot.worker.initialized import Initialized
from pilot.worker.surroundings import InSurroundings

log = logging.getLogger(__name__)

#: A warning is logged when a function of so many bytes is pickled again and again.
LARGE_FUNCTION = 1 << 20
#: Of functions that never change so many bytes of pickles are kept, and a few more.
KEPT_BYTES = 64 << 20


class _Known(NamedTuple):
    """A callable that was submitted, and need not be pickled again while its snapshot holds."""

    work: weakref.ref[Any]
    snapshot: Snapshot
    function: FunctionRecord


class Functions:
    """Pickles callables of one session, each only once while it does not change. Any thread may call it."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        #: By the id of a callable that is alive.
        self._known: dict[int, _Known] = {}
        #: Of objects that never change, and the bytes of their pickles.
        self._constants: dict[Any, FunctionRecord] = {}
        self._constant_bytes = 0
        #: By the ids of function and initializer, and the arguments.
        self._with_initializers: dict[tuple[int, int, bytes], Initialized] = {}
        #: Digests of the large functions that were logged.
        self._large: set[str] = set()

    def record(self, work: Callable[..., Any]) -> FunctionRecord:
        """What the workers know this callable by, as it is now."""
        known = self._known.get(id(work))
        if known is not None and known.work() is work and known.snapshot.holds(work):
            return known.function
        if is_immutable(work):
            return self._constants.get(work) or self._constant(work)
        if not callable(work):
            raise invalid(
                "submit_task",
                work,
                "a callable, its arguments behind it, or a TaskDescription; for a circuit TaskDescription(circuit=…)",
            )
        snapshot = Snapshot.of(work)  # before it is pickled: what changes meanwhile is noticed
        function = self._register(work, payload.dump_function(work))
        if snapshot is not None:
            key, all_known = id(work), self._known
            all_known[key] = _Known(weakref.ref(work, lambda _: all_known.pop(key, None)), snapshot, function)
        return function

    def _constant(self, work: Callable[..., Any]) -> FunctionRecord:
        """Of an object that never changes and is not known: chunks of maps are, with the function that they call."""
        function = self._register(work, payload.dump_function(work))
        if self._constant_bytes > KEPT_BYTES:
            self._constants.clear()
            self._with_initializers.clear()
            self._constant_bytes = 0
        self._constants[work] = function
        self._constant_bytes += len(function.code)
        return function

    def in_surroundings(self, work: Callable[..., Any]) -> FunctionRecord:
        """What the workers know this callable by, when each task has variables and a directory of its own."""
        return self.record(InSurroundings(self.record(work).code, name_of(work)))

    def initialized(self, work: Callable[..., Any], initializer: Callable[..., Any], initargs: Any) -> Initialized:
        """The callable with its initializer, pickled again when one of them is another than before."""
        key = self.record(work).id, self.record(initializer).id, payload.dump_function(tuple(initargs))
        if (initialized := self._with_initializers.get(key)) is None:
            initialized = self._with_initializers[key] = Initialized.of(work, initializer, initargs)
        return initialized

    def _register(self, work: Callable[..., Any], code: bytes) -> FunctionRecord:
        state, digest = self._state, hashlib.blake2b(code, digest_size=16).hexdigest()
        with state.lock:
            function = state.functions.get(digest)
            if function is None:
                function = state.add_function(digest, name_of(work), code)
            elif len(code) > LARGE_FUNCTION and digest not in self._large:
                self._large.add(digest)
                log.warning(
                    "function %s takes %s bytes along and is pickled at each submission, since it reads what can "
                    "change in place: give large data as an argument, or submit all calls at once with map",
                    function.name,
                    f"{len(code):,}",
                )
            if isinstance(work, WorkFunction) and work.weighs_seconds and function.seconds is None:
                function.seconds = 1.0
            if together(work) is not None and function.runs is None:
                function.runs = RunTimes()
        return function
