"""How tasks end when something goes wrong on the way: each one does, once, with its own result or with words."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import PilotDescription, PilotManager, TaskDescription, TaskState
from pilot.errors import DependencyFailed, DescriptionError, NoPilotError, PilotError, SessionError
from pilot.manager.agents import HANDLING_TRIES
from pilot.manager.faults import read
from pilot.manager.journal import WorkerRow
from pilot.manager.workers import Workers
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.session import SessionFolder
from pilot.wire.sockets import SocketClient

Eventually = Callable[..., Any]
LARGE = 2 << 20


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[PilotManager]:
    manager = PilotManager(tmp_path / "session")
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1))
    yield manager
    manager.close()  # whatever the test has left undone


def hold(gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.005)
    raise ValueError("the head's own words")


def step(before: None) -> None:
    return before


def length(value: bytes, gate: str | None = None) -> int:
    if gate is not None:
        Path(f"{gate}.begun").touch()
        while not Path(gate).exists():
            time.sleep(0.005)
    return len(value)


# ---- chains ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["failed", "was cancelled"])
def test_a_long_chain_ends_with_its_head(manager: PilotManager, tmp_path: Path, how: str) -> None:
    gate = tmp_path / "gate"
    chain = [manager.submit_task(hold, str(gate))]
    for _ in range(3 * sys.getrecursionlimit()):
        chain.append(manager.submit_task(step, chain[-1]))
    if how == "failed":
        gate.touch()
    else:
        assert chain[0].cancel()
    assert manager.wait_tasks(chain, timeout=60) == (chain, [])
    late = manager.submit_task(step, chain[-1])
    for task, links in ((chain[1], 1), (chain[-1], len(chain) - 1), (late, len(chain))):
        error = task.exception(60)
        assert isinstance(error, DependencyFailed)
        assert isinstance(error.__cause__, ValueError if how == "failed" else CancelledError)
        assert links == 1 or f"the first cause, {links} links back, is task 1 (hold), which {how}" in str(error)
        assert str(error) in manager.explain(task)


# ---- large arguments ------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_removed_stops_nobody(
    manager: PilotManager, tmp_path: Path, eventually: Eventually
) -> None:
    """A folder in its place stands for an unlink that fails."""
    gate = tmp_path / "gate"
    large = manager.submit_task(length, bytes(LARGE), str(gate))
    small = [manager.submit_task(abs, -number) for number in range(5)]
    (file,) = (manager.session_dir / "spool").iterdir()
    eventually(tmp_path.joinpath("gate.begun").exists, 60)  # it has its argument
    file.unlink()
    file.mkdir()
    gate.touch()
    assert (large.result(60), manager.get_results(small)) == (LARGE, list(range(5)))
    assert manager.submit_task(length, bytes(LARGE)).result(60) == LARGE


def test_an_argument_is_kept_until_the_result_is_in_the_journal(manager: PilotManager, eventually: Eventually) -> None:
    spool = manager.session_dir / "spool"
    assert manager.submit_task(length, bytes(LARGE)).result(60) == LARGE
    eventually(lambda: not list(spool.iterdir()), 60)
    manager._state.journal.flush(60)
    blocker = sqlite3.connect(manager.session_dir / "journal.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # nobody else can write
    assert manager.submit_task(length, bytes(LARGE)).result(60) == LARGE
    assert len(list(spool.iterdir())) == 1
    blocker.execute("ROLLBACK")
    blocker.close()
    eventually(lambda: not list(spool.iterdir()), 60)


def test_who_submits_waits_for_the_journal(
    manager: PilotManager, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be written, so that a killed process loses no more than that."""
    assert manager.submit_task(abs, -1).result(60) == 1
    manager.flush(60)
    monkeypatch.setattr(manager._state.backlog, "limit", 51)
    blocker = sqlite3.connect(manager.session_dir / "journal.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=manager.map, args=(abs, range(200)))
    thread.start()
    eventually(lambda: len(manager.tasks) == 51)
    eventually(lambda: all(task.done() for task in list(manager.tasks.values())))  # what was submitted runs
    assert (len(manager.tasks), thread.is_alive()) == (51, True)
    blocker.execute("ROLLBACK")
    blocker.close()
    thread.join(60)
    assert manager.wait_tasks(timeout=60)[1] == []
    assert len(manager.tasks) == 201


def test_an_argument_that_is_gone_is_no_error_of_the_function(manager: PilotManager, tmp_path: Path) -> None:
    """Neither its own, nor the result of another task that it needs."""
    gate = tmp_path / "gate"
    held = manager.submit_task(length, b"1", str(gate))
    own = manager.submit_task(length, bytes(LARGE))
    (file,) = (manager.session_dir / "spool").iterdir()
    file.unlink()
    gate.touch()
    assert held.result(60) == 1
    large = manager.submit_task(bytes, LARGE)
    assert len(large.result(60)) == LARGE
    (file,) = (manager.session_dir / "spool").iterdir()
    file.unlink()
    for task in (own, manager.submit_task(length, large)):
        with pytest.raises(SessionError, match=r"an argument cannot be read from .*spool.*: No such file"):
            task.result(60)


# ---- errors of the manager's own ------------------------------------------------------------------------------


class Flaky:
    """Batches that cannot be made so many times."""

    times = 0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._made = messages.BatchBody
        monkeypatch.setattr(messages, "BatchBody", self)

    def __call__(self, *args: Any) -> messages.BatchBody:
        if self.times:
            self.times -= 1
            raise MemoryError("no room")
        return self._made(*args)


@pytest.mark.parametrize("times", [1, 3])
def test_a_batch_that_could_not_be_sent_is_sent_again(
    manager: PilotManager, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Flaky(monkeypatch).times = times
    task = manager.submit_task(abs, -3)
    others = [manager.submit_task(abs, -number) for number in range(5)]
    assert (task.result(60), manager.get_results(others)) == (3, list(range(5)))
    assert [one.reason for one in task.info.attempts] == ["it could not be sent: MemoryError: no room"] * times
    kept = [type(event).__name__ for _, event in read(manager.session_dir / "events-1.msgpack")]
    assert {"PilotAsked", "PilotReady", "TasksSubmitted"} <= set(kept)
    manager.write_events(manager.session_dir / "asked.msgpack")
    assert len(read(manager.session_dir / "asked.msgpack")) > len(kept)


def test_a_batch_that_can_never_be_sent_fails(manager: PilotManager, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Flaky(monkeypatch)
    batches.times = 1 << 30
    error = manager.submit_task(abs, -3).exception(60)
    assert isinstance(error, PilotError)
    assert "it could not be sent: MemoryError: no room" in str(error)
    batches.times = 0
    assert manager.submit_task(abs, -4).result(60) == 4


@pytest.mark.parametrize("times", [1, HANDLING_TRIES - 1, HANDLING_TRIES])
def test_a_message_that_could_not_be_handled_comes_again(manager: PilotManager, times: int) -> None:
    left = [times]

    class Full(Workers):
        """The first ones cannot be written down."""

        def add(self, row: WorkerRow) -> None:
            if left[0]:
                left[0] -= 1
                raise MemoryError("no room")
            super().add(row)

    manager._state.workers = Full(manager._state.journal)
    tasks = [manager.submit_task(abs, -number) for number in range(50)]
    assert manager.get_results(tasks) == list(range(50))
    assert left == [0]
    lost = [one.reason for task in tasks for one in task.info.attempts]
    assert bool(lost) == (times == HANDLING_TRIES)
    assert all("cannot be handled: MemoryError" in reason for reason in lost)


# ---- forked processes and callbacks ---------------------------------------------------------------------------

FORK = """
import concurrent.futures, faulthandler, os, signal, sys, threading, time
from pilot import PilotDescription, PilotManager, SessionError

def say(*words):  # a line in one piece: two processes write to the pipe
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

faulthandler.register(signal.SIGALRM, chain=True)  # says where it hangs, and ends it
manager = PilotManager(sys.argv[1])
pilot = manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, orphan_timeout=60))
done = manager.submit_task(abs, -5)
large = manager.submit_task(bytes, 3 << 20)
assert (done.result(60), len(large.result(60))) == (5, 3 << 20)
pending = manager.submit_task(time.sleep, 600)
manager.flush(60)
calls = {
    "submit_task": lambda: manager.submit_task(abs, -1),
    "map": lambda: manager.map(abs, [1]),
    "submit_pilot": lambda: manager.submit_pilot({}),
    "autoscale": lambda: manager.autoscale({}),
    "result": pending.result,
    "exception": pending.exception,
    "cancel": pending.cancel,
    "wait_tasks": manager.wait_tasks,
    "explain": lambda: manager.explain(done),
    "wait": lambda: concurrent.futures.wait([pending]),
    "as_completed": lambda: list(concurrent.futures.as_completed([pending])),
    "callback": lambda: pending.add_done_callback(print),
    "pilot.wait": pilot.wait,
    "pilot.drain": pilot.drain,
    "pilot.cancel": pilot.cancel,
}
child = os.fork()
if child == 0:
    signal.alarm(100)
    for name, call in calls.items():
        try:
            call()
        except SessionError as error:
            assert "was forked from the one that has the manager" in str(error), error
        else:
            say("does not raise:", name)
    say(done.result(), len(large.result()), done.info.state, manager.tasks[done.id] is done)
    manager.close()
    say("child", os.getpid())
    time.sleep(600)
say("parent still works:", manager.submit_task(abs, -1).done() in (True, False))
time.sleep(600)
"""


def test_a_forked_process_raises_and_leaves_the_session_to_others(
    tmp_path: Path, leftovers: Callable[[], list[psutil.Process]]
) -> None:
    session = tmp_path / "session"
    with subprocess.Popen([sys.executable, "-c", FORK, str(session)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said = [parent.stdout.readline().strip() for _ in range(3)]
        assert all(said), said
        child = next(int(line.split()[1]) for line in said if line.startswith("child "))
        try:
            assert {line for line in said if not line.startswith("child ")} == {
                f"5 {3 << 20} done True",
                "parent still works: True",
            }
            parent.kill()
            parent.wait()
            for one in leftovers():  # an agent would take seconds to join again
                one.kill()
            again = PilotManager.attach(session)  # although the child lives
            assert again.tasks[1].result(60) == 5
            again.close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_callback_that_exits_keeps_nobody_from_their_turn(manager: PilotManager) -> None:
    seen: list[int] = []
    first, second = manager.submit_task(abs, -1), manager.submit_task(abs, -2)
    first.add_done_callback(lambda task: sys.exit(3))
    first.add_done_callback(lambda task: seen.append(task.result()))
    second.add_done_callback(lambda task: seen.append(task.result()))
    manager.wait_tasks()
    deadline = time.monotonic() + 60
    while sorted(seen) != [1, 2] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(seen) == [1, 2]


# ---- a job that runs twice --------------------------------------------------------------------------------------


def test_a_second_agent_of_a_pilot_is_refused_by_name(manager: PilotManager, caplog: pytest.LogCaptureFixture) -> None:
    """As the copy of a job on another node: it has the same mark."""
    assert manager.submit_task(abs, -1).result(60) == 1
    connection = SessionFolder(manager.session_dir).read_connection()
    mark = json.loads((manager.session_dir / "pilots/pilot-1/agent.json").read_text())["mark"]
    copy = SocketClient(connection.near, f"pilot-1/{mark}/copy")
    copy.send(messages.Hello("pilot-1", 1, "other-host", versions()))
    answer = copy.receive(timeout_ms=60_000)
    assert answer is not None
    assert isinstance(answer[0], messages.Refused)
    assert f"pilot pilot-1 has an agent already, on {platform.node()}: its job runs twice" in answer[0].reason
    assert "an agent on other-host is refused: pilot pilot-1 has an agent already" in caplog.text
    assert manager.get_results(manager.map(abs, range(50))) == list(range(50))
    copy.close()


# ---- no pilot is left -------------------------------------------------------------------------------------------


def test_queued_tasks_wait_for_another_pilot(
    tmp_path: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with PilotManager(tmp_path / "session") as manager:
        first = manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1))
        gate = tmp_path / "gate"
        running = manager.submit_task(length, b"1", str(gate))
        eventually(tmp_path.joinpath("gate.begun").exists, 60)
        queued = [manager.submit_task(abs, -number) for number in range(20)]
        first.drain()
        eventually(lambda: "task(s) wait for another pilot" in caplog.text, 60)
        assert "pilot-1 is draining; it fails in" in manager.explain(queued[-1])
        with pytest.raises(NoPilotError):  # a new one is refused, as ever
            manager.submit_task(abs, -1)
        gate.touch()
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1))
        assert (running.result(60), manager.get_results(queued)) == (1, list(range(20)))
    assert caplog.text.count("task(s) wait for another pilot") == 1


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, True, "60", [1]])
def test_a_wait_that_is_none_is_refused(tmp_path: Path, seconds: Any) -> None:
    for make in (PilotManager, PilotManager.attach):
        with pytest.raises(DescriptionError, match=r"wait_for_pilot: .* is not valid; expected a number of seconds"):
            make(tmp_path / "session", wait_for_pilot=seconds)  # type: ignore[operator]
    assert not (tmp_path / "session").exists()


