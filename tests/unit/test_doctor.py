"""The doctor says what is absent, what is broken and what to do, and is never held up."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pilot.cli import doctor, host_checks
from pilot.cli import main as cli
from pilot.cli.doctor import examine
from pilot.cli.findings import CommandFailed, Finding, ask

Command = Callable[[str, str], None]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """``command(name, script)``: a program on a PATH that has nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return make


def of(findings: list[Finding], topic: str) -> list[Finding]:
    return [finding for finding in findings if finding.topic == topic]


def test_a_host_with_nothing(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    findings = examine()
    for topic in ("slurm", "gpu", "ssh"):
        assert [finding.state for finding in of(findings, topic)] == ["absent"]
    assert not of(findings, "srun --mpi")
    assert doctor.works_locally(findings)
    assert cli.main(["doctor"]) == 0
    assert "– slurm" in capsys.readouterr().out


def test_every_line_that_is_not_good_says_what_to_do(command: Command) -> None:
    for name in ("sbatch", "sinfo", "scontrol", "srun", "sacct", "mpiexec", "ssh", "nvidia-smi"):
        command(name, "exit 1")
    assert [finding for finding in examine() if finding.state == "broken" and not finding.advice] == []


def test_a_ray_that_listens_for_others_is_told(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    assert [finding.state for finding in of(examine(), "ray")] == ["ok"]
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/__init__.py").touch()
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "ray")
        patch.syspath_prepend(str(tmp_path))
        (found,) = of(examine(), "ray")
    assert (found.state, found.needed) == ("broken", False)
    assert "listens on all addresses of this host" in found.what and found.advice


def test_json(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert {"topic", "state", "what", "advice", "needed"} == set(lines[0])
    assert any(line["what"].startswith("Python 3") for line in lines)


def test_commands_that_hang_cost_their_limit(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, eventually: Callable[..., object]
) -> None:
    monkeypatch.setattr("pilot.cli.findings.COMMAND_SECONDS", 1.0)
    monkeypatch.setattr("pilot.cli.doctor.COMMAND_SECONDS", 1.0)
    command("sbatch", "echo slurm 99.9")
    for name in ("sinfo", "scontrol", "srun", "sacct", "nvidia-smi", "ssh"):
        command(name, f'trap "" INT; sleep 61 & echo $! >{tmp_path}/{name}.pid; wait; sleep 61')
    began = time.monotonic()
    findings = [finding for finding in examine() if finding.topic in ("slurm", "gpu", "ssh", "srun --mpi")]
    assert time.monotonic() - began < 60  # four commands of Slurm's in turn, with a second of grace each
    assert [finding.what for finding in findings if finding.state == "ok"] == ["slurm 99.9"]
    assert "sinfo gave no answer in 1 s" in " ".join(finding.what for finding in findings)
    for name in ("sinfo", "nvidia-smi"):
        pid = int((tmp_path / f"{name}.pid").read_text())
        eventually(lambda pid=pid: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_session_folder_that_cannot_be_written(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks.tempfile, "gettempdir", lambda: "/proc")
    findings = examine()
    assert [finding.state for finding in of(findings, "session")] == ["broken"]
    assert cli.main(["doctor"]) == 1


@pytest.mark.parametrize(
    ("variable", "value", "state", "what"),
    [
        ("HIP_VISIBLE_DEVICES", "4,5", "ok", "AMD: HIP_VISIBLE_DEVICES names 2 (4, 5); tasks get theirs in it"),
        ("ROCR_VISIBLE_DEVICES", "4,4", "ok", "AMD: ROCR_VISIBLE_DEVICES names 1 (4); tasks get theirs in it"),
        ("ROCR_VISIBLE_DEVICES", "", "absent", "AMD: ROCR_VISIBLE_DEVICES names 0 (none); tasks get theirs in it"),
    ],
)
def test_gpus_of_amd_are_told(
    command: Command, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, state: str, what: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert [(finding.state, finding.what) for finding in of(examine(), "gpu")] == [(state, what)]


def test_tools_of_amd_are_reported(command: Command) -> None:
    command("rocm-smi", "exit 0")
    (found,) = of(examine(), "gpu")
    assert found.what.startswith("AMD: rocm-smi is installed, but neither HIP_VISIBLE_DEVICES nor")
    assert "gpus_per_node" in found.advice


def test_gpus_are_named(command: Command) -> None:
    command("nvidia-smi", "echo '0, GPU-8f2c, NVIDIA H200, 143771 MiB'")
    assert [finding.what for finding in of(examine(), "gpu")] == ["0, GPU-8f2c, NVIDIA H200, 143771 MiB"]


@pytest.mark.parametrize(
    ("said", "state"),
    [("size 2\n", "ok"), ("size 1\nsize 1\n", "broken"), ("", "broken")],
    ids=["one", "two communicators", "silence"],
)
def test_communicators(said: str, state: str) -> None:
    """srun with the wrong type makes one communicator a rank, and ends with code 0."""
    assert doctor._communicator("srun --mpi=x", said).state == state


@pytest.mark.parametrize(
    "listed",
    [
        "MPI plugin types are...\n\tpmix\n\tnone\n\tpmi2\nspecific pmix plugin versions available: pmix_v4\n",
        "srun: MPI types are...\nsrun: pmix\nsrun: none\nsrun: pmi2\n",
    ],
    ids=["22.05", "20.11"],
)
def test_mpi_types(listed: str) -> None:
    assert doctor._mpi_types(listed) == ["pmix", "pmi2"]


def test_a_command_that_fails_is_quoted(command: Command) -> None:
    command("sbad", "echo first >&2; echo last >&2; exit 3")
    with pytest.raises(CommandFailed, match="sbad ended with code 3: last"):
        ask("sbad")
    with pytest.raises(CommandFailed, match="nowhere: No such file"):
        ask("nowhere")
