"""What happens (events, in the past tense) and what is to be done about it (commands, imperative).

The controller takes the ones and returns the others; the manager feeds it and carries its commands out.
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
    """The user wants a pilot. ``rejoins``: its agent may still run, from before this manager was attached."""

    id: str
    description: PilotDescription
    #: Bytes of memory of each node, for the capacity until the agent says better.
    memory: int
    rejoins: bool = False
    #: Ids and names of the pilots that it takes over from, and the name of its family, oldest first.
    ancestors: tuple[str, ...] = ()
    #: The pilot that it takes over from; the autoscaler that asked for it.
    parent: str | None = None
    scaler: str | None = None
    #: After an attach: it was draining, has a successor, was started again so often, and was taken away so often.
    draining: bool = False
    succeeded: bool = False
    started_again: int = 0
    taken: int = 0
    #: After an attach: False when only its agent can tell whether its job exists.
    job_known: bool = True
    #: With `rejoins`: its agent had reported to the manager before, and may have tasks.
    reported: bool = True
    #: Its QPUs that one task at a time has.
    devices: tuple[str, ...] = ()


class JobSeen(Event, frozen=True):
    """A pilot's job was looked at."""

    pilot: str
    #: What the resource manager says of it, such as why it is pending.
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


class PilotExpiring(Event, frozen=True):
    """The resource manager says that the job's end is near."""

    pilot: str
    reason: str


class TasksSubmitted(Event, frozen=True):
    """New tasks, in the order of their ids."""

    entries: list[TaskRecord]


class CircuitsEstimated(Event, frozen=True):
    """What is expected of the circuits of these tasks is known, or known better: after a new calibration, say."""

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
    """The user wants these tasks stopped."""

    tasks: list[int]


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
    """The user wants an autoscaler. ``memory``: bytes of each node of its pilots."""

    scaler: str
    scaling: Scaling
    memory: int
    #: Their QPUs that one task at a time has.
    devices: tuple[str, ...] = ()


class ScalingStopAsked(Event, frozen=True):
    """The user ends an autoscaler: its pilots go on, or (``drain``) are given back."""

    scaler: str
    drain: bool


class Attached(Event, frozen=True):
    """All pilots and tasks of before are known again."""

    #: The id of the first task of each manager that the session had, in order; the last is this one's.
    firsts: tuple[int, ...] = (1, 1)


class Closed(Event, frozen=True):
    """The manager ends: every unfinished task is cancelled, every pilot stopped."""


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
    """Ask for a pilot: the successor of ``parent``, or one that an autoscaler wants. `PilotAsked` follows."""

    description: PilotDescription
    #: As in `PilotAsked`.
    ancestors: tuple[str, ...]
    parent: str | None = None
    scaler: str | None = None


class WarnUnservable(Command, frozen=True):
    """So many tasks wait for another pilot, since none can serve them any more: for so many seconds (None: for ever),
    then they fail. Once, when the first ones begin to wait."""

    tasks: int
    reason: str
    seconds: float | None


class PauseScaling(Command, frozen=True):
    """An autoscaler asks for no more pilots."""

    scaler: str
    reason: str


class StopPilot(Command, frozen=True):
    """Tell the agent to end: at once, or (``drain``) when it has finished what it has."""

    pilot: str
    drain: bool


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


class RemoveNodes(Command, frozen=True):
    """Tell the agent to give so many nodes back. A user's command, which needs no decision."""

    pilot: str
    count: int


class SendCancel(Command, frozen=True):
    """Tell the agent to stop these tasks."""

    pilot: str
    tasks: list[int]


class Settle(Command, frozen=True):
    """These tasks are over: each with its outcome."""

    pairs: list[tuple[TaskRecord, Outcome]]


class Fail(Command, frozen=True):
    """These tasks are over without an outcome: with an error of this class."""

    entries: list[TaskRecord]
    error: ErrorCode
    reason: str


class Link(msgspec.Struct, frozen=True, gc=False):
    """A task that fails since one that it depends on has failed or was cancelled."""

    entry: TaskRecord
    reason: str
    #: The task that it depends on itself; and the one whose end is the first cause, so many links away.
    cause: int
    first: int
    links: int


class FailDependents(Command, frozen=True):
    """These tasks are over with those that they depend on, themselves or through others."""

    failed: list[Link]


class RecordAttempt(Command, frozen=True):
    """An attempt ended without a result that counts."""

    entry: TaskRecord
    #: The pilot's name.
    pilot: str
    reason: str
    batch: int
    change: Change = Change.OTHER
