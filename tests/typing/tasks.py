"""Types of tasks, as a user's type checker sees them. Read by `test_typing.py`; never run."""

from __future__ import annotations

import operator
from concurrent.futures import Executor, Future, as_completed
from typing import Any, assert_type

from pilot import (
    ChildTask,
    MapResult,
    PilotDescription,
    PilotExecutor,
    PilotManager,
    Scaler,
    SessionReader,
    Task,
    TaskDescription,
    current_manager,
)


def area(width: float, height: float = 1.0) -> float:
    return width * height


def label(number: int) -> str:
    return str(number)


def total(numbers: list[int]) -> int:
    return sum(numbers)


def add_three(a: int, b: int, c: int) -> int:
    return a + b + c


def now() -> float:
    return 0.0


class Model:
    def __init__(self, size: int) -> None:
        self.size = size

    def loss(self, rate: float) -> float:
        return rate * self.size


def one_task(manager: PilotManager) -> None:
    assert_type(manager.submit_task(area, 2.0, height=3.0), Task[float])
    assert_type(manager.submit_task(area, 2.0), Task[float])
    assert_type(manager.submit_task(pow, 2, 3), Task[int])
    assert_type(manager.submit_task(operator.index, 3), Task[int])
    assert_type(manager.submit_task(now), Task[float])
    assert_type(manager.submit_task(Model, 3), Task[Model])
    assert_type(manager.submit_task(Model(3).loss, 0.5), Task[float])
    assert_type(manager.submit_task(lambda: 3), Task[int])
    assert_type(manager.submit_task(TaskDescription(function=area, args=(2.0,))), Task[Any])
    assert_type(manager.submit_task({"executable": ["date"]}), Task[Any])
    assert_type(manager.submit_task(area, 2.0, key="mine"), Task[float])
    assert_type(manager.submit_task(TaskDescription(function=area, args=(2.0,)), key="mine"), Task[Any])


async def waited_for(manager: PilotManager) -> None:
    assert_type(await manager.submit_task(area, 2.0), float)


def wrong_arguments(manager: PilotManager) -> None:
    manager.submit_task(area, "2")  # type: ignore[arg-type]
    manager.submit_task(area, 2.0, depth=3.0)  # type: ignore[call-arg]
    manager.submit_task(area)  # type: ignore[call-overload]
    manager.submit_task(3)  # type: ignore[call-overload]
    manager.submit_task(TaskDescription(function=area), 2.0)  # type: ignore[call-overload]
    manager.map(label, ["a", "b"])  # type: ignore[arg-type]
    manager.wait_tasks([1, 2])  # type: ignore[arg-type]
    manager.get_results(manager.submit_task(label, 3))  # type: ignore[arg-type]
    manager.submit_pilot("ray:4")  # type: ignore[arg-type]
    PilotDescription(cores="4")  # type: ignore[call-arg]


def dependencies(manager: PilotManager) -> None:
    first = manager.submit_task(label, 3)
    second = manager.submit_task(add_three, 1, 2, 3)
    assert_type(manager.submit_task(len, first), Task[int])
    assert_type(manager.submit_task(add_three, 1, second, 3), Task[int])
    assert_type(manager.submit_task(add_three, second, second, 3), Task[int])
    assert_type(manager.submit_task(total, [second, second]), Task[int])
    assert_type(manager.map(label, [second, second]), list[Task[str]])


def many_tasks(manager: PilotManager) -> None:
    assert_type(manager.map(label, range(3)), list[Task[str]])
    assert_type(manager.map(area, [1.0, 2.0], [3.0, 4.0]), list[Task[float]])
    assert_type(manager.map(add_three, [1], [2], [3]), list[Task[int]])
    assert_type(manager.map(Model, [1, 2]), list[Task[Model]])
    assert_type(manager.submit_tasks([now, TaskDescription(function=now)]), list[Task[Any]])
    assert_type(manager.resubmit(manager.map(label, range(3))), list[Task[str]])
    assert_type(manager.map(label, range(3), priority=2), list[Task[str]])
    assert_type(manager.map(label, range(3), chunksize="auto"), MapResult[str])
    assert_type(manager.map(label, range(3), chunksize=2)[1], str)
    assert_type(list(manager.map(area, [1.0], [2.0], window=2, timeout=3.0)), list[float])
    assert_type(next(manager.map(label, range(3), window=2, chunksize=2)), str)


def other_handles(manager: PilotManager) -> None:
    assert_type(manager.autoscale({"cores_per_node": 1}, maximum=2), Scaler)
    assert_type(PilotManager.read("mine"), SessionReader)
    assert_type(PilotManager.read("mine").tasks[1], Task[Any])


def in_a_task() -> None:
    manager = current_manager()
    assert_type(manager.submit_task(label, 3), ChildTask[str])
    assert_type(manager.submit_task({"executable": ["date"]}, key="mine"), ChildTask[Any])
    assert_type(manager.submit_task(label, manager.submit_task(label, 3)).result(), str)
    assert_type(manager.get_results(manager.map(label, [1, 2])), list[str])


def lists_are_as_good_as_tuples() -> None:
    PilotDescription(qpus=["fake:manila"], labels=["cpu"], environment={"A": "1"}, tunnel=["ssh", "login1"])
    TaskDescription(executable=["date"], labels=["cpu"], pilots=["one", "other"])
    TaskDescription(circuit="bell.qasm", shots=100, qpu=["fake:manila", "fake:lima"], mitigation=["dd"])
    PilotDescription(qpus="fake:manila")  # type: ignore[arg-type]


def results(manager: PilotManager) -> None:
    tasks = manager.map(label, range(3))
    assert_type(tasks[0].result(), str)
    assert_type(tasks[0].exception(timeout=3.0), BaseException | None)
    assert_type(manager.get_results(tasks), list[str])
    assert_type(manager.wait_tasks(tasks, 3.0), tuple[list[Task[str]], list[Task[str]]])
    assert_type(manager.wait_tasks(timeout=3.0), tuple[list[Task[Any]], list[Task[Any]]])
    done, _ = manager.wait_tasks()
    assert_type(done[0].result(), Any)
    assert_type([task.result() for task in as_completed(tasks)], list[str])
    assert_type(manager.tasks[1].result(), Any)
    mixed: list[Task[Any]] = [manager.submit_task(now), manager.submit_task(label, 3)]
    assert_type(manager.get_results(mixed), list[Any])
    bare: list[Task] = [manager.submit_task(now)]  # as `Task[Any]`
    assert_type(manager.get_results(bare), list[Any])
    future: Future[float] = manager.submit_task(now)
    assert_type(future.result(), float)
    future = manager.submit_task(label, 3)  # type: ignore[call-overload]


async def awaited(manager: PilotManager) -> None:
    import asyncio

    assert_type(await asyncio.wrap_future(manager.submit_task(label, 3)), str)


def executor(manager: PilotManager) -> None:
    pool = PilotExecutor(manager, num_cpus=2)
    assert_type(pool.submit(label, 3), Task[str])
    assert_type(list(pool.map(label, range(3))), list[str])
    pool.submit(label, "3")  # type: ignore[arg-type]
    any_executor(pool)


def any_executor(pool: Executor) -> None:
    assert_type(pool.submit(label, 3), Future[str])
