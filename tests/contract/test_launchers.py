"""What every launcher promises: submit, status, cancel."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Job, JobState, Launcher
from pilot.wire.processes import MARK, marked

Eventually = Callable[..., Any]


@pytest.fixture(params=["local"])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    return registry.load("pilot.launchers", request.param)()  # type: ignore[no-any-return]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    def make(*command: str, **environment: str) -> Job:
        return Job(
            pilot="pilot-1",
            command=command,
            environment={MARK: secrets.token_hex(16), **environment},
            description=PilotDescription(resource="local://"),
            folder=tmp_path,
            log_path=tmp_path / "agent.log",
        )

    return make


def state(launcher: Launcher, id: str) -> JobState:
    return launcher.status({id: Path()})[id][0]


def test_a_job_runs_and_ends(launcher: Launcher, job: Any, eventually: Eventually, tmp_path: Path) -> None:
    one = job(sys.executable, "-c", "import os; print(os.environ['WORD'], os.getcwd()); open('ran', 'w')", WORD="hello")
    id = launcher.submit(one)
    eventually(lambda: state(launcher, id) is JobState.ENDED)
    assert one.log_path.read_text() == f"hello {tmp_path}\n"
    assert (tmp_path / "ran").exists()
    assert launcher.status({id: Path()})[id][1] == "the agent ended with code 0"
    launcher.cancel(id, one.environment[MARK])


def test_cancel_takes_the_children_along(launcher: Launcher, job: Any, eventually: Eventually) -> None:
    one = job("sh", "-c", "sleep 60 & setsid sleep 60 & wait")
    id = launcher.submit(one)
    mark = one.environment[MARK]
    eventually(lambda: len(marked(mark)) == 3)
    assert state(launcher, id) is JobState.RUNNING
    launcher.cancel(id, mark)
    assert marked(mark) == []
    assert state(launcher, id) is JobState.ENDED
    launcher.cancel(id, mark)  # nothing happens the second time


def test_cancel_leaves_others_alone(launcher: Launcher, job: Any) -> None:
    one, other = job("sleep", "60"), job("sleep", "60")
    ids = [launcher.submit(one), launcher.submit(other)]
    launcher.cancel(ids[0], one.environment[MARK])
    assert [state for state, _ in launcher.status(dict.fromkeys(ids, Path())).values()] == [
        JobState.ENDED,
        JobState.RUNNING,
    ]
    launcher.cancel(ids[1], other.environment[MARK])
    assert [state for state, _ in launcher.status(dict.fromkeys(ids, Path())).values()] == [
        JobState.ENDED,
        JobState.ENDED,
    ]


def test_several_at_once(launcher: Launcher, job: Any) -> None:
    """One that cannot be submitted does not keep the others from it."""
    jobs = [job("sleep", "60"), job("no-such-agent"), job("sleep", "60")]
    one, wrong, other = launcher.submit_many(jobs)
    assert isinstance(wrong, Exception)
    assert isinstance(one, str) and isinstance(other, str)
    launcher.cancel_many({one: jobs[0].environment[MARK], other: jobs[2].environment[MARK]})
    assert {state for state, _ in launcher.status(dict.fromkeys((one, other), Path())).values()} == {JobState.ENDED}
    assert not any(marked(job.environment[MARK]) for job in jobs)


def test_status_in_another_process(launcher: Launcher, job: Any) -> None:
    """As after an attach: the id alone says which job it is."""
    one = job("sleep", "60")
    id = launcher.submit(one)
    another = type(launcher)()
    assert state(another, id) is JobState.RUNNING
    another.cancel(id, one.environment[MARK])
    assert state(another, id) is JobState.ENDED
    launcher.cancel(id, one.environment[MARK])


def test_a_job_that_died(launcher: Launcher, job: Any, eventually: Eventually) -> None:
    one = job("sh", "-c", "kill -9 $$")
    id = launcher.submit(one)
    eventually(lambda: state(launcher, id) is JobState.ENDED)
    assert "killed by signal 9" in launcher.status({id: Path()})[id][1]
    launcher.cancel(id, one.environment[MARK])


def test_a_job_that_is_not_known(launcher: Launcher) -> None:
    id = f"{os.getpid()}:1.00"  # this pid, and not this process
    assert state(launcher, id) is JobState.ENDED


@pytest.mark.parametrize("fields", [{"number_of_nodes": 2}, {"resource": "local://elsewhere"}], ids=["nodes", "host"])
def test_what_it_cannot_start(launcher: Launcher, fields: dict[str, Any]) -> None:
    with pytest.raises(DescriptionError, match=next(iter(fields))):
        launcher.check(PilotDescription(**fields))
    launcher.check(PilotDescription(resource="local://"))


def test_a_command_that_is_not_there(launcher: Launcher, job: Any) -> None:
    with pytest.raises(OSError, match="no-such-agent"):
        launcher.submit(job("no-such-agent"))
