"""What psij://slurm makes of answers that are late, wrong or missing. No Slurm: a runner that plays one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pilot_plugins.launchers.slurm import hosts as slurm_hosts
from pilot_plugins.launchers.slurm import submission as slurm_submission
from slurm_world import INVALID, NOTHING_OF_IT, PRINTED, Played, PlayedJob

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, JobRefused
from pilot.interfaces import Job, JobState
from pilot.wire.marks import MARK

if importlib.util.find_spec("psij") is None:
    pytest.skip("psij-python is not installed: pip install 'quantum-pilot[psij]'", allow_module_level=True)

from pilot_plugins.launchers.psij import executors as psij_executors
from pilot_plugins.launchers.psij import launcher as psij_launcher
from pilot_plugins.launchers.psij.launcher import PsijLauncher

OVER = (JobState.ENDED, JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Played:
    one = Played({"5": PlayedJob("foreign"), "25": PlayedJob("foreign", state="RUNNING")})
    monkeypatch.setattr(slurm_hosts, "BACK_OFF", (0.0, 0.0))
    monkeypatch.setattr(slurm_submission, "LOOKS", (0.0, 0.0))
    monkeypatch.setattr(psij_executors, "run", one)
    monkeypatch.delenv("SBATCH_CLUSTERS", raising=False)
    monkeypatch.delenv("SLURM_CLUSTERS", raising=False)
    return one


@pytest.fixture
def launcher(slurm: Played, monkeypatch: pytest.MonkeyPatch) -> Iterator[PsijLauncher]:
    """PSI/J's thread asks every second at the earliest: the tests make its rounds themselves."""
    monkeypatch.setattr(psij_executors, "POLL_SECONDS", 1000)
    yield PsijLauncher()


def polled(launcher: PsijLauncher, id: str, job: Job, rounds: int = 1) -> list[JobState]:
    """The job's state after each round of polls."""
    states = []
    for _ in range(rounds):
        executor: Any = launcher._executors["slurm"]
        executor._queue_poll_thread._poll()
        states.append(launcher.status({id: job.folder})[id][0])
    return states


@pytest.fixture
def make(make_job: Callable[..., Job]) -> Callable[..., Job]:
    def make(**fields: Any) -> Job:
        return make_job(PilotDescription(**{"resource": "psij://slurm", "cores_per_node": 1, **fields}), "true")

    return make


@pytest.mark.parametrize("scontrol", [True, False], ids=["scontrol knows it", "scontrol does not"])
@pytest.mark.parametrize("way", NOTHING_OF_IT)
def test_a_job_that_squeue_does_not_show_has_not_ended(
    way: str, scontrol: bool, slurm: Played, launcher: PsijLauncher, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psij_launcher, "SETTLE_SECONDS", 0.0)
    job = make()
    id = launcher.submit(job)
    assert polled(launcher, id, job) == [JobState.QUEUED]
    slurm.jobs["17"].state = "RUNNING"
    (job.folder / "started").write_text("1000000000 0\n")
    assert polled(launcher, id, job) == [JobState.RUNNING]
    slurm.squeue = NOTHING_OF_IT[way]
    if not scontrol:
        slurm.scontrol = lambda answer: (1, "", INVALID)
    states = polled(launcher, id, job, 5)
    assert not {*states} & {*OVER}, states
    slurm.squeue = slurm.scontrol = lambda answer: answer
    assert polled(launcher, id, job) == [JobState.RUNNING]
    slurm.jobs["17"].state = "CANCELLED"
    assert polled(launcher, id, job) == [JobState.CANCELLED]


@pytest.mark.parametrize("way", PRINTED)
def test_the_job_is_the_one_that_was_submitted(way: str, slurm: Played, launcher: PsijLauncher, make: Any) -> None:
    slurm.sbatch = PRINTED[way]
    job = make()
    id = launcher.submit(job)
    assert id.startswith("slurm:17#pilot-1.")
    PsijLauncher().cancel(id, job.environment[MARK])  # as after an attach
    assert [slurm.jobs[number].state for number in ("5", "17", "25")] == ["PENDING", "CANCELLED", "RUNNING"]


def test_a_foreign_job_with_our_number_is_left_alone(slurm: Played, launcher: PsijLauncher, make: Any) -> None:
    job = make()
    id = launcher.submit(job)
    slurm.jobs["17"] = PlayedJob("foreign", state="RUNNING")
    assert not {*polled(launcher, id, job, 3)} & {*OVER, JobState.RUNNING}
    launcher.cancel(id, job.environment[MARK])
    assert slurm.jobs["17"].state == "RUNNING"


def test_a_refusal_is_told_in_slurms_words(slurm: Played, launcher: PsijLauncher, make: Any) -> None:
    slurm.sbatch = lambda answer: (1, "", "sbatch: error: Batch job submission failed: Invalid account\n")
    slurm.jobs.clear()
    slurm.squeue = slurm.scontrol = NOTHING_OF_IT["empty"]
    with pytest.raises(JobRefused, match="Invalid account"):
        launcher.submit(make())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scheduler_script_commands": ("#SBATCH --clusters=c2",)}, "slurm://"),
        ({"scheduler_script_commands": ("#SBATCH -Mc2",)}, "slurm://"),
        ({"scheduler_script_commands": ("#SBATCH -J mine",)}, "give the pilot a name"),
        ({"custom_attributes": {"slurm.clusters": "c2"}}, "no slurm.clusters"),
        ({"custom_attributes": {"slurm.array": "0-3"}}, "no slurm.array"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], words: str, launcher: PsijLauncher, make: Any) -> None:
    with pytest.raises(DescriptionError, match=words):
        launcher.check(make(**fields).description)


@pytest.mark.parametrize("variable", ["SBATCH_CLUSTERS", "SLURM_CLUSTERS"])
def test_another_cluster_in_the_environment_is_refused(
    variable: str, launcher: PsijLauncher, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "c2")
    with pytest.raises(DescriptionError, match=f"slurm://.*{variable}"):
        launcher.check(make().description)


def test_the_name_that_was_asked_for_is_part_of_the_jobs(slurm: Played, launcher: PsijLauncher, make: Any) -> None:
    launcher.submit(make(custom_attributes={"slurm.job-name": "mine"}))
    assert slurm.jobs["17"].name.startswith("mine.")
