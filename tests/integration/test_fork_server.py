"""engine="process": the fork server dies, its workers end with it, and each task runs to its end once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pilot import Pilot, PilotDescription, PilotManager, PilotState
from pilot.testing.work import die

Eventually = Callable[..., Any]
#: More than a task may lose of its own fault.
KILLS = 3


def note(path: str, go_on: str) -> int:
    """Says that it begins, waits until it may go on, and says that it ends."""
    with Path(path).open("a") as file:
        file.write("begun\n")
    while not Path(go_on).exists():
        time.sleep(0.01)
    with Path(path).open("a") as file:
        file.write("ended\n")
    return 7


def agent(pilot: Pilot) -> psutil.Process:
    """The agent; the process that ends what it leaves is one of its children."""
    found = [process for process in psutil.Process().children() if str(pilot.log_path.parents[2]) in words(process)]
    return next(one for one in found if servers(one))


def words(process: psutil.Process) -> list[str]:
    """Its command line; nothing when it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def servers(agent: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in agent.children() if "forkserver" in " ".join(words(child))]
    except psutil.NoSuchProcess:
        return []


def test_workers_end_with_their_fork_server(tmp_path: Path, eventually: Eventually) -> None:
    notes, go_on = tmp_path / "notes", tmp_path / "go on"
    notes.touch()
    with PilotManager(tmp_path / "session") as manager:
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=2))
        assert manager.submit_task(abs, -1).result(timeout=60) == 1
        tasks = [manager.submit_task(note, str(notes), str(go_on)) for _ in range(2)]
        of_pilot = agent(pilot)
        for number in range(KILLS):
            begun = 2 * (number + 1)
            eventually(lambda begun=begun: notes.read_text().count("begun") == begun, 60)
            (server,) = servers(of_pilot)
            workers = server.children()
            server.kill()
            psutil.wait_procs(workers, timeout=60)
            assert not [one for one in workers if one.is_running()]
        eventually(lambda: notes.read_text().count("begun") == 2 * (KILLS + 1), 60)
        assert len([worker for server in servers(of_pilot) for worker in server.children()]) == 2
        go_on.touch()
        assert [task.result(timeout=60) for task in tasks] == [7, 7]
        assert notes.read_text().count("ended") == 2
        assert all("fork server" in attempt.reason for task in tasks for attempt in task.info.attempts)


def test_a_fork_server_that_dies_while_workers_start(tmp_path: Path) -> None:
    with PilotManager(tmp_path / "session") as manager:
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=2))
        assert manager.submit_task(abs, -1).result(timeout=60) == 1
        of_pilot = agent(pilot)
        for _ in range(20):
            for server in servers(of_pilot):
                server.kill()
                server.wait(timeout=60)
        assert manager.submit_task(abs, -2).result(timeout=60) == 2
        assert pilot.state is PilotState.ACTIVE
        assert agent(pilot) == of_pilot


def test_workers_that_have_ended_leave_no_descriptors_in_the_agent(tmp_path: Path, eventually: Eventually) -> None:
    with PilotManager(tmp_path / "session") as manager:
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=2))
        assert manager.submit_task(abs, -1).result(timeout=60) == 1
        before = agent(pilot).num_fds()
        manager.wait_tasks([manager.submit_task(die) for _ in range(8)], timeout=60)
        assert manager.submit_task(abs, -1).result(timeout=60) == 1
        eventually(lambda: agent(pilot).num_fds() <= before + 4, 60)  # of workers that are there now
