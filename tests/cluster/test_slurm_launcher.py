"""The Slurm launcher on a real Slurm: what a job is asked for with, what is said of it, how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pilot_plugins.launchers.slurm.cluster import Cluster
from pilot_plugins.launchers.slurm.hosts import Host, run
from pilot_plugins.launchers.slurm.ids import SlurmId
from pilot_plugins.launchers.slurm.launcher import SlurmLauncher
from pilot_plugins.launchers.slurm.script import script
from pilot_plugins.launchers.slurm.states import NEVER, STATES
from pilot_plugins.launchers.slurm.submission import Loose
from pilot_plugins.launchers.ssh_client import SSH

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, PilotError
from pilot.interfaces import Job, JobState
from pilot.manager.jobs import PlaceholderJobs
from pilot.wire.marks import MARK
from pilot.wire.processes import marked
from pilot.wire.session import SessionFolder

Eventually = Callable[..., Any]

OVER = (JobState.ENDED, JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED)
#: Takes no notice of SIGTERM; says when that is so.
STUBBORN = "trap : TERM; touch ready; while :; do sleep 0.2; done"


class Counted:
    """Runs Slurm's commands and keeps the words of each."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, command: Sequence[str], input: str = "") -> tuple[int, str, str]:
        self.calls.append(command[0])
        return run(command, input)

    def count(self, name: str) -> int:
        return self.calls.count(name)


@pytest.fixture
def runner() -> Counted:
    return Counted()


@pytest.fixture
def launcher(runner: Counted, monkeypatch: pytest.MonkeyPatch) -> SlurmLauncher:
    monkeypatch.setattr(SlurmLauncher, "poll_interval", 0.5)
    return SlurmLauncher(runner)


@pytest.fixture
def make(make_job: Callable[..., Job]) -> Callable[..., Job]:
    """``make(*command, **fields)``: a job whose description has these fields."""

    def make(*command: str, **fields: Any) -> Job:
        return make_job(PilotDescription(**{"resource": "slurm://", "cores_per_node": 1, **fields}), *command)

    return make


@pytest.fixture
def ended(launcher: SlurmLauncher, eventually: Eventually) -> Callable[..., tuple[JobState, str]]:
    """Waits for the end of a job: its state and words then."""

    def ended(id: str, job: Job) -> tuple[JobState, str]:
        return eventually(  # type: ignore[no-any-return]
            lambda: (seen := look(launcher, id, job))[0] in OVER and seen,
            timeout=60,
            complaint=lambda: f"{look(launcher, id, job)}\n{job.log_path.read_text()}",
        )

    return ended


@pytest.fixture
def running(launcher: SlurmLauncher, eventually: Eventually) -> Callable[..., str]:
    """Submits a job and waits until its command has made a file ``ready``: its id."""

    def running(job: Job) -> str:
        id = launcher.submit(job)
        eventually(lambda: (job.folder / "ready").exists(), timeout=60, complaint=lambda: f"{look(launcher, id, job)}")
        assert look(launcher, id, job)[0] is JobState.RUNNING
        return id

    return running


def look(launcher: SlurmLauncher, id: str, job: Job) -> tuple[JobState, str]:
    return launcher.status({id: job.folder})[id]


def cancel(launcher: SlurmLauncher, id: str, job: Job) -> None:
    launcher.cancel(id, job.environment[MARK])


def number(id: str) -> str:
    """As Slurm knows the job."""
    return SlurmId.read(id).number


SLEEP = ("sh", "-c", "touch ready; exec sleep 60")


