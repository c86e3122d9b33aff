"""Tasks that submit tasks and wait for them, on pilots with too few cores for all of them at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pilot
from pilot import (
    DependencyFailed,
    DescriptionError,
    NoPilotError,
    PilotManager,
    TaskDescription,
    TaskState,
    WorkerDied,
    worker_state,
)
from pilot.testing.polling import eventually

#: Seconds that nothing here takes unless it waits for ever.
SOON = 60


def fibonacci(n: int) -> int:
    if n < 2:
        return n
    manager = pilot.current_manager()
    return sum(manager.get_results(manager.map(fibonacci, [n - 1, n - 2])))


def plain_fibonacci(n: int) -> int:
    return n if n < 2 else plain_fibonacci(n - 1) + plain_fibonacci(n - 2)


def fail(text: str) -> None:
    raise ZeroDivisionError(text)


@pytest.fixture(scope="module", params=["process", "ray", "dask"])
def single(request: pytest.FixtureRequest) -> Iterator[PilotManager]:
    """One core."""
    with PilotManager(wait_for_pilot=0) as manager:
        manager.submit_pilot({"engine": request.param, "cores_per_node": 1})
        manager.engine = request.param  # type: ignore[attr-defined]
        yield manager


@pytest.fixture(scope="module")
def double() -> Iterator[PilotManager]:
    """Two cores, 2 GiB, and a GPU by its name."""
    gpu = {"CUDA_VISIBLE_DEVICES": "0"}
    with PilotManager(wait_for_pilot=0) as manager:
        manager.submit_pilot({"cores_per_node": 2, "gpus_per_node": 1, "environment": gpu, "memory": "2 GiB"})
        yield manager


# ---- on each engine ---------------------------------------------------------------------------------------------


def test_a_tree_of_tasks_ends_on_one_core(single: PilotManager) -> None:
    n = 6 if single.engine == "process" else 3  # type: ignore[attr-defined]
    assert single.submit_task(fibonacci, n).result(timeout=SOON) == plain_fibonacci(n)
    assert single.submit_task(pow, 2, 3).result(timeout=SOON) == 8


def test_what_a_child_raises_is_raised_in_its_parent(single: PilotManager) -> None:
    def caught() -> tuple[str, bool]:
        child = pilot.current_manager().submit_task(fail, "of a child")
        try:
            child.result()
        except ZeroDivisionError as error:
            return str(error), "in fail" in str(error.__cause__)
        return "nothing", False

    assert single.submit_task(caught).result(timeout=SOON) == ("of a child", True)
    with pytest.raises(ZeroDivisionError, match="through"):
        single.submit_task(lambda: pilot.current_manager().submit_task(fail, "through").result()).result(timeout=SOON)


def test_children_are_cancelled_with_their_parent(single: PilotManager, eventually: Callable[..., Any]) -> None:
    def parent() -> None:
        manager = pilot.current_manager()
        manager.get_results(manager.map(time.sleep, [600.0] * 5))

    before = set(single.tasks)
    task = single.submit_task(parent)
    eventually(lambda: len(single.tasks) == len(before) + 6, timeout=SOON)
    assert task.cancel()
    own = [single.tasks[id] for id in single.tasks.keys() - before]
    single.wait_tasks(own, timeout=SOON)
    assert [one.state for one in own] == [TaskState.CANCELLED] * 6


def test_a_parent_whose_worker_dies_finds_its_children_by_their_keys(single: PilotManager, tmp_path: Path) -> None:
    def child(name: str) -> str:
        with (tmp_path / name).open("a") as file:
            file.write("x")
        return name

    def parent() -> list[str]:
        manager = pilot.current_manager()
        kept = manager.submit_task(child, "kept", key=f"kept in {tmp_path}")
        again = manager.submit_task(child, "again")
        waiting = manager.submit_task(time.sleep, 0.0 if (tmp_path / "killed").exists() else 600.0)
        found = manager.get_results([kept, again])
        if not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        waiting.result()
        return found

    task = single.submit_task(parent)
    assert task.result(timeout=SOON) == ["kept", "again"]
    assert len(task.info.attempts) == 1
    assert ((tmp_path / "kept").read_text(), (tmp_path / "again").read_text()) == ("x", "xx")
    assert [one.state for one in single.tasks.values() if one.name == "sleep"][-2:] == [
        TaskState.CANCELLED,
        TaskState.DONE,
    ]


# ---- who may call -----------------------------------------------------------------------------------------------


def test_there_is_a_current_manager_in_tasks_only(double: PilotManager) -> None:
    with pytest.raises(RuntimeError, match="outside of tasks use the PilotManager"):
        pilot.current_manager()

    def forks() -> str:
        reader, writer = os.pipe()
        if not os.fork():
            try:
                pilot.current_manager()
            except RuntimeError as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        return os.read(reader, 4096).decode()

    assert "a process that a task has started" in double.submit_task(forks).result(timeout=SOON)


def test_a_manager_and_its_tasks_end_with_the_task_that_had_them(double: PilotManager) -> None:
    def keep() -> int:
        worker_state()["manager"] = pilot.current_manager()
        return os.getpid()

    def use() -> tuple[int, str]:
        try:
            worker_state().pop("manager").submit_task(pow, 2, 3)
        except (RuntimeError, KeyError) as error:
            return os.getpid(), repr(error)
        return os.getpid(), "it was submitted"

    first = double.submit_task(keep)
    pid = first.result(timeout=SOON)
    said = double.get_results([double.submit_task(use) for _ in range(20)])
    if any(its == pid for its, _ in said):  # which worker runs a task is not known before
        assert any(f"this manager was given to task {first.id}, which is over" in text for _, text in said)
    assert "it was submitted" not in [text for _, text in said]
    with pytest.raises(pilot.NotPicklable, match="a child task calls current_manager"):
        double.submit_task(pilot.current_manager).result(timeout=SOON)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda manager: manager.submit_task({"funktion": abs}), DescriptionError, "did you mean 'function'"),
        (
            lambda manager: manager.submit_task({"function": abs, "key": "one"}, key="other"),
            DescriptionError,
            "TaskDescription.key: 'one' is not valid; expected the same as that of the call, 'other'",
        ),
        (lambda manager: manager.submit_task(abs, 1, priority=3), DescriptionError, "has no argument 'priority'"),
        (lambda manager: manager.get_results(manager.submit_task(abs, 1)), DescriptionError, "for one task"),
        (lambda manager: manager.submit_task({"function": abs, "num_cpus": 9}), NoPilotError, "9 are needed"),
        (lambda manager: manager.submit_task(abs, threading.Lock()), pilot.NotPicklable, "argument of abs"),
        (lambda manager: manager.submit_task({"function": abs, "depends_on": [3]}), DescriptionError, "depends_on"),
        (lambda manager: manager.submit_task({"function": abs, "depends_on": 3}), DescriptionError, "depends_on: 3"),
        (lambda manager: manager.submit_task({"circuit": "no circuit"}), pilot.PilotError, "circuit"),
        (lambda manager: manager.map(abs, [1], chunksize=10), DescriptionError, "chunksize is not valid in a task"),
        (lambda manager: pilot.PilotExecutor(manager), DescriptionError, "in a task take submit_task, map"),
    ],
    ids=[
        "field",
        "key",
        "argument",
        "one_task",
        "wide",
        "pickle",
        "dependencies",
        "no_list",
        "circuit",
        "chunks",
        "executor",
    ],
)
def test_what_a_parent_does_wrong_is_told_at_once(
    double: PilotManager, call: Callable[..., Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        double.submit_task(lambda: call(pilot.current_manager())).result(timeout=SOON)


# ---- what a parent may do ---------------------------------------------------------------------------------------


def test_arguments_dependencies_and_descriptions_are_as_those_of_any_task(double: PilotManager) -> None:
    def parent() -> list[Any]:
        manager = pilot.current_manager()
        large = np.arange(200_000.0)  # more than a message takes
        total = manager.submit_task(np.sum, large)
        twice = manager.submit_task(lambda pair: pair["value"] * 2, {"value": total})
        last = manager.submit_task(TaskDescription(function=abs, args=(-5,), depends_on=[twice], name="last"))
        own = manager.submit_task(
            {"function": os.getenv, "args": ("OF_A_CHILD",), "environment": {"OF_A_CHILD": "given"}, "num_cpus": 0.5}
        )
        echo = manager.submit_task({"executable": ["echo", "a program"]})
        ready = manager.submit_task(worker_state().get, "nothing")
        back = manager.submit_task(np.ones, 200_000)
        results = manager.get_results([total, twice, last, own, ready])
        return [*results, last.name, echo.result().stdout, float(back.result().sum())]

    expected = [19999900000.0, 39999800000.0, 5, "given", None, "last", "a program\n", 200_000.0]
    assert double.submit_task(parent).result(timeout=SOON) == expected


def test_children_are_taken_as_they_end_and_waited_for_with_a_limit(double: PilotManager, tmp_path: Path) -> None:
    def until(path: Path) -> str:
        deadline = time.monotonic() + SOON
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return path.name

    def parent() -> list[Any]:
        manager = pilot.current_manager()
        slow, quick = manager.map(until, [tmp_path / "slow", tmp_path / "quick"])
        try:
            slow.result(timeout=0.1)
        except TimeoutError as error:
            seen = [str(error)]
        done, not_done = manager.wait_tasks([slow, quick], timeout=0.05)
        seen += [len(done), len(not_done), slow.done()]
        (tmp_path / "quick").touch()
        for task in manager.as_completed([slow, quick]):
            seen.append(task.result())
            (tmp_path / "slow").touch()
        ended = manager.submit_task(until, tmp_path / "never")
        ended.cancel()
        try:
            ended.result()
        except CancelledError:
            seen.append("cancelled")
        return [*seen, ended.cancelled(), slow.done()]

    seen = double.submit_task(parent).result(timeout=SOON)
    assert seen[0].endswith("is not over after 0.1 s")
    assert seen[1:] == [0, 2, False, "quick", "slow", "cancelled", True, True]


def test_threads_and_coroutines_of_a_task_wait_too(single: PilotManager) -> None:
    def threads() -> list[int]:
        manager, found = pilot.current_manager(), [0] * 3

        def one(place: int) -> None:
            found[place] = manager.submit_task(pow, place, 2).result()

        started = [threading.Thread(target=one, args=(place,)) for place in range(3)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        return found

    async def coroutine() -> list[int]:
        import asyncio

        return list(await asyncio.gather(*pilot.current_manager().map(pow, range(3), [3] * 3)))

    assert single.submit_task(threads).result(timeout=SOON) == [0, 1, 4]
    assert single.submit_task(coroutine).result(timeout=SOON) == [0, 1, 8]


def test_coroutines_wait_for_the_first_of_many_and_cancel_the_others(double: PilotManager) -> None:
    async def parent() -> list[str]:
        import asyncio

        async def ended(child: Any) -> Any:
            return await child

        manager = pilot.current_manager()
        long = [asyncio.create_task(ended(child)) for child in manager.map(time.sleep, [600] * 40)]
        first = asyncio.create_task(ended(manager.submit_task(TaskDescription(function=abs, args=[-1], priority=9))))
        await asyncio.wait([*long, first], return_when=asyncio.FIRST_COMPLETED)
        for one in long:
            one.cancel()
        await asyncio.wait(long)
        return [str(first.result()), *{str(one.cancelled()) for one in long}]

    task = double.submit_task(parent)
    assert task.result(timeout=SOON) == ["1", "True"]
    _, left = double.wait_tasks([one for one in double.tasks.values() if one.id > task.id], timeout=SOON)
    assert not left


def test_what_waits_behind_a_parent_runs_meanwhile(single: PilotManager) -> None:
    """Short tasks travel in batches: its children may come after tasks that are behind it in its own worker."""
    single.get_results([single.submit_task(fibonacci, 1) for _ in range(20)])  # now they are known to be short
    tasks = [single.submit_task(fibonacci, n % 3) for n in range(30)]
    assert single.get_results(tasks) == [plain_fibonacci(n % 3) for n in range(30)]


def test_circuits_are_children_as_well(double: PilotManager) -> None:
    qiskit = pytest.importorskip("qiskit")

    def parent() -> list[float]:
        circuit = qiskit.QuantumCircuit(1)
        circuit.ry(2.0, 0)
        manager = pilot.current_manager()
        return list(manager.submit_task({"circuit": circuit, "observables": ["Z", "X"]}).result().values)

    assert double.submit_task(parent).result(timeout=SOON) == pytest.approx([np.cos(2.0), np.sin(2.0)])


def test_primitives_and_cutting_run_in_a_task(single: PilotManager) -> None:
    """A variational loop that is a task, on one core: it waits, and its circuits run."""
    qiskit = pytest.importorskip("qiskit")

    def parent() -> tuple[list[float], float]:
        from pilot.quantum import PilotEstimator, cutting

        manager = pilot.current_manager()
        estimator = PilotEstimator(manager)
        qubit = qiskit.QuantumCircuit(1)
        qubit.ry(2.0, 0)
        job = estimator.run([(qubit, "Z"), (qubit, "X")])
        values = [float(one.data.evs) for one in job.result()]
        assert job.done() and not job.cancel()
        chain = qiskit.QuantumCircuit(3)
        chain.ry(2.0, 0)
        chain.cx(0, 1)
        chain.cx(1, 2)
        pieces = cutting.plan(chain, ["ZZZ"], max_qubits=2).run(manager, seed=7)
        return values, float(pieces.values[0])

    values, whole = single.submit_task(parent).result(timeout=SOON)
    assert values == pytest.approx([np.cos(2.0), np.sin(2.0)])
    assert whole == pytest.approx(np.cos(2.0), abs=0.05)


# ---- children belong to their parents ---------------------------------------------------------------------------


def test_a_parent_that_ends_well_leaves_its_children(double: PilotManager, tmp_path: Path) -> None:
    id = double.submit_task(lambda: pilot.current_manager().submit_task((tmp_path / "made").touch).id).result(SOON)
    double.tasks[id].result(timeout=SOON)
    assert (tmp_path / "made").exists()


def test_a_parent_that_raises_and_runs_again_finds_them_as_well(double: PilotManager, tmp_path: Path) -> None:
    def child(good: bool) -> str:
        with (tmp_path / "runs").open("a") as file:
            file.write("good " if good else "bad ")
        if not good and (tmp_path / "runs").read_text().count("bad") == 1:
            raise ValueError("the first time")
        return "fine"

    def parent() -> list[str]:
        manager = pilot.current_manager()
        given = TaskDescription(function=child, args=(False,))  # with a key beside it, as a manager takes it
        tasks = [manager.submit_task(child, True, key=f"True in {tmp_path}")]
        tasks += [manager.submit_task(given, key=f"False in {tmp_path}")]
        return [task.result() for task in tasks]

    task = double.submit_task(TaskDescription(function=parent, retries=1))
    assert task.result(timeout=SOON) == ["fine", "fine"]
    assert (tmp_path / "runs").read_text() == "good bad bad "  # what has failed runs again, what has a result does not
    with pytest.raises(DescriptionError, match="a different value of args"):
        double.submit_task(lambda: pilot.current_manager().submit_task(child, 3, key=f"True in {tmp_path}")).result(
            SOON
        )


def test_a_child_that_kills_its_worker_does_not_kill_its_parent(double: PilotManager) -> None:
    def parent() -> str:
        manager = pilot.current_manager()
        killed = manager.submit_task(os.kill, 0, signal.SIGKILL)  # its process group
        after = manager.submit_task(lambda value: value, killed)
        errors = killed.exception(), after.exception()
        return " ".join(type(error).__name__ for error in errors)

    assert double.submit_task(parent).result(timeout=SOON) == f"{WorkerDied.__name__} {DependencyFailed.__name__}"


#: A manager that is to be killed while its only task waits for a child: session, folder.
KILLED = """
import sys, time
from pathlib import Path
import pilot

