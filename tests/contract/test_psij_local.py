"""What psij://local adds to the contract of launchers: its script, its files, its words."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Job, JobState
from pilot.wire.marks import MARK
from pilot.wire.processes import marked

if importlib.util.find_spec("psij") is None:
    pytest.skip("psij-python is not installed: pip install 'quantum-pilot[psij]'", allow_module_level=True)

from pilot_plugins.launchers.psij.launcher import PsijLauncher

Eventually = Callable[..., Any]
HERE = PilotDescription(resource="psij://local")


@pytest.fixture
def launcher() -> PsijLauncher:
    return PsijLauncher()


@pytest.fixture
def job(make_job: Callable[..., Job]) -> Callable[..., Job]:
    def make(*command: str, description: PilotDescription = HERE, **environment: str) -> Job:
        return make_job(description, *command, **environment)

    return make


def state(launcher: PsijLauncher, id: str, one: Job) -> JobState:
    return launcher.status({id: one.folder})[id][0]


def words(launcher: PsijLauncher, id: str, one: Job) -> str:
    return launcher.status({id: one.folder})[id][1]


def test_the_script_is_private_and_psij_writes_into_our_folder(
    launcher: PsijLauncher, job: Any, eventually: Eventually
) -> None:
    home = Path.home() / ".psij"
    before = sorted(home.rglob("*")) if home.exists() else []
    one = job("true", SECRET="s3cret")
    id = launcher.submit(one)
    assert (one.folder / "job.sh").stat().st_mode & 0o777 == 0o600
    eventually(lambda: state(launcher, id, one) is JobState.ENDED)
    launcher.cancel(id, one.environment[MARK])
    assert (sorted(home.rglob("*")) if home.exists() else []) == before
    others = [path for path in one.folder.rglob("*") if path.is_file() and path.name != "job.sh"]
    assert not [path for path in others if "s3cret" in path.read_text()]


def test_cancel_while_the_script_prepares(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    description = PilotDescription(resource="psij://local", scheduler_script_commands=("sleep 61",))
    one = job("sleep", "60", description=description)
    id = launcher.submit(one)
    process = psutil.Process(int(id.split(":")[1]))
    eventually(lambda: (one.folder / "started").exists())
    launcher.cancel(id, one.environment[MARK])
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert state(launcher, id, one) is JobState.ENDED


SUBMIT = """
import os, sys
from pathlib import Path
from pilot.descriptions import PilotDescription
from pilot.interfaces import Job
from pilot_plugins.launchers.psij.launcher import PsijLauncher
folder = Path(sys.argv[1])
job = Job(pilot="p", command=("sh", "-c", "while [ ! -e stop ]; do sleep 0.05; done; exit 4"),
          environment={"PILOT_AGENT": sys.argv[2]}, description=PilotDescription(resource="psij://local"),
          folder=folder, log_path=folder / "agent.log")
print(PsijLauncher().submit(job), flush=True)
os._exit(0)
"""


def test_a_job_outlives_the_process_that_submitted_it(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    one = job("unused")
    command = [sys.executable, "-c", SUBMIT, str(one.folder), one.environment[MARK]]
    id = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    eventually(lambda: marked(one.environment[MARK]))
    assert launcher.status({id: one.folder})[id] == (JobState.RUNNING, "running")
    (one.folder / "stop").touch()
    eventually(lambda: state(launcher, id, one) is JobState.ENDED)
    assert words(launcher, id, one) == "the agent ended with code 4"
    launcher.cancel(id, one.environment[MARK])


def test_the_exit_code_survives_an_attach(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    """PSI/J itself reports code 0 for whatever it is attached to."""
    one = job("sh", "-c", "exit 3")
    id = launcher.submit(one)
    eventually(lambda: (one.folder / "ended").exists())
    another = PsijLauncher()
    assert another.status({id: one.folder})[id] == (JobState.ENDED, "the agent ended with code 3")
    launcher.cancel(id, one.environment[MARK])


def test_everything_of_the_job_is_killed(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    """Nobody is left to write down how it ended."""
    one = job("sleep", "60")
    id = launcher.submit(one)
    eventually(lambda: marked(one.environment[MARK]))
    root = psutil.Process(int(id.split(":")[1]))
    root.suspend()  # it starts no more
    for process in [*root.children(recursive=True), root]:
        with contextlib.suppress(psutil.NoSuchProcess):  # a command of the script's, which has come to its end
            process.kill()
    eventually(lambda: state(launcher, id, one) is JobState.ENDED)
    assert words(launcher, id, one) == "the agent is gone"
    launcher.cancel(id, one.environment[MARK])


def test_a_daemon_that_the_command_leaves_behind(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    """It holds none of PSI/J's pipes: the end of the command is seen at once, also that of the next job."""
    one, next_one = job("sh", "-c", "setsid sleep 60 &"), job("true")
    id = launcher.submit(one)
    eventually(lambda: state(launcher, id, one) is JobState.ENDED, timeout=60)
    next_id = launcher.submit(next_one)
    eventually(lambda: state(launcher, next_id, next_one) is JobState.ENDED, timeout=60)
    launcher.cancel(id, one.environment[MARK])
    launcher.cancel(next_id, next_one.environment[MARK])


