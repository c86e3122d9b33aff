"""What a chunk's task runs: results and errors by input, against a plain loop."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest

from pilot.errors import NotPicklable
from pilot.wire import payload
from pilot.worker.chunks import ChunkFunction, ChunkResult


def chunk(function: Any, *columns: list[Any], retries: int = 0) -> ChunkResult:
    """The result as the manager gets it."""
    result = ChunkFunction(payload.dump_function(function), retries)(*columns)
    loaded: ChunkResult = pickle.loads(pickle.dumps(result, protocol=5))
    return loaded


def divided(one: int, other: int) -> float:
    if other == 7:
        raise StopIteration  # which ends a loop without a word
    return one / other


@pytest.mark.parametrize("seed", range(5))
def test_each_input_has_what_a_plain_call_gives(seed: int) -> None:
    numbers = random.Random(seed)
    rows = [(numbers.randrange(100), numbers.choice([0, 1, 2, 7])) for _ in range(numbers.randrange(1, 50))]
    result = chunk(divided, *map(list, zip(*rows, strict=True)))
    values = result.values()
    assert len(values) == len(rows)
    for place, (one, other) in enumerate(rows):
        if other in (0, 7):
            error = payload.load_exception(result.errors[place], "here")
            if other == 0:
                assert isinstance(error, ZeroDivisionError)
                assert "division by zero" in str(error.__cause__)
            assert values[place] is None
        else:
            assert values[place] == one / other
    assert set(result.errors) == {place for place, (_, other) in enumerate(rows) if other in (0, 7)}


def test_a_result_that_cannot_be_pickled_is_the_error_of_its_input_alone() -> None:
    result = chunk(lambda number: (item for item in ()) if number == 1 else number, [0, 1, 2])
    assert result.values() == [0, None, 2]
    error = payload.load_exception(result.errors[1], "here")
    assert isinstance(error, NotPicklable)
    assert "the result cannot be pickled (generator)" in str(error)


def test_an_input_that_raises_is_tried_again() -> None:
    tries: list[int] = []

    def third_time(number: int, tries: list[int] = tries) -> int:
        tries.append(number)
        if tries.count(number) < number:
            raise ValueError(number)
        return len(tries)

    result = chunk(third_time, [1, 2, 3, 4], retries=2)
    assert result.values() == [1, 3, 6, None]
    assert str(payload.load_exception(result.errors[3], "here")) == "4"


def test_arrays_travel_beside_the_pickle() -> None:
    result = ChunkFunction(payload.dump_function(np.full))([1000, 2000], [1.0, 2.0])
    assert len(result.frames[0]) < 1000
    ones, twos = result.values()
    assert ones.sum() == 1000 and twos.sum() == 4000
