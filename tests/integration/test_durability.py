"""kill -9 in the middle of 2,000 tasks, and managers that come back: every task ends once, with its own result.

A task appends its number to a file that all share, so what ran is counted, not believed. A task whose attempts were
not lost must have run once; a lost attempt may have run or not.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import PilotDescription, PilotManager, PilotState, SessionError, Task, TaskDescription, TaskState
from pilot.manager import opening

TASKS = 2000
Eventually = Callable[..., Any]
Leftovers = Callable[[], list[psutil.Process]]

WORK = """
import os, time

def work(path, number):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"%d\\n" % number)
    os.close(descriptor)
    time.sleep(0.002)
    return number

def pid():
    return os.getpid()
"""
space: dict[str, Any] = {"__name__": "__main__"}
exec(WORK, space)
work, pid = space["work"], space["pid"]

#: A manager that is to be killed: session, engine, notes, perhaps an address to listen at by TCP. It says when a tenth
#: of the tasks is done.
CHILD = (
    WORK
    + f"""
import sys
import time
from pilot import PilotDescription, PilotManager

if __name__ == "__main__":
    session, engine, notes, orphan, *address = sys.argv[1:]
    manager = PilotManager(session, address=address[0] if address else None)
    manager.submit_pilot(PilotDescription(engine=engine, cores_per_node=2, orphan_timeout=float(orphan)))
    tasks = [manager.submit_task(work, notes, number) for number in range({TASKS})]
    tasks[{TASKS} // 10].result()
    print("under way", flush=True)
    time.sleep(600)
"""
)


@pytest.fixture
def notes(tmp_path: Path) -> str:
    path = tmp_path / "notes"
    path.touch()
    return str(path)


@pytest.fixture(autouse=True)
def nothing_left(leftovers: Leftovers, eventually: Eventually) -> Iterator[None]:
    yield
    eventually(lambda: not leftovers(), 60)


def begin(manager: PilotManager, engine: str, notes: str) -> list[Task]:
    manager.submit_pilot(PilotDescription(engine=engine, cores_per_node=2)).wait(timeout=60)
    tasks = [manager.submit_task(work, notes, number) for number in range(TASKS)]
    tasks[TASKS // 10].result(timeout=60)
    return tasks


def check(tasks: list[Task], notes: str) -> int:
    """All of them are whole; how many attempts were lost."""
    assert [task.result(timeout=60) for task in tasks] == list(range(TASKS))
    ran = Counter(int(line) for line in Path(notes).read_text().split())
    for number, task in enumerate(tasks):
        attempts = task.info.attempts
        assert 1 <= ran[number] <= 1 + len(attempts), (number, attempts)
        assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
        assert task._entry.retries == 0
    return sum(len(task.info.attempts) for task in tasks)


def agents(leftovers: Leftovers) -> list[psutil.Process]:
    found = {one.pid: one for one in leftovers() if "pilot.agent" in one.cmdline()}
    return [one for one in found.values() if one.ppid() not in found]  # not the one that an agent forks to end with it


def victim(manager: PilotManager, name: str, leftovers: Leftovers) -> psutil.Process:
    if name == "agent":
        return agents(leftovers)[0]
    if name == "raylet":
        return next(one for one in leftovers() if one.name() == "raylet")
    task = manager.submit_task(TaskDescription(function=pid, priority=1))  # of a worker; with Dask its own process
    return psutil.Process(task.result(timeout=60))


@pytest.mark.parametrize(
    "engine, name",
    [("process", "worker"), ("process", "agent"), ("ray", "raylet"), ("dask", "worker")],
    ids=lambda value: value,
)
def test_kill_below_the_manager(tmp_path: Path, notes: str, leftovers: Leftovers, engine: str, name: str) -> None:
    with PilotManager(tmp_path / "session") as manager:
        tasks = begin(manager, engine, notes)
        victim(manager, name, leftovers).kill()
        assert sum(task.done() for task in tasks) < TASKS
        lost = check(tasks, notes)
        assert lost < TASKS / 2
        assert lost or name == "worker"  # which may just have waited for its next batch
        reasons = {attempt.reason for task in tasks for attempt in task.info.attempts}
        assert all("signal 9" in reason or "ended" in reason for reason in reasons), reasons


def killed_manager(folder: Path, engine: str, notes: str, *address: str, orphan: float = 600) -> Path:
    """A session whose manager was killed when a tenth of its tasks was done."""
    script, session = folder / "child.py", folder / "session"
    script.write_text(CHILD)
    command = [sys.executable, str(script), str(session), engine, notes, str(orphan), *address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "under way\n"
        child.send_signal(signal.SIGKILL)
    return session


@pytest.mark.parametrize("engine", ["process", "ray", "dask"])
def test_kill_the_manager(tmp_path: Path, notes: str, leftovers: Leftovers, engine: str) -> None:
    session = killed_manager(tmp_path, engine, notes)
    before = {one.pid for one in agents(leftovers)}
    with PilotManager.attach(session) as manager:
        tasks = list(manager.tasks.values())
        assert [task.id for task in tasks] == list(range(1, TASKS + 1))
        assert any(task.done() for task in tasks)
        assert not all(task.done() for task in tasks)
        assert check(tasks, notes) == 0  # nothing was lost, so nothing ran twice
        assert {one.pid for one in agents(leftovers)} == before
        more = manager.submit_task(pow, 2, 3)
        assert (more.id, more.result(timeout=60)) == (TASKS + 1, 8)
    assert [task.result() for task in tasks] == list(range(TASKS))  # also those that are in the journal only
    assert tasks[0].info.state == "done"


@pytest.mark.parametrize("engine", ["process", "ray"])
def test_nothing_outlives_manager_and_agent(
    tmp_path: Path, notes: str, leftovers: Leftovers, eventually: Eventually, engine: str
) -> None:
    """Nobody is left to clean up, and nobody attaches: the processes below the agent end all the same."""
    killed_manager(tmp_path, engine, notes)
    for one in agents(leftovers):
        one.kill()
    eventually(lambda: not leftovers(), timeout=60)


def test_kill_the_manager_and_its_agent(tmp_path: Path, notes: str, leftovers: Leftovers) -> None:
    session = killed_manager(tmp_path, "process", notes)
    for one in agents(leftovers):
        one.kill()
    with PilotManager.attach(session) as manager:
        values = [task.result(timeout=60) for task in manager.tasks.values()]
        assert values == list(range(TASKS))


def test_attach_on_another_port_and_with_other_versions(
    tmp_path: Path, notes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = killed_manager(tmp_path, "process", notes, "127.0.0.1")
    port = int((session / "connection.json").read_text().partition("127.0.0.1:")[2].partition('"')[0])
    with socket.socket() as occupied:
        occupied.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupied.bind(("127.0.0.1", port))
        occupied.listen()
        with monkeypatch.context() as patch:
            patch.setattr(opening, "versions", lambda: ("3.99", "9.9"))
            with pytest.raises(SessionError, match=r"pilots pilot-1 still run: attach with these versions, or with"):
                PilotManager.attach(session)
        with PilotManager.attach(session) as manager:  # its agent has not noticed
            assert f":{port}" not in (session / "connection.json").read_text()
            assert check(list(manager.tasks.values()), notes) == 0


def test_an_agent_ends_without_a_manager(
    tmp_path: Path, notes: str, leftovers: Leftovers, eventually: Eventually
) -> None:
    killed_manager(tmp_path, "process", notes, orphan=1.5)
    assert agents(leftovers)
    eventually(lambda: not leftovers(), 60)


def test_a_session_has_one_manager(tmp_path: Path) -> None:
    with PilotManager(tmp_path / "session"):
        with pytest.raises(SessionError, match="another manager uses the session"):
            PilotManager.attach(tmp_path / "session")
        with pytest.raises(SessionError, match="holds a session already"):
            PilotManager(tmp_path / "session")
    with pytest.raises(SessionError, match="holds no session"):
        PilotManager.attach(tmp_path / "elsewhere")
    PilotManager.attach(tmp_path / "session").close()


def test_two_managers_with_two_pilots_each(tmp_path: Path, leftovers: Leftovers) -> None:
    with PilotManager(tmp_path / "one") as one, PilotManager(tmp_path / "two") as two:
        for manager in (one, two):
            for name in ("a", "b"):
                manager.submit_pilot(PilotDescription(cores_per_node=1, name=name))
        wanted = [TaskDescription(function=pid, pilot=name) for name in ("a", "b")]
        found = [task.result(timeout=60) for manager in (one, two) for task in manager.submit_tasks(wanted)]
        assert len(set(found)) == 4
        assert len(agents(leftovers)) == 4
        two.close()
        assert len(agents(leftovers)) == 2
        assert one.get_results(one.map(abs, range(-100, 0))) == list(range(100, 0, -1))
        assert {pilot.state for pilot in one.pilots} == {PilotState.ACTIVE}


def test_after_close(tmp_path: Path) -> None:
    """A closed manager answers, or says that it is closed; it never hangs."""
    with PilotManager(tmp_path / "session") as manager:
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=1))
        task = manager.submit_task(os.getpid)
    assert task.result() > 0
    assert f"task {task.id} (getpid) is done" in manager.explain(task)
    assert not task.cancel()
    pilot.cancel()
    pilot.drain()
    manager.close()
    for call in (lambda: manager.submit_task(os.getpid), lambda: manager.submit_pilot({})):
        with pytest.raises(SessionError, match="the manager is closed"):
            call()


def test_a_closed_manager_is_shown_without_its_folder() -> None:
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        manager.submit_task(os.getpid).result(60)
    assert "closed and removed" in manager._repr_html_()


def note(folder: str, number: int) -> None:
    Path(folder, str(number)).touch()
    if number == 99:
        time.sleep(600)


def test_close_takes_in_what_is_finished_and_cancels_the_rest(tmp_path: Path, eventually: Eventually) -> None:
    """Workers report short tasks together: those before the last one have ended, and are not with the manager yet."""
    manager = PilotManager(tmp_path / "session")
    pilot = manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1))
    manager.wait_tasks(manager.map(note, [str(tmp_path)] * 50, range(50)), timeout=60)
    tasks = manager.map(note, [str(tmp_path)] * 60, range(50, 110))
    eventually((tmp_path / "99").exists)
    manager.close()
    assert [task.cancelled() for task in tasks] == [False] * 49 + [True] * 11
    assert pilot.state is PilotState.DONE
    again = PilotManager.attach(tmp_path / "session")
    assert Counter(task.state for task in again.tasks.values()) == {TaskState.DONE: 99, TaskState.CANCELLED: 11}
    again.close()
