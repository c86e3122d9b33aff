"""`map` in chunks, at the user's surface."""

from __future__ import annotations

import math
import os
import signal
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from pilot import DescriptionError, MapResult, PilotExecutor, PilotManager, WorkerDied

offset = 1


def shifted(number: int, by: int = 0) -> int:
    if number == 13:
        raise ValueError("unlucky")
    return number + by + offset


@pytest.mark.parametrize("size", [1, 7, 100, "auto"])
def test_results_are_those_of_the_built_in_map(home: PilotManager, size: Any) -> None:
    mapped = home.map(math.hypot, range(50), iter(range(3, 60)), chunksize=size)
    expected = list(map(math.hypot, range(50), range(3, 53)))
    assert list(mapped) == mapped.results() == mapped[:] == expected
    assert (len(mapped), mapped[-1], mapped[49]) == (50, expected[-1], expected[-1])
    assert mapped.done() and mapped.exception(3) is None
    if size != "auto":
        assert len(mapped.tasks) == math.ceil(50 / size)
    with pytest.raises(IndexError, match="input 50 of a map over 50"):
        mapped[50]


def test_an_input_that_raises_leaves_the_others_of_its_chunk_alone(home: PilotManager) -> None:
    mapped = home.map(shifted, range(20), [home.submit_task(abs, -2)] * 20, chunksize=8)
    everything = mapped.results(return_exceptions=True)
    assert everything[:13] + everything[14:] == [number + 3 for number in range(20) if number != 13]
    with pytest.raises(ValueError, match="unlucky") as raised:
        mapped[13]
    assert any("input 13 of shifted" in note for note in raised.value.__notes__)
    read = []
    with pytest.raises(ValueError, match="unlucky"):
        read.extend(mapped)
    assert read == everything[:13]


def test_a_chunk_that_is_lost_or_cancelled_takes_its_inputs_along(home: PilotManager, tmp_path: Path) -> None:
    killed = home.map(lambda number: number == 2 and os.kill(os.getpid(), signal.SIGKILL), range(4), chunksize=2)
    assert killed.results(return_exceptions=True)[:2] == [False, False]
    assert isinstance(killed.exception(2), WorkerDied) and isinstance(killed.exception(3), WorkerDied)
    slow = home.map(time.sleep, [60] * 4, chunksize=2)
    slow.cancel()
    assert all(isinstance(slow.exception(number), CancelledError) for number in range(4))


def test_a_child_that_an_input_forks_runs_no_other_input(home: PilotManager, tmp_path: Path) -> None:
    def fork(number: int) -> int:
        with (tmp_path / str(number)).open("a") as file:
            file.write("x")
        if number == 1 and (child := os.fork()):
            os.waitpid(child, 0)
        return number

    assert list(home.map(fork, range(4), chunksize=4)) == [0, 1, 2, 3]
    assert [(tmp_path / str(number)).read_text() for number in range(4)] == ["x"] * 4


def test_no_inputs_and_wrong_sizes(home: PilotManager) -> None:
    empty = home.map(abs, [], chunksize="auto")
    assert (list(empty), len(empty), empty.done(), isinstance(empty, MapResult)) == ([], 0, True, True)
    for wrong in (0, -1, True, 2.0, "all"):
        with pytest.raises(DescriptionError, match=r"map: chunksize.*; expected a whole number of at least 1, or"):
            home.map(abs, [1], chunksize=wrong)  # type: ignore[arg-type]


def test_an_executor_maps_in_chunks_with_its_options(home: PilotManager) -> None:
    counts: list[int] = []

    def second_time(number: int, counts: list[int] = counts) -> int:
        counts.append(number)
        if counts.count(number) < 2:
            raise ValueError(number)
        return number

    with PilotExecutor(home, retries=1, timeout=0.5) as executor:
        assert list(executor.map(second_time, range(10), chunksize=5)) == list(range(10))
        assert list(executor.map(time.sleep, [0.2] * 4, chunksize=4)) == [None] * 4  # 0.8 s: each input has 0.5 s
        results = executor.map(time.sleep, [0.2, 0.2, 0.2, 60], timeout=0.1, chunksize=4)
        with pytest.raises(TimeoutError):
            next(results)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(abs, [1], chunksize=2)
