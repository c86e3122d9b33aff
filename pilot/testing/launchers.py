"""The contract suite of launchers."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.interfaces import Job, JobState, Launcher
from pilot.testing.polling import eventually
from pilot.wire.marks import MARK
from pilot.wire.processes import marked

OVER = (JobState.ENDED, JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED)

MakeJob = Callable[..., Job]
Submit = Callable[[Job], str]


class LauncherContract:
    """What every launcher promises, as tests. A plugin's author subclasses it and names the launcher::

        class TestMyLauncher(LauncherContract):
            resource = "mine://"

    Its jobs must run on this host, where the suite looks for their processes.
    """

    #: Of pilots; what stands before ``://`` is the launcher's name in the group ``pilot.launchers``.
    resource: str
    #: Seconds that a job may take to start, to end, and to be seen.
    timeout = 60.0

    @pytest.fixture
    def launcher(self) -> Launcher:
        """A new launcher."""
        made: Launcher = registry.load("pilot.launchers", self.resource.partition("://")[0])()
        return made

    @pytest.fixture
    def description(self) -> PilotDescription:
        """A pilot of one node that the launcher can start now."""
        return PilotDescription(resource=self.resource, cores_per_node=1)

    @pytest.fixture
    def job(self, description: PilotDescription, tmp_path: Path) -> MakeJob:
        """``job(*command, **environment)``: a job with a folder and a mark of its own."""
        made: list[Path] = []

        def make(*command: str, **environment: str) -> Job:
            pilot = f"pilot-{len(made) + 1}"
            folder = tmp_path / pilot
            folder.mkdir()
            made.append(folder)
            return Job(
                pilot=pilot,
                command=command,
                environment={MARK: secrets.token_hex(16), **environment},
                description=description,
                folder=folder,
                log_path=folder / "agent.log",
            )

        return make

    @pytest.fixture
    def submit(self, launcher: Launcher) -> Iterator[Submit]:
        """`Launcher.submit`; the job is cancelled at the end of the test, and none of its processes is left then."""
        submitted: list[tuple[str, Job]] = []

        def call(job: Job) -> str:
            id = launcher.submit(job)
            submitted.append((id, job))
            return id

        yield call
        launcher.cancel_many({id: job.environment[MARK] for id, job in submitted})
        assert not [process for _, job in submitted for process in marked(job.environment[MARK])]

    def wait(self, launcher: Launcher, id: str, job: Job, *states: JobState) -> str:
        """Wait for one of these states; the resource manager's words then."""
        seen = JobState.UNKNOWN, ""

        def reached() -> bool:
            nonlocal seen
            seen = launcher.status({id: job.folder})[id]
            return seen[0] in states

        eventually(reached, self.timeout, complaint=lambda: f"{id} is {seen}: {_log(job)}")
        return seen[1]

    def test_it_takes_the_description(self, launcher: Launcher, description: PilotDescription) -> None:
        launcher.check_fields(description)
        launcher.check(description)
        assert launcher.preflight(description) == []

    def test_a_job_runs_and_ends(self, launcher: Launcher, job: MakeJob, submit: Submit) -> None:
        """In its folder, with its environment, with its output in its log."""
        word = 'it\'s "so" $HOME'
        one = job(sys.executable, "-c", "import os; print(os.environ['WORD'], os.getcwd())", WORD=word)
        id = submit(one)
        words = self.wait(launcher, id, one, JobState.ENDED)
        assert words.endswith("ended with code 0")
        eventually(lambda: _log(one) == f"{word} {one.folder}\n", self.timeout)

    def test_a_job_that_fails(self, launcher: Launcher, job: MakeJob, submit: Submit) -> None:
        one = job("sh", "-c", "exit 3")
        id = submit(one)
        assert self.wait(launcher, id, one, JobState.ENDED).endswith("ended with code 3")

    def test_a_job_that_is_killed(self, launcher: Launcher, job: MakeJob, submit: Submit) -> None:
        one = job("sh", "-c", "kill -9 $$")
        id = submit(one)
        assert self.wait(launcher, id, one, JobState.ENDED).endswith(("killed by signal 9", "code 137"))

    def test_cancel_takes_the_children_along(self, launcher: Launcher, job: MakeJob, submit: Submit) -> None:
        one = job("sh", "-c", "sleep 60 & setsid sleep 60 & PILOT_AGENT=$PILOT_AGENT.w setsid sleep 60 & wait")
        id, mark = submit(one), one.environment[MARK]
        eventually(lambda: len(marked(mark)) >= 4, self.timeout)
        self.wait(launcher, id, one, JobState.RUNNING)
        launcher.cancel(id, mark)
        assert marked(mark) == []
        self.wait(launcher, id, one, *OVER)
        launcher.cancel(id, mark)  # nothing happens the second time

    def test_cancel_leaves_others_alone(self, launcher: Launcher, job: MakeJob, submit: Submit) -> None:
        one, other = job("sleep", "60"), job("sleep", "60")
        ids = [submit(one), submit(other)]
        for id, each in zip(ids, (one, other), strict=True):
            self.wait(launcher, id, each, JobState.RUNNING)
        launcher.cancel(ids[0], one.environment[MARK])
        self.wait(launcher, ids[0], one, *OVER)
        eventually(lambda: marked(other.environment[MARK]), self.timeout)
        assert launcher.status({ids[1]: other.folder})[ids[1]][0] is JobState.RUNNING

    def test_several_at_once(self, launcher: Launcher, job: MakeJob) -> None:
        jobs = [job("sleep", "60") for _ in range(3)]
        ids = launcher.submit_many(jobs)
        assert not [id for id in ids if isinstance(id, Exception)]
        known = {id: one for id, one in zip(ids, jobs, strict=True) if isinstance(id, str)}
        for id, one in known.items():
            self.wait(launcher, id, one, JobState.RUNNING)
        launcher.cancel_many({id: one.environment[MARK] for id, one in known.items()})
        for id, one in known.items():
            self.wait(launcher, id, one, *OVER)
            assert not marked(one.environment[MARK])

    def test_the_id_is_enough(self, launcher: Launcher, job: MakeJob, submit: Submit) -> None:
        """As after an attach: another launcher, which did not submit the job, sees and cancels it."""
        one = job("sleep", "60")
        id = submit(one)
        another = type(launcher)()
        another.check(one.description)
        self.wait(another, id, one, JobState.RUNNING)
        another.cancel(id, one.environment[MARK])
        self.wait(another, id, one, *OVER)
        assert not marked(one.environment[MARK])


def _log(job: Job) -> str:
    return job.log_path.read_text() if job.log_path.exists() else "no log"
