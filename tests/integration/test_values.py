"""Values on their way: what cannot be pickled fails its own task only; large ones take no memory of the manager."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import PilotManager, TaskDescription
from pilot.errors import (
    DescriptionError,
    NotPicklable,
    SessionError,
    TaskError,
)

Eventually = Callable[..., Any]

#: Seconds for what takes a moment; a test that gets here has found something that hangs.
SOON = 120.0


pytestmark = pytest.mark.usefixtures("home_goes_on")


@pytest.fixture(scope="module")
def manager(home: PilotManager) -> PilotManager:
    return home


# ---- what cannot travel -----------------------------------------------------------------------------------------


def test_an_exception_that_cannot_be_pickled_arrives_as_text(manager: PilotManager) -> None:
    def work() -> None:
        class Odd(Exception):
            def __init__(self) -> None:
                super().__init__("it is odd")
                self.lock = threading.Lock()

        raise Odd

    with pytest.raises(TaskError, match=r"raised .*Odd: it is odd") as caught:
        manager.submit_task(work).result(timeout=SOON)
    assert "in work" in str(caught.value.__cause__)


@pytest.mark.parametrize("text", ["\udce9", "\ud800 \U0001f600", "\0", "x" * 5_000_000])
def test_an_exception_may_say_anything(manager: PilotManager, text: str) -> None:
    def work(text: list[str]) -> None:
        raise ValueError(text[0])

    with pytest.raises(ValueError) as caught:
        manager.submit_task(work, [text]).result(timeout=SOON)
    assert caught.value.args == (text,)


@pytest.mark.parametrize("how", ["mute", "bomb"])
def test_an_exception_that_breaks_when_it_is_looked_at_is_the_tasks_own(manager: PilotManager, how: str) -> None:
    def work(how: str) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        class Bomb(Exception):
            def __reduce__(self) -> Any:
                return exit, (9,)

        raise Mute if how == "mute" else Bomb

    error = manager.submit_task(work, how).exception(timeout=SOON)
    assert type(error).__name__ == "Mute" or "Bomb" in str(error)


def test_an_exception_of_the_users_own_class_is_caught_by_that_class(manager: PilotManager) -> None:
    class Own(Exception):  # as in a script: the worker cannot import it
        pass

    def work() -> None:
        raise Own("mine", 7)

    with pytest.raises(Own) as caught:
        manager.submit_task(work).result(timeout=SOON)
    assert caught.value.args == ("mine", 7)


@pytest.mark.parametrize("make", [threading.Lock, lambda: (n for n in range(3))], ids=["a lock", "a generator"])
def test_a_result_that_cannot_be_pickled_fails_its_task_alone(manager: PilotManager, make: Callable[[], Any]) -> None:
    others = manager.map(pow, [2] * 50, range(50))
    task = manager.submit_task(make)
    with pytest.raises(NotPicklable, match=r"the result cannot be pickled \((lock|generator)\)"):
        task.result(timeout=SOON)
    assert manager.get_results(others) == [2**n for n in range(50)]


@pytest.mark.parametrize("value", [threading.Lock(), (n for n in range(3))], ids=["a lock", "a generator"])
def test_an_argument_that_cannot_be_pickled_fails_at_submit(manager: PilotManager, value: Any) -> None:
    with pytest.raises(NotPicklable, match="an argument of print cannot be pickled"):
        manager.submit_task(print, value)


def test_a_result_that_does_not_unpickle_at_the_caller_says_so(manager: PilotManager) -> None:
    def work() -> Any:
        class Coward:
            def __setstate__(self, state: Any) -> None:
                raise OSError("not here")

            def __getstate__(self) -> Any:
                return {"a": 1}

        return Coward()

    task = manager.submit_task(work)
    for _ in range(2):
        with pytest.raises(NotPicklable, match=r"the result of task .* cannot be unpickled here.*not here") as caught:
            task.result(timeout=SOON)
        assert isinstance(caught.value.__cause__, OSError)


def test_a_function_cannot_take_its_manager_or_a_task_along(manager: PilotManager) -> None:
    task = manager.submit_task(pow, 2, 3)
    with pytest.raises(NotPicklable, match=r"PilotManager cannot|a PilotManager"):
        manager.submit_task(lambda: manager.submit_task(pow, 2, 3))
    with pytest.raises(NotPicklable, match="a Task can be pickled only as an argument of a task"):
        manager.submit_task(lambda: task)
    with pytest.raises(NotPicklable, match="an argument of print"):
        manager.submit_task(print, manager)


def test_the_task_of_another_manager_is_no_argument_and_no_dependency(manager: PilotManager) -> None:
    manager.submit_task(pow, 2, 3)
    with PilotManager() as other:
        other.submit_pilot({"cores_per_node": 1})
        foreign = other.submit_task(pow, 2, 3)
        assert foreign.id in manager.tasks  # a number that means something here too
        with pytest.raises(DescriptionError, match="another manager"):
            manager.submit_task(pow, foreign, 2)
        with pytest.raises(DescriptionError, match="another manager"):
            manager.submit_task(TaskDescription(function=pow, args=(2, 3), depends_on=foreign))
        assert foreign.result(timeout=SOON) == 8


def test_a_function_with_a_large_closure_is_sent_back(manager: PilotManager) -> None:
    data = bytes(80 << 20)
    with pytest.raises(NotPicklable, match="as an argument"):
        manager.submit_task(lambda: len(data))


# ---- large values -----------------------------------------------------------------------------------------------


GIB = 1 << 30


def stored(manager: PilotManager) -> list[Path]:
    """The files of arguments and objects."""
    return list((manager.session_dir / "spool").glob("*.argument*"))


def test_a_gib_of_result_arrives_without_passing_through_the_managers_memory(manager: PilotManager) -> None:
    numpy = pytest.importorskip("numpy")
    me = psutil.Process()

    def work() -> Any:
        import numpy

        return numpy.full(GIB // 8, 7.0)

    before, began = me.memory_info(), time.monotonic()
    task = manager.submit_task(work)
    manager.wait_tasks([task], timeout=90)
    after = me.memory_info()
    assert after.rss - before.rss < 64 << 20
    array = task.result(timeout=0)
    mapped = me.memory_info()
    assert (mapped.rss - mapped.shared) - (before.rss - before.shared) < 64 << 20  # the file is mapped, not copied
    assert array.nbytes == GIB and array[0] == array[-1] == 7.0 and numpy.all(array[:: 1 << 12] == 7.0)
    assert time.monotonic() - began < 300  # measured: 2 s
    del array
    for file in (manager.session_dir / "spool").iterdir():
        file.unlink()  # the disk is shared


def test_a_gib_of_argument_is_stored_once_and_removed_when_its_last_task_is_done(
    manager: PilotManager, eventually: Eventually
) -> None:
    numpy = pytest.importorskip("numpy")
    me = psutil.Process()
    array = numpy.full(GIB // 8, 7.0)

    def work(array: Any, number: int) -> tuple[int, float, bool]:
        return array.nbytes, float(array[-1]) * number, array.flags.writeable

    before, began = me.memory_info().rss, time.monotonic()
    tasks = [manager.submit_task(work, array, number) for number in range(2)]
    assert [file.stat().st_size for file in stored(manager)] == [GIB]
    assert [task.result(timeout=90) for task in tasks] == [(GIB, 0.0, False), (GIB, 7.0, False)]
    assert me.memory_info().rss - before < 64 << 20
    assert time.monotonic() - began < 300  # measured: 2 s
    eventually(lambda: not stored(manager))


def test_an_array_that_changes_between_submissions(manager: PilotManager, eventually: Eventually) -> None:
    numpy = pytest.importorskip("numpy")

    def total(arrays: dict[str, Any]) -> float:
        return float(arrays["a"].sum())

    array, tasks, expected = numpy.zeros(50_000), [], []
    for number in range(12):
        tasks.append(manager.submit_task(total, {"a": array}))
        expected.append(float(array.sum()))
        array[number * 4001] += number % 3  # not always a change
    assert manager.get_results(tasks) == expected
    eventually(lambda: not stored(manager))


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_arrays_below_a_mib_may_be_changed_by_their_task(
    manager: PilotManager, eventually: Eventually, size: int
) -> None:
    numpy = pytest.importorskip("numpy")

    def add(array: Any) -> Any:
        array += 1
        return array

    result = manager.submit_task(add, numpy.zeros(size // 8)).result(timeout=SOON)
    result += 1
    assert result.flags.aligned and result.sum() == 2 * (size // 8)
    eventually(lambda: not stored(manager))  # as soon as the result is in the journal


# ---- objects ----------------------------------------------------------------------------------------------------


def test_an_object_stands_for_its_value_wherever_a_task_may_stand(
    manager: PilotManager, eventually: Eventually
) -> None:
    numpy = pytest.importorskip("numpy")

    def work(nested: Any, *, scale: Any) -> tuple[float, bool]:
        array = nested[0]["array"]
        return float(array.sum() * scale), array.flags.writeable

    def double(value: Any) -> Any:
        return 2 * value

    array = numpy.arange(100_000.0)
    expected = float(array.sum())
    ref, scale = manager.put(array), manager.put(3)
    array[:] = 0  # what was put stays as it was
    tasks = [manager.submit_task(work, [{"array": ref}], scale=scale) for _ in range(4)]
    tasks.append(manager.submit_task(work, [{"array": ref}], scale=manager.submit_task(double, scale)))
    assert manager.get_results(tasks) == [(3 * expected, False)] * 4 + [(6 * expected, False)]
    assert [file.stat().st_size for file in stored(manager)] == [800_000]
    assert ref.get().sum() == expected and not ref.get().flags.writeable
    assert manager.objects == {ref.id: ref, scale.id: scale}
    del ref
    eventually(lambda: not stored(manager))
    assert list(manager.objects) == [scale.id]
    scale.release()


def test_a_program_gets_the_file_of_an_object(manager: PilotManager) -> None:
    ref = manager.put(b"some\nlines\n")
    done = manager.submit_task(TaskDescription(executable=["cat", "-", ref])).result(timeout=SOON)
    assert done.stdout == "some\nlines\n"
    with pytest.raises(DescriptionError, match=r"object \d+ is a list: put its bytes"):
        TaskDescription(executable=["cat", manager.put([1])])
    with pytest.raises(DescriptionError, match="word 0"):
        TaskDescription(executable=[ref])
    ref.release()


def test_an_object_that_is_released_waits_for_its_tasks(
    manager: PilotManager, eventually: Eventually, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def length(value: bytes) -> int:
        eventually(gate.exists)
        return len(value)

    ref = manager.put(bytes(200_000))
    task = manager.submit_task(length, ref)
    ref.release()
    ref.release()  # nothing happens
    eventually(lambda: len(stored(manager)) == 1)  # those of other tests go
    for use in (lambda: manager.submit_task(len, ref), lambda: manager.map(len, [[ref]])):
        with pytest.raises(DescriptionError, match=r"object \d+ \(bytes\) among the arguments of len was released"):
            use()
    with pytest.raises(SessionError, match="was released: put the value again"):
        ref.get()
    gate.touch()
    assert task.result(timeout=SOON) == 200_000
    eventually(lambda: not stored(manager))


KILLED = """
import os, sys, time
import numpy
from pilot import PilotManager

