"""What goes wrong for somebody new on a cluster: refused and impossible jobs, Ctrl-C, folders that are not there."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import DescriptionError, NoPilotError, Pilot, PilotDescription, PilotFailed, PilotManager, PilotState
from pilot.manager.progress import Progress

Eventually = Callable[..., Any]
Leftovers = Callable[[], list[psutil.Process]]


pytestmark = pytest.mark.usefixtures("idle_cluster")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[PilotManager]:
    manager = PilotManager(tmp_path / "session", wait_for_pilot=0)
    yield manager
    manager.close()


def ask(manager: PilotManager, **fields: Any) -> Pilot:
    defaults = {"resource": "slurm://", "engine": "process", "cores_per_node": 1, "walltime": 300}
    return manager.submit_pilot(PilotDescription(**{**defaults, **fields}))


def squeue() -> list[str]:
    return subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()


# ---- wrong input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, words",
    [
        (
            {"queue": "nonesuch"},
            r"expected a partition: all, cpu, gpu, low, qpu \(sbatch refused .*invalid partition specified: nonesuch",
        ),
        ({"gres": "fpga:1"}, r"Invalid generic resource \(gres\) specification"),
        ({"licenses": "nonesuch:1"}, "Invalid license specification"),
        ({"reservation": "nonesuch"}, "reservation"),
    ],
    ids=["partition", "gres", "licence", "reservation"],
)
def test_a_refused_job_is_submitted_once(manager: PilotManager, fields: dict[str, Any], words: str) -> None:
    pilot = ask(manager, **fields)
    with pytest.raises(PilotFailed, match=f"its job cannot be started: .*{words}"):
        pilot.wait(60)
    manager.close()
    with closing(sqlite3.connect(manager.session_dir / "journal.sqlite")) as journal:
        rows = journal.execute("SELECT state FROM pilot_changes").fetchall()
    assert [state for (state,) in rows] == ["queued", "failed"]


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"number_of_nodes": 3}, "number_of_nodes is above the partition's limit"),
        ({"walltime": 7200}, "walltime is above the partition's limit"),
        ({"cores_per_node": 99}, "it asks for more nodes, cores, memory or time than the partition has"),
    ],
    ids=["nodes", "walltime", "cores"],
)
def test_a_job_that_never_starts_says_so(
    manager: PilotManager,
    fields: dict[str, Any],
    words: str,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pilot = ask(manager, **fields)
    eventually(lambda: f"it can never start: {words}" in pilot.job, 60)
    assert pilot.state is PilotState.QUEUED
    assert words in manager.explain(manager.submit_task(len, "abc"))
    assert words in caplog.text
    Progress(manager, finished=0).stop()
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "fields, variables, words",
    [
        ({"cores_per_node": None}, {}, "cores_per_node"),
        ({"resource": "srun://"}, {}, "inside a Slurm allocation only"),
        ({}, {"PATH": "/nonesuch"}, "sbatch on PATH: run the manager on a login node"),
        (
            {},
            {"SLURM_CONF": "/nonesuch/slurm.conf"},
            "SLURM_CONF naming a file: /nonesuch/slurm.conf is not a file",
        ),
    ],
    ids=["cores", "srun", "no sbatch", "no slurm.conf"],
)
def test_what_can_be_known_before_is_said_at_once(
    manager: PilotManager,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    variables: dict[str, str],
    words: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DescriptionError, match=words):
        ask(manager, **fields)


def test_a_login_node_that_is_not_there(manager: PilotManager) -> None:
    with pytest.raises(PilotFailed, match=r"sbatch on nosuchhost\.invalid cannot be asked: .*nosuchhost"):
        ask(manager, resource="slurm://nosuchhost.invalid", restarts=0).wait(60)


@pytest.mark.parametrize(
    "fields, words",
    [
        (
            {"venv": "/nonesuch/venv"},
            "there is no Python /nonesuch/venv/bin/python on .*: set venv or conda_environment",
        ),
        (
            {"modules": ["nonesuch"]},
            r"\.modules: `module load nonesuch` ended with code \d+: .*(not found|unknown|Unable to locate)",
        ),
        (
            {"conda_environment": "nonesuch"},
            r"PilotDescription\.conda_environment: `conda_hook` .*conda: command not found",
        ),
    ],
    ids=["venv", "module", "conda"],
)
def test_an_environment_that_is_not_there(manager: PilotManager, fields: dict[str, Any], words: str) -> None:
    """The pilot fails with the shell's message, and its job is submitted once."""
    with pytest.raises(PilotFailed, match=words):
        ask(manager, **fields, restarts=5).wait(60)
    assert not squeue()


