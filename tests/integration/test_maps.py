"""`map` in chunks and windows, executors and what takes them, at the user's surface."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import dask
import joblib
import numpy as np
import pytest

from pilot import (
    DescriptionError,
    MapResult,
    NotPicklable,
    PilotDescription,
    PilotExecutor,
    PilotManager,
    Task,
    TaskDescription,
    WorkerDied,
    register_joblib,
    worker_state,
)

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


def test_a_map_stands_for_the_tasks_of_its_chunks(home: PilotManager) -> None:
    mapped = home.map(shifted, np.arange(4), chunksize=np.int64(2))
    after = home.submit_task(TaskDescription(function=abs, args=[-1], depends_on=mapped))
    assert home.get_results(mapped) == [1, 2, 3, 4]
    assert home.wait_tasks(mapped) == (list(mapped.tasks), [])
    assert after.result() == 1
    slow = home.map(time.sleep, [60] * 4, chunksize=2)
    assert home.wait_tasks(slow, timeout=0.01)[1]
    home.cancel(slow)
    assert not home.wait_tasks(slow)[1]
    home.forget(slow)
    with pytest.raises(DescriptionError, match=r"as_completed: <MapResult .*expected a list of tasks"):
        home.as_completed(mapped)
    with pytest.raises(DescriptionError, match=r"map: there are no inputs"):
        home.map(shifted)


def test_an_iterator_of_dependencies_is_read_once(home: PilotManager, tmp_path: Path) -> None:
    first = home.submit_task(lambda: (time.sleep(0.3), (tmp_path / "made").touch()))
    wanted = TaskDescription(function=(tmp_path / "made").exists, depends_on=(task for task in [first]))
    assert home.submit_task(wanted).result()


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


def test_a_map_is_an_argument_of_a_task(home: PilotManager) -> None:
    mapped = home.map(shifted, range(10), chunksize=4)
    assert home.submit_task(lambda both: [*both["one"], len(both["one"])], {"one": mapped}).result(60) == [
        *range(1, 11),
        10,
    ]
    with pytest.raises(ValueError, match="unlucky") as raised:
        home.submit_task(sum, home.map(shifted, range(20), chunksize=6)).result(60)
    assert any("input 13 of a map" in note for note in raised.value.__notes__)


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


@pytest.mark.parametrize("settings", [{}, {"chunksize": 3}, {"priority": 1}, {"chunksize": 3, "retries": 1}])
def test_a_window_takes_inputs_as_results_are_read(home: PilotManager, settings: dict[str, Any]) -> None:
    taken: list[int] = []

    def inputs() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = home.map(abs, inputs(), window=6, **settings)
    assert len(taken) == 6 and next(results) == 0
    assert [*results] == list(range(1, 100))
    with PilotExecutor(home) as executor:
        chunk = settings.get("chunksize", 1)
        endless = executor.map(abs, itertools.count(), buffersize=7, chunksize=chunk)
        assert [next(endless) for _ in range(20)] == list(range(20))
        endless.close()  # type: ignore[attr-defined]


def test_an_error_in_a_window_cancels_what_was_submitted(home: PilotManager) -> None:
    before = len(home.tasks)
    results = home.map(shifted, range(13, 100), window=10, pilot="home")
    with pytest.raises(ValueError, match="unlucky"):
        list(results)
    assert len(home.tasks) == before + 10
    home.wait_tasks(list(home.tasks.values()))
    for wrong in (
        {"window": 0},
        {"window": 2, "chunksize": "auto"},
        {"window": 2, "chunksize": 0},
        {"window": 2, "key": "k"},
        {"key": "k", "chunksize": "auto"},
        {"window": 2, "args": (1,)},
    ):
        with pytest.raises(DescriptionError, match=f"{list(wrong)[-1]}.* is not valid"):
            home.map(abs, [1], **wrong)


@pytest.mark.parametrize("how", [{}, {"chunksize": 1}, {"window": 9}, {"priority": 1}])
def test_a_map_that_is_refused_leaves_no_task(home: PilotManager, how: dict[str, Any]) -> None:
    before = set(home.tasks)
    with pytest.raises(NotPicklable, match="an argument of sleep"):
        home.map(time.sleep, [20, 20, threading.Lock()], **how)
    left = [task for id, task in home.tasks.items() if id not in before]
    home.wait_tasks(left, 60)
    assert len(left) == 2 and all(task.cancelled() for task in left)


def test_a_map_with_a_key_is_found_again(tmp_path: Path) -> None:
    """By another manager of the session, also one of another run of the script."""

    class Own(Exception):
        """Its name is another one in each process."""

    def half(number: int) -> float:
        if number == 3:
            raise Own(number)
        return number / 2

    def both(manager: PilotManager) -> tuple[Any, list[Task[Any]]]:
        chunks = manager.map(half, range(10), chunksize=4, key="half")
        assert [task.key for task in chunks.tasks] == ["half/0", "half/4", "half/8"]
        return chunks, manager.map(abs, [-1, -2], key="abs")

    manager = PilotManager(tmp_path / "session")
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1))
    chunks, tasks = both(manager)
    assert manager.get_results(tasks) == [1, 2]
    with pytest.raises(DescriptionError, match=r"'abs/1' is the key of task .* different value of args"):
        manager.map(abs, [-1, -3], key="abs")
    chunks.wait(60)
    manager.close()
    with PilotManager.attach(tmp_path / "session") as later:
        again, others = both(later)
        assert [task.id for task in (*again.tasks, *others)] == [task.id for task in (*chunks.tasks, *tasks)]
        assert again[9] == 4.5 and isinstance(again.exception(3), Exception)
        assert len(later.tasks) == 5


def test_tasks_of_a_generator_come_as_they_end(home: PilotManager) -> None:
    submitted: list[Any] = []

    def tasks() -> Iterator[Any]:
        for number in (0.3, 0, -1, 0, 0):
            submitted.append(home.submit_task(time.sleep, number))
            yield submitted[-1]

    ended = []
    for task in home.as_completed(tasks(), window=2):
        assert task.done() and len(submitted) <= len(ended) + 3
        ended.append(task)
    assert sorted(task.id for task in ended) == [task.id for task in submitted]
    assert isinstance(submitted[2].exception(), ValueError)
    with pytest.raises(TimeoutError, match=r"1 task\(s\) are not finished"):
        list(home.as_completed([slow := home.submit_task(time.sleep, 60)], timeout=0.1))
    slow.cancel()
    quick = home.submit_task(abs, -1)
    assert list(home.as_completed([quick, quick, quick])) == [quick]
    other = home.submit_task(abs, -2)
    assert set(home.as_completed(iter([quick, quick, quick, other]), window=2)) == {quick, other}
    for wrong in (quick, 5, [quick, 5]):
        with pytest.raises(DescriptionError, match=r"as_completed: .* is not valid; expected a list of tasks"):
            list(home.as_completed(wrong))


model: dict[str, int] = {}


def load(size: int) -> None:
    model["size"] = size
    worker_state()["loads"] = worker_state().get("loads", 0) + 1


def grow(number: int) -> tuple[int, int, int]:
    model["size"] += 1
    return model["size"], worker_state()["loads"], os.getpid()


@pytest.mark.parametrize("chunksize", [1, 4])
def test_an_initializer_runs_once_in_each_worker(home: PilotManager, chunksize: int) -> None:
    size = 100 * chunksize
    with PilotExecutor(home, initializer=load, initargs=(size,)) as executor:
        ends = list(executor.map(grow, range(20), chunksize=chunksize))
    for worker in {pid for _, _, pid in ends}:
        mine = [(grown, loads) for grown, loads, pid in ends if pid == worker]
        assert sorted(grown for grown, _ in mine) == list(range(size + 1, size + 1 + len(mine)))
        assert len({loads for _, loads in mine}) == 1


def test_an_initializer_that_raises_fails_the_task(home: PilotManager) -> None:
    task = home.submit_task(TaskDescription(function=abs, args=(1,), initializer=int, initargs=("no number",)))
    with pytest.raises(ValueError, match="no number") as raised:
        task.result(60)
    assert any("the initializer int raised this" in note for note in raised.value.__notes__)
    for wrong in ({"initializer": 3}, {"initargs": (1,)}, {"initializer": abs, "initargs": 3}):
        with pytest.raises(DescriptionError, match=f"{[*wrong][-1]}.* is not valid|initializer: None"):
            TaskDescription(function=abs, **wrong)


def test_a_decorated_function_submits(home: PilotManager) -> None:
    @home.task
    def area(width: float, height: float = 2.0) -> float:
        return width * height

    @home.task(retries=1, name="doubled")
    def double(number: int) -> int:
        return 2 * number

    assert (area(3).result(60), area(3, height=1).result(60), area.__wrapped__(3)) == (6, 3, 6)
    task = double(double(2))
    assert (task.result(60), task.name) == (8, "doubled")
    with pytest.raises(DescriptionError, match="did you mean 'num_cpus'"):
        home.task(num_cpu=2)


def test_decorated_functions_and_methods_call_each_other_in_tasks(home: PilotManager) -> None:
    @home.task
    def factorial(number: int) -> int:
        return 1 if number < 2 else number * factorial(number - 1).result()

    class Scale:
        def __init__(self, by: int) -> None:
            self.by = by

        @home.task(retries=1)
        def scaled(self, number: int) -> int:
            return self.by * number

    assert factorial(4).result(60) == 24
    assert Scale(3).scaled(4).result(60) == 12  # type: ignore[call-arg]


def test_joblib_and_dask_run_on_pilots(home: PilotManager) -> None:
    register_joblib(home, "home", pilot="home")
    with joblib.parallel_config(backend="home", n_jobs=-1):
        assert joblib.effective_n_jobs(-1) == sum(pilot.description.cores for pilot in home.pilots)
        assert joblib.Parallel()(joblib.delayed(shifted)(number) for number in range(5)) == [1 + n for n in range(5)]
        with pytest.raises(ValueError, match="unlucky"):
            joblib.Parallel()(joblib.delayed(shifted)(number) for number in range(20))
    with joblib.parallel_config(backend="home"):
        assert joblib.effective_n_jobs() == sum(pilot.description.cores for pilot in home.pilots)
        assert os.getpid() not in joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(3))
    with dask.config.set(pool=PilotExecutor(home)):
        assert dask.delayed(sum)([dask.delayed(abs)(-1), 2]).compute() == 3


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


@pytest.mark.parametrize("option", ["max_workers", "mp_context", "max_tasks_per_child", "function", "args", "key"])
def test_arguments_of_other_executors_are_refused_with_what_to_do(home: PilotManager, option: str) -> None:
    with pytest.raises(DescriptionError, match=f"PilotExecutor.{option}: 4 is not valid; expected nothing: "):
        PilotExecutor(home, **{option: 4})


def test_a_key_that_an_executor_is_given_is_the_functions(home: PilotManager) -> None:
    executor = PilotExecutor(home)
    assert executor.submit(dict, key="value").result(60.0) == {"key": "value"}
    assert executor.submit(sorted, [3, -1, 2], key=abs).result(60.0) == [-1, 2, 3]