# ---- a job's life ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("idle_cluster")
def test_a_job_runs_on_every_node_and_ends(launcher: SlurmLauncher, make: Any, ended: Any) -> None:
    word = "a b'c\"d$HOME"
    command = 'echo "$WORD" $SLURMD_NODENAME $PWD; exit 3'
    job = make("sh", "-c", command, number_of_nodes=2, name="my pilot", environment={"WORD": word})
    launcher.check(job.description)
    id = launcher.submit(job)
    assert ended(id, job) == (JobState.ENDED, f"Slurm job {number(id)}: the agents ended with code 3")
    lines = job.log_path.read_text().splitlines()
    assert {line for line in lines if line.startswith("a b")} == {
        f"{word} {node} {job.folder}" for node in ("c1", "c2")
    }
    assert (job.folder / "ended").read_text() == f"{number(id)} 3\n"
    assert (job.folder / "job.sh").stat().st_mode & 0o777 == 0o600
    cancel(launcher, id, job)


@pytest.mark.usefixtures("idle_cluster")
def test_cancel_ends_all_processes(launcher: SlurmLauncher, make: Any, running: Any, cluster: Any) -> None:
    """Those that ignore SIGTERM as well."""
    apart = STUBBORN.replace("ready", "apart")
    job = make("bash", "-c", f"setsid bash -c '{apart}' & until [ -e apart ]; do sleep 0.05; done; {STUBBORN}")
    id = running(job)
    cancel(launcher, id, job)
    assert marked(job.environment[MARK]) == []
    assert cluster.run("squeue", "-h", "-j", number(id)).stdout == ""
    cancel(launcher, id, job)  # nothing happens the second time


@pytest.mark.usefixtures("idle_cluster")
def test_cancel_leaves_others_alone(launcher: SlurmLauncher, make: Any, running: Any) -> None:
    one, other = make(*SLEEP), make(*SLEEP)
    ids = [running(one), running(other)]
    cancel(launcher, ids[0], one)
    assert look(launcher, ids[1], other)[0] is JobState.RUNNING
    cancel(launcher, ids[1], other)


@pytest.mark.usefixtures("idle_cluster")
def test_status_and_cancel_in_another_process(launcher: SlurmLauncher, make: Any, running: Any, ended: Any) -> None:
    """As after an attach: id and folder alone say which job it is."""
    job = make(*SLEEP)
    id = running(job)
    code = (
        "import sys; from pathlib import Path; from pilot_plugins.launchers.slurm.launcher import SlurmLauncher as L\n"
        "id, folder, mark = sys.argv[1:]; one = L(); print(one.status({id: Path(folder)})[id]); one.cancel(id, mark)"
    )
    command = [sys.executable, "-c", code, id, str(job.folder), job.environment[MARK]]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    assert f"Slurm job {number(id)}: RUNNING on c" in done.stdout, done.stderr
    assert marked(job.environment[MARK]) == []
    assert ended(id, job)[0] in OVER  # here it is known when squeue is asked the next time


@pytest.mark.usefixtures("idle_cluster")
def test_an_agent_that_was_killed(launcher: SlurmLauncher, make: Any, ended: Any) -> None:
    job = make("sh", "-c", "kill -9 $$")
    id = launcher.submit(job)
    assert ended(id, job) == (JobState.ENDED, f"Slurm job {number(id)}: the agents ended with code 137")


@pytest.mark.usefixtures("idle_cluster")
def test_cancelled_from_outside(launcher: SlurmLauncher, make: Any, running: Any, ended: Any, cluster: Any) -> None:
    """Also when the agent takes SIGTERM for its orderly end."""
    job = make("bash", "-c", "trap 'exit 0' TERM; touch ready; sleep 60 & wait")
    id = running(job)
    cluster.run("scancel", number(id))
    state, words = ended(id, job)
    assert state is JobState.CANCELLED and "CANCELLED" in words
    assert (job.folder / "expiring").exists()


@pytest.mark.usefixtures("idle_cluster")
def test_slurms_signal_before_the_end(
    launcher: SlurmLauncher, make: Any, running: Any, ended: Any, cluster: Any
) -> None:
    """The agent sees the file, drains and ends: the pilot's time was over. Sent by hand: Slurm's clock is coarse."""
    job = make("bash", "-c", "touch ready; until [ -e expiring ]; do sleep 0.05; done", walltime=300)
    id = running(job)
    cluster.run("scancel", "--signal=USR1", "--batch", number(id))
    assert ended(id, job)[0] is JobState.EXPIRED


