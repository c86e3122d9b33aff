"""What becomes of placeholder jobs when launchers report their states. No process: a launcher that reports what the
test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job, JobState
from pilot.manager import jobs as module
from pilot.manager.jobs import PlaceholderJobs
from pilot.testing import MemoryLauncher
from pilot.wire.session import SessionFolder

Eventually = Callable[..., Any]


class Observer:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[tuple[str, str, JobState]] = []
        self.seen: list[str] = []
        #: Pilots whose agent is connected.
        self.agents: set[str] = set()

    def job_started(self, pilot: str, native_id: str) -> None:
        self.started.append(pilot)

    def job_seen(self, pilot: str, text: str) -> None:
        self.seen.append(text)

    def job_ended(self, pilot: str, mark: str, reason: str, how: JobState = JobState.ENDED) -> None:
        self.ended.append((pilot, reason, how))

    def is_heard(self, pilot: str) -> bool:
        return pilot in self.agents


@pytest.fixture
def launcher() -> MemoryLauncher:
    return MemoryLauncher()


@pytest.fixture
def heard() -> Observer:
    return Observer()


@pytest.fixture
def clock() -> list[Callable[[], float]]:
    """The clock that is looked at."""
    return [time.monotonic]


@pytest.fixture
def jobs(
    launcher: MemoryLauncher, heard: Observer, clock: list[Callable[[], float]], tmp_path: Path
) -> Iterator[PlaceholderJobs]:
    one = PlaceholderJobs(SessionFolder(tmp_path), lambda: clock[0]())
    one.begin(heard)
    one._launchers["told"] = launcher
    yield one
    one.close(0.0)


@pytest.fixture
def start(jobs: PlaceholderJobs, tmp_path: Path) -> Callable[..., None]:
    def start(*pilots: str) -> None:
        for pilot in pilots:
            wanted = PilotDescription(resource="told://")
            job = Job(
                pilot=pilot, command=(), environment={}, description=wanted, folder=tmp_path, log_path=tmp_path / "log"
            )
            jobs.submit(job, f"mark of {pilot}")

    return start


def test_jobs_asked_for_together_are_submitted_together(
    start: Any, launcher: MemoryLauncher, heard: Observer, eventually: Eventually
) -> None:
    launcher.refused = {"b"}
    start("a", "b", "c")
    eventually(lambda: len(heard.started) == 2 and heard.ended)
    assert launcher.submitted == [["a", "b", "c"]]
    assert heard.ended == [("b", "its job cannot be started: OSError: refused", JobState.ENDED)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "returned 0 ids for 2 jobs"),
        (["job of a"], "returned 1 ids for 2 jobs"),
        (None, "TypeError: object of type 'NoneType' has no len()"),
        ([None, 5], "which is no id of a job"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_launcher_that_returns_no_ids_fails_its_pilots(
    start: Any, launcher: Any, heard: Observer, eventually: Eventually, answer: Any, words: str
) -> None:
    def submit_many(jobs: object) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    launcher.submit_many = submit_many
    start("a", "b")
    eventually(lambda: len(heard.ended) == 2)
    assert not heard.started
    assert all(words in reason for _, reason, _ in heard.ended)


@pytest.mark.parametrize("report", [None, "x", (JobState.RUNNING,), ("running!", "x"), SystemExit(3)], ids=repr)
def test_a_launcher_whose_answers_make_no_sense_ends_no_pilot(
    start: Any, jobs: PlaceholderJobs, launcher: Any, heard: Observer, eventually: Eventually, report: Any
) -> None:
    launcher.report = report
    start("a")
    eventually(lambda: (jobs.look(), launcher.asked > 3)[1])
    assert heard.ended == []
    launcher.trouble = SystemExit(3)
    jobs.close(0.1)
    assert launcher.cancelled == ["job of a"]


@pytest.mark.parametrize(
    "trouble", [(JobState.UNKNOWN, "no controller"), OSError("no controller")], ids=["said", "raised"]
)
def test_what_is_not_known_ends_no_pilot(
    trouble: Any, start: Any, jobs: PlaceholderJobs, launcher: MemoryLauncher, heard: Observer, eventually: Eventually
) -> None:
    launcher.report = trouble
    start("a")
    eventually(lambda: (jobs.look(), launcher.asked > 10)[1])
    assert heard.ended == [] and launcher.cancelled == []
    assert heard.seen == ["no controller"]


@pytest.mark.parametrize("pilot", ["a", "a+1"], ids=["its job", "a job of nodes that were added"])
def test_a_missing_job_does_not_end_a_pilot_that_is_heard(
    pilot: str,
    start: Any,
    jobs: PlaceholderJobs,
    launcher: MemoryLauncher,
    heard: Observer,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pilot.manager.jobs.MISSING_SECONDS", 0.0)
    launcher.report = (JobState.MISSING, "not known any more")
    heard.agents = {"a"}
    start(pilot)
    eventually(lambda: (jobs.look(), launcher.asked > 10)[1])
    assert heard.ended == [] and launcher.cancelled == []
    heard.agents = set()
    eventually(lambda: (jobs.look(), heard.ended)[1])
    assert heard.ended == [(pilot, "not known any more", JobState.ENDED)]


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.UNKNOWN])
def test_a_job_is_missing_anew_after_it_was_seen(
    state: JobState,
    start: Any,
    jobs: PlaceholderJobs,
    launcher: MemoryLauncher,
    heard: Observer,
    eventually: Eventually,
    clock: list[Callable[[], float]],
) -> None:

    now = [0.0]
    clock[0] = lambda: now[0]

    def looked(says: JobState) -> None:
        launcher.report, asked = (says, says.value), launcher.asked
        now[0] += 40.0
        eventually(lambda: (jobs.look(), launcher.asked > asked and not jobs._looking.is_set())[1])

    start("a")
    eventually(lambda: heard.started)
    for says in (JobState.MISSING, JobState.MISSING, state, JobState.MISSING, JobState.MISSING):
        assert heard.ended == []
        looked(says)
    looked(JobState.MISSING)
    eventually(lambda: heard.ended)


@pytest.mark.parametrize("how", [JobState.ENDED, JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED])
def test_how_a_job_ended_is_handed_on_once(
    how: JobState, start: Any, jobs: PlaceholderJobs, launcher: MemoryLauncher, heard: Observer, eventually: Eventually
) -> None:
    launcher.report = (how, "words")
    start("a")
    eventually(lambda: (jobs.look(), heard.ended)[1])
    jobs.look()
    jobs.close(1.0)
    assert heard.ended == [("a", "words", how)]
    assert launcher.cancelled == ["job of a"]


def test_an_end_is_handed_on_even_if_the_rest_cannot_be_cancelled(
    start: Any, jobs: PlaceholderJobs, launcher: MemoryLauncher, heard: Observer, eventually: Eventually
) -> None:
    launcher.report, launcher.trouble = (JobState.TAKEN, "preempted"), OSError("scancel failed")
    start("a")
    eventually(lambda: (jobs.look(), heard.ended)[1])
    assert heard.ended == [("a", "preempted", JobState.TAKEN)]


def test_words_are_told_when_they_change(
    start: Any, jobs: PlaceholderJobs, launcher: MemoryLauncher, heard: Observer, eventually: Eventually
) -> None:
    start("a")
    eventually(lambda: (jobs.look(), launcher.asked > 3)[1])
    launcher.report = (JobState.RUNNING, "on c1")
    eventually(lambda: (jobs.look(), len(heard.seen) > 1)[1])
    assert heard.seen == ["pending", "on c1"]


def test_a_job_that_cannot_be_looked_for_may_run(
    jobs: PlaceholderJobs, launcher: MemoryLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = PilotDescription(resource="told://")
    assert not jobs.may_run("a", wanted, "mark", None)  # there is none

    def fail(*_: Any) -> None:
        raise OSError("squeue cannot be reached")

    monkeypatch.setattr(launcher, "find", fail)
    assert jobs.may_run("a", wanted, "mark", None)


def test_a_queued_job_that_is_stopped_is_cancelled_at_once(
    start: Any, jobs: PlaceholderJobs, heard: Observer, eventually: Eventually
) -> None:
    """It has no agent yet that could end by itself."""
    start("a")
    eventually(lambda: heard.started)
    jobs.stop("a", 8.0)
    eventually(lambda: (jobs.look(), heard.ended)[1], timeout=60)


def test_a_job_without_an_agent_is_ended_at_once(
    start: Any, jobs: PlaceholderJobs, launcher: MemoryLauncher, heard: Observer, eventually: Eventually
) -> None:
    launcher.report = (JobState.RUNNING, "on c1")
    start("a", "b")
    eventually(lambda: len(heard.started) == 2)
    jobs.stop("a", 0.0)
    jobs.stop("b", 1e9)
    eventually(lambda: (jobs.look(), heard.ended)[1], timeout=60)
    assert launcher.cancelled == ["job of a"]


def test_the_end_does_not_wait_for_a_launcher_that_hangs(
    start: Any,
    jobs: PlaceholderJobs,
    launcher: MemoryLauncher,
    tmp_path: Path,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it submits later is cancelled, or finds no settings when this process is gone by then."""
    submits, may_go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(launcher, "submit", lambda job: (submits.set(), may_go_on.wait(60), "late job")[2])
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 0.01)
    settings = SessionFolder(tmp_path).pilot("a") / "agent.json"
    settings.touch()
    start("a")
    assert submits.wait(60)
    jobs.close(10.0)
    assert not settings.exists()
    assert "a: not submitted within 0.01 s; what starts later ends at once" in caplog.text
    assert launcher.cancelled == []
    may_go_on.set()
    eventually(lambda: launcher.cancelled == ["late job"])


