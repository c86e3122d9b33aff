"""A Task is a Future: everything that waits for futures waits for tasks. No manager, no process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import functools
import itertools
import pickle
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pytest

from pilot import errors
from pilot.descriptions import PilotDescription, TaskDescription
from pilot.errors import ErrorCode, PilotFailed, SessionError
from pilot.manager.handles import Failed, Task, call_back, entry_of, first_cause, outcome_of, settle
from pilot.manager.pilots import Pilot, change_pilot, update_pilot
from pilot.resources import PLAIN, QPUInfo
from pilot.results import CANCELLED, OK, RAISED, TIMED_OUT, Outcome, Spooled, TaskInfo
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import PilotState, TaskState
from pilot.wire.payload import dump_exception
from pilot.wire.spool import Spool


class FakeKeeper:
    """What a Task asks of its session."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.is_foreign = False
        self.spool = Spool(Path("/nowhere"))

    def info(self, task: Task) -> TaskInfo:
        stderr = outcome.stderr or "" if (outcome := outcome_of(task)) is not None else ""
        return TaskInfo(id=task.id, name=task.name, state=task.state.value, pilot="p", worker="w", stderr=stderr)

    def value(self, outcome: Outcome) -> Any:
        if isinstance(outcome.value, Exception):  # the journal cannot be read
            raise outcome.value
        return outcome.value

    def check_process(self) -> None:
        if self.is_foreign:
            raise SessionError("forked")

    def interrupted(self) -> None:
        raise AssertionError("nobody interrupts")


@pytest.fixture
def make() -> Callable[..., Any]:
    keeper = FakeKeeper()

    def make(count: int | None = None, **fields: Any) -> Any:
        if count is not None:
            return [make() for _ in range(count)]
        terms = TaskDescription(function=len, **fields).terms() if fields else PLAIN
        entry = TaskRecord(len(keeper.tasks) + 1, FunctionRecord(1, "d", "work"), None, terms, None, 0.0)
        task = keeper.tasks[entry.id] = Task(keeper, entry)  # type: ignore[arg-type]
        return task

    return make


def finish(task: Task, value: Any = None, status: int = OK, stderr: str | None = None) -> None:
    """As the manager's thread does it."""
    states = {OK: TaskState.DONE, CANCELLED: TaskState.CANCELLED}
    entry_of(task).state = states.get(status, TaskState.FAILED)
    data = dump_exception(value) if status == RAISED else pickle.dumps(value)
    if settle(task, Outcome(task.id, status, 1.0, 0.5, data, None, stderr), None):
        call_back(task)


def later(*calls: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=lambda: [call() for call in calls])
    thread.start()
    return thread


def test_result_is_unpickled_anew(make: Any) -> None:
    task = make()
    finish(task, [1, 2])
    task.result().append(3)
    assert task.result() == [1, 2]
    assert task.exception() is None
    assert (task.done(), task.cancelled(), task.running()) == (True, False, False)


def test_result_with_a_timeout(make: Any) -> None:
    task = make()
    with pytest.raises(TimeoutError, match=r"task 1 \(work\) is queued after 0.01 s"):
        task.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        task.exception(timeout=0)
    assert not task.done()
    finish(task, 5)
    assert task.result(timeout=0) == 5


def test_own_exception_with_remote_traceback(make: Any) -> None:
    task = make()
    finish(task, KeyError("x"), RAISED, stderr="complaint\n")
    with pytest.raises(KeyError) as caught:
        task.result()
    assert "KeyError" in str(caught.value.__cause__)
    assert caught.value.__notes__ == ["task 1 (work) on pilot p, worker w", "stderr: complaint"]


def test_exit_of_a_task_is_a_task_error(make: Any) -> None:
    task = make()
    finish(task, SystemExit(3), RAISED)
    with pytest.raises(errors.TaskExited, match="raised SystemExit: 3") as caught:
        task.result()
    assert caught.value.task == 1


def test_timed_out(make: Any) -> None:
    task = make(timeout=0.5)
    finish(task, None, TIMED_OUT)
    with pytest.raises(errors.TaskTimeout, match=r"ran longer than its timeout of 0.5 s") as caught:
        task.result()
    assert caught.value.seconds == 0.5


def test_cancelled(make: Any) -> None:
    task = make()
    finish(task, None, CANCELLED)
    assert task.cancelled()
    assert task.done()
    for ask in (task.result, task.exception):
        with pytest.raises(CancelledError, match=r"task 1 \(work\) was cancelled"):
            ask()


