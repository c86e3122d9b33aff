"""Files that arguments share: equal contents have one file, changed contents another, and the last user removes it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy
import pytest

from pilot.manager.sharing import SharedFiles
from pilot.results import Spooled
from pilot.wire import payload
from pilot.wire.arguments import dump_arguments
from pilot.wire.spool import Spool

LIMIT = 1000


@pytest.fixture
def files(tmp_path: Path) -> SharedFiles:
    return SharedFiles(Spool(tmp_path, LIMIT))


def dumped(files: SharedFiles, *args: object, **kwargs: object) -> Spooled:
    with payload.collecting() as found:
        value = dump_arguments(args, kwargs, files, "an argument", found)
    assert isinstance(value, Spooled)
    return value


def loaded(files: SharedFiles, value: Spooled) -> Any:
    """The first argument."""
    return payload.load(value, spool=Spool(files.folder))[0][0]


def names(files: SharedFiles) -> set[str]:
    return {path.name for path in files.folder.iterdir()}


def test_an_array_has_one_file_however_many_use_it(files: SharedFiles) -> None:
    array = numpy.arange(1000.0)
    values = [dumped(files, number, array=array) for number in range(5)]
    (name,) = names(files)
    assert files.folder.joinpath(name).read_bytes() == array.tobytes()
    for number, value in enumerate(values):
        args, kwargs = payload.load(value, spool=Spool(files.folder))
        assert args == (number,) and numpy.array_equal(kwargs["array"], array)
        assert names(files) == {name}
        files.release(value.files)
    assert names(files) == set()


def test_a_changed_array_never_gives_the_old_value(files: SharedFiles) -> None:
    """One element is changed at a time, in random places that samples need not see."""
    dice, array = random.Random(5), numpy.zeros(20_000)
    values, expected = [], []
    for _ in range(30):
        values.append(dumped(files, array))
        expected.append(array.copy())
        if dice.random() < 0.7:
            array[dice.randrange(array.size)] += 1
    for value, before in zip(values, expected, strict=True):
        assert numpy.array_equal(loaded(files, value), before)
    different = {before.tobytes() for before in expected}
    assert len(names(files)) == len(different)


def test_users_are_counted(files: SharedFiles) -> None:
    """Random stores, holds and releases against a plain count."""
    dice, users = random.Random(6), Counter[str]()
    for _ in range(400):
        if dice.random() < 0.5:
            users[files.store(memoryview(bytes([dice.randrange(20)]) * 2000))] += 1
        elif users:
            name = dice.choice(sorted(users.elements()))
            if dice.random() < 0.3:
                assert files.hold_present([name])
                users[name] += 1
            else:
                files.release([name])
                users[name] -= 1
                users += Counter()
        assert names(files) == set(users)
    gone = files.store(memoryview(b"y" * 2000))
    files.release([gone])
    assert not files.hold_present([gone, *users])
    for name in list(users.elements()):
        files.release([name])
    assert names(files) == set()


def test_a_file_that_somebody_has_damaged_is_not_used(files: SharedFiles) -> None:
    content = numpy.ones(1000)
    first = dumped(files, content)
    path = files.folder / first.files[0]
    for damage in (lambda: path.write_bytes(b"short"), path.unlink):
        damage()
        assert numpy.array_equal(loaded(files, dumped(files, content)), content)
        for name in names(files) - {path.name}:
            files.release([name])


def test_many_small_arrays_are_in_one_file(files: SharedFiles) -> None:
    arrays = [numpy.full(50, number) for number in range(700)]
    value = dumped(files, arrays, b"z" * 5000)
    assert len(names(files)) == len(value.files) == 3  # the pickle, the bytes, the arrays
    args, _ = payload.load(value, spool=Spool(files.folder))
    assert all(numpy.array_equal(one, other) for one, other in zip(args[0], arrays, strict=True))
    assert args[1] == b"z" * 5000
    args[0][3][0] = 9  # small arrays may be changed
    files.release(value.files)
    assert names(files) == set()


def test_what_an_attached_manager_takes_over(files: SharedFiles) -> None:
    array = numpy.arange(1000.0)
    kept, spent = dumped(files, array), dumped(files, array + 1)
    result = payload.dump(array, Spool(files.folder, LIMIT), "the result")
    assert isinstance(result, Spooled)
    after = SharedFiles(Spool(files.folder, LIMIT))
    after.take_over([kept, b"in the message", None])
    assert names(files) == {*kept.files, *result.files}, "results are not counted, and stay"
    assert not after.hold_present(spent.files)
    after.release(kept.files)
    assert names(files) == set(result.files)
