"""Events (what happened; past tense) and commands (what to do; imperative).

The controller takes events and returns commands; the manager feeds it and carries its commands out.
"""

from __future__ import annotations

import msgspec

from pilot.descriptions import PilotDescription
from pilot.errors import ErrorCode
from pilot.interfaces import JobState
from pilot.resources import Node, QPUEstimate, QPUInfo, Resources
from pilot.results import Outcome
from pilot.scheduling.policies import Scaling
from pilot.scheduling.records import Change, TaskRecord
from pilot.states import PilotState


class Event(msgspec.Struct, frozen=True):
    """Base of all events."""


class PilotAsked(Event, frozen=True):
    """A pilot was requested. ``rejoins``: its agent may still run, from before this manager was attached."""

    id: str
    description: PilotDescription
    #: Bytes of memory of each node, used until the agent reports them.
    memory: int
    rejoins: bool = False
    #: Ids and names of the pilots that it takes over from, and the name of its family, oldest first.
    ancestors: tuple[str, ...] = ()
    #: The pilot that it takes over from; the autoscaler that requested it.
    parent: str | None = None
    scaler: str | None = None
    #: After an attach: whether it was draining, whether it has a successor, how often it was started again, and how
    #: often the site took its job.
    draining: bool = False
    succeeded: bool = False
    started_again: int = 0
    taken: int = 0
    #: After an attach: False when only its agent can show that its job exists.
    job_known: bool = True
    #: With `rejoins`: its agent had reported to the manager before, and may have tasks.
    reported: bool = True
    #: Its QPUs that one task at a time uses.
    devices: tuple[str, ...] = ()


class JobSeen(Event, frozen=True):
    """The state of a pilot's job was read."""

    pilot: str
    #: The resource manager's text about it, such as why it is pending.
    reason: str


class AgentJoined(Event, frozen=True):
    """An agent reported; its engine is still starting."""

    pilot: str


class PilotReady(Event, frozen=True):
    """The engine is up on these nodes, or their number has changed."""

    pilot: str
    nodes: list[Node]
    #: The tasks (by batch) that the agent has already, after an attach.
    batches: dict[int, list[int]]
    #: Seconds until its walltime is over; None: as its description says, from now on.
    seconds_left: float | None = None
    #: Its devices, as far as they have reported.
    qpus: list[QPUInfo] = []


class QueueSeen(Event, frozen=True):
    """A QPU has reported how many jobs of all users are in its queue, and whether it takes jobs now."""

    pilot: str
    qpu: str
    pending: int
    accepts_jobs: bool = True


class PilotExpiring(Event, frozen=True):
    """The resource manager has announced the end of the job."""

    pilot: str
    reason: str


class TasksSubmitted(Event, frozen=True):
    """New tasks, in the order of their ids."""

    entries: list[TaskRecord]


class CircuitsEstimated(Event, frozen=True):
    """The circuits of these tasks were estimated, or estimated again, as after a new calibration."""

    estimates: dict[int, tuple[QPUEstimate, ...]]


class OutcomesArrived(Event, frozen=True):
    """A worker finished some tasks of a batch."""

    pilot: str
    batch: int
    worker: str
    outcomes: list[Outcome]


class TaskStarted(Event, frozen=True):
    """A task that takes longer than a moment has begun."""

    pilot: str
    worker: str
    task: int
    #: Wall clock of the worker's host, seconds since the epoch.
    began: float


class TaskWaits(Event, frozen=True):
    """A running task waits for these tasks, and has given its cores back until then."""

    pilot: str
    batch: int
    worker: str
    #: The node that it runs on: its memory and its GPUs stay its own.
    node: str
    task: int
    #: Of the wait, in the worker.
    number: int
    tasks: list[int]


class TaskResumes(Event, frozen=True):
    """It does not wait any more: it has its cores again, or is about to."""

    pilot: str
    batch: int
    task: int


class AttemptsLost(Event, frozen=True):
    """Tasks of a batch ended without outcome. ``blame``: one may be the cause; ``begun``: an attempt was lost."""

    pilot: str
    batch: int
    worker: str
    #: None: all of the batch.
    tasks: list[int] | None
    reason: str
    blame: bool
    begun: bool = False
    #: The error of a task that was lost too often.
    error: ErrorCode = ErrorCode.WORKER_DIED


class RoomSeen(Event, frozen=True):
    """Large results can be written again."""


class CancelAsked(Event, frozen=True):
    """The user cancels these tasks; ``running``: those that run, too."""

    tasks: list[int]
    running: bool = True


class PilotStopAsked(Event, frozen=True):
    """The user ends a pilot: at once, or (``drain``) when it has finished what it has."""

    pilot: str
    drain: bool