@pytest.mark.usefixtures("idle_cluster")
def test_a_requeued_job_was_taken(
    launcher: SlurmLauncher, make: Any, running: Any, ended: Any, cluster: Any, eventually: Eventually
) -> None:
    job = make(*SLEEP, scheduler_script_commands=("#SBATCH --requeue",))
    id = running(job)
    assert cluster.run("scontrol", "requeue", number(id)).returncode == 0
    state, words = ended(id, job)
    assert state is JobState.TAKEN and "requeued" in words
    cancel(launcher, id, job)  # else it would start again
    eventually(lambda: cluster.run("squeue", "-h", "-j", number(id)).stdout == "")


@pytest.mark.usefixtures("idle_cluster")
def test_a_preempted_job_was_taken(launcher: SlurmLauncher, make: Any, running: Any, ended: Any) -> None:
    low = make(*SLEEP, queue="low", number_of_nodes=2, cores_per_node=4)
    id = running(low)
    high = make(*SLEEP, queue="cpu", cores_per_node=4)
    other = launcher.submit(high)
    state, words = ended(id, low)
    assert state is JobState.TAKEN and "PREEMPTED" in words
    launcher.cancel_many({id: low.environment[MARK], other: high.environment[MARK]})


@pytest.mark.usefixtures("idle_cluster")
def test_a_lost_node_takes_the_job(launcher: SlurmLauncher, make: Any, running: Any, ended: Any, cluster: Any) -> None:
    job = make(*SLEEP)
    id = running(job)
    node = (job.folder / "started").read_text().split()[1]
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    state, words = ended(id, job)
    assert state is JobState.TAKEN and "NODE_FAIL" in words
    cancel(launcher, id, job)


@pytest.mark.usefixtures("idle_cluster")
def test_an_end_is_seen_without_squeue(launcher: SlurmLauncher, make: Any, ended: Any, runner: Counted) -> None:
    """By the job's own files."""
    launcher.poll_interval = 1000
    job = make("true")
    id = launcher.submit(job)
    assert ended(id, job)[0] is JobState.ENDED
    assert runner.count("squeue") <= 1
    cancel(launcher, id, job)
    assert runner.count("squeue") <= 1 and runner.count("scancel") == 0


# ---- waiting --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("idle_cluster")
def test_why_a_job_is_pending(launcher: SlurmLauncher, make: Any, eventually: Eventually) -> None:
    fields = {"licenses": "qpu_ibm:1", "queue": "qpu", "gres": "qpu:1"}
    jobs = {"": make(*SLEEP, **fields), "pending: (Licenses|Resources)": make(*SLEEP, **fields)}
    jobs["PartitionNodeLimit|PartitionConfig.*it can never start.*number_of_nodes"] = make(
        "true", number_of_nodes=3, queue="cpu"
    )
    ids = {launcher.submit(job): (pattern, job) for pattern, job in jobs.items()}
    for id, (pattern, job) in list(ids.items())[1:]:
        eventually(lambda id=id, job=job, pattern=pattern: re.search(pattern, look(launcher, id, job)[1]))
        assert look(launcher, id, job)[0] is JobState.QUEUED
    launcher.cancel_many({id: job.environment[MARK] for id, (_, job) in ids.items()})
    for id, (_, job) in ids.items():  # the running one ends at its own pace
        eventually(lambda id=id, job=job: look(launcher, id, job)[0] in {*OVER, JobState.UNKNOWN}, 60)


def test_refused_in_sbatchs_own_words(cluster: Any, launcher: SlurmLauncher, make: Any) -> None:
    with pytest.raises(PilotError, match="invalid partition specified: nowhere"):
        launcher.submit(make("true", queue="nowhere"))
    with pytest.raises(PilotError, match="Invalid license specification"):
        launcher.submit(make("true", licenses="qpu_ibm:2"))


