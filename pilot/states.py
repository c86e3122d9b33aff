"""States of pilots and tasks, and the steps that are allowed between them.

Read next: ``descriptions`` (pilots and tasks) and ``scheduling`` (which takes these steps).
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from pilot.errors import StateError
from pilot.publishing import publish


class PilotState(Enum):
    """The state of a pilot, from its request to its end."""

    NEW = "new"
    """Described; nothing was submitted to the resource manager yet."""
    QUEUED = "queued"
    """The placeholder job was submitted and its agent has not reported yet."""
    STARTING = "starting"
    """The agent runs and starts its engine."""
    ACTIVE = "active"
    """The engine is up: the pilot takes tasks."""
    DRAINING = "draining"
    """It finishes what it has and takes nothing new."""
    DONE = "done"
    """It ended as requested."""
    FAILED = "failed"
    """It ended by itself; the reason and the log are in its error."""
    CANCELLED = "cancelled"
    """The user ended it."""


class TaskState(Enum):
    """The state of a task, from its submission to its end."""

    WAITING = "waiting"
    """It waits for the tasks that it depends on."""
    QUEUED = "queued"
    """The manager holds it until a pilot that fits has room."""
    BOUND = "bound"
    """It was sent to a pilot."""
    RUNNING = "running"
    """A worker of that pilot runs it."""
    DONE = "done"
    """It returned a result."""
    FAILED = "failed"
    """It ended with an exception."""
    CANCELLED = "cancelled"
    """It was cancelled, and this is confirmed."""


publish(PilotState, TaskState)
_P, _T = PilotState, TaskState

#: state → the states that may follow; a state with an empty row is final. A pilot whose agent was lost may be
#: queued again; a task whose attempt was lost or is retried begins a new attempt in the queue.
PILOT_STEPS: dict[PilotState, frozenset[PilotState]] = {
    _P.NEW: frozenset({_P.QUEUED, _P.DONE, _P.FAILED, _P.CANCELLED}),
    _P.QUEUED: frozenset({_P.QUEUED, _P.STARTING, _P.ACTIVE, _P.DONE, _P.FAILED, _P.CANCELLED}),
    _P.STARTING: frozenset({_P.QUEUED, _P.ACTIVE, _P.DONE, _P.FAILED, _P.CANCELLED}),
    _P.ACTIVE: frozenset({_P.QUEUED, _P.DRAINING, _P.DONE, _P.FAILED, _P.CANCELLED}),
    _P.DRAINING: frozenset({_P.QUEUED, _P.DONE, _P.FAILED, _P.CANCELLED}),
    _P.DONE: frozenset(),
    _P.FAILED: frozenset(),
    _P.CANCELLED: frozenset(),
}
TASK_STEPS: dict[TaskState, frozenset[TaskState]] = {
    _T.WAITING: frozenset({_T.QUEUED, _T.FAILED, _T.CANCELLED}),
    _T.QUEUED: frozenset({_T.BOUND, _T.FAILED, _T.CANCELLED}),
    _T.BOUND: frozenset({_T.QUEUED, _T.RUNNING, _T.DONE, _T.FAILED, _T.CANCELLED}),
    _T.RUNNING: frozenset({_T.QUEUED, _T.DONE, _T.FAILED, _T.CANCELLED}),
    _T.DONE: frozenset(),
    _T.FAILED: frozenset(),
    _T.CANCELLED: frozenset(),
}
_STEPS: dict[Enum, frozenset[Enum]] = {**PILOT_STEPS, **TASK_STEPS}  # type: ignore[dict-item]

_State = TypeVar("_State", PilotState, TaskState)


def is_final(state: PilotState | TaskState) -> bool:
    """True when nothing can follow this state."""
    return not _STEPS[state]


def advance(uid: object, current: _State, target: _State) -> _State:
    """The new state of ``uid``: ``target`` when the step is allowed.

    Raises:
        StateError: the step from ``current`` to ``target`` is not in the table.
    """
    if target not in _STEPS[current]:
        raise StateError(f"{uid}: no step from {current.value} to {target.value}", uid=str(uid))
    return target
