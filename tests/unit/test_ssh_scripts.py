"""The scripts that ``ssh://`` gives a host, run by bash here; no ssh is needed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pilot_plugins.launchers.ssh import scripts
from pilot_plugins.launchers.ssh.scripts import SshId

from pilot import PilotDescription
from pilot.interfaces import Job
from pilot.wire.marks import MARK
from pilot.wire.processes import marked

HERE = PilotDescription(resource="ssh://far", cores_per_node=1)
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")

MakeJob = Callable[..., Job]


def bash(script: str) -> tuple[int, str, str]:
    done = subprocess.run(["bash", "-s"], input=script, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def started(job: Job) -> SshId:
    code, output, errors = bash(scripts.start(job, None))
    id = scripts.started(output, "far")
    assert id is not None, (code, output, errors)
    return id


def seen(job: Job, id: SshId) -> tuple[bool, str]:
    return scripts.seen(bash(scripts.look([(id, job.folder)]))[1], [id])[id]


def test_variables_and_arguments_arrive_as_they_are(make_job: MakeJob, eventually: Callable[..., object]) -> None:
    """Random texts, and names that bash does not take as its variables."""
    random.seed(4)
    letters = "ab'\"$`\\ \n\t*?#;&|<>(){}[]!~é"
    texts = ["".join(random.choices(letters, k=random.randrange(1, 12))) for _ in range(20)]
    names = [f"WORD_{number}" for number in range(19)] + ["A-B.C"]
    program = "import os, sys; print(ascii([[os.environ[name] for name in sys.argv[1].split()], sys.argv[2:]]))"
    job = make_job(
        HERE,
        f"{sys.prefix}/bin/python3",
        "-c",
        program,
        " ".join(names),
        *texts,
        **dict(zip(names, texts, strict=True)),
    )
    id = started(job)
    eventually(lambda: seen(job, id) == (False, "the agent ended with code 0"))
    assert job.log_path.read_text().strip() == ascii([texts, texts])


def test_a_job_that_runs_and_is_ended(make_job: MakeJob) -> None:
    job = make_job(HERE, "sleep", "60")
    other = make_job(HERE, "sleep", "60")
    ids = [started(job), started(other)]
    assert seen(job, ids[0]) == seen(other, ids[1]) == (True, "")
    mark = job.environment[MARK]
    assert len(marked(mark)) == 1
    assert scripts.started(bash(scripts.find(mark))[1], "far") == ids[0]
    assert scripts.started(bash(scripts.find(mark[:-1]))[1], "far") is None
    code, output, errors = bash(scripts.end(ids[0], mark))
    assert (code, output, errors) == (0, "", "")
    assert not marked(mark)
    assert seen(job, ids[0]) == (False, "the agent is gone")
    assert seen(other, ids[1]) == (True, "")
    bash(scripts.end(ids[1], other.environment[MARK]))


def test_a_worker_is_not_taken_for_the_job(make_job: MakeJob, eventually: Callable[..., object]) -> None:
    """It has the agent's mark, and a session of its own; here it outlives the agent for a moment."""
    job = make_job(HERE, "sh", "-c", "setsid sleep 60 & exec sleep 60")
    id, mark = started(job), job.environment[MARK]
    assert scripts.started(bash(scripts.find(mark))[1], "far") == id
    os.killpg(int(id.pid), signal.SIGKILL)
    eventually(lambda: len(marked(mark)) == 1)
    left = scripts.started(bash(scripts.find(mark))[1], "far")
    bash(scripts.end(id, mark))
    assert left is None
    assert not marked(mark)


def test_temporary_files_are_removed(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilot.wire.folders import scratch

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    job = make_job(HERE, "true")
    name = scratch(job.environment[MARK]).name
    for folder in (name, f"{name}.w1", f"{name}x"):
        (tmp_path / folder).mkdir()
    bash(scripts.end(started(job), job.environment[MARK]))
    assert [path.name for path in tmp_path.glob("pilot-*") if path.name.startswith(name)] == [f"{name}x"]


def test_an_id_is_read_as_it_was_written() -> None:
    id = SshId("me@node7:22", "b-o-o-t", "17", "4711")
    assert SshId.parse(str(id)) == id


def test_what_a_host_says_besides_is_not_taken_for_an_answer() -> None:
    assert scripts.started("Welcome!\npilot-started soon\n", "far") is None
    assert scripts.seen("pilot-job 0 asleep\nbash: no such file\n", [SshId("far", "b", "1", "2")]) == {}
    assert scripts.started(f"Welcome!\npilot-started b {os.getpid()} 9\n", "far") == ("far", "b", str(os.getpid()), "9")