class PilotEnded(Event, frozen=True):
    """The agent or its job is gone; ``how``: ENDED, EXPIRED, TAKEN, CANCELLED or REFUSED."""

    pilot: str
    reason: str
    how: JobState = JobState.ENDED


class ScalingAsked(Event, frozen=True):
    """An autoscaler was requested. ``memory``: bytes of each node of its pilots."""

    scaler: str
    scaling: Scaling
    memory: int
    #: Their QPUs that one task at a time uses.
    devices: tuple[str, ...] = ()


class ScalingStopAsked(Event, frozen=True):
    """The user ends an autoscaler: its pilots continue, or (``drain``) are given back."""

    scaler: str
    drain: bool


class Attached(Event, frozen=True):
    """All pilots and tasks of the previous manager are known again."""

    #: The id of the first task of each manager that the session had, in order; the last is this one's.
    firsts: tuple[int, ...] = (1, 1)


class Closing(Event, frozen=True):
    """The manager ends: tasks that no pilot has are cancelled, and every pilot is stopped. What the pilots have is
    cancelled when they give it back."""


class Closed(Event, frozen=True):
    """The pilots are gone: every unfinished task is cancelled."""


class CommandFailed(Event, frozen=True):
    """A command could not be carried out."""

    command: Command
    #: What went wrong, such as "MemoryError: no room".
    error: str


class Command(msgspec.Struct, frozen=True):
    """Base of all commands."""


class StartPilot(Command, frozen=True):
    """Submit its placeholder job."""

    pilot: str


class AskPilot(Command, frozen=True):
    """Request a pilot: the successor of ``parent``, or one for an autoscaler. `PilotAsked` follows."""

    description: PilotDescription
    #: As in `PilotAsked`.
    ancestors: tuple[str, ...]
    parent: str | None = None
    scaler: str | None = None


class WarnUnservable(Command, frozen=True):
    """So many tasks wait for another pilot, since none can run them any more: for so many seconds (None: without
    limit), then they fail. Sent once, when the first ones begin to wait."""

    tasks: int
    reason: str
    seconds: float | None


class PauseScaling(Command, frozen=True):
    """An autoscaler requests no more pilots."""

    scaler: str
    reason: str


class StopPilot(Command, frozen=True):
    """Tell the agent to end: at once, or (``drain``) when it has finished what it has. ``unused``: the pilot never had
    tasks, so that its job can be ended without waiting for the agent."""

    pilot: str
    drain: bool
    unused: bool = False


class ChangePilot(Command, frozen=True):
    """The pilot is in a new state; ``reason`` says why."""

    pilot: str
    state: PilotState
    reason: str
    change: Change = Change.OTHER


class SendBatch(Command, frozen=True):
    """Send these tasks to this pilot as one batch."""

    pilot: str
    batch: int
    resources: Resources
    entries: list[TaskRecord]
    #: Seconds after which a worker gives back what it has not begun.
    give_back_after: float
    #: Its worker must have nothing else.
    alone: bool


class EndWait(Command, frozen=True):
    """A task waits for what can never run: tell its worker."""

    pilot: str
    worker: str
    task: int
    number: int
    reason: str


class RemoveNodes(Command, frozen=True):
    """Tell the agent to give back so many nodes. A command of the user, which needs no decision."""

    pilot: str
    count: int


class SendCancel(Command, frozen=True):
    """Tell the agent to stop these tasks; ``running``: those that run, too."""

    pilot: str
    tasks: list[int]
    running: bool = True


class Settle(Command, frozen=True):
    """These tasks are over: each with its outcome."""

    pairs: list[tuple[TaskRecord, Outcome]]


class Fail(Command, frozen=True):
    """These tasks are over without an outcome: with an error of this class."""

    entries: list[TaskRecord]
    error: ErrorCode
    reason: str


class Link(msgspec.Struct, frozen=True, gc=False):
    """A task that fails because one that it depends on has failed or was cancelled."""

    entry: TaskRecord
    reason: str
    #: The task that it depends on directly; and the one whose end is the first cause, so many links away.
    cause: int
    first: int
    links: int


class FailDependents(Command, frozen=True):
    """These tasks fail with those that they depend on, directly or through others."""

    failed: list[Link]


class RecordAttempt(Command, frozen=True):
    """An attempt ended without a result that counts."""

    entry: TaskRecord
    #: The pilot's name.
    pilot: str
    reason: str
    batch: int
    change: Change = Change.OTHER
    #: When it began and ended, by the wall clock of the worker's host; None: that is not known, or (the end) now.
    started: float | None = None
    ended: float | None = None
