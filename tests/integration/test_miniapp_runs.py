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


def test_a_run_that_is_killed_continues_and_runs_nothing_twice(tmp_path: Path, eventually: Eventually) -> None:
    first = started(*RUN, "--output", "out", folder=tmp_path)
    eventually(lambda: executions(tmp_path).total() >= 10)
    first.send_signal(signal.SIGSTOP)  # so that it is not done before the other one has started
    code, _, errors = ended(started(*RUN, "--output", "out", "--resume", folder=tmp_path))
    assert (code, "--output: out is used by process" in errors) == (2, True)
    first.kill()
    first.communicate()
    assert executions(tmp_path).total() < 42
    code, _, errors = ended(started(*RUN, "--output", "out", "--resume", "--tasks", "9", folder=tmp_path))
    assert (code, "--tasks: [40], now [40, 9]" in errors) == (2, True)
    code, output, errors = ended(started(*RUN, "--output", "out", "--resume", folder=tmp_path))
    assert code == 0, errors
    assert "join again" in errors
    assert "not comparable" in output
    with (tmp_path / "out/metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 40
    assert {(row["status"], row["attempts"]) for row in found} == {("SUCCESS", "1")}
    ran = executions(tmp_path)
    assert {ran[row["task_id"]] for row in found} == {1}
    assert json.loads((tmp_path / "out/report.json").read_text())["oracle"]["passed"]


def test_a_series_that_is_stopped_says_how_to_continue(tmp_path: Path, eventually: Eventually) -> None:
    """Its first run is stopped when some of the tasks are done: these are not done again."""
    few = ("--tasks", "6", "--seconds", "0.1", "--repeat", "1", "--pilot", "process:1")
    first = started("run", "dispatch", *few, "--scaling", "1,2", folder=tmp_path)
    eventually(lambda: executions(tmp_path).total() >= 3)
    first.send_signal(signal.SIGINT)
    code, _, errors = ended(first)
    assert code == 130
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if "to continue: " in line]
    command = shlex.split(line.partition("to continue: ")[2])
    code, _, errors = ended(started(*command[1:], folder=tmp_path))
    assert code == 0, errors
    folder = tmp_path / command[-1]
    report = json.loads((folder / "report.json").read_text())
    assert [(row["mode"], row["count"], row["tasks"], row["resumed"]) for row in report["rows"]] == [
        ("strong", 1, 6, True),
        ("strong", 2, 6, False),
        ("weak", 1, 6, True),
        ("weak", 2, 12, False),
    ]
    assert set(report["figures"]) == {f"{weak}{name}_2" for weak in ("", "weak_") for name in ("efficiency", "speedup")}
    assert not any(figure["comparable"] for figure in report["figures"].values())
    assert (folder / "scaling.png").exists()
