"""The messages between manager, agent and worker. Each is the first frame of a transmission; work and outcomes follow
as frames of their own, which the agent passes on without decoding them.

Between manager and agent most travel inside an `Envelope`, so that none is lost with a connection (see ``link.py``).
The exceptions are those that open a conversation, those that are repeated anyway, and those whose loss does no harm
(`TaskStarted`, `TaskOutput`; a lost `Stop` or `Broken` shows in the end of the job).
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pilot.interfaces import WorkerSpec
from pilot.resources import Node, QPUInfo, Resources
from pilot.results import Outcome, Value

log = logging.getLogger(__name__)

Frame = bytes | memoryview
Frames = Sequence[Frame]


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages."""


class Work(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One task of a batch: ``function`` is an index into the digests of its `RunBatch`."""

    task: int
    function: int
    payload: Value
    timeout: float | None = None
    #: What its arguments refer to, when not the values of its `BatchBody`.
    values: dict[int, Value] | None = None


class BatchBody(msgspec.Struct, frozen=True, array_like=True):
    """The frame behind a `RunBatch`: the work, and the results (by task id) that its arguments refer to."""

    works: list[Work]
    values: dict[int, Value]


# ---- manager ↔ agent ------------------------------------------------------------------------------------------


class Envelope(Message, frozen=True, array_like=True):
    """Both ways: the next frame is a message, the ones behind it are its own.

    ``stream`` is the `Welcome`'s ``sender``, and numbers begin at 1 with each; ``round`` counts how often the sender
    has sent again; the receiver of this may forget what it sent up to number ``done``.
    """

    stream: int
    seq: int
    round: int
    done: int


class Resend(Message, frozen=True, array_like=True):
    """Both ways: everything after this number was lost, send it again. ``round``: the last one that was seen."""

    stream: int
    after: int
    round: int


class Hello(Message, frozen=True, array_like=True):
    """Agent, node or worker to its server: the first message on a connection."""

    name: str
    pid: int
    host: str
    #: Versions of Python (major.minor) and of this library: both ends must have the same.
    versions: tuple[str, str]


class Welcome(Message, frozen=True, array_like=True):
    """Manager to an agent that it knows, and from there to the workers; ``sender`` is another number for each manager
    that opens the session."""

    sender: int


class Refused(Message, frozen=True, array_like=True):
    """Manager to an agent, or agent to a node, that is not accepted: the receiver ends."""

    reason: str


class AgentReady(Message, frozen=True, array_like=True):
    """Agent to manager: the engine is up on the first node, nodes or devices have changed, or a manager is back."""

    nodes: list[Node]
    #: The work that the agent still has: open tasks by batch.
    batches: dict[int, list[int]]
    #: What the engine's native client needs to connect.
    client: dict[str, str]
    #: Seconds until its walltime is over; None: no end is known.
    seconds_left: float | None = None
    #: Its devices, as far as they have reported.
    qpus: list[QPUInfo] = []


class DeviceReport(Message, frozen=True, array_like=True):
    """Worker to agent: the state and the properties of its QPU."""

    info: QPUInfo


class JobExpiring(Message, frozen=True, array_like=True):
    """Agent to manager: the resource manager has announced that the job ends soon."""

    reason: str


class RunBatch(Message, frozen=True, array_like=True):
    """Manager to agent to worker: run the `BatchBody` in the next frame. Functions follow as frames, one per ``sent``
    digest."""

    batch: int
    resources: Resources
    tasks: list[int]
    functions: list[str]
    sent: list[str]
    #: Seconds after which the worker gives back what it has not begun.
    give_back_seconds: float
    #: Its worker must have nothing else: this batch may kill it.
    alone: bool
    #: The longest timeout of its tasks; 0 when they have none.
    limit: float
    #: From agent to worker, for an MPI task: ranks by host, in order.
    hosts: dict[str, int] = {}
    #: From agent to worker, for an MPI task: names of GPUs by host, in the order of its ranks, each rank as many.
    gpus: dict[str, list[str]] = {}
    #: All functions of this batch are sent: those before it may be forgotten.
    renewed: bool = False


class OutcomesReport(Message, frozen=True, array_like=True):
    """Worker to agent to manager: ``count`` outcomes of a batch (next frame: a list of `Outcome`)."""

    batch: int
    worker: str
    count: int
    #: What the agent adds: the node that they ran on, and the GPUs and the QPU that the worker, or its ranks, had.
    node: str = ""
    gpus: list[str] = []
    qpu: str = ""


class UnfinishedTasks(Message, frozen=True, array_like=True):
    """Worker to agent to manager: these tasks of a batch ended without an outcome, or were given back.

    ``blame``: one of them may have killed its worker. ``begun``: an attempt was lost; otherwise they were never begun.
    """

    batch: int
    worker: str
    tasks: list[int]
    reason: str
    blame: bool
    begun: bool = False


class TaskStarted(Message, frozen=True, array_like=True):
    """Worker to agent to manager: this task has begun. Sent only for tasks that take longer than a moment."""

    batch: int
    worker: str
    task: int
    #: Wall clock of the worker's host, seconds since the epoch.
    began: float


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """What a task has logged, as `logging.LogRecord`; the traceback is part of the text."""

    name: str
    level: int
    text: str
    #: Seconds since the epoch, by the clock of the worker's host.
    created: float
    path: str = ""
    line: int = 0
    function: str | None = None


class TaskOutput(Message, frozen=True, array_like=True):
    """Worker to agent to manager: what a task has written and logged since the last such message."""

    worker: str
    task: int
    stdout: str
    stderr: str
    records: list[LogRecord]


class TaskCall(Message, frozen=True, array_like=True):
    """Worker to agent to manager: what a running task asks (next frame: a `children.Call`). ``number`` counts the calls
    of the worker."""

    worker: str
    task: int
    number: int


class TaskReply(Message, frozen=True, array_like=True):
    """Manager to agent to worker: the answer to this call, or about this wait (next frame: a `children.Reply`)."""

    worker: str
    task: int
    number: int


class TaskWaits(Message, frozen=True, array_like=True):
    """Worker to agent to manager: the running task of a batch waits for these tasks, and gives its cores back until
    then."""

    batch: int
    worker: str
    task: int
    #: Of the wait, in the worker.
    number: int
    tasks: list[int]
    #: What the agent adds: the node that it runs on.
    node: str = ""


class TaskResumes(Message, frozen=True, array_like=True):
    """Worker to agent to manager: the task wants to go on; the agent answers with `Resume`. ``at_once``: also when
    others use its cores, since what it waited for has not come."""

    batch: int
    worker: str
    task: int
    at_once: bool


class Resume(Message, frozen=True, array_like=True):
    """Agent to worker: its cores are its own again."""


class WorkerLeaving(Message, frozen=True, array_like=True):
    """Worker to agent: it ends as soon as its last messages are sent; it must get no more work."""


class CancelTasks(Message, frozen=True, array_like=True):
    """Stop these tasks, those that run only if ``running``; each ends with an outcome, CANCELLED unless it was finished
    before."""

    tasks: list[int]
    running: bool = True


class Ack(Message, frozen=True, array_like=True):
    """Manager to agent: everything up to number ``seq`` is in the journal."""

    sender: int
    seq: int


class Heartbeat(Message, frozen=True, array_like=True):
    """Both ways: the sender is alive. ``sender`` as in `Welcome`; from agents, that of the manager that they know.

    ``sent`` is the number of the last `Envelope`; ``round`` and ``done`` are as there.
    """

    sender: int = 0
    sent: int = 0
    round: int = 0
    done: int = 0


class Drain(Message, frozen=True, array_like=True):
    """Manager to agent: give back what was not begun; end when the rest is done and acknowledged."""


class ReleaseNodes(Message, frozen=True, array_like=True):
    """Manager to agent: release this number of nodes, those that joined last first."""

    count: int


class Stop(Message, frozen=True, array_like=True):
    """End now, engine and workers included. What workers have finished is handed over first."""


class Broken(Message, frozen=True, array_like=True):
    """Agent to manager, or node to agent: it cannot go on, and why."""

    reason: str


# ---- agent ↔ its other nodes -----------------------------------------------------------------------------------


class JoinNode(Message, frozen=True, array_like=True):
    """Node to agent, after its `Hello`: what it has, and by which address it reaches the agent."""

    node: Node
    address: str


class EnterCluster(Message, frozen=True, array_like=True):
    """Agent to node: join the engine's cluster."""

    client: dict[str, str]


class NodeReady(Message, frozen=True, array_like=True):
    """Node to agent: the engine is up on this node."""


class StartWorker(Message, frozen=True, array_like=True):
    """Agent to node: start this worker."""

    spec: WorkerSpec


class KillWorker(Message, frozen=True, array_like=True):
    """Agent to node: kill this worker; with its process id, also the processes that it has left behind."""

    worker: str
    pid: int = 0


class WorkerGone(Message, frozen=True, array_like=True):
    """Node to agent: this worker is gone."""

    worker: str
    reason: str
    #: The task that it ran is not the cause.
    blameless: bool = False


#: Any of the messages above.
AnyMessage: Any = functools.reduce(operator.or_, Message.__subclasses__())

encode = msgspec.msgpack.Encoder().encode
decode: Callable[[bytes | memoryview], Message] = msgspec.msgpack.Decoder(AnyMessage).decode
decode_batch = msgspec.msgpack.Decoder(BatchBody).decode
decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode


def read(frames: Sequence[bytes], sender: bytes) -> Message | None:
    """The message in the first of the frames; None, and a line in the log, when it is none."""
    try:
        return decode(frames[0])
    except (IndexError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("an invalid message was dropped, from %r: %s", sender[:100], error)
        return None