def test_a_job_that_slurm_does_not_know(
    cluster: Any, launcher: SlurmLauncher, make: Any, eventually: Eventually
) -> None:
    """It is missing; whether it is over the manager decides, which hears its agent, or not."""
    job = make("true")
    eventually(lambda: look(launcher, "999999", job)[0] is JobState.MISSING, 60)
    assert "does not know" in look(launcher, "999999", job)[1]


def test_no_controller_no_end(launcher: SlurmLauncher, make: Any, eventually: Eventually, tmp_path: Path) -> None:
    """What cannot be asked is unknown, for as long as it takes."""
    down = SlurmLauncher(lambda command, input: (1, "", "slurm_load_jobs error: Unable to contact slurm controller"))
    down.poll_interval = 0.01
    job = make("true")
    for _ in range(10):
        assert look(down, "17", job)[0] is JobState.UNKNOWN
        eventually(lambda: "Unable to contact slurm controller" in look(down, "17", job)[1])


# ---- together -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("idle_cluster")
def test_jobs_alike_become_one_array(
    launcher: SlurmLauncher, make: Any, ended: Any, runner: Counted, cluster: Any
) -> None:
    jobs = [make("sh", "-c", f"echo I am {one}", name=f"p{one}") for one in range(4)]
    jobs.insert(2, make("sh", "-c", "echo I am other", cores_per_node=2))
    ids = launcher.submit_many(jobs)
    assert runner.count("sbatch") == 2
    numbers = [number(str(id)) for id in ids]
    array = numbers[0].split("_")[0]
    assert [numbers[one] for one in (0, 1, 3, 4)] == [f"{array}_{index}" for index in range(4)]
    assert "_" not in numbers[2]
    for id, job in zip(ids, jobs, strict=True):
        state, reason = ended(id, job)
        assert state is JobState.ENDED
        assert re.fullmatch(rf"Slurm job {number(id)}: (the agents ended with code 0|COMPLETED on c\d)", reason)
        assert job.log_path.read_text().splitlines()[-1] == job.command[-1].removeprefix("echo ")


def test_jobs_that_wait_in_one_array_are_cancelled_one_by_one(
    launcher: SlurmLauncher, make: Any, ended: Any, idle_cluster: Any, eventually: Eventually
) -> None:
    """By us and by the user: the others wait on."""
    jobs = [make(*SLEEP, scheduler_script_commands=("#SBATCH --begin=now+1hour",)) for _ in range(4)]
    ids = launcher.submit_many(jobs)

    def waiting() -> list[str]:
        lines = idle_cluster.run("squeue", "-h", "--array", "-o", "%i %T %r").stdout.splitlines()
        return [line.split()[0] for line in lines if line.endswith("PENDING BeginTime")]

    numbers = [number(str(id)) for id in ids]
    eventually(lambda: waiting() == numbers)
    launcher.cancel(str(ids[2]), jobs[2].environment[MARK])
    assert waiting() == [numbers[0], numbers[1], numbers[3]]
    idle_cluster.run("scancel", numbers[1])
    assert ended(ids[1], jobs[1]) == (JobState.CANCELLED, f"Slurm job {numbers[1]}: CANCELLED (while it waited)")
    assert look(launcher, str(ids[0]), jobs[0])[0] is JobState.QUEUED
    idle_cluster.run("scancel", numbers[0].partition("_")[0])
    assert ended(ids[3], jobs[3])[0] is JobState.CANCELLED