# ---- another attempt --------------------------------------------------------------------------------------------


def count(gate: str, value: Any, *more: Any) -> Any:
    if not Path(gate).exists():
        raise ValueError(f"there is no {gate}")
    return value if not more else [value, *more]


def test_failed_tasks_get_another_attempt(manager: PilotManager, tmp_path: Path, eventually: Eventually) -> None:
    """A chain through arguments, with large ones; a diamond at its end, and one that only waits."""
    gate = str(tmp_path / "gate")
    head = manager.submit_task(count, gate, bytes(LARGE))
    left, right = (manager.submit_task(count, gate, head, number) for number in (1, 2))
    last = manager.submit_task(count, gate, left, {"right": [right, right]}, head)
    waits = manager.submit_task(TaskDescription(function=abs, args=[-7], depends_on=last, name="waits"))
    old = [head, left, right, last, waits]
    assert manager.wait_tasks(old, 60)[1] == []
    assert {task.state for task in old} == {TaskState.FAILED}
    assert isinstance(manager.resubmit([waits])[0].exception(60), DependencyFailed)  # the head fails again
    assert len(manager.tasks) == 10
    Path(gate).touch()
    again = manager.resubmit(iter([last, head, waits, last]))
    assert len(manager.tasks) == 15
    assert again[0] is again[3]
    value, one, two = bytes(LARGE), [bytes(LARGE), 1], [bytes(LARGE), 2]
    assert manager.get_results(again[:3]) == [[one, {"right": [two, two]}, value], value, 7]
    assert (again[2].name, head.state) == ("waits", TaskState.FAILED)
    # what depended on them takes the attempts that have a result
    assert manager.resubmit([left])[0].result(60) == one
    assert len(manager.tasks) == 16


