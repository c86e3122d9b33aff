"""The manager's loop on a clock and a launcher of the test's own, with a journal in memory: no pilot's process."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import zmq

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, PilotError
from pilot.interfaces import Job, JobState, Launcher
from pilot.manager.agents import SILENT_SECONDS
from pilot.manager.jobs import PlaceholderJobs
from pilot.manager.journal import PilotChangeRow, ResultRow
from pilot.manager.loop import ManagerLoop
from pilot.manager.requests import PilotRequests
from pilot.manager.state import SessionState
from pilot.manager.submitting import Submitter
from pilot.resources import PLAIN
from pilot.scheduling.controller import Controller
from pilot.scheduling.policies import Balanced
from pilot.states import PilotState
from pilot.testing import MemoryJournal
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.addresses import listen
from pilot.wire.channel import Client
from pilot.wire.keys import new_keys
from pilot.wire.session import Connection, SessionFolder

Eventually = Callable[..., Any]
WANTED = {"resource": "none://", "engine": "process", "cores_per_node": 1, "restarts": 0}


class NoJobs(Launcher):
    """Takes every job, and starts nothing."""

    def check(self, description: PilotDescription) -> None: ...

    def submit(self, job: Job) -> str:
        return f"job of {job.pilot}"

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        return dict.fromkeys(jobs, (JobState.RUNNING, "runs"))

    def cancel(self, native_id: str, mark: str) -> None: ...


class Session:
    """A manager's parts, and what plays the agent of its first pilot."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.journal = MemoryJournal()
        session = SessionFolder.create(folder)
        jobs = PlaceholderJobs(session, lambda: self.now)
        jobs._launchers["none"] = NoJobs()
        self.state = SessionState(session, self.journal, jobs)
        self.connection, server = listen(
            Connection((), platform.node(), *new_keys()), "127.0.0.1", None, session.socket_path
        )
        self.loop = ManagerLoop(self.state, Controller(Balanced(), 60.0), server, lambda: self.now)
        self.loop.start()
        self.requests = PilotRequests(self.state, server, self.connection)
        self.submitter = Submitter(self.state)
        self.context = zmq.Context[zmq.Socket[bytes]]()

    def join(self) -> Client:
        """The agent of the first pilot joins."""
        settings = json.loads((self.state.folder.pilot("pilot-1") / "agent.json").read_text())
        name = f"pilot-1/{settings['mark']}/0"
        client = Client(self.context, self.connection.keys, self.connection.addresses[0], name)
        client.send(messages.Hello("pilot-1", 1, "host", versions()))
        received = client.receive(timeout_ms=60_000)
        assert received is not None and isinstance(received[0], messages.Welcome)
        return client

    def close(self) -> None:
        self.state.is_closed = True
        self.loop.close(0.0)
        self.state.folder.lock.release()
        self.context.destroy(linger=0)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    one = Session(tmp_path / "session")
    yield one
    one.close()


def test_nodes_are_added_to_a_pilot_that_was_submitted_just_now(
    session: Session, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoJobs, "remote", True)
    pilot = session.requests.submit(WANTED)
    pilot.add_nodes(2)
    rows = session.journal.rows
    eventually(lambda: [row.native_id for row in rows(PilotChangeRow) if row.job] == ["job of pilot-1+1"])


def test_nodes_are_added_to_no_pilot_that_has_ended(session: Session) -> None:
    pilot = session.requests.submit(WANTED)
    pilot.cancel()
    with pytest.raises(PilotError, match="pilot pilot-1 is cancelled: no nodes join it any more; submit another pilot"):
        pilot.add_nodes(1)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_a_number_of_nodes_is_at_least_1(session: Session, count: Any) -> None:
    pilot = session.requests.submit(WANTED)
    with pytest.raises(DescriptionError, match=r"remove_nodes: count: .* expected a whole number of at least 1"):
        pilot.remove_nodes(count)
    if count is not True and not isinstance(count, str):
        with pytest.raises(DescriptionError, match=r"number_of_nodes: .* expected a whole number of at least 1"):
            pilot.add_nodes(count)


def test_an_agent_that_sends_nothing_is_given_up_by_the_clock(session: Session, eventually: Eventually) -> None:
    pilot = session.requests.submit(WANTED)
    eventually((session.state.folder.pilot("pilot-1") / "agent.json").exists)
    client = session.join()
    eventually(lambda: pilot.state is PilotState.STARTING)
    session.now += SILENT_SECONDS + 1
    eventually(lambda: pilot.state is PilotState.FAILED)
    assert pilot.reason == "its agent was silent for 30 s"

    def changes() -> list[tuple[str, str]]:  # that its job was submitted may be recorded after its end
        return [(row.state, row.reason) for row in session.journal.rows(PilotChangeRow)]

    eventually(lambda: ("failed", pilot.reason) in changes())
    client.close()


def test_a_task_waits_for_another_pilot_as_long_as_the_clock_says(session: Session, eventually: Eventually) -> None:
    pilot = session.requests.submit(WANTED)
    task = session.submitter.submit(abs, (-1,), {}, PLAIN)
    pilot.drain()
    session.state.mailbox.ask(lambda: None)  # both have been handled
    session.now += 30.0
    assert not task.done()
    session.now += 31.0
    assert "no other pilot came within 60 s" in str(task.exception(60))
    (row,) = session.journal.rows(ResultRow)
    assert (row.state, row.status) == ("failed", None)
