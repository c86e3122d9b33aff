"""The end of a job's time, as Slurm tells it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot import Pilot, PilotDescription, PilotManager, TaskDescription
from pilot.states import PilotState

Eventually = Callable[..., Any]


@pytest.fixture
def manager(cluster: Any, tmp_path: Path) -> Iterator[PilotManager]:
    with PilotManager(tmp_path / "session", wait_for_pilot=0) as manager:
        yield manager
        manager.close()


@pytest.fixture
def pilot(manager: PilotManager) -> Pilot:
    pilot = manager.submit_pilot(
        PilotDescription(resource="slurm://", engine="process", cores_per_node=2, walltime=600, name="first")
    )
    assert pilot.wait(60) is PilotState.ACTIVE
    return pilot


def signal(pilot: Pilot, name: str) -> None:
    """To the batch script, as Slurm does it."""
    id = pilot.job.split()[2].rstrip(":")
    subprocess.run(["scancel", "--batch", f"--signal={name}", id], check=True)


def test_an_early_signal_drains_nothing(manager: PilotManager, pilot: Pilot, eventually: Eventually) -> None:
    """SIGUSR1 says that the end is no later than in drain + 90 s: here in 150 s instead of 600."""
    long = TaskDescription(function=time.sleep, args=(0.01,), expected_duration=300)
    manager.submit_task(long).result(60)
    signal(pilot, "USR1")
    folder = manager.session_dir / "pilots" / pilot.id
    eventually(lambda: (folder / "expiring").exists())
    eventually(lambda: "s of walltime left, but 300 s are needed" in str(manager.submit_task(long).exception(60)))
    assert manager.submit_task(time.sleep, 0.01).result(60) is None
    assert pilot.state is PilotState.ACTIVE


def test_a_job_that_is_to_end_drains(manager: PilotManager, pilot: Pilot, eventually: Eventually) -> None:
    tasks = [manager.submit_task(time.sleep, 0.5) for _ in range(20)]
    tasks[0].result(60)
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
    signal(pilot, "TERM")
    eventually(lambda: pilot.state is not PilotState.ACTIVE)
    for task in tasks:
        assert task.result(60) is None
    assert {task.info.pilot for task in tasks} == {"first", "pilot-2"}
    assert not any(task.info.attempts for task in tasks)
