"""A description of Pilot-Quantum's API that asks for a Slurm job."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import pytest

from pilot.pilot_compute_service import ExecutionEngine, PilotComputeService
from pilot.pilot_enums_exceptions import PilotAPIException


def variable(name: str) -> str | None:
    return os.environ.get(name)


@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")  # distributed's, when the scheduler is gone
def test_a_job_of_two_nodes(cluster: Any, tmp_path: Path, eventually: Callable[..., Any]) -> None:
    description = {
        "resource": "slurm://localhost",
        "working_directory": str(tmp_path / "elsewhere"),
        "type": "dask",
        "name": "batch",
        "number_of_nodes": 2,
        "cores_per_node": 1,
        "queue": "cpu",
        "walltime": 7,
        "scheduler_script_commands": ["#SBATCH --comment=compat", "export COMPAT_WORD='from the script'"],
    }
    with PilotComputeService(ExecutionEngine.DASK, tmp_path / "work") as service:
        pilot = service.create_pilot(pilot_compute_description=description)
        assert pilot.get_state() == "Queue"
        pilot.wait()
        assert pilot.get_state() == "Running"
        number = pilot.get_details()["job"].split()[2].rstrip(":")
        job = cluster.run("squeue", "--noheader", "--job", number, "--format=%P %D %l %k %t").stdout.split()
        assert job == ["cpu", "2", "7:00", "compat", "R"]
        tasks = [pilot.submit_task(variable, "COMPAT_WORD") for _ in range(4)]
        done, _ = distributed.wait(tasks)
        assert pilot.get_client().gather(tasks) == ["from the script"] * 4
        assert len(done) == 4
        cluster.run("scancel", number)
        eventually(lambda: pilot.get_state() == "Cancelled", timeout=60)
        with pytest.raises(PilotAPIException, match="batch is cancelled"):
            pilot.wait()


def test_a_job_that_is_refused_is_told(cluster: Any, tmp_path: Path, eventually: Callable[..., Any]) -> None:
    with PilotComputeService(ExecutionEngine.RAY, tmp_path) as service:
        pilot = service.create_pilot({"resource": "slurm://localhost", "queue": "nowhere"})
        with pytest.raises(PilotAPIException, match="nowhere"):
            pilot.wait()
        assert pilot.get_state() == "Failed"
        with pytest.raises(PilotAPIException, match=r"no pilot of this service is active any more.*nowhere"):
            service.submit_task(variable, "HOME")
