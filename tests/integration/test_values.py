"""Values on their way: what cannot be pickled fails its own task only; large ones take no memory of the manager."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from pilot import PilotManager, TaskDescription
from pilot.errors import (
    DescriptionError,
    NotPicklable,
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


def test_a_gib_of_argument_arrives_and_its_file_is_removed_when_the_task_is_done(
    manager: PilotManager, eventually: Eventually
) -> None:
    numpy = pytest.importorskip("numpy")
    me = psutil.Process()
    array = numpy.full(GIB // 8, 7.0)

    def work(array: Any) -> tuple[int, float, bool]:
        return array.nbytes, float(array[-1]), array.flags.writeable

    before, began = me.memory_info().rss, time.monotonic()
    task = manager.submit_task(work, array)
    assert list((manager.session_dir / "spool").iterdir())
    assert task.result(timeout=90) == (GIB, 7.0, False)
    assert me.memory_info().rss - before < 64 << 20
    assert time.monotonic() - began < 300  # measured: 2 s
    eventually(lambda: not list((manager.session_dir / "spool").iterdir()))


def test_the_file_of_a_large_argument_goes_when_the_submit_fails(manager: PilotManager) -> None:
    with PilotManager() as other:
        other.submit_pilot({"cores_per_node": 1})
        foreign = other.submit_task(pow, 2, 3)
        with pytest.raises(DescriptionError):
            manager.submit_task(print, bytes(4 << 20), foreign)
    assert not list((manager.session_dir / "spool").iterdir())