def test_attempts_of_one_task_do_not_mix(manager: PilotManager, tmp_path: Path) -> None:
    """Two new attempts of a chain, which go out together: each has the result of its own head."""
    gate, serial = str(tmp_path / "gate"), str(tmp_path / "serial")
    head = manager.submit_task(draw, gate, serial)
    chain = [head, manager.submit_task(step, head)]
    manager.wait_tasks(chain, 60)
    Path(gate).touch()
    pairs = [manager.resubmit(chain) for _ in range(20)]
    for first, second in pairs:
        assert first.result(60) == second.result(60)
    assert sorted(first.result() for first, _ in pairs) == list(range(20))


def draw(gate: str, serial: str) -> int:
    if not Path(gate).exists():
        raise ValueError(gate)
    with Path(serial).open("a+") as file:
        number = file.tell()
        file.write("x")
    return number


def test_what_cannot_have_another_attempt_is_refused(manager: PilotManager, tmp_path: Path) -> None:
    done, failed = manager.submit_task(abs, -1), manager.submit_task(length, bytes(LARGE), "/nowhere/gate")
    manager.wait_tasks([done, failed], 60)
    with pytest.raises(DescriptionError, match=r"task 1 \(abs\), which is done, is not valid; expected tasks that"):
        manager.resubmit([failed, done])
    with pytest.raises(DescriptionError, match=r"resubmit: \[7\] is not valid; expected a list of tasks"):
        manager.resubmit([7])  # type: ignore[list-item]
    with PilotManager(tmp_path / "other") as other:
        other.submit_pilot(PilotDescription(engine="process", cores_per_node=1))
        with pytest.raises(DescriptionError, match="is another manager's"):
            other.resubmit([failed])
    for file in (manager.session_dir / "spool").iterdir():
        file.unlink()
    with pytest.raises(SessionError, match=r"arguments of task 2 \(length\) cannot be read again from .*spool"):
        manager.resubmit([failed])
    manager.pilots[0].cancel()
    with pytest.raises(NoPilotError):
        manager.resubmit([failed])
    assert len(manager.tasks) == 2
    manager.close()
    with pytest.raises(SessionError, match="closed"):
        manager.resubmit([failed])


