"""What the manager keeps of the callables that were submitted. No manager, no process."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pilot.manager import functions
from pilot.manager.functions import Functions
from pilot.scheduling.records import FunctionRecord
from pilot.wire import payload
from pilot.worker.chunks import ChunkFunction


def session() -> Any:
    """As much of a session's state as functions need."""
    ids, known = itertools.count(1), weakref.WeakValueDictionary[str, FunctionRecord]()

    def add_function(digest: str, name: str, code: bytes) -> FunctionRecord:
        function = known[digest] = FunctionRecord(next(ids), digest, name, code)
        return function

    return SimpleNamespace(lock=threading.RLock(), functions=known, add_function=add_function)


def closure(number: int, size: int = 10_000) -> Callable[[], int]:
    data = number.to_bytes(4, "big") * (size // 4)
    return lambda: len(data)


def chunk(number: int) -> ChunkFunction:
    return ChunkFunction(payload.dump_function(closure(number)), 0)


def test_chunk_functions_of_maps_are_kept_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "KEPT_BYTES", 50_000)
    state = session()
    known = Functions(state)
    for number in range(30):
        known.record(chunk(number))
    gc.collect()
    assert 1 <= len(state.functions) <= 6


def test_functions_with_initializers_are_kept_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "KEPT_BYTES", 50_000)
    state = session()
    known = Functions(state)
    for number in range(30):
        known.record(known.initialized(closure(number), print, (number,)))
    gc.collect()
    assert 1 <= len(state.functions) <= 7
    assert len(known._with_initializers) <= 6


def test_what_was_forgotten_is_known_by_the_same_record_where_it_is_still_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(functions, "KEPT_BYTES", 50_000)
    known = Functions(session())
    first = known.record(chunk(0))
    for number in range(1, 30):
        known.record(chunk(number))
    assert known.record(chunk(0)) is first
    assert known.record(chunk(0)) is first