def test_dependency_failed_chains_the_cause(make: Any) -> None:
    first, after = make(), make()
    finish(first, ValueError("bad"), RAISED)
    settle(after, None, Failed(ErrorCode.DEPENDENCY_FAILED, "it depends on task 1", 1))
    with pytest.raises(errors.DependencyFailed, match="it depends on task 1") as caught:
        after.result()
    assert caught.value.dependency == 1
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("how", ["failed", "was cancelled"])
@pytest.mark.parametrize("links", [1, 2, 100_000])
def test_the_error_of_the_last_link_has_the_first_cause(make: Any, links: int, how: str) -> None:
    """Reading, printing and copying it takes no longer, and no deeper stack, for a longer chain."""
    head, *chain = make(links + 1)
    finish(head, ValueError("bad"), RAISED if how == "failed" else CANCELLED)
    for before, task in itertools.pairwise([head, *chain]):
        reason = f"it depends on task {before.id} (work), which failed"
        settle(task, None, Failed(ErrorCode.DEPENDENCY_FAILED, reason, before.id, *first_cause(before)))
    error = chain[-1].exception()
    assert isinstance(error, errors.DependencyFailed)
    assert (error.task, error.dependency, error.first) == (links + 1, links, 1)
    assert isinstance(error.__cause__, ValueError if how == "failed" else CancelledError)
    words = f"the first cause, {links} links back, is task 1 (work), which {how}"
    assert (words in str(error)) == (links > 1)
    assert "".join(traceback.format_exception(error)).count("direct cause") <= 2
    assert str(pickle.loads(pickle.dumps(error))) == str(copy.deepcopy(error)) == str(error)
    with pytest.raises(errors.DependencyFailed):
        chain[-1].result()


def test_callbacks_are_called_once_before_or_after(make: Any) -> None:
    task, seen = make(), []
    task.add_done_callback(lambda one: seen.append(("before", one.result())))
    assert seen == []
    finish(task, 1)
    task.add_done_callback(lambda one: seen.append(("after", one.result())))
    assert seen == [("before", 1), ("after", 1)]


def test_no_callback_keeps_another_from_its_turn(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    task, seen = make(), []
    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ValueError("own")):
        task.add_done_callback(functools.partial(fail_with, error))
    task.add_done_callback(seen.append)
    finish(task, 1)
    assert seen == [task]
    assert caplog.text.count("a callback of task 1 (work) failed") == 4


def fail_with(error: BaseException, *_: Any) -> None:
    raise error