@pytest.mark.parametrize("what", ["status", "cancel_many"])
def test_the_end_does_not_wait_for_ever_when_a_launcher_hangs_in_it(
    start: Any,
    jobs: PlaceholderJobs,
    launcher: MemoryLauncher,
    heard: Observer,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    hangs, may_go_on = threading.Event(), threading.Event()
    start("a")
    eventually(lambda: heard.started)
    monkeypatch.setattr(module, "END_SECONDS", 0.01)
    monkeypatch.setattr(launcher, what, lambda jobs: (hangs.set(), may_go_on.wait(60), {})[2])
    closing = threading.Thread(target=jobs.close, args=(1.0 if what == "status" else 0.0,), daemon=True)
    closing.start()
    assert hangs.wait(60)
    closing.join(10)
    assert not closing.is_alive()
    assert "jobs may be left over, their launcher does not answer: a" in caplog.text
    may_go_on.set()


def test_the_end_waits_while_another_job_is_ended(
    start: Any, jobs: PlaceholderJobs, launcher: MemoryLauncher, heard: Observer, monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:  # fmt: skip
    """Else the jobs that are left would stay in the queue when this process ends."""
    ends, may_go_on, cancel = threading.Event(), threading.Event(), launcher.cancel
    monkeypatch.setattr(launcher, "cancel", lambda *some: (ends.set(), may_go_on.wait(60), cancel(*some)))
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 0.01)
    start("a", "b")
    eventually(lambda: len(heard.started) == 2)
    jobs.abandon("a")
    assert ends.wait(60)
    closing = threading.Thread(target=jobs.close, args=(0.0,))
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    may_go_on.set()
    closing.join(60)
    assert sorted(launcher.cancelled) == ["job of a", "job of b"]


def test_a_job_that_is_stopped_before_it_was_submitted(
    start: Any, jobs: PlaceholderJobs, launcher: MemoryLauncher, heard: Observer, eventually: Eventually
) -> None:
    start("a")
    jobs.stop("a", 8.0)
    eventually(lambda: (jobs.look(), heard.ended)[1], timeout=60)
    assert launcher.submitted == [] or launcher.cancelled == ["job of a"]
