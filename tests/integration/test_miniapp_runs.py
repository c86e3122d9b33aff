"""`pilot run` from the shell: runs that are killed and resumed, stopped, or started twice in one folder."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PILOT = (sys.executable, "-m", "pilot.cli")
RUN = ("run", "dispatch", "--tasks", "40", "--seconds", "0.1", "--repeat", "1", "--pilot", "process:2")
#: Lets workers count what has run to its end in them.
EXECUTIONS = Path(__file__).parents[2] / "benchmarks" / "_executions"
Eventually = Callable[..., Any]


def started(*words: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(EXECUTIONS), "PILOT_EXECUTIONS": str(folder / "executions")}
    return subprocess.Popen(
        [*PILOT, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def executions(folder: Path) -> Counter[str]:
    """How often each task has run to its end, by its number."""
    path = folder / "executions"
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "out/metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("moment", [1, 15], ids=["while it starts", "in its midst"])
def test_a_run_that_is_killed_continues_and_runs_nothing_twice(
    moment: int, tmp_path: Path, eventually: Eventually
) -> None:
    first = started(*RUN, "--output", "out", folder=tmp_path)
    eventually(lambda: executions(tmp_path).total() >= moment)
    first.kill()
    first.communicate()
    before = executions(tmp_path).total()
    assert before < 42
    code, output, errors = ended(started(*RUN, "--output", "out", "--resume", folder=tmp_path))
    assert code == 0, errors
    assert "join again" in errors
    assert "not comparable" in output
    found = rows(tmp_path)
    assert len(found) == 40
    assert {row["status"] for row in found} == {"SUCCESS"}
    assert {row["attempts"] for row in found} == {"1"}
    ran = executions(tmp_path)
    assert {ran[row["task_id"]] for row in found} == {1}
    assert json.loads((tmp_path / "out/report.json").read_text())["oracle"]["passed"]


def test_a_run_that_is_stopped_says_how_to_continue(tmp_path: Path, eventually: Eventually) -> None:
    first = started(*RUN, "--output", "out", folder=tmp_path)
    eventually(lambda: executions(tmp_path).total() >= 10)
    code, _, errors = ended(started(*RUN, "--output", "out", "--resume", folder=tmp_path))
    assert code == 2
    assert "--output: out is used by process" in errors
    first.send_signal(signal.SIGINT)
    code, _, errors = ended(first)
    assert code == 130
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if "to continue: " in line]
    command = shlex.split(line.partition("to continue: ")[2])
    assert command[0] == "pilot"
    code, _, errors = ended(started(*command[1:], "--tasks", "9", folder=tmp_path))
    assert (code, "--tasks: " in errors) == (2, True)
    code, _, errors = ended(started(*command[1:], folder=tmp_path))
    assert code == 0, errors
    assert len(rows(tmp_path)) == 40


def test_a_series_is_resumed_where_it_was(tmp_path: Path, eventually: Eventually) -> None:
    series = (*RUN[:2], "--tasks", "6", "--seconds", "0.1", "--repeat", "1", "--pilot", "process:1")
    series = (*series, "--scaling", "1,2", "--output", "out")
    first = started(*series, folder=tmp_path)
    eventually(lambda: (tmp_path / "out/strong-2/session").exists())
    first.kill()
    first.communicate()
    finished = (tmp_path / "out/strong-1/report.json").read_bytes()
    code, _, errors = ended(started(*series, "--resume", folder=tmp_path))
    assert code == 0, errors
    assert (tmp_path / "out/strong-1/report.json").read_bytes() == finished
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [(row["mode"], row["count"], row["tasks"]) for row in report["rows"]] == [
        ("strong", 1, 6),
        ("strong", 2, 6),
        ("weak", 1, 6),
        ("weak", 2, 12),
    ]
    assert set(report["figures"]) == {f"{weak}{name}_2" for weak in ("", "weak_") for name in ("efficiency", "speedup")}
    assert (tmp_path / "out/scaling.png").exists()