def total(array, gate):
    while not os.path.exists(gate):
        time.sleep(0.01)
    return float(array.sum())

if __name__ == "__main__":
    session, gate = sys.argv[1:]
    manager = PilotManager(session)
    manager.submit_pilot({"cores_per_node": 1, "engine": "process"})
    array = numpy.arange(100_000.0)
    refs = [manager.put(array), manager.put(b"kept"), manager.put(array - 1)]
    tasks = [manager.submit_task(total, one, gate) for one in (array + 1, array + 1, *refs[::2])]
    refs[2].release()
    manager.flush()
    print("there", flush=True)
    time.sleep(600)
"""


def test_objects_and_shared_arguments_after_a_kill(tmp_path: Path, eventually: Eventually) -> None:
    script, session, gate = tmp_path / "script.py", tmp_path / "session", tmp_path / "gate"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, script, session, gate], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"there\n"
        child.kill()
    left = session / "spool" / "0.argument"
    left.write_bytes(b"its last task was done, and the manager was killed before it was removed")
    with PilotManager.attach(session) as manager:
        sizes = sorted(file.stat().st_size for file in stored(manager))
        assert sizes == [4, 800_000, 800_000, 800_000]
        first, second = manager.objects.values()
        assert (second.get(), float(first.get().sum())) == (b"kept", 4999950000.0)
        again = manager.submit_task(len, second)
        gate.touch()
        results = manager.get_results(manager.tasks.values())
        assert results == [5000050000.0, 5000050000.0, 4999950000.0, 4999850000.0, 4]
        assert again.info.state == "done"
        eventually(lambda: len(stored(manager)) == 2)
        for ref in (first, second):
            ref.release()
        eventually(lambda: not stored(manager))


def test_where_an_object_may_not_be(manager: PilotManager) -> None:
    ref = manager.put(b"x")
    with pytest.raises(NotPicklable, match="an ObjectRef can be pickled only as an argument"):
        manager.submit_task(lambda: ref)
    with pytest.raises(NotPicklable, match="an ObjectRef can be pickled only as an argument"):
        manager.put([ref])
    with pytest.raises(NotPicklable, match="the object cannot be pickled"):
        manager.put(threading.Lock())
    other = PilotManager()
    other.submit_pilot({"cores_per_node": 1})
    with pytest.raises(DescriptionError, match=r"object 1 \(bytes\) among the arguments of len is of another session"):
        manager.submit_task(len, other.put(b"y"))
    mine = other.put(b"z")
    other.close()
    for late in (lambda: other.put(b"y"), lambda: other.submit_task(len, mine), mine.release):
        with pytest.raises(SessionError, match="closed"):
            late()
    ref.release()


def test_the_file_of_a_large_argument_goes_when_the_submit_fails(manager: PilotManager) -> None:
    with PilotManager() as other:
        other.submit_pilot({"cores_per_node": 1})
        foreign = other.submit_task(pow, 2, 3)
        with pytest.raises(DescriptionError):
            manager.submit_task(print, bytes(4 << 20), foreign)
    assert not stored(manager)