@pytest.mark.usefixtures("idle_cluster")
def test_twenty_pilots_one_squeue_per_interval(
    launcher: SlurmLauncher, make: Any, runner: Counted, eventually: Eventually
) -> None:
    launcher.poll_interval = 1.0
    jobs = [make(*SLEEP, name=f"p{number}", cores_per_node=2) for number in range(20)]
    ids = launcher.submit_many(jobs)
    assert runner.count("sbatch") == 1
    folders = {id: job.folder for id, job in zip(ids, jobs, strict=True)}
    begun = time.monotonic()

    def all_known() -> bool:
        states = Counter(state for state, _ in launcher.status(folders).values())  # type: ignore[arg-type]
        return states == {JobState.RUNNING: 4, JobState.QUEUED: 16} and runner.count("squeue") >= 3

    eventually(all_known)
    seconds = time.monotonic() - begun
    assert runner.count("squeue") <= seconds + 1
    launcher.cancel_many({id: job.environment[MARK] for id, job in zip(ids, jobs, strict=True)})  # type: ignore[misc]
    assert runner.count("scancel") <= 4
    assert runner.count("squeue") <= seconds + 60  # it asks twice a second for the jobs' end


@pytest.mark.usefixtures("idle_cluster")
def test_jobs_are_submitted_together_and_what_is_seen_is_told(
    launcher: SlurmLauncher, make: Any, runner: Counted, tmp_path: Path, eventually: Eventually
) -> None:
    started: dict[str, str] = {}
    over: list[tuple[str, JobState]] = []
    seen: dict[str, str] = {}
    all_jobs = PlaceholderJobs(SessionFolder(tmp_path))
    all_jobs.begin(
        SimpleNamespace(
            job_started=started.__setitem__,
            job_ended=lambda pilot, mark, reason, how: over.append((pilot, how)),
            job_seen=seen.__setitem__,
            is_heard=lambda pilot: False,
        )
    )
    all_jobs._launchers["slurm"] = launcher
    jobs = [make(*SLEEP, cores_per_node=4, name=f"p{number}") for number in range(3)]
    for job in jobs:
        all_jobs.submit(job, job.environment[MARK])
    eventually(lambda: len(started) == 3)
    assert runner.count("sbatch") == 1

    def looked() -> bool:
        all_jobs.look()
        return sum("RUNNING on" in words for words in seen.values()) == 2 and any(
            "pending: " in words for words in seen.values()
        )

    eventually(looked, complaint=lambda: str(seen))
    waiting = next(pilot for pilot, words in seen.items() if "pending" in words)
    all_jobs.stop(waiting, 0.0)
    eventually(lambda: (all_jobs.look(), over)[1])
    assert over == [(waiting, JobState.ENDED)]
    all_jobs.close(0.0)
    assert [process for job in jobs for process in marked(job.environment[MARK])] == []


# ---- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*STATES, "A_NEW_ONE"])
def test_every_state_of_squeue(name: str, tmp_path: Path) -> None:
    """What is said of a job that squeue shows in this state, with its words."""
    shown = f"17|17|{name}|p|c1|SomeReason"
    launcher = SlurmLauncher(lambda command, input: (0, shown, ""))
    state, words = launcher.status({"17": tmp_path})["17"]
    taken = "BOOT_FAIL NODE_FAIL PREEMPTED REQUEUED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD REQUEUE_FED REVOKED"
    taken += " LAUNCH_FAILED RECONFIG_FAIL"
    expected = {
        JobState.QUEUED: "PENDING CONFIGURING",
        JobState.RUNNING: "RUNNING COMPLETING RESIZING SIGNALING STAGE_OUT STOPPED SUSPENDED",
        JobState.ENDED: "COMPLETED FAILED OUT_OF_MEMORY",
        JobState.EXPIRED: "TIMEOUT DEADLINE",
        JobState.TAKEN: taken,
        JobState.CANCELLED: "CANCELLED",
        JobState.UNKNOWN: "A_NEW_ONE",
    }
    assert name in expected[state].split()
    assert words.startswith("Slurm job 17: ")
    assert {"PENDING": "SomeReason", "CONFIGURING": "started"}.get(name, name) in words


def test_states_are_those_of_the_manual_page() -> None:
    """All "JOB STATE CODES" of squeue(1), where the page is installed."""
    page = subprocess.run(["man", "squeue"], capture_output=True, text=True, env={**os.environ, "MANWIDTH": "200"})
    if page.returncode or "JOB STATE CODES" not in page.stdout:
        pytest.skip("no manual page of squeue here")
    section = page.stdout.split("\nJOB STATE CODES\n")[1].split("\nENVIRONMENT VARIABLES")[0]
    named = set(re.findall(r"^\s+[A-Z]{1,2}\s+([A-Z_]{5,})", section, re.M))
    assert len(named) > 15 and named <= set(STATES)


