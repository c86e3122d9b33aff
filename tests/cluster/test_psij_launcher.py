"""psij://slurm on a real Slurm: what it passes on, what it says of a job, and what PSI/J alone gets wrong."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilot.descriptions import PilotDescription
from pilot.errors import PilotError
from pilot.interfaces import Job, JobState
from pilot.wire.marks import MARK
from pilot.wire.processes import marked

if importlib.util.find_spec("psij") is None:
    pytest.skip("psij-python is not installed: pip install 'quantum-pilot[psij]'", allow_module_level=True)

from pilot_plugins.launchers.psij import executors as psij_executors
from pilot_plugins.launchers.psij.launcher import PsijLauncher

Eventually = Callable[..., Any]


@pytest.fixture(autouse=True)
def slurm(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(psij_executors, "POLL_SECONDS", 1)


@pytest.fixture
def launcher() -> PsijLauncher:
    return PsijLauncher()


@pytest.fixture
def job(make_job: Callable[..., Job]) -> Callable[..., Job]:
    """``job(*command, **fields)``: a job whose description has these fields."""

    def make(*command: str, **fields: Any) -> Job:
        return make_job(PilotDescription(**{"resource": "psij://slurm", "cores_per_node": 1, **fields}), *command)

    return make


@pytest.fixture
def submit(launcher: PsijLauncher) -> Iterator[Callable[[Job], str]]:
    """`launcher.submit` for jobs that are cancelled at the end of the test."""
    submitted: list[tuple[str, Job]] = []

    def call(one: Job) -> str:
        submitted.append((launcher.submit(one), one))
        return submitted[-1][0]

    yield call
    for id, one in submitted:
        launcher.cancel(id, one.environment[MARK])
    assert not {number(id) for id, _ in submitted} & set(run("squeue", "-h", "-o", "%i").split())


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def number(id: str) -> str:
    """As Slurm knows the job."""
    return id.partition(":")[2].partition("#")[0]


def shown(id: str) -> dict[str, str]:
    """What ``scontrol show job`` says: field → value."""
    words = run("scontrol", "-o", "show", "job", number(id)).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def look(launcher: PsijLauncher, id: str, one: Job) -> tuple[JobState, str]:
    return launcher.status({id: one.folder})[id]


def test_a_job_runs_and_ends(launcher: PsijLauncher, job: Any, submit: Any, eventually: Eventually) -> None:
    one = job("sh", "-c", 'echo "$WORD" "$PWD"; exit 3', environment={"WORD": 'it\'s "so" $HOME'})
    id = submit(one)
    eventually(lambda: look(launcher, id, one)[0] is JobState.ENDED, timeout=60)
    assert look(launcher, id, one) == (JobState.ENDED, "the agent ended with code 3")
    assert one.log_path.read_text() == f'it\'s "so" $HOME {one.folder}\n'
    assert PsijLauncher().status({id: one.folder})[id] == (JobState.ENDED, "the agent ended with code 3")


def test_a_folder_with_a_blank_and_a_quote(
    launcher: PsijLauncher, job: Any, eventually: Eventually, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PSI/J's own scripts do not work there: it keeps its files in its usual place, and of the job's none is left."""
    usual = tmp_path / "usual"
    monkeypatch.setattr(psij_executors.psij.JobExecutorConfig, "DEFAULT_WORK_DIRECTORY", usual)
    folder = tmp_path / "the pilot's"
    folder.mkdir()
    one = msgspec.structs.replace(job("pwd"), folder=folder, log_path=folder / "agent.log")
    id = launcher.submit(one)
    eventually(lambda: look(launcher, id, one)[0] is JobState.ENDED, timeout=60)
    launcher.cancel(id, one.environment[MARK])
    assert one.log_path.read_text() == f"{folder}\n"
    assert not list((usual / "slurm").iterdir())