class Breaks:
    """Its unpickling fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return fail_with, (self.error,)


class NoSet(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"read only: {name}")


class NoNotes(Exception):
    __notes__ = ()


#: Outcomes of which ``result()`` raises: status and value, and what it raises.
ENDS: dict[str, tuple[int, Any, type[BaseException]]] = {
    "cannot be unpickled": (OK, pickle.dumps(Breaks(AttributeError("no such thing"))), errors.NotPicklable),
    "exits when it is unpickled": (OK, pickle.dumps(Breaks(SystemExit(3))), errors.NotPicklable),
    "module that is not here": (OK, b"cno_such_module\nthing\n.", errors.NotPicklable),
    "half a pickle": (OK, pickle.dumps([1, 2])[:-3], errors.NotPicklable),
    "file gone": (OK, Spooled("x.pkl", 9), SessionError),
    "journal gone": (OK, SessionError("gone"), SessionError),
    "journal of the error gone": (RAISED, SessionError("gone"), SessionError),
    "raised": (RAISED, dump_exception(KeyError(1)), KeyError),
    "raised StopIteration": (RAISED, dump_exception(StopIteration(5)), errors.TaskError),
    "raised CancelledError": (RAISED, dump_exception(CancelledError()), CancelledError),
    "takes no notes": (RAISED, dump_exception(NoNotes("own words")), NoNotes),
    "exited": (RAISED, dump_exception(SystemExit(3)), errors.TaskExited),
    "cancelled": (CANCELLED, None, CancelledError),
}


@pytest.mark.parametrize("end", ENDS)
def test_await_ends_as_result_does(make: Any, end: str) -> None:
    status, value, wanted = ENDS[end]

    def over(task: Task) -> None:
        if settle(task, Outcome(task.id, status, 1.0, 0.5, value, None, "complaint"), None):
            call_back(task)

    async def wait(task: Task) -> Any:
        asyncio.get_running_loop().call_soon(over, task)
        return await asyncio.wait_for(asyncio.wrap_future(task), 60)

    task = make()
    with pytest.raises((wanted, asyncio.CancelledError)):
        asyncio.run(wait(task))
    with pytest.raises(wanted) as caught:
        task.result()
    if status != CANCELLED:
        seen = task.exception()
        assert (type(seen), str(seen)) == (type(caught.value), str(caught.value))
    assert task.done()


def test_an_exception_that_takes_no_notes_keeps_its_words(make: Any) -> None:
    task = make()
    finish(task, NoNotes("the real reason"), RAISED, stderr="complaint")
    with pytest.raises(NoNotes, match="the real reason") as caught:
        task.result()
    assert "stderr: complaint" in str(caught.value.__cause__)


def test_an_unfinished_task_of_a_forked_process_raises(make: Any) -> None:
    """Nobody could settle it there; one that was finished before has its result."""
    done, task = make(2)
    finish(done, 5)
    task._keeper.is_foreign = True
    for wait in (
        task.result,
        task.exception,
        lambda: task.add_done_callback(print),
        lambda: concurrent.futures.wait([done, task]),
        lambda: list(as_completed([task])),
        lambda: asyncio.run(asyncio.wait_for(asyncio.wrap_future(task), 60)),
    ):
        with pytest.raises((SessionError, RuntimeError)):
            wait()
    assert (done.result(), done.exception()) == (5, None)
    assert concurrent.futures.wait([done]).done == {done}


def test_as_completed_and_wait(make: Any) -> None:
    tasks = make(20)
    for task in tasks[:5]:
        finish(task, task.id)
    done, not_done = concurrent.futures.wait(tasks, timeout=0.01)
    assert (len(done), len(not_done)) == (5, 15)
    thread = later(
        *(lambda task=task: finish(task, task.id) for task in tasks[5:18]),
        lambda: finish(tasks[18], OSError("no"), RAISED),
        lambda: finish(tasks[19], None, CANCELLED),
    )
    assert {task.id for task in as_completed(tasks, timeout=60)} == set(range(1, 21))
    thread.join()
    assert concurrent.futures.wait(tasks, timeout=0).not_done == set()


def test_wait_for_the_first_and_for_an_exception(make: Any) -> None:
    tasks = make(3)
    thread = later(lambda: finish(tasks[1], ValueError(), RAISED))
    done, _ = concurrent.futures.wait(tasks, timeout=60, return_when=concurrent.futures.FIRST_EXCEPTION)
    thread.join()
    assert done == {tasks[1]}
    assert concurrent.futures.wait(tasks, 10, concurrent.futures.FIRST_COMPLETED).done == {tasks[1]}


def test_asyncio(make: Any) -> None:
    good, bad = make(), make()

    async def main() -> tuple[Any, Any]:
        waited = [asyncio.wrap_future(task) for task in (good, bad)]
        thread = later(lambda: finish(good, 7), lambda: finish(bad, ValueError("bad"), RAISED))
        results = await asyncio.wait_for(asyncio.gather(*waited, return_exceptions=True), 10)
        thread.join()
        return tuple(results)

    value, error = asyncio.run(main())
    assert value == 7
    assert isinstance(error, ValueError)


def test_nobody_waits_in_vain(make: Any) -> None:
    """Threads that ask for results race the one that finishes the tasks, over and over."""
    for _ in range(30):
        tasks = make(50)
        go, got = threading.Barrier(5), []

        def ask(tasks: list[Task] = tasks, go: threading.Barrier = go, got: list[int] = got) -> None:
            go.wait()
            got.append(sum(task.result(timeout=60) for task in tasks))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        go.wait()
        for number, task in enumerate(tasks):
            finish(task, number)
        for thread in threads:
            thread.join()
        assert got == [sum(range(50))] * 4


@pytest.mark.parametrize("wait", ["as_completed", "wait", "callbacks"])
def test_each_task_is_announced_once(make: Any, wait: str) -> None:
    """Who begins to wait while tasks finish hears of each exactly once, also of those that finish at that moment."""
    for _ in range(60):
        tasks = make(100)
        calls: list[int] = []
        thread = later(*(lambda task=task: finish(task, task.id) for task in tasks))
        if wait == "as_completed":
            assert len(list(as_completed(tasks, timeout=60))) == 100
        elif wait == "wait":
            assert concurrent.futures.wait(tasks, timeout=60).not_done == set()
            assert all(task.done() for task in tasks)
        else:
            for task in tasks:
                task.add_done_callback(lambda one, calls=calls: calls.append(one.id))
        thread.join()
        if wait == "callbacks":
            assert sorted(calls) == [task.id for task in tasks]


def test_the_state_stands_still_while_a_waiter_looks(make: Any) -> None:
    """as_completed and wait hold the conditions, look at the states and then say what they wait for; a task that
    finished in between would be announced twice, and wait would return too early."""
    task = make()
    with task._condition:
        thread = later(lambda: finish(task, 1))
        thread.join(0.05)
        assert not task.done()
    thread.join()
    assert task.done()


def test_a_finished_task_that_nobody_waited_for_is_small(make: Any) -> None:
    task = make()
    finish(task, 1)
    assert task.done()
    assert not task.cancelled()
    assert task._made_condition is None


def test_repr(make: Any) -> None:
    task = make()
    assert repr(task) == "<Task 1 'work' queued>"
    with pytest.raises(TypeError, match="can be pickled only as an argument of a task"):
        pickle.dumps(task)


def test_a_pilot_is_waited_for_until_its_devices_have_said_what_they_are(tmp_path: Path) -> None:
    described = PilotDescription(cores_per_node=1, qpus=["fake:manila", "aer"])
    pilot = Pilot(FakeKeeper(), "pilot-1", described, tmp_path)  # type: ignore[arg-type]
    assert pilot.wait(timeout=0.01) is PilotState.NEW
    change_pilot(pilot, PilotState.ACTIVE, "")
    assert pilot._is_starting({"fake:manila"})
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pilot.wait)
        update_pilot(pilot, {}, (), (QPUInfo(name="fake:manila", qubits=0, problem="no key"),))  # has failed: is known
        assert waiting.result(timeout=60) is PilotState.ACTIVE
    update_pilot(pilot, {}, (), ())
    change_pilot(pilot, PilotState.FAILED, "lost")
    with pytest.raises(PilotFailed, match="lost"):
        pilot.wait()
