"""The doctor on a real Slurm: what it finds there, and site profiles against it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from pilot.cli import main as cli
from pilot.cli.doctor import examine, examine_site
from pilot.cli.findings import Finding

SITES = Path(__file__).parents[2] / "slurm" / "sites"


@pytest.fixture(autouse=True)
def slurm(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def findings(cluster: Any) -> list[Finding]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        began = time.monotonic()
        found = examine()
        print(f"examined in {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began < 60
        return found


def test_slurm_and_all_its_partitions_and_licences(findings: list[Finding]) -> None:
    said = [finding.what for finding in findings if finding.topic == "slurm" and finding.state == "ok"]
    assert any(line.startswith(("slurm-wlm", "slurm ")) for line in said)
    assert any("is UP" in line for line in said)
    listed = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, check=True).stdout.split()
    assert {line.split()[1].rstrip(":*") for line in said if line.startswith("partition")} == set(listed)
    assert any(line.startswith("licence qpu_ibm:") for line in said)


def test_which_type_of_mpi_forms_one_communicator(findings: list[Finding]) -> None:
    steps = {finding.topic: finding for finding in findings if finding.topic.startswith("srun --mpi")}
    try:
        version("mpi4py")
    except PackageNotFoundError:
        assert "pip install mpi4py" in steps["srun --mpi"].advice
        pytest.skip("mpi4py is not installed: what it says of each type was not tested")
    assert steps["srun --mpi=pmi2"].state == "ok", steps
    assert "srun --mpi=none" not in steps


def test_no_job_is_left_behind(findings: list[Finding], eventually: Callable[..., object]) -> None:
    command = ["squeue", "-h", "-o", "%j"]

    def gone() -> bool:
        return "pilot-doctor" not in subprocess.run(command, capture_output=True, text=True, check=True).stdout

    eventually(gone, 60)


def test_slurmctld_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path(os.environ["SLURM_CONF"])
    elsewhere = re.sub(r"(?m)^SlurmctldPort=.*$", "SlurmctldPort=1", real.read_text())  # nobody listens there
    (tmp_path / "slurm.conf").write_text(elsewhere)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    began = time.monotonic()
    broken = [finding for finding in examine() if finding.topic == "slurm" and finding.state == "broken"]
    assert time.monotonic() - began < 120
    assert any("slurmctld" in finding.advice for finding in broken), broken
    assert any(finding.what.startswith("partitions: ") for finding in broken), broken


def test_a_partition_in_which_nothing_starts() -> None:
    subprocess.run(["scontrol", "update", "nodename=q1", "state=drain", "reason=doctor test"], check=True)
    try:
        found = [finding for finding in examine() if finding.what.startswith("partition qpu:")]
    finally:
        subprocess.run(["scontrol", "update", "nodename=q1", "state=undrain"], check=True)
    assert [finding.state for finding in found] == ["broken"]
    assert "sinfo --list-reasons --partition=qpu" in found[0].advice


def test_a_profile_that_fits_and_one_that_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], findings: list[Finding]
) -> None:
    fits = tmp_path / "fits.toml"
    fits.write_text('resource = "slurm://"\nwalltime = 60\n[plain]\n[device]\ngres = "qpu:1"\nqueue = "qpu"\n')
    assert cli.main(["doctor", "--site", str(fits), "--json"]) == 0
    assert [line["state"] for line in json.loads(capsys.readouterr().out)] == ["ok", "ok"]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(
        "resource = 'slurm://'\n[nowhere]\nqueue = 'nowhere'\n"
        "[big]\nnumber_of_nodes = 999\ncores_per_node = 999\nmemory = '99 TiB'\n"
        "walltime = 99999999\nconstraint = 'marble'\ngres = 'qpu:9'\nlicenses = 'qpu_ibm:99'\n"
        "scheduler_script_commands = ['#SBATCH --qpu=a', '#SBATCH --nice=1']\n"
    )
    assert cli.main(["doctor", "--site", str(wrong)]) == 1
    said = capsys.readouterr().out
    for word in (
        "queue = nowhere",
        "number_of_nodes = 999",
        "cores_per_node = 999",
        "memory = 103809024 MiB",
        "constraint = marble",
    ):
        assert word in said
    for word in ("gres = qpu:9", "licenses = qpu_ibm:99", "scheduler_script_commands = --qpu"):
        assert word in said
    assert "--nice" not in said


def test_the_profile_of_another_site(findings: list[Finding]) -> None:
    found = examine_site(str(SITES / "perlmutter.toml"))
    assert any(finding.what == "constraint = hbm80g" and finding.topic == "gpu80" for finding in found)
