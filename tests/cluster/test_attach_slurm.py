"""A manager killed -9 on the login node with pilots in Slurm: running, draining, pending, with added nodes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot import PilotManager, PilotState

Eventually = Callable[..., Any]
TASKS = 150

#: The manager that is to be killed: session, notes.
CHILD = f"""
import os, sys, time
from pilot import PilotDescription, PilotManager, TaskDescription

def work(path, number):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"%d\\n" % number)
    os.close(descriptor)
    time.sleep(0.1)
    return number

def nap(path, seconds):
    open(path, "w").close()
    time.sleep(seconds)
    return "slept"

def wanted(name, **fields):
    return PilotDescription(
        resource="slurm://", engine="process", name=name, walltime=300,
        **dict(dict(cores_per_node=1, orphan_timeout=60), **fields),
    )

def until(condition):
    while not condition():
        time.sleep(0.02)

if __name__ == "__main__":
    session, notes = sys.argv[1:]
    manager = PilotManager(session)
    wide = manager.submit_pilot(wanted("wide", number_of_nodes=2))
    last = manager.submit_pilot(wanted("last", queue="qpu"))
    last.wait()
    manager.submit_task(TaskDescription(function=nap, args=(notes + ".nap", 6), pilot="last"))
    until(lambda: os.path.exists(notes + ".nap"))
    last.drain()
    wide.wait()
    wide.add_nodes(1)
    late = manager.submit_pilot(wanted("late", number_of_nodes=2, exclusive=True))
    until(lambda: len(wide.nodes) == 3 and "pending" in late.job)
    tasks = [manager.submit_task(work, notes, number) for number in range({TASKS})]
    tasks[{TASKS} // 10].result()
    print("under way", flush=True)
    time.sleep(600)
"""


pytestmark = pytest.mark.usefixtures("idle_cluster")


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Path]:
    """The session of a manager that was killed."""
    session, notes = tmp_path / "session", tmp_path / "notes"
    notes.touch()
    script = tmp_path / "manager.py"
    script.write_text(CHILD)
    child = subprocess.Popen([sys.executable, script, session, notes], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "under way\n"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    yield session


def squeue(what: str = "%i") -> list[str]:
    command = ["squeue", "--noheader", f"--format={what}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_attach_finds_jobs_agents_added_nodes_and_results(killed: Path, eventually: Eventually, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with PilotManager.attach(killed) as manager:
        wide, last, late = manager.pilots
        eventually(lambda: wide.state is PilotState.ACTIVE, 60)
        eventually(lambda: "pending: Resources" in late.job or "pending: Priority" in late.job, 60)
        assert (late.state, len(squeue())) == (PilotState.QUEUED, 4)
        eventually(lambda: last.state is PilotState.DONE, 60)
        assert manager.tasks[1].result(0) == "slept"
        assert last.reason == "drained"

        numbers = [task.result(60) for id, task in manager.tasks.items() if id > 1]
        assert numbers == list(range(TASKS))
        ran = Counter(int(line) for line in notes.read_text().split())
        twice = {number for number, count in ran.items() if count > 1}
        assert set(ran) == set(range(TASKS))
        assert twice <= {task.id - 2 for task in manager.tasks.values() if task.info.attempts}

        (left,) = squeue_left(wide.job)
        ends_at = manager._loop._controller.pilots.by_id[wide.id].ends_at
        assert ends_at is not None
        assert ends_at - time.monotonic() == pytest.approx(left, abs=5)

        late.cancel()
        eventually(lambda: len(squeue()) == 2, 60)
        wide.add_nodes(1)  # beside the ones that were added before
        eventually(lambda: len(wide.nodes) == 4, 60)
        assert len(set(wide.nodes)) == 4
        wide.cancel()
        eventually(lambda: not squeue(), 60)  # its three jobs
        manager.close()


def squeue_left(job: str) -> list[float]:
    """Seconds that Slurm still gives a job; ``job`` as in `Pilot.job`."""
    number = job.split()[2].rstrip(":")
    out = subprocess.run(["squeue", "-h", "-o", "%L", "-j", number], capture_output=True, text=True, check=True).stdout
    return [int(minutes) * 60 + int(seconds) for minutes, seconds in (line.split(":") for line in out.split())]