def test_every_field_arrives(launcher: PsijLauncher, job: Any, submit: Any) -> None:
    one = job(
        "sleep",
        "60",
        name="my pilot",
        queue="qpu",
        cores_per_node=2,
        memory="300 MiB",
        walltime=timedelta(minutes=7),
        constraint="ibm&ibm",
        gres="qpu:1",
        licenses="qpu_iqm:1",
        exclusive=True,
        custom_attributes={"slurm.comment": "two words", "slurm.no-requeue": ""},
        scheduler_script_commands=("#SBATCH --nice=7", "#SBATCH --hold"),
    )
    job_fields = shown(submit(one))
    wanted = {
        "Partition": "qpu",
        "TimeLimit": "00:07:00",
        "Features": "ibm&ibm",
        "TresPerNode": "gres:qpu:1",
        "Licenses": "qpu_iqm:1",
        "CPUs/Task": "2",
        "MinMemoryNode": "300M",
        "OverSubscribe": "NO",
        "Requeue": "0",
        "Nice": "7",
        "JobState": "PENDING",
        "Reason": "JobHeldUser",
    }
    assert {key: job_fields[key] for key in wanted} == wanted
    assert re.fullmatch(r"my-pilot\.[0-9a-f]{12}", job_fields["JobName"])
    assert job_fields["Comment"] == "two"  # of two words, as scontrol writes them


