"""Values on their way: in the message, through a file, by value, by reference to a task, and as exceptions."""

from __future__ import annotations

import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy
import pytest

from pilot.errors import NotPicklable, SessionError
from pilot.results import Spooled
from pilot.wire import payload
from pilot.wire.spool import SPOOL_BYTES, Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


VALUES = {
    "none": None,
    "number": 2**100,
    "text": "word",
    "nested": {"a": [1, (2.5, b"x")], "b": {3}},
    "function by name": pickle.dumps,
    "empty array": numpy.zeros(0),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_small_value(value: Any, spool: Spool) -> None:
    packed = payload.dump(value, spool, "it")
    assert packed is None or isinstance(packed, bytes)
    back = payload.load(packed)
    assert type(back) is type(value)
    numpy.testing.assert_equal(back, value)
    if isinstance(value, numpy.ndarray):
        assert (back.shape, back.dtype) == (value.shape, value.dtype)
    assert list(spool.folder.iterdir()) == []


def test_large_array_goes_through_a_file_and_is_read_only(spool: Spool) -> None:
    array = numpy.arange(SPOOL_BYTES, dtype=numpy.int16).reshape(2, -1)  # twice the limit
    packed = payload.dump({"a": array, "b": 1}, spool, "it")
    assert isinstance(packed, Spooled)
    assert packed.size > spool.path(packed.large[1]).stat().st_size == array.nbytes
    back = payload.load(packed, spool=spool)
    assert back["b"] == 1
    assert numpy.array_equal(back["a"], array)
    assert not back["a"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        back["a"][0, 0] = 7
    assert [file.suffix for file in spool.folder.iterdir()] == [".result"]
    spool.release(packed.files)
    assert list(spool.folder.iterdir()) == []
    assert back["a"][1, 5] == array[1, 5]  # who has mapped it keeps it


def test_small_array_can_be_written_to(spool: Spool) -> None:
    back = payload.load(payload.dump(numpy.arange(3), spool, "it"))
    back[0] = 5
    assert back.tolist() == [5, 1, 2]


@pytest.mark.parametrize("others", [[SPOOL_BYTES], [1000] * 2000], ids=["a large one", "many small ones"])
def test_small_arrays_can_be_written_to_beside_others(spool: Spool, others: list[int]) -> None:
    fixed = numpy.arange(3)
    fixed.flags.writeable = False
    value = [numpy.arange(3), fixed, *(numpy.zeros(size) for size in others)]
    packed = payload.dump(value, spool, "it")
    assert isinstance(packed, Spooled)
    back = payload.load(packed, spool=spool)
    back[0][0] = 5
    assert back[0].tolist() == [5, 1, 2]
    assert [array.flags.writeable for array in back[1:]] == [False, *(size < SPOOL_BYTES for size in others)]
    assert payload.load(packed, spool=spool)[0].tolist() == [0, 1, 2]


def test_large_bytes_go_through_a_file(spool: Spool) -> None:
    value = bytes(SPOOL_BYTES + 1)
    packed = payload.dump(value, spool, "it")
    assert isinstance(packed, Spooled)
    assert payload.load(packed, spool=spool) == value


def test_a_folder_that_was_moved_has_its_values(spool: Spool) -> None:
    packed = payload.dump(bytes(SPOOL_BYTES + 1), spool, "it")
    moved = Spool(spool.folder.rename(spool.folder.with_name("elsewhere")))
    assert payload.load(packed, spool=moved) == bytes(SPOOL_BYTES + 1)


def test_a_file_that_cannot_be_removed_stops_nobody(spool: Spool) -> None:
    packed = payload.dump(bytes(SPOOL_BYTES + 1), spool, "it")
    assert isinstance(packed, Spooled)
    spool.path(packed.files[0]).unlink()
    spool.release(packed.files)  # gone
    spool.path(packed.files[0]).mkdir()
    spool.release(packed.files)  # cannot be unlinked


def test_a_file_that_cannot_be_written_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.writev

    def full(file: int, parts: list[Any]) -> int:
        if parts[0].nbytes <= SPOOL_BYTES:  # the second call
            raise OSError(28, "No space left on device")
        return written(file, [parts[0][:100]])

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(SessionError, match="No space left"):
        payload.dump(bytes(SPOOL_BYTES + 1), spool, "it")
    assert list(spool.folder.iterdir()) == []


def test_lambda_and_closure(spool: Spool) -> None:
    offset = 3
    assert payload.load(payload.dump_function(lambda x: x + offset))(4) == 7
    assert payload.load(payload.dump([lambda x: 2 * x], spool, "it"))[0](4) == 8


@pytest.fixture
def main_class(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class as a script defines it; the script is gone when this is called to load one of its values."""
    module = types.ModuleType("__main__")
    exec("class Point:\n    def __init__(self, x):\n        self.x = x\n", module.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module.Point  # type: ignore[no-any-return]


def test_class_of_main_travels_by_value(spool: Spool, main_class: type) -> None:
    packed = payload.dump(main_class(5), spool, "it")
    sys.modules["__main__"] = types.ModuleType("__main__")
    assert payload.load(packed).x == 5


def test_what_cannot_be_pickled(spool: Spool) -> None:
    with pytest.raises(NotPicklable, match=r"the result cannot be pickled \(generator\): TypeError"):
        payload.dump((x for x in ()), spool, "the result")
    file = (spool.folder / "open").open("w")
    with file, pytest.raises(NotPicklable, match=r"the function .*<lambda> cannot be pickled"):
        payload.dump_function(lambda: file)


def test_endless_nesting_cannot_be_pickled(spool: Spool) -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotPicklable, match="deep recursion"):
        payload.dump(value, spool, "it")


# ---- tasks among the arguments --------------------------------------------------------------------------------


class FakeTask:
    def __init__(self, id: int) -> None:
        self.id = id

    def __reduce__(self) -> Any:
        return payload.refer(self.id, None, self)


@pytest.mark.parametrize("extra", [None, lambda: 1], ids=["by pickle", "by cloudpickle"])
def test_tasks_nested_in_lists_and_dicts(spool: Spool, extra: Any) -> None:
    one, two = FakeTask(1), FakeTask(2)
    with payload.collecting() as found:
        packed = payload.dump(([one, {"k": (two, one)}], extra), spool, "it")
    assert found.tasks == {1: one, 2: two}
    values = {1: payload.dump("first", spool, "it"), 2: payload.dump({"x": 2}, spool, "it")}
    assert payload.load(packed, values)[0] == ["first", {"k": ({"x": 2}, "first")}]


def test_a_result_that_refers_to_nothing_may_stand_among_references(spool: Spool) -> None:
    with payload.collecting():
        packed = payload.dump([FakeTask(1), FakeTask(2)], spool, "it")
    big = numpy.ones(SPOOL_BYTES)
    first, second = payload.load(packed, {1: payload.dump(big, spool, "it"), 2: None}, spool)
    assert first.sum() == SPOOL_BYTES
    assert second is None


def test_an_argument_whose_class_submits_a_task_itself(spool: Spool) -> None:
    inner: list[dict[int, Any]] = []

    class Asks:
        def __reduce__(self) -> Any:
            with payload.collecting() as found:
                payload.dump([FakeTask(9)], spool, "it")
            inner.append(found.tasks)
            return int, (3,)

    one = FakeTask(1)
    with payload.collecting() as found:
        packed = payload.dump([Asks(), one], spool, "it")
    assert found.tasks == {1: one} and list(inner[0]) == [9]
    assert payload.load(packed, {1: payload.dump("first", spool, "it")}) == [3, "first"]
    assert payload.found_here() is None


def test_a_task_elsewhere_cannot_be_pickled(spool: Spool) -> None:
    with pytest.raises(NotPicklable, match="a Task can be pickled only as an argument of a task"):
        payload.dump(FakeTask(1), spool, "the result")
