"""The last events of a session as they are kept and written: a controller takes the same way with them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot.cli import main as cli
from pilot.descriptions import PilotDescription, TaskDescription
from pilot.manager import faults
from pilot.manager.faults import EventRing, read
from pilot.resources import PLAIN, Node
from pilot.results import OK, Outcome
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.policies import Balanced
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.testing import replay


class Session:
    """A controller, and the ring of what it is told."""

    def __init__(self) -> None:
        self.controller = Controller(Balanced())
        self.ring = EventRing()
        self.functions = [FunctionRecord(1, "digest", "work")]
        self.commands: list[str] = []

    def feed(self, event: events.Event, now: float) -> None:
        self.ring.add(event, now)
        self.commands += named(self.controller.step(event, now))


def named(commands: list[events.Command]) -> list[str]:
    """What is to be done, without the records, which have changed since."""
    return [f"{type(one).__name__} {getattr(one, 'pilot', '')} {getattr(one, 'batch', '')}" for one in commands]


def fill(session: Session) -> None:
    wanted = PilotDescription(cores_per_node=2, walltime=300)
    session.feed(events.PilotAsked("pilot-1", wanted, 1 << 30), 0.0)
    session.feed(events.AgentJoined("pilot-1"), 1.0)
    session.feed(events.PilotReady("pilot-1", [Node("node-0", "host", 2, [], 1 << 30)], {}, 300.0), 1.5)
    (function,) = session.functions
    pair = TaskDescription(function=len, num_cpus=2).terms()
    tasks = [TaskRecord(id, function, b"payload", PLAIN, None, 0.0) for id in (1, 2)]
    tasks.append(TaskRecord(3, function, b"payload", pair, "both", 0.0, {1: True, 2: False}))
    tasks[2].blockers = {1, 2}
    session.feed(events.TasksSubmitted(tasks), 2.0)
    for batch, task in ((1, 1), (2, 2), (3, 3)):
        event = events.OutcomesArrived("pilot-1", batch, "w", [Outcome(task, OK, 5.0, 0.5, b"secret" * 1000)])
        session.feed(event, 3.0 + task)


def test_events_that_were_written_do_the_same_again(tmp_path: Path) -> None:
    session, path = Session(), tmp_path / "events.msgpack"
    fill(session)
    session.ring.write(path, session.functions)
    assert path.stat().st_mode & 0o077 == 0
    assert b"secret" not in path.read_bytes() and b"payload" not in path.read_bytes()
    again = replay(path)
    assert [step.error for step in again.steps] == [None] * 7
    assert named([command for step in again.steps for command in step.commands]) == session.commands
    assert again.controller.queue.tasks == {}


@pytest.mark.parametrize("limit", ["KEPT", "MOST_BYTES"])
def test_only_the_last_events_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(faults, limit, {"KEPT": 10, "MOST_BYTES": 250}[limit])
    ring, path = EventRing(), tmp_path / "events.msgpack"
    for number in range(100):
        ring.add(events.CancelAsked([number]), float(number))
    ring.write(path, [])
    kept = read(path)
    assert 5 <= len(kept) <= 15
    assert kept[-1] == (99.0, events.CancelAsked([99]))


def test_a_command_that_failed_is_kept_by_its_name(tmp_path: Path) -> None:
    ring, path = EventRing(), tmp_path / "events.msgpack"
    ring.add(events.CommandFailed(events.StartPilot("pilot-1"), "MemoryError: no room"), 1.0)
    ring.write(path, [])
    assert b"StartPilot" in path.read_bytes() and b"MemoryError: no room" in path.read_bytes()
    assert read(path) == []


def test_events_whose_pilot_is_not_known_are_errors_of_their_steps(tmp_path: Path) -> None:
    ring, path = EventRing(), tmp_path / "events.msgpack"
    ring.add(events.AgentJoined("pilot-1"), 1.0)
    ring.add(events.CancelAsked([1]), 2.0)
    ring.write(path, [])
    lost, known = replay(path).steps
    assert isinstance(lost.error, KeyError)
    assert known.error is None


def test_the_doctor_shows_the_errors_of_a_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--session", str(tmp_path)]) == 1
    assert "holds no session" in capsys.readouterr().err
    (tmp_path / "connection.json").touch()
    assert cli.main(["doctor", "--session", str(tmp_path)]) == 0
    assert "its manager had no error of its own" in capsys.readouterr().out
    EventRing().write(tmp_path / "events-1.msgpack", [], "Traceback (most recent call last):\n ...\nKeyError: 'p'\n")
    (tmp_path / "events-2.msgpack").write_text("something else")
    assert cli.main(["doctor", "--session", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "KeyError: 'p'" in shown
    assert f"pilot.testing.replay('{tmp_path}/events-1.msgpack')" in shown
    assert "events-2.msgpack cannot be read" in shown
    assert cli.main(["doctor", "--session", str(tmp_path / "none")]) == 1
    assert "holds no session" in capsys.readouterr().err
