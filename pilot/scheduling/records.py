"""What is known of each function and task. Only scheduling writes here; nothing is decided here."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple

import msgspec

from pilot.interfaces import place_of
from pilot.resources import Option, QPUEstimate, Terms
from pilot.results import Attempt, Value
from pilot.scheduling.run_times import RunTimes
from pilot.states import TaskState

#: Weight of the newest batch in the mean time of a function or the slowness of a pilot.
NEWEST = 0.3


class Loss(Enum):
    """What the end of an attempt without outcome means for its task."""

    BLAMED = "its worker died, and it may be the cause"
    COUNTED = "it counts as one of the losses that a task may have"
    FREE = "it is recorded, and does not count"
    NOT_BEGUN = "it was given back before it had begun"


class Change(IntEnum):
    """Why a pilot is in a new state, or why an attempt did not count; an attached manager counts them."""

    OTHER = 0
    RESTART = 1
    """The pilot's job ended, and it is queued again: one of its restarts."""
    TAKEN = 2
    """The site took the pilot's job, and it is queued again without using a restart."""
    RETRY = 3
    """The task raised, and runs again: one of its retries."""


class FunctionRecord:
    """A function: its digest, its pickle and how long it takes."""

    __slots__ = ("__weakref__", "code", "digest", "id", "name", "runs", "seconds")

    def __init__(self, id: int, digest: str, name: str, code: bytes = b"") -> None:
        self.id = id
        self.digest = digest
        self.name = name
        self.code = code
        #: Mean seconds of a call of weight 1 on a pilot of slowness 1; None until measured.
        self.seconds: float | None = None
        #: How long its runs take, where a worker runs several of its tasks together.
        self.runs: RunTimes | None = None

    def measured(self, seconds: float, weight: float = 1.0) -> None:
        """Take in the mean of a batch, a call of weight 1; ``weight``: of the whole batch."""
        if self.runs is not None:
            self.runs.measured(weight, seconds * weight)
        self.seconds = seconds if self.seconds is None else self.seconds + NEWEST * (seconds - self.seconds)


class Chosen(NamedTuple):
    """Why a task went to its pilot: there it is expected to be finished first. As a text when it is asked for."""

    pilot: str
    option: Option
    #: Until it is finished.
    seconds: float
    #: Pilots or QPUs with room.
    among: int

    def __str__(self) -> str:
        place = place_of(self.pilot, self.option)
        if self.among == 1:
            return f"{place} was the only suitable pilot with room"
        return f"{place} is expected to finish first ({self.seconds:.3f} s) of the {self.among} with room"


class Planned(NamedTuple):
    """Why a task went to its pilot: the queue is expected to be over first so. As a text when it is asked for."""

    pilot: str
    option: Option
    #: Until all queued tasks are over, in the best schedule, and how many there were.
    seconds: float
    tasks: int

    def __str__(self) -> str:
        place = place_of(self.pilot, self.option)
        return (
            f"with this task on {place} the {self.tasks} queued tasks are expected to end first ({self.seconds:.3f} s)"
        )


class TaskRecord(msgspec.Struct, gc=False, eq=False):
    """A task. The user's handle keeps it after its end, without its payload.

    It is part of no reference cycle, so the garbage collector need not visit it: with 200,000 tasks visits would take a
    third of the time.
    """

    id: int
    function: FunctionRecord
    payload: Value
    terms: Terms
    name: str | None
    submitted: float
    #: Task id → True when its result is among the arguments, False when only its end is waited for; the id by which the
    #: arguments refer to it when that is another one's, of which this is a new attempt.
    needs: dict[int, bool | int] | None = None
    state: TaskState = TaskState.QUEUED
    pilot: str | None = None
    worker: str | None = None
    batch: int = 0
    bound: float = 0.0
    #: When the attempt began that is RUNNING: wall clock of the worker's host.
    began: float = 0.0
    #: Why it went to its pilot: a text, or what makes one when it is asked for.
    reason: object = ""
    attempts: tuple[Attempt, ...] = ()
    #: How often it was tried again after it had raised.
    retries: int = 0
    #: Attempts lost; and of these, how often its worker died while it had nothing else.
    losses: int = 0
    deaths: int = 0
    #: Its last worker died: it runs alone next.
    runs_alone: bool = False
    cancelling: bool = False
    #: It is taken back from a QPU before it has begun, and queued again.
    moving: bool = False
    #: Tasks that it still waits for; the results that it needs, as they come.
    blockers: set[int] | None = None
    values: dict[int, Value] | None = None
    #: How long it takes, in units that are the same for all tasks of its function.
    weight: float = 1.0
    #: When it was submitted, by the clock of the events.
    arrived: float = 0.0
    #: What is known of its circuit on each QPU.
    estimates: tuple[QPUEstimate, ...] = ()
    #: It was submitted with a key, or is a part of a task that was.
    has_key: bool = False
    #: The controller does not have it yet: its arguments are still to come.
    held: bool = False

    def take_value(self, task: int, value: Value) -> None:
        """A task that it needs is done."""
        assert self.needs is not None
        if reference := self.needs[task]:
            self.values = self.values or {}
            self.values[task if reference is True else reference] = value

    @property
    def refers_to_others(self) -> bool:
        """True when its arguments refer to results by ids that mean other tasks."""
        return any(type(reference) is int for reference in (self.needs or {}).values())

    @property
    def title(self) -> str:
        """What its description called it, or its function's name."""
        return self.name or self.function.name

    @property
    def seconds(self) -> float | None:
        """How long it is expected to take on a pilot of slowness 1; None: not known yet."""
        seconds = self.function.seconds
        return None if seconds is None else seconds * self.weight