@pytest.mark.parametrize("reason", NEVER)
def test_reasons_that_will_not_pass(reason: str, tmp_path: Path) -> None:
    launcher = SlurmLauncher(lambda command, input: (0, f"17|17|PENDING|p||{reason}", ""))
    state, words = launcher.status({"17": tmp_path})["17"]
    assert state is JobState.QUEUED and f"pending: {reason}, it can never start: " in words


@pytest.mark.parametrize("reason", ["Resources", "Nodes required for job are DOWN, DRAINED or reserved for jobs"])
def test_other_reasons_are_said_as_they_are(reason: str, tmp_path: Path) -> None:
    launcher = SlurmLauncher(lambda command, input: (0, f"17_3|17|PENDING|p||{reason}", ""))
    assert launcher.status({"17_3": tmp_path})["17_3"] == (JobState.QUEUED, f"Slurm job 17_3: pending: {reason}")


def test_sacct_knows_what_squeue_has_forgotten(tmp_path: Path) -> None:
    answers = {"squeue": (1, "", "slurm_load_jobs error: Invalid job id specified"), "sacct": (0, "", "")}
    launcher = SlurmLauncher(lambda command, input: answers[command[0]])
    answers["sacct"] = (0, "17|CANCELLED by 1000|p|c1|0:15\n", "")
    assert launcher.status({"17": tmp_path})["17"] == (
        JobState.CANCELLED,
        "Slurm job 17: CANCELLED by 1000 on c1",
    )


def test_sacct_is_asked_once_where_there_is_none(tmp_path: Path) -> None:
    calls: list[str] = []

    def runner(command: Sequence[str], input: str) -> tuple[int, str, str]:
        calls.append(command[0])
        return (0, "", "") if command[0] == "squeue" else (1, "", "Slurm accounting storage is disabled")

    host = Host("", runner)
    cluster = Cluster(host, Loose(host))
    assert [cluster.ask([SlurmId("17")]) for _ in range(3)] == [({}, "")] * 3
    assert calls == ["squeue", "sacct", "scontrol", "squeue", "scontrol", "squeue", "scontrol"]


# ---- the batch script -----------------------------------------------------------------------------------------------