def test_tasks_that_a_close_cancelled_are_submitted_again_after_an_attach(tmp_path: Path) -> None:
    manager = PilotManager(tmp_path / "session")
    pilot = PilotDescription(engine="process", cores_per_node=1)
    manager.submit_pilot(pilot)
    head = manager.submit_task(count, str(tmp_path / "gate"), bytes(LARGE))
    held = manager.submit_task(length, bytes(LARGE), str(tmp_path / "gate"))
    last = manager.submit_task(length, head)
    assert isinstance(last.exception(60), DependencyFailed)
    manager.close()
    assert held.cancelled()
    (tmp_path / "gate").touch()
    with PilotManager.attach(tmp_path / "session") as manager:
        manager.submit_pilot(pilot)
        again = manager.resubmit(task for task in list(manager.tasks.values()) if task.state is not TaskState.DONE)
        assert [len(again[0].result(60)), again[1].result(60), again[2].result(60)] == [LARGE] * 3


# ---- a session folder that was moved ----------------------------------------------------------------------------

MOVED = """
import sys, time
from pathlib import Path
from pilot import PilotDescription, PilotManager, TaskDescription, TaskState

def large(size):
    return bytes(size)

def length(value, gate=None):
    while gate and not Path(gate).exists():
        time.sleep(0.005)
    return len(value)

if __name__ == "__main__":
    session, gate = sys.argv[1:]
    manager = PilotManager(session)
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, orphan_timeout=60))
    assert len(manager.submit_task(large, 3 << 20).result(60)) == 3 << 20
    for number in range(3):
        manager.submit_task(length, bytes((2 << 20) + number), gate)
    manager.flush(60)
    print("under way", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("agents", "link"), [("gone", False), ("alive", False), ("alive", True)], ids=["gone", "alive", "alive, linked"]
)
def test_a_moved_session_goes_on(
    tmp_path: Path, leftovers: Callable[[], list[psutil.Process]], eventually: Eventually, agents: str, link: bool
) -> None:
    before, here, gate = tmp_path / "before", tmp_path / "here", tmp_path / "gate"
    command = [sys.executable, "-c", MOVED, str(before), str(gate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.kill()
    if agents == "gone":
        for one in leftovers():
            one.kill()
    before.rename(here)
    if link:
        before.symlink_to(here)
    gate.touch()
    with PilotManager.attach(here) as manager:
        tasks = list(manager.tasks.values())
        assert len(tasks[0].result(60)) == 3 << 20
        assert [task.result(60) for task in tasks[1:]] == [(2 << 20) + number for number in range(3)]
        assert manager.submit_task(length, bytes(2 << 20)).result(60) == 2 << 20
    if agents == "gone" or link:  # else the old agent looks for its folder for 30 s; the suite's end waits for that
        eventually(lambda: not leftovers(), 60)


# ---- a script that is killed and started again ------------------------------------------------------------------

SCRIPT = Path(__file__).parents[2] / "slurm" / "on_login_node.py"


def test_the_script_to_copy_submits_each_task_once(
    tmp_path: Path, leftovers: Callable[[], list[psutil.Process]], eventually: Eventually
) -> None:
    """It is killed when the session is there, when some of its tasks are and when all are; then it is interrupted."""
    session, site = tmp_path / "session", tmp_path / "site.toml"
    site.write_text('engine = "process"\ncores_per_node = 1\n')
    command = [sys.executable, str(SCRIPT), str(session), str(site)]
    journal = session / "journal.sqlite"
    chance = random.Random(7)

    def known(sql: str = "SELECT count(*) FROM tasks") -> int:
        if not (session / "connection.json").exists():
            return -1
        with contextlib.closing(sqlite3.connect(journal, timeout=60)) as db:
            return int(db.execute(sql).fetchone()[0])

    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGINT):
        enough = 0 if known() < 0 else chance.randint(0, 1000)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            eventually(lambda process=process, enough=enough: process.poll() is not None or known() >= enough, 60)
            process.send_signal(number)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "sum of squares: 332833500" in done.stdout, done.stderr
    assert known("SELECT count(DISTINCT name) FROM tasks JOIN results ON id = task WHERE state = 'done'") == 1000
    assert known("SELECT count(*) FROM tasks JOIN results ON id = task WHERE state = 'done'") == 1000
    eventually(lambda: not leftovers(), 60)
