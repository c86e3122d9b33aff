"""Every message comes out as it went in."""

from __future__ import annotations

import typing

import msgspec
import pytest

from pilot.interfaces import WorkerSpec
from pilot.resources import QPUInfo, Resources
from pilot.results import CANCELLED, OK, RAISED, Outcome, Spooled
from pilot.wire import messages
from pilot.wire.messages import Message

MESSAGES: list[Message] = [
    messages.Envelope(2**62, 4, 1, 3),
    messages.Resend(2**62, 3, 1),
    messages.Hello("pilot-1.1", 4711, "host", ("3.12", "0.1")),
    messages.Welcome(2**62),
    messages.Refused("not expected"),
    messages.AgentReady(
        [messages.Node("c1", "vm", 2, ["GPU-1"], 2**40)], {7: [1, 2], 8: []}, {"address": "tcp://127.0.0.1:1"}
    ),
    messages.DeviceReport(
        QPUInfo(name="fake:kolkata", qubits=27, coupling=((0, 1),), calibrated=1.5, problem="it is busy")
    ),
    messages.RunBatch(3, Resources(0.5, 1.0, 2**33), [1, 2], ["a", "b"], ["b"], 0.25, False, 1.5),
    messages.OutcomesReport(3, "pilot-1.1", 2),
    messages.UnfinishedTasks(3, "pilot-1.1", [1, 2], "was killed by signal 9", True),
    messages.WorkerLeaving(),
    messages.TaskStarted(3, "pilot-1.1", 2, 1.5),
    messages.TaskOutput(
        "pilot-1.1", 2, "out", "", [messages.LogRecord("mine", 30, "a warning", 1.5, "/f.py", 7, "work")]
    ),
    messages.TaskCall("pilot-1.1", 2, 5),
    messages.TaskReply("pilot-1.1", 2, 5),
    messages.TaskWaits(3, "pilot-1.1", 2, 1, [7, 8], "node-0"),
    messages.TaskResumes(3, "pilot-1.1", 2, True),
    messages.Resume(),
    messages.CancelTasks([1, 2, 2**40]),
    messages.Ack(1, 10),
    messages.Heartbeat(),
    messages.Heartbeat(2**62, 9, 1, 8),
    messages.Drain(),
    messages.Stop(),
    messages.Broken("the engine failed"),
    messages.JobExpiring("Slurm sent SIGUSR1"),
    messages.JoinNode(messages.Node("c2", "vm", 4, [], 2**33), "tcp://10.0.0.1:4711"),
    messages.EnterCluster({"address": "tcp://127.0.0.1:1"}),
    messages.NodeReady(),
    messages.StartWorker(
        WorkerSpec(
            name="pilot-1.2",
            node="c2",
            resources=Resources(),
            address="tcp://10.0.0.1:4711",
            keys=(b"public", b"secret"),
            folder="/f",
            spool="/s",
            sys_path=("/p",),
            working_directory="/w",
            environment={"A": "1"},
        )
    ),
    messages.ReleaseNodes(2),
    messages.KillWorker("pilot-1.2"),
    messages.WorkerGone("pilot-1.2", "was killed by signal 9"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_round_trip(message: Message) -> None:
    back = messages.decode(messages.encode(message))
    assert type(back) is type(message)
    assert back == message


def test_every_message_is_tested() -> None:
    assert {type(message) for message in MESSAGES} == set(typing.get_args(messages.AnyMessage))


def test_batch_round_trip() -> None:
    works = [messages.Work(1, 0, None), messages.Work(2, 1, b"pickle", 0.5), messages.Work(3, 0, Spooled("/f", 2**33))]
    batch = messages.BatchBody(works, {5: b"value", 6: None, 7: Spooled("/g", 1)})
    assert messages.decode_batch(messages.encode(batch)) == batch


def test_outcomes_round_trip() -> None:
    outcomes = [
        Outcome(1, OK, 1.5, 0.25, b"value", "said", None),
        Outcome(2, RAISED, 1.5, 0.25, b"failure", None, "complained"),
        Outcome(3, CANCELLED, 0.0, 0.0),
        Outcome(4, OK, 1.5, 0.25, Spooled("/f", 2**33)),
    ]
    assert messages.decode_outcomes(messages.encode(outcomes)) == outcomes


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x92\xa4Nope\x01", b"\x92\xa3Ack\xa1x"], ids=range(4))
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        messages.decode(data)
