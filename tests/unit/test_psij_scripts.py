"""The batch scripts that PSI/J's own templates make of our descriptions, for schedulers that are not here."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import pytest

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job

if importlib.util.find_spec("psij") is None:
    pytest.skip("psij-python is not installed: pip install 'quantum-pilot[psij]'", allow_module_level=True)

from pilot_plugins.launchers.psij import executors as psij_executors
from pilot_plugins.launchers.psij import job as psij_job
from pilot_plugins.launchers.psij.executors import psij
from pilot_plugins.launchers.psij.launcher import PsijLauncher

FIELDS: dict[str, Any] = {
    "cores_per_node": 6,
    "memory": "2 GiB",
    "walltime": 5400,
    "queue": "fast",
    "project": "m1234",
}


def script(tmp_path: Path, **fields: Any) -> str:
    """The scheduler's lines of the batch script."""
    description = PilotDescription(**{**FIELDS, **fields})
    PsijLauncher().check(description)
    name = description.resource.removeprefix("psij://")
    job = Job(
        pilot="pilot-1",
        command=("true",),
        environment={"SECRET": "s3cret"},
        description=description,
        folder=tmp_path,
        log_path=tmp_path / "agent.log",
    )
    executor: Any = psij_executors.make(name, tmp_path)
    one = psij.Job(psij_job.spec(job, name, tmp_path / "job.sh"))
    one.executor = executor
    text = io.StringIO()
    executor.generate_submit_script(one, executor._create_script_context(one), text)
    assert "s3cret" not in text.getvalue()  # the environment is in our own script, which others cannot read
    assert f"/bin/bash {tmp_path}/job.sh" in text.getvalue()
    return "\n".join(line for line in text.getvalue().splitlines() if line.startswith("#"))


def test_pbs(tmp_path: Path) -> None:
    """Its template asks for as many cores as processes: our one process comes with the pilot's cores."""
    lines = script(
        tmp_path,
        resource="psij://pbs",
        custom_attributes={"pbs.W": "umask=077"},
        scheduler_script_commands=("#PBS -l filesystems=home",),
    )
    assert re.search(r"^#PBS -l select=1:ncpus=6:mpiprocs=6:mem=2147483648$", lines, re.MULTILINE)
    for line in ("-l walltime=1:30:0", "-A m1234", "-q fast", '-W "umask=077"', '-l "filesystems=home"'):
        assert f"#PBS {line}" in lines


def test_lsf(tmp_path: Path) -> None:
    lines = script(tmp_path, resource="psij://lsf", gpus_per_node=2, custom_attributes={"lsf.alloc_flags": "smt1"})
    for line in (
        "-nnodes 1",
        "-n 6",
        "-M 2097152KB",
        '-q "fast"',
        '-P "m1234"',
        '-alloc_flags "smt1"',
        '-gpu "num=2/host"',
    ):
        assert f"#BSUB {line}" in lines
    assert lines.count("-gpu") == 1


def test_slurm_on_several_nodes(tmp_path: Path) -> None:
    lines = script(tmp_path, resource="psij://slurm", number_of_nodes=3, gpus_per_node=4, reservation="mine")
    for line in ("--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--cpus-per-task=6", "--gpus-per-task=4"):
        assert f"#SBATCH {line}\n" in lines
    for line in ("--mem=2097152K", "--time=1:30:0", '--partition="fast"', '--account="m1234"', '--reservation="mine"'):
        assert f"#SBATCH {line}\n" in lines


def test_without_a_walltime_the_sites_own_holds(tmp_path: Path) -> None:
    """PSI/J's own default is ten minutes."""
    assert "--time" not in script(tmp_path, resource="psij://slurm", walltime=None)
    assert "walltime" not in script(tmp_path, resource="psij://pbs", walltime=None)
