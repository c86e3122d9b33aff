"""The words that manager, agent and worker exchange. Each is the first frame of a message; work and outcomes follow
as frames of their own, which the agent hands on unread.

Between manager and agent most travel inside a `Numbered`, so that none is lost with a connection (see ``link.py``). Not
so those that begin the talk, those that are repeated, and those whose loss does no harm (`Started`; a lost `Stop` or
`Broken` shows in the job's end).
"""

from __future__ import annotations

import msgspec

from pilot.interfaces import WorkerSpec
from pilot.resources import Node, QPUInfo, Resources
from pilot.results import Outcome, Value


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages."""


class Work(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One task of a batch: ``function`` is an index into the digests of its `Run`."""

    task: int
    function: int
    payload: Value
    timeout: float | None = None
    #: What its arguments refer to, when not the values of its `Batch`.
    values: dict[int, Value] | None = None


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """The frame behind a `Run`: the work, and the results (by task id) that its arguments refer to."""

    works: list[Work]
    values: dict[int, Value]


# ---- manager ↔ agent ------------------------------------------------------------------------------------------


class Numbered(Message, frozen=True, array_like=True):
    """Both ways: the next frame is a message, the ones behind it are its own.

    ``stream`` is the `Welcome`'s ``sender``, and numbers begin at 1 with each; ``round`` counts how often the sender
    has sent again; the receiver of this may forget what it sent up to number ``done``.
    """

    stream: int
    seq: int
    round: int
    done: int


class Again(Message, frozen=True, array_like=True):
    """Both ways: what came after this number is lost; ``round`` is the last one heard of."""

    stream: int
    after: int
    round: int


class Hello(Message, frozen=True, array_like=True):
    """Agent or worker to its server, first thing."""

    name: str
    pid: int
    host: str
    #: Versions of Python (major.minor) and of this library: both ends must have the same.
    versions: tuple[str, str]


class Welcome(Message, frozen=True, array_like=True):
    """Manager to an agent that it knows; ``sender`` is another number for each manager that opens the session."""

    sender: int


class Refused(Message, frozen=True, array_like=True):
    """Manager to an agent that it does not want; the agent ends."""

    reason: str


class Ready(Message, frozen=True, array_like=True):
    """Agent to manager: the engine is up on the first node, on one more or one less, or the manager is back."""

    nodes: list[Node]
    #: The work that the agent still has: open tasks by batch.
    batches: dict[int, list[int]]
    #: What the engine's native client needs to connect.
    client: dict[str, str]
    #: Seconds until its walltime is over; None: no end is known.
    seconds_left: float | None = None
    #: Its devices, as far as they have reported.
    qpus: list[QPUInfo] = []


class Device(Message, frozen=True, array_like=True):
    """Worker to agent: the QPU that it has says this of itself."""

    info: QPUInfo


class Expiring(Message, frozen=True, array_like=True):
    """Agent to manager: the resource manager says that the job's end is near."""

    reason: str


class Run(Message, frozen=True, array_like=True):
    """Manager to agent to worker: run a `Batch` (next frame). Functions follow as frames, one per ``sent`` digest."""

    batch: int
    resources: Resources
    tasks: list[int]
    functions: list[str]
    sent: list[str]
    #: Seconds after which the worker gives back what it has not begun.
    patience: float
    #: Its worker must have nothing else: it may be the death of it.
    alone: bool
    #: The longest timeout of its tasks; 0 when they have none.
    limit: float
    #: From agent to worker, for an MPI task: ranks by host, in order.
    hosts: dict[str, int] = {}
    #: The same for GPUs: what their node calls them, by host, in the order of its ranks, each as many.
    gpus: dict[str, list[str]] = {}


class Outcomes(Message, frozen=True, array_like=True):
    """Worker to agent to manager: ``count`` outcomes of a batch (next frame: a list of `Outcome`)."""

    batch: int
    worker: str
    count: int
    #: What the agent adds: the node that they ran on, and the GPUs and the QPU that the worker, or its ranks, had.
    node: str = ""
    gpus: list[str] = []
    qpu: str = ""


class Lost(Message, frozen=True, array_like=True):
    """Agent to manager: these tasks of a batch ended without outcome.

    ``blame``: one of them may have killed its worker. ``begun``: an attempt was lost; otherwise they were never begun.
    """

    batch: int
    worker: str
    tasks: list[int]
    reason: str
    blame: bool
    begun: bool = False


class Started(Message, frozen=True, array_like=True):
    """Worker to agent to manager: this task has begun (said of tasks that take longer than a moment)."""

    batch: int
    worker: str
    task: int


class Leaving(Message, frozen=True, array_like=True):
    """Worker to agent: it ends itself as soon as all is said; it must get no more work."""


class Cancel(Message, frozen=True, array_like=True):
    """Stop these tasks; each ends with an outcome, CANCELLED unless it was finished before."""

    tasks: list[int]


class Ack(Message, frozen=True, array_like=True):
    """Manager to agent: everything up to number ``seq`` is in the journal."""

    sender: int
    seq: int


class Beat(Message, frozen=True, array_like=True):
    """Both ways: still here. ``sender`` as in `Welcome`; from agents, of the manager that they know.

    ``sent`` is the number of the last `Numbered`; ``round`` and ``done`` are as there.
    """

    sender: int = 0
    sent: int = 0
    round: int = 0
    done: int = 0


class Drain(Message, frozen=True, array_like=True):
    """Manager to agent: give back what was not begun; stop when the rest is done and acknowledged."""


class Shrink(Message, frozen=True, array_like=True):
    """Manager to agent: give back so many of the nodes that came last."""

    count: int


class Stop(Message, frozen=True, array_like=True):
    """End now, engine and workers included."""


class Broken(Message, frozen=True, array_like=True):
    """Agent to manager: it must end, and why."""

    reason: str


# ---- agent ↔ its other nodes -----------------------------------------------------------------------------------


class Join(Message, frozen=True, array_like=True):
    """Node to agent, after its Hello: what it has, and where it reaches the agent."""

    node: Node
    address: str


class Enter(Message, frozen=True, array_like=True):
    """Agent to node: join the engine's cluster."""

    client: dict[str, str]


class Entered(Message, frozen=True, array_like=True):
    """Node to agent: the engine is up here."""


class Spawn(Message, frozen=True, array_like=True):
    """Agent to node: start this worker."""

    spec: WorkerSpec


class Kill(Message, frozen=True, array_like=True):
    """Agent to node: end this worker at once, and what it has left behind when its process id is given."""

    worker: str
    pid: int = 0


class Gone(Message, frozen=True, array_like=True):
    """Node to agent: this worker is gone."""

    worker: str
    reason: str
    #: It is not the fault of the task that it ran.
    blameless: bool = False


AnyMessage = (
    Numbered
    | Again
    | Hello
    | Welcome
    | Refused
    | Ready
    | Device
    | Expiring
    | Run
    | Outcomes
    | Lost
    | Started
    | Leaving
    | Cancel
    | Ack
    | Beat
    | Drain
    | Shrink
    | Stop
    | Broken
    | Join
    | Enter
    | Entered
    | Spawn
    | Kill
    | Gone
)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(AnyMessage).decode
decode_batch = msgspec.msgpack.Decoder(Batch).decode
decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode
