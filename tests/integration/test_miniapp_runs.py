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
    output, errors = process.communicate(timeout=500)
    return process.returncode, output, errors


def executions(folder: Path) -> Counter[str]:
    """How often each piece of work (function and arguments) has run to its end."""
    path = folder / "executions"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line.partition(" ")[2] for line in lines)


def test_a_run_that_is_stopped_and_killed_continues_and_runs_nothing_twice(
    tmp_path: Path, eventually: Eventually
) -> None:
    first = started(*RUN, "--output", "out", folder=tmp_path)
    eventually(lambda: executions(tmp_path).total() >= 8)
    first.send_signal(signal.SIGINT)
    code, _, errors = ended(first)
    assert code == 130
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if "to continue: " in line]
    command = shlex.split(line.partition("to continue: ")[2])[1:]

    before = executions(tmp_path).total()
    second = started(*command, folder=tmp_path)
    eventually(lambda: executions(tmp_path).total() >= before + 8)
    second.send_signal(signal.SIGSTOP)  # so that it is not done before the other one has started
    code, _, errors = ended(started(*command, folder=tmp_path))
    assert (code, "--output: out is used by process" in errors) == (2, True)
    second.kill()
    second.communicate()
    code, _, errors = ended(started(*command, "--tasks", "9", folder=tmp_path))
    assert (code, "--tasks: [40], now [40, 9]" in errors) == (2, True)

    code, output, errors = ended(started(*command, folder=tmp_path))
    assert code == 0, errors
    assert "join again" in errors
    assert "not comparable" in output
    with (tmp_path / "out/metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 40
    assert {row["status"] for row in found} == {"SUCCESS"}
    work = [count for count in executions(tmp_path).values() if count == 1]
    assert len(work) == 40  # each once; what warms workers up has no arguments, and ran more often
    assert len(executions(tmp_path)) == 41
    assert json.loads((tmp_path / "out/report.json").read_text())["oracle"]["passed"]


def test_a_qpu_that_there_is_not_leaves_nothing(tmp_path: Path) -> None:
    words = ("run", "circuit-execution", "--devices", "fake:nowhere", "--output", "out")
    code, _, errors = ended(started(*words, folder=tmp_path))
    assert code == 2 and "there is no snapshot 'nowhere'" in errors
    assert "to continue" not in errors and not (tmp_path / "out").exists()