def test_gpus(launcher: PsijLauncher, job: Any, submit: Any, eventually: Eventually) -> None:
    one = job("sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES"', queue="gpu", gpus_per_node=2)
    id = submit(one)
    eventually(lambda: look(launcher, id, one)[0] is JobState.ENDED, timeout=60)
    assert one.log_path.read_text() == "0,1\n"


def test_once_on_each_node(launcher: PsijLauncher, job: Any, submit: Any, eventually: Eventually) -> None:
    one = job("sh", "-c", 'echo "$SLURMD_NODENAME"; exit "$SLURM_PROCID"', number_of_nodes=2)
    id = submit(one)
    eventually(lambda: look(launcher, id, one)[0] is JobState.ENDED, timeout=60)
    assert look(launcher, id, one)[1] == "the agent ended with code 0"  # the first node's
    eventually(lambda: sorted(one.log_path.read_text().split()) == ["c1", "c2"])


def test_cancel_while_it_runs(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    one = job("sh", "-c", "sleep 60 & setsid sleep 60 & wait")
    id = launcher.submit(one)
    eventually(lambda: len(marked(one.environment[MARK])) == 3, timeout=60)
    eventually(lambda: look(launcher, id, one)[0] is JobState.RUNNING)
    work = one.folder / "psij" / "slurm"
    began = time.monotonic()
    launcher.cancel(id, one.environment[MARK])
    print(f"cancel: {time.monotonic() - began:.1f} s")
    assert marked(one.environment[MARK]) == []
    assert shown(id)["JobState"] == "CANCELLED"
    assert look(launcher, id, one)[0] in (JobState.ENDED, JobState.CANCELLED)
    assert work.is_dir() and not list(work.glob(f"{number(id)}*"))
    launcher.cancel(id, one.environment[MARK])  # nothing happens the second time


def test_a_pending_job_says_why_and_is_cancelled(launcher: PsijLauncher, job: Any, eventually: Eventually) -> None:
    one = job("true", scheduler_script_commands=("#SBATCH --hold",))
    id = launcher.submit(one)
    eventually(lambda: look(launcher, id, one) == (JobState.QUEUED, "JobHeldUser"), timeout=60)
    another = PsijLauncher()  # as after an attach
    eventually(lambda: look(another, id, one) == (JobState.QUEUED, "JobHeldUser"), timeout=60)
    another.cancel(id, one.environment[MARK])
    eventually(lambda: look(launcher, id, one)[0] in (JobState.CANCELLED, JobState.ENDED))
    assert shown(id)["JobState"] == "CANCELLED"
    launcher.cancel(id, one.environment[MARK])


def test_a_reason_of_several_words_stops_no_news(
    launcher: PsijLauncher, job: Any, submit: Any, eventually: Eventually
) -> None:
    """PSI/J alone says nothing any more of any job as soon as one job of the user's has such a reason."""
    held = job("true")
    held_id = submit(held)
    eventually(lambda: look(launcher, held_id, held)[0] is JobState.ENDED, timeout=60)
    run("scontrol", "update", "nodename=q1", "state=drain", "reason=test of a reason of several words")
    try:
        waiting = job("sleep", "60", queue="qpu")
        waiting_id = submit(waiting)
        eventually(lambda: "Nodes required for job are DOWN" in look(launcher, waiting_id, waiting)[1], timeout=60)
        one = job("true")
        id = submit(one)
        eventually(lambda: launcher._jobs[id].status.final, timeout=60)
        assert look(launcher, id, one)[0] is JobState.ENDED
        assert look(launcher, waiting_id, waiting)[0] is JobState.QUEUED
    finally:
        run("scontrol", "update", "nodename=q1", "state=undrain")


def test_scancel_from_outside(launcher: PsijLauncher, job: Any, submit: Any, eventually: Eventually) -> None:
    one = job("sleep", "60")
    id = submit(one)
    eventually(lambda: look(launcher, id, one)[0] is JobState.RUNNING, timeout=60)
    run("scancel", number(id))
    eventually(lambda: look(launcher, id, one)[0] is JobState.CANCELLED, timeout=60)


def test_preempted_and_requeued_is_taken(launcher: PsijLauncher, job: Any, submit: Any, eventually: Eventually) -> None:
    """PSI/J's states only go forward: it would say that the job runs, though Slurm has put it back into the queue."""
    low = job("sleep", "60", queue="low", number_of_nodes=2, exclusive=True)
    low_id = submit(low)
    eventually(lambda: look(launcher, low_id, low)[0] is JobState.RUNNING, timeout=60)
    high = job("true", queue="cpu", number_of_nodes=2, exclusive=True)
    high_id = submit(high)
    eventually(lambda: look(launcher, low_id, low)[0] is JobState.TAKEN, timeout=60)
    eventually(lambda: look(launcher, high_id, high)[0] is JobState.ENDED, timeout=60)


def test_a_queue_that_cannot_be_read_ends_no_job(
    launcher: PsijLauncher,
    job: Any,
    submit: Any,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """PSI/J alone reports FAILED after two polls that Slurm did not answer, or one for which there is no squeue."""
    one = job("sleep", "60")
    id = submit(one)
    eventually(lambda: look(launcher, id, one)[0] is JobState.RUNNING, timeout=60)
    (tmp_path / "broken.conf").write_text("nonsense\n")
    with monkeypatch.context() as broken:
        broken.setenv("SLURM_CONF", str(tmp_path / "broken.conf"))
        poller = launcher._executors["slurm"]._queue_poll_thread
        eventually(lambda: poller._poll_error_count >= 4, timeout=60)
        assert look(launcher, id, one)[0] is JobState.RUNNING
        broken.setenv("PATH", str(tmp_path))
        count = poller._poll_error_count
        eventually(lambda: poller._poll_error_count >= count + 2, timeout=60)
        assert look(launcher, id, one)[0] in (JobState.RUNNING, JobState.UNKNOWN)
    eventually(lambda: look(launcher, id, one) == (JobState.RUNNING, "running"), timeout=60)


def test_slurms_own_words_when_it_refuses(launcher: PsijLauncher, job: Any) -> None:
    with pytest.raises(PilotError, match="invalid partition specified: nowhere"):
        launcher.submit(job("true", queue="nowhere"))
    with pytest.raises(PilotError, match="Invalid license specification"):
        launcher.submit(job("true", licenses="qpu_ibm:99"))


def test_one_squeue_for_all_jobs(launcher: PsijLauncher, job: Any, submit: Any, eventually: Eventually) -> None:
    """However many jobs there are, and however often one asks."""
    jobs = [job("sleep", "60", scheduler_script_commands=("#SBATCH --hold",)) for _ in range(4)]
    folders = {submit(one): one.folder for one in jobs}
    executor = launcher._executors["slurm"]
    calls = []
    real = executor._run_command
    executor._run_command = lambda command: calls.append(command[0]) or real(command)
    began = time.monotonic()
    eventually(lambda: launcher.status(folders) and calls.count("squeue") >= 2, timeout=60)
    assert len(calls) <= time.monotonic() - began + 2
