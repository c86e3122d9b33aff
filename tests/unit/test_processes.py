"""How the processes of a pilot are started and found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from pilot.wire.marks import MARK
from pilot.wire.processes import end_marked, marked, with_threads
from pilot.wire.session import new_mark


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        pytest.param({}, "OPENBLAS_NUM_THREADS", "2", id="the cores of the task"),
        pytest.param({"MKL_NUM_THREADS": "3"}, "MKL_NUM_THREADS", "3", id="the user's own"),
        pytest.param({"MKL_NUM_THREADS": "3"}, "OMP_NUM_THREADS", "2", id="no other one"),
        pytest.param({"OMP_NUM_THREADS": "4"}, "OPENBLAS_NUM_THREADS", "4", id="OpenMP's counts for all"),
        pytest.param({"OMP_NUM_THREADS": "4", "NUMEXPR_NUM_THREADS": "1"}, "NUMEXPR_NUM_THREADS", "1", id="both"),
        pytest.param({"OMP_NUM_THREADS": "4,2"}, "OMP_NUM_THREADS", "4,2", id="a list stays"),
        pytest.param({"OMP_NUM_THREADS": "4,2"}, "OPENBLAS_NUM_THREADS", "4", id="the first of a list"),
        pytest.param({"OMP_NUM_THREADS": "many"}, "OPENBLAS_NUM_THREADS", "2", id="no number"),
    ],
)
def test_numbers_of_threads(given: dict[str, str], name: str, value: str) -> None:
    assert with_threads(2, given)[name] == value


def test_marks_of_a_task_are_below_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "abc.w1")
    assert new_mark().startswith("abc.w1.")
    monkeypatch.delenv(MARK)
    assert "." not in new_mark()


#: The parent of a process that has the mark; it never asks how that one has ended.
CARELESS = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"],
                 env={**os.environ, sys.argv[1]: sys.argv[2]})
time.sleep(600)
"""


def started(*words: str, **variables: str) -> subprocess.Popen[bytes]:
    """Python with these arguments, as soon as it has written a line."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, env={**os.environ, **variables})
    assert process.stdout is not None and process.stdout.readline()
    return process


@pytest.mark.timeout(60)  # the grace is longer
def test_who_ignores_sigterm_gets_no_grace() -> None:
    mark = new_mark()
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with started("-c", code, **{MARK: mark}) as process:
        assert end_marked(mark, grace=600.0) == 1
        assert process.wait() == -signal.SIGKILL


@pytest.mark.timeout(60)
def test_who_has_ended_is_gone_though_its_parent_has_not_asked() -> None:
    mark = new_mark()
    with started("-c", CARELESS, MARK, mark) as parent:
        assert end_marked(mark, grace=600.0) == 1
        parent.kill()


def test_a_process_is_found_while_it_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment of execve(2) it has no environment."""
    mark = new_mark()
    variables = iter([{}, {MARK: mark}])
    with started("-c", "import time; print(flush=True); time.sleep(600)") as process:
        monkeypatch.setattr(psutil.Process, "environ", lambda self: next(variables))
        monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process(process.pid)])
        assert [one.pid for one in marked(mark)] == [process.pid]
        process.kill()