def test_a_working_directory_that_is_not_there(manager: PilotManager) -> None:
    with pytest.raises(PilotFailed, match="its working directory /nonesuch does not exist on"):
        ask(manager, working_directory="/nonesuch", restarts=0).wait(60)


def test_a_folder_that_the_node_does_not_see(manager: PilotManager, idle_cluster: Any, eventually: Eventually) -> None:
    """The pilot's folder is taken away while its job is pending: the job cannot enter it."""
    blocker = idle_cluster.run("sbatch", "--parsable", "-N2", "--exclusive", "--wrap", "sleep 60").stdout.strip()
    pilot = ask(manager, number_of_nodes=2, restarts=0)
    eventually(lambda: "pending" in pilot.job, 60)
    pilot.log_path.parent.rename(pilot.log_path.parent.with_name("gone"))
    idle_cluster.run("scancel", blocker)
    with pytest.raises(PilotFailed, match=r"agent\.log is not there: is the session folder visible on the comp"):
        pilot.wait(60)


def test_a_line_of_the_users_own_that_ends_the_job(manager: PilotManager) -> None:
    with pytest.raises(PilotFailed, match=r"ended with code 3 before its agent reported; .*agent\.log is empty"):
        ask(manager, scheduler_script_commands=["exit 3"], restarts=0).wait(60)


def test_more_memory_than_a_node_has(manager: PilotManager) -> None:
    """Slurm takes such a job and lets it fail; a further one would fail as well."""
    with pytest.raises(PilotFailed, match=r"BadConstraints\): no node has what .*memory"):
        ask(manager, memory="64 GiB").wait(60)


def test_a_walltime_shorter_than_the_start(manager: PilotManager) -> None:
    pilot = ask(manager, walltime=0.3)
    task = manager.submit_task(time.sleep, 5)
    assert isinstance(task.exception(60), NoPilotError)
    assert "its walltime is over" in str(task.exception())
    assert pilot.state is PilotState.DONE


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------

SCRIPT = """
import time
from pilot import PilotDescription, PilotManager

def nap():
    time.sleep(0.2)

if __name__ == "__main__":
    with PilotManager() as manager:
        print(manager.session_dir, flush=True)
        pilot = manager.submit_pilot(
            PilotDescription(resource="slurm://", engine="process", cores_per_node=1, walltime=300, number_of_nodes=2)
        )
        tasks = [manager.submit_task(nap) for _ in range(1000)]
        tasks[0].add_done_callback(lambda task: print("going", flush=True))
        manager.wait_tasks()
"""


@pytest.mark.parametrize("pending", [True, False], ids=["pending", "running"])
def test_ctrl_c_leaves_nothing(
    pending: bool,
    idle_cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
    leftovers: Leftovers,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ours: set[str] = set()
    if pending:
        ours = {idle_cluster.run("sbatch", "--parsable", "-N2", "--exclusive", "--wrap", "sleep 60").stdout.strip()}
        eventually(lambda: squeue())
    child = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    session = Path(child.stdout.readline().strip())
    assert session.is_relative_to(tmp_path / ".quantum-pilot/sessions")
    if pending:
        eventually(lambda: len(squeue()) == 2, 60)
    else:
        assert child.stdout.readline() == "going\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)  # closes the pipes
    assert "KeyboardInterrupt" in errors
    eventually(lambda: set(squeue()) == ours, 60)
    assert not (tmp_path / ".quantum-pilot").exists()
    eventually(lambda: not leftovers(), 60)
    idle_cluster.run("scancel", *ours or ("0",))