def child(folder):
    while not (folder / "go on").exists():
        time.sleep(0.01)
    return 6

def parent(folder):
    manager = pilot.current_manager()
    first = manager.submit_task(child, folder)
    (folder / "waits").touch()
    return first.result() * manager.submit_task(int, "7").result()

manager = pilot.PilotManager(sys.argv[1])
manager.submit_pilot({"cores_per_node": 1})
manager.submit_task(parent, Path(sys.argv[2]))
time.sleep(600)
"""


def test_a_parent_goes_on_under_another_manager(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "session", tmp_path])
    try:
        eventually((tmp_path / "waits").exists, timeout=SOON)
        eventually(lambda: len(PilotManager.read(tmp_path / "session").tasks) == 2, timeout=SOON)
    finally:
        process.kill()
        process.wait()
    with PilotManager.attach(tmp_path / "session") as manager:
        (tmp_path / "go on").touch()
        assert manager.tasks[1].result(timeout=SOON) == 42
        assert not manager.tasks[1].info.attempts


# ---- what can never be had --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "text"),
    [({"num_gpus": 1}, "has 0 GPUs, but 1 are needed"), ({"memory": "1.5 GiB"}, "GiB of memory, but")],
    ids=["GPU", "memory"],
)
def test_a_wait_for_what_the_parent_itself_holds_is_refused_at_once(
    double: PilotManager, own: dict[str, Any], text: str
) -> None:
    def parent() -> str:
        manager = pilot.current_manager()
        small = manager.submit_task(pow, 2, 3)
        child = manager.submit_task({"function": pow, "args": (2, 5), **own})
        try:
            child.result()
        except NoPilotError as error:
            return f"{small.result()} {error}"
        return "it has run"

    began = time.monotonic()
    said = double.submit_task(TaskDescription(function=parent, **own)).result(timeout=SOON)
    assert said.startswith("8 task ") and text in said and "submit the waiting task with less" in said
    assert time.monotonic() - began < SOON / 2
    assert double.submit_task({"function": pow, "args": (2, 4), **own}).result(timeout=SOON) == 16


def test_a_wide_parent_waits_for_wide_children(double: PilotManager) -> None:
    def parent() -> int:
        manager = pilot.current_manager()
        both = [manager.submit_task({"function": pow, "args": (2, n), "num_cpus": 2}) for n in (1, 2)]
        return sum(manager.get_results(both))

    tasks = [double.submit_task({"function": parent, "num_cpus": 2}) for _ in range(2)]
    assert double.get_results(tasks) == [6, 6]


def test_a_child_of_another_task_is_found_and_stays_its_own(double: PilotManager, tmp_path: Path) -> None:
    """The task that finds it by its key has a submission refused, and fails: the child goes on."""
    begun, go, key = tmp_path / "begun", tmp_path / "go", f"found in {tmp_path}"

    def child() -> str:
        begun.touch()
        eventually(go.exists, SOON)
        return "own"

    def owner() -> str:
        result: str = pilot.current_manager().submit_task(child, key=key).result()
        return result

    def finder() -> None:
        manager = pilot.current_manager()
        manager.submit_task(child, key=key)
        with pytest.raises(NoPilotError):
            manager.submit_tasks([{"function": child, "key": key}, {"function": child, "num_cpus": 1000}])
        fail("after it was found")

    task = double.submit_task(owner)
    eventually(begun.exists, SOON)
    with pytest.raises(ZeroDivisionError):
        double.submit_task(finder).result(SOON)
    double.submit_task(pow, 2, 3).result(SOON)  # what the end of that task leads to has happened
    go.touch()
    assert task.result(SOON) == "own"


def test_a_child_that_was_submitted_again_is_not_its_finders(double: PilotManager, tmp_path: Path) -> None:
    begun, goes, key = tmp_path / "begun", tmp_path / "go", f"again in {tmp_path}"
    found = tmp_path / "found"

    def child() -> str:
        if not begun.exists():
            fail("the first time")
        eventually(goes.exists, SOON)
        return "own"

    def owner() -> int:
        task = pilot.current_manager().submit_task(child, key=key)
        task.exception()
        return task.id

    def finder() -> None:
        begun.touch()
        eventually(found.exists, SOON)
        pilot.current_manager().submit_task(child, key=key)
        fail("after it was found")

    first = double.tasks[double.submit_task(owner).result(SOON)]
    last = double.submit_task(finder)
    eventually(begun.exists, SOON)
    (again,) = double.resubmit([first])
    found.touch()
    with pytest.raises(ZeroDivisionError, match="after it was found"):
        last.result(SOON)
    double.submit_task(pow, 2, 3).result(SOON)  # what the end of that task leads to has happened
    goes.touch()
    assert again.result(SOON) == "own"
