"""A pilot over several nodes of a real Slurm: `srun` puts a process on each, all at once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import Pilot, PilotDescription, PilotManager, Task, TaskDescription
from pilot.results import TaskInfo
from pilot.states import PilotState

Eventually = Callable[..., Any]
ENGINES = ["process", "dask", "ray"]


pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[PilotManager]:
    with PilotManager(tmp_path / "session") as manager:
        yield manager
        manager.close()


def on_nodes(manager: PilotManager, nodes: int = 2, **fields: Any) -> Pilot:
    defaults = {"engine": "process", "cores_per_node": 2, "walltime": 300}
    return manager.submit_pilot(PilotDescription(resource="slurm://", number_of_nodes=nodes, **{**defaults, **fields}))


def nap(seconds: float = 0.05) -> str:
    time.sleep(seconds)
    return os.environ.get("SLURMD_NODENAME", "")


def meet(folder: str, number: int) -> bool:
    """True when so many tasks are under way at one time, wherever."""
    Path(folder).mkdir(exist_ok=True)
    Path(folder, str(time.monotonic_ns())).touch()
    deadline = time.monotonic() + 60
    while len(list(Path(folder).iterdir())) < number:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def infos(tasks: list[Task]) -> list[TaskInfo]:
    for task in tasks:
        task.result(60)
    return [task.info for task in tasks]


@pytest.mark.parametrize("engine", ENGINES)
def test_tasks_run_on_every_node(manager: PilotManager, eventually: Eventually, engine: str) -> None:
    pilot = on_nodes(manager, engine=engine)
    first = manager.submit_task(nap)
    assert first.result(60) is not None
    eventually(lambda: len(pilot.nodes) == 2, 60)
    seen = {(one.node, one.worker) for one in infos([first])}

    def everybody() -> bool:  # Ray's workers on the second node come seconds later
        seen.update((one.node, one.worker) for one in infos([manager.submit_task(nap) for _ in range(8)]))
        return len(seen) == 4

    eventually(everybody, 60)
    assert {node for node, _ in seen} == {"c1", "c2"}
    children_end_on_both(manager, eventually)


def fork(folder: str) -> None:
    """Forks a child that nobody finds below its worker when that is gone, writes both down, and waits."""
    name = "worker"
    if os.fork() == 0:
        os.setsid()
        name = "child"
    Path(folder, f"{name}-{os.getpid()}").touch()
    time.sleep(600)


def children_end_on_both(manager: PilotManager, eventually: Eventually) -> None:
    """Of two tasks that are cancelled and two whose workers are killed."""
    folder = manager.session_dir / "notes"
    folder.mkdir()
    tasks = [manager.submit_task(fork, str(folder)) for _ in range(4)]
    eventually(lambda: len(list(folder.iterdir())) == 8, 60)
    found = {path.name: psutil.Process(int(path.name.partition("-")[2])) for path in folder.iterdir()}
    assert {process.environ()["SLURMD_NODENAME"] for process in found.values()} == {"c1", "c2"}
    for task in tasks[:2]:
        assert task.cancel()
    for name, process in found.items():
        if name.startswith("worker") and process.is_running():
            process.kill()
    for task in tasks[2:]:
        eventually(task.cancel, 60)
    eventually(lambda: not [one for one in found.values() if one.is_running()], 60)


def test_a_task_of_many_cores_stays_on_one_node(manager: PilotManager, eventually: Eventually, tmp_path: Path) -> None:
    pilot = on_nodes(manager)
    eventually(lambda: len(pilot.nodes) == 2, 60)
    meeting = str(tmp_path / "meeting")
    wide = [manager.submit_task(TaskDescription(function=meet, args=(meeting, 2), num_cpus=2)) for _ in range(2)]
    narrow = [manager.submit_task(nap) for _ in range(8)]
    assert {info.node for info in infos(wide)} == {"c1", "c2"}
    assert all(task.result() for task in wide)
    infos(narrow)
    with pytest.raises(Exception, match="2 cores, but 3 are needed"):
        manager.submit_task(TaskDescription(function=nap, num_cpus=3))


def test_a_lost_node_costs_no_task(manager: PilotManager, eventually: Eventually) -> None:
    pilot = on_nodes(manager)
    eventually(lambda: len(pilot.nodes) == 2, 60)
    tasks = [manager.submit_task(nap, 0.1) for _ in range(100)]
    tasks[10].result(60)
    (process,) = node_processes(pilot, str(manager.session_dir), "c2")
    process.kill()
    assert len(infos(tasks)) == 100
    eventually(lambda: pilot.nodes == ("c1",), 60)
    assert all("its node c2" in attempt.reason for task in tasks for attempt in task.info.attempts)


def test_nodes_come_and_go(
    manager: PilotManager, eventually: Eventually, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pilot.manager.loop")
    pilot = on_nodes(manager, 1)
    assert pilot.wait(60) is PilotState.ACTIVE
    agent = node_processes(pilot, str(manager.session_dir), "c1")
    pilot.add_nodes(1)
    eventually(lambda: len(pilot.nodes) == 2, 60)
    together = [manager.submit_task(meet, str(tmp_path / "meeting"), 4) for _ in range(4)]
    assert len({info.node for info in infos(together)}) == 2
    assert all(task.result() for task in together)
    tasks = [manager.submit_task(nap, 0.1) for _ in range(40)]
    tasks[5].result(60)
    pilot.remove_nodes(1)
    seen = infos(tasks)
    assert not any(info.attempts for info in seen)
    eventually(lambda: len(pilot.nodes) == 1, 60)
    eventually(lambda: len(jobs()) == 1, 60)
    eventually(lambda: "nodes that were added" in caplog.text, 60)
    assert agent and agent == node_processes(pilot, str(manager.session_dir), "c1")  # it is on the same host


def node_processes(pilot: Pilot, session: str, node: str) -> list[Any]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            words, environment = process.cmdline(), process.environ()
        except psutil.Error:
            continue
        if "pilot.agent" in words and {pilot.id, session} <= {*words} and environment.get("SLURMD_NODENAME") == node:
            parent = process.parent()
            if parent is None or "pilot.agent" not in parent.cmdline():
                found.append(process)
    return found


def jobs() -> list[str]:
    return subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()


def test_inside_an_allocation(cluster: Any, tmp_path: Path, eventually: Eventually) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, sys, time
            from pilot import PilotDescription, PilotManager

            def nap():
                time.sleep(0.05)

            with PilotManager(sys.argv[1]) as manager:
                pilot = manager.submit_pilot(
                    PilotDescription(resource="srun://", engine="process", number_of_nodes=2, cores_per_node=2)
                )
                while len(pilot.nodes) < 2:
                    time.sleep(0.01)
                tasks = [manager.submit_task(nap) for _ in range(40)]
                manager.get_results(tasks)
                print(*sorted({task.info.node for task in tasks}))
            """
        )
    )
    command = f"{sys.executable} {program} {tmp_path / 'session'}"
    out = tmp_path / "out"
    subprocess.run(["sbatch", "-N2", "-c2", "-t5", "-o", out, "--wrap", command], check=True, capture_output=True)
    eventually(lambda: out.exists() and "c1 c2" in out.read_text(), 60)
    eventually(lambda: not jobs(), 60)