def test_every_field_is_in_the_script(make: Any) -> None:
    job = make(
        "agent", "with a blank", queue="gpu", qos="high", project="me", reservation="r1", constraint="a&b # c",
        gres="qpu:1", licenses="qpu_ibm:1", gpus_per_node=2, number_of_nodes=3, cores_per_node=4, memory="1 GiB",
        walltime=timedelta(seconds=601), exclusive=True, modules=("cuda/12", "gcc"), venv="/my venv",
        conda_environment="quantum", container=("apptainer", "exec", "image.sif"), environment={"KEY": "it's"},
        scheduler_script_commands=("#SBATCH --mail-type=END", "ulimit -c 0"),
    )  # fmt: skip
    text = script([job])
    head, _, body = text.partition("\n\n")
    options = "gres=qpu:1 qos=high account=me reservation=r1 licenses=qpu_ibm:1 partition=gpu nodes=3 mem=1024M time=11"
    options += " cpus-per-task=4 ntasks-per-node=1 gpus-per-node=2 exclusive no-requeue no-kill signal=B:USR1@90"
    options += f" open-mode=append output={job.log_path} mail-type=END"
    for option in [*options.split(), "constraint='a&b # c'"]:
        assert f"#SBATCH --{option}\n" in head + "\n", option
    order = ["export KEY='it'\"'\"'s'", "apptainer exec image.sif agent 'with a blank'", "module load cuda/12"]
    order += ["module load gcc", "conda activate quantum", "export VIRTUAL_ENV='/my venv'", "ulimit -c 0", "\nenter\n"]
    order += ["srun --overlap --mem=0 --nodes=3 --ntasks=3 --ntasks-per-node=1 --cpus-per-task=4"]
    places = [body.index(part) for part in order]
    assert places == sorted(places)
    assert "ulimit" not in head
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_gpus_are_asked_for_once(make: Any) -> None:
    for gres in ("qpu:1,gpu:a100:2", "gpu", "gpu:2", " gres/gpu:2"):
        assert "gpus-per-node" not in script([make("x", gres=gres, gpus_per_node=2)]), gres
    for gres in ("gpu_mem:5", "qpu:gpu:1", None):
        assert "gpus-per-node=2" in script([make("x", gres=gres, gpus_per_node=2)]), gres


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cores_per_node": None}, "cores_per_node"),
        ({"resource": "slurm://-oProxyCommand=x"}, "resource"),
        ({"resource": "slurm://a b"}, "resource"),
        ({"queue": "a\n#SBATCH --uid=0"}, "queue"),
        ({"modules": ["a\nb"]}, "modules"),
        ({"environment": {"a b": "c"}}, "environment"),
    ],
)
def test_what_it_cannot_start(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(DescriptionError, match=field):
        SlurmLauncher().check(PilotDescription(**{"resource": "slurm://", "cores_per_node": 1, **fields}))


def test_no_sbatch_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DescriptionError, match=r"sbatch on PATH.*login node"):
        SlurmLauncher().check(PilotDescription(resource="slurm://", cores_per_node=1))


# ---- ssh ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def login_node(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: Any) -> Iterator[str]:
    """A private sshd on 127.0.0.1, which leads to the cluster: ``user@host:port``."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
    if sshd is None or shutil.which("ssh") is None:
        left_out("sshd", "openssh-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    host_key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        f"SetEnv SLURM_CONF={cluster.environment['SLURM_CONF']}\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\nIdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
    monkeypatch.setenv(SSH, f"ssh -F {folder}/ssh_config")
    monkeypatch.delenv("SLURM_CONF")
    yield f"root@127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.mark.usefixtures("idle_cluster")
def test_over_ssh(login_node: str, launcher: SlurmLauncher, make: Any, ended: Any, running: Any, cluster: Any) -> None:
    job = make("sh", "-c", "echo $WORD", resource=f"slurm://{login_node}", environment={"WORD": "hello"})
    launcher.check(job.description)
    id = launcher.submit(job)
    assert f"@{login_node}#" in id
    assert ended(id, job)[0] is JobState.ENDED
    assert "hello" in job.log_path.read_text()
    other = make(*SLEEP, resource=f"slurm://{login_node}")
    id = running(other)
    cancel(launcher, id, other)
    assert marked(other.environment[MARK]) == []
    with pytest.raises(PilotError, match="invalid partition specified"):
        launcher.submit(make("true", resource=f"slurm://{login_node}", queue="nowhere"))


def test_a_folder_that_the_login_node_does_not_see(
    login_node: str, launcher: SlurmLauncher, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on two hosts without a common file system: there, the script that was written here is not."""
    job = make("true", resource=f"slurm://{login_node}")
    runner = launcher._runner

    def elsewhere(command: Sequence[str], input: str) -> tuple[int, str, str]:
        (job.folder / "job.sh").unlink()
        return runner(command, input)

    monkeypatch.setattr(launcher, "_runner", elsewhere)
    with pytest.raises(PilotError, match=r"session folder is not visible on root@127\.0\.0\.1.*session_dir"):
        launcher.submit(job)


def test_a_host_that_does_not_answer(launcher: SlurmLauncher, make: Any, tmp_path: Path) -> None:
    job = make("true", resource="slurm://nobody@127.0.0.1:1")
    with pytest.raises(PilotError, match=r"sbatch on nobody@127\.0\.0\.1:1 .*Connection refused"):
        launcher.submit(job)