def test_a_signal_is_noted_and_the_exit_code_is_the_commands(
    launcher: PsijLauncher, job: Any, eventually: Eventually
) -> None:
    one = job("sh", "-c", "while [ ! -e stop ]; do sleep 0.05; done; exit 5")
    id = launcher.submit(one)
    eventually(lambda: marked(one.environment[MARK]))
    root = psutil.Process(int(id.split(":")[1]))
    script = ["/bin/bash", str(one.folder / "job.sh")]
    shell = next(p for p in root.children(recursive=True) if p.cmdline() == script)
    for number in (signal.SIGUSR1, signal.SIGTERM):
        (one.folder / "expiring").unlink(missing_ok=True)
        shell.send_signal(number)
        eventually(lambda: (one.folder / "expiring").exists())
    assert state(launcher, id, one) is JobState.RUNNING
    (one.folder / "stop").touch()
    eventually(lambda: state(launcher, id, one) is JobState.ENDED)
    assert words(launcher, id, one) == "the agent ended with code 5"
    launcher.cancel(id, one.environment[MARK])


def test_setup_lines_and_container_come_before_the_command(
    launcher: PsijLauncher, job: Any, eventually: Eventually, tmp_path: Path
) -> None:
    venv = tmp_path / "a venv" / "bin"
    venv.mkdir(parents=True)
    description = PilotDescription(
        resource="psij://local",
        venv=str(venv.parent),
        container=("env", "BOX=1"),
        scheduler_script_commands=("export LINE='a b'",),
    )
    one = job("sh", "-c", 'echo "$VIRTUAL_ENV/$BOX/$LINE"', description=description)
    id = launcher.submit(one)
    eventually(lambda: state(launcher, id, one) is JobState.ENDED)
    assert one.log_path.read_text() == f"{venv.parent}/1/a b\n"
    launcher.cancel(id, one.environment[MARK])


def test_a_module_that_cannot_be_loaded_ends_the_job(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    one = job("touch", "ran", description=PilotDescription(resource="psij://local", modules=("no-such/1.0",)))
    id = launcher.submit(one)
    eventually(lambda: state(launcher, id, one) is JobState.REFUSED)
    assert words(launcher, id, one).startswith("PilotDescription.modules: `module load no-such/1.0` ended with code")
    assert not (one.folder / "ran").exists()
    launcher.cancel(id, one.environment[MARK])


def test_what_the_job_before_left_does_not_count(launcher: PsijLauncher, job: Any) -> None:
    one = job("sleep", "60")
    (one.folder / "ended").write_text("3\n")
    id = launcher.submit(one)
    assert state(launcher, id, one) in (JobState.RUNNING, JobState.UNKNOWN)
    launcher.cancel(id, one.environment[MARK])


def test_a_job_that_is_not_known(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    one = job("true")
    id = f"local:{os.getpid()}:1"  # this pid, and not this process
    eventually(lambda: state(launcher, id, one) is JobState.ENDED)
    launcher.cancel(id, one.environment[MARK])  # and not this process


def test_a_command_that_is_not_there(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    one = job("no-such-agent")
    id = launcher.submit(one)
    eventually(lambda: state(launcher, id, one) is JobState.ENDED)
    assert words(launcher, id, one) == "the agent ended with code 127"
    assert "no-such-agent" in one.log_path.read_text()
    launcher.cancel(id, one.environment[MARK])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"resource": "psij://sge"}, r"resource.*psij://local.*psij://slurm"),
        ({"resource": "psij://"}, "resource.*psij://pbs"),
        ({"number_of_nodes": 2}, "number_of_nodes"),
        ({"resource": "psij://pbs", "number_of_nodes": 2}, "number_of_nodes.*several pilots"),
        ({"resource": "psij://pbs", "gres": "gpu:1"}, r"gres.*custom_attributes.*pbs\.OPTION"),
        ({"resource": "psij://pbs", "gpus_per_node": 1}, "gpus_per_node"),
        ({"resource": "psij://lsf", "qos": "debug"}, r"qos.*lsf\.OPTION"),
        ({"constraint": "cpu"}, "constraint"),
        ({"licenses": "qpu_ibm:1"}, "licenses"),
        ({"resource": "psij://pbs", "scheduler_script_commands": ("#SBATCH --qpu=a",)}, "scheduler_script_commands"),
        ({"resource": "psij://slurm", "scheduler_script_commands": ("#PBS -l a=b",)}, "scheduler_script_commands"),
        ({"resource": "psij://pbs", "custom_attributes": {"slurm.mem": "1G"}}, r"keys as pbs\.OPTION; not 'slurm.mem'"),
        (
            {"resource": "psij://pbs", "queue": "fast", "reservation": "mine"},
            "queue: 'fast' .*none beside a reservation",
        ),
        ({"resource": "psij://lsf"}, "walltime: None .*a time with psij://lsf"),
    ],
)
def test_what_it_cannot_start(launcher: PsijLauncher, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DescriptionError, match=said):
        description = PilotDescription(**{"resource": "psij://local", **fields})
        launcher.check_fields(description)
        launcher.check(description)


def test_only_local_jobs_are_not_remote(launcher: PsijLauncher) -> None:
    assert launcher.remote
    launcher.check(HERE)
    assert not launcher.remote
    launcher.check(PilotDescription(resource="psij://slurm", gres="qpu:1", scheduler_script_commands=("#SBATCH -H",)))
    assert launcher.remote


def test_an_executor_that_cannot_be_loaded(launcher: PsijLauncher, job: Any) -> None:
    with pytest.raises(Exception, match="flux"):
        launcher.submit(job("true", description=PilotDescription(resource="psij://flux")))


def test_sigchld_is_left_to_the_program() -> None:
    check = (
        "import signal, pilot_plugins.launchers.psij.launcher; "
        "assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
