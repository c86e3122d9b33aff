"""The batch scripts that users copy, run as they stand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Eventually = Callable[..., Any]
SCRIPTS = Path(__file__).parents[2] / "slurm"


@pytest.fixture(autouse=True)
def venv(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENV", sys.prefix)


def finish(script: str, folder: Path, eventually: Eventually, **environment: str) -> str:
    """Submit it from this folder; what it wrote, when the job is over."""
    submitted = subprocess.run(
        ["sbatch", "--parsable", SCRIPTS / script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert submitted.returncode == 0, submitted.stderr
    id = submitted.stdout.strip()

    def state() -> str:
        return subprocess.run(
            ["squeue", "-h", "-t", "all", "-j", id, "-o", "%T"], capture_output=True, text=True
        ).stdout.strip()

    eventually(lambda: state() in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), 90, complaint=state)
    (output,) = folder.glob(f"*-{id}.out")
    assert state() == "COMPLETED", output.read_text()
    return output.read_text()


def test_manager_inside_the_job(tmp_path: Path, eventually: Eventually) -> None:
    said = finish(
        "manager_in_job.sbatch",
        tmp_path,
        eventually,
        PROGRAM=str(SCRIPTS / "in_job.py"),
        SESSION=str(tmp_path / "session"),
    )
    assert "sum of squares: 332833500" in said
    assert "nodes: ['c1'" in said


def test_a_mini_app(tmp_path: Path, eventually: Eventually) -> None:
    run = {"MINIAPP": "dispatch", "PILOT": "srun://process:2:2", "OUTPUT": str(tmp_path / "run")}
    said = finish("miniapp.sbatch", tmp_path, eventually, **run, FLAGS="--preset small")
    assert "report.json" in said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["oracle"]["passed"]
    assert report["pilots"][0]["nodes"] == ["c1", "c2"]
    said = finish("miniapp.sbatch", tmp_path, eventually, **run, FLAGS="--preset small")
    assert "nothing runs" in said


def test_scaling_over_nodes(tmp_path: Path, eventually: Eventually) -> None:
    finish(
        "miniapp.sbatch",
        tmp_path,
        eventually,
        MINIAPP="dispatch",
        PILOT="srun://process:1",
        FLAGS="--scaling 1,2 --tasks 8 --seconds .1",
        OUTPUT=str(tmp_path / "run"),
    )
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [(row["mode"], row["count"], row["slots"]) for row in report["rows"]] == [
        ("strong", 1, 1),
        ("strong", 2, 2),
        ("weak", 1, 1),
        ("weak", 2, 2),
    ]
    assert report["details"]["of"] == "nodes"
    nodes = [set(its["nodes"]) for its in report["pilots"]]
    assert nodes == [{"c1"}, {"c1", "c2"}, {"c1", "c2"}]


def test_manager_on_the_login_node(tmp_path: Path, eventually: Eventually) -> None:
    """It is killed on the way, and goes on when it is started again."""
    command = [sys.executable, str(SCRIPTS / "on_login_node.py"), str(tmp_path / "session")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as first:
        eventually(lambda: list((tmp_path / "session").glob("pilots/*/started")), 60)
        first.send_signal(signal.SIGKILL)
    again = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert "sum of squares: 332833500" in again.stdout, again.stdout + again.stderr
    left = subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout
    assert left == ""
