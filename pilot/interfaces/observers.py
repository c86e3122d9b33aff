"""The contract of observers: what a manager tells of tasks, attempts, pilots and QPUs as it happens."""

from __future__ import annotations

from typing import Protocol

import msgspec

from pilot.resources import QPUInfo
from pilot.states import PilotState, TaskState


class SessionEvent(msgspec.Struct, frozen=True, gc=False):
    """Base of all events that an observer gets. Tasks and pilots are named by their ids."""

    #: When it happened, by the wall clock of the manager's host: seconds since the epoch.
    time: float


class TaskEvent(SessionEvent, frozen=True, gc=False):
    """Base of those about one task."""

    task: int


class TaskSubmitted(TaskEvent, frozen=True, gc=False):
    """A task was submitted. ``time`` is when that was."""

    #: What people call the task.
    name: str


class TaskChanged(TaskEvent, frozen=True, gc=False):
    """A task was sent to a pilot (BOUND), or a worker runs it (RUNNING, reported for tasks that take longer than a
    moment).

    A task that a pilot gives back before it has begun is sent again without another event between.
    """

    state: TaskState
    #: Id of the pilot.
    pilot: str
    worker: str | None = None


class TaskOutput(TaskEvent, frozen=True, gc=False):
    """A task that runs has written this since the last such event; told twice a second. What it writes just before its
    end comes with the record of the task alone (`TaskInfo.stdout`, which has all of it)."""

    stdout: str
    stderr: str


class TaskEnded(TaskEvent, frozen=True, gc=False):
    """A task is over: it is DONE, FAILED or CANCELLED."""

    #: What people call the task.
    name: str
    state: TaskState
    #: Id of the pilot, and the worker, that had it last; None: none had it.
    pilot: str | None
    worker: str | None
    #: When it was submitted, by the clock of ``time``.
    submitted: float
    #: When the last attempt began, by the wall clock of the worker's host, and how many seconds it ran. None: it
    #: did not run, or that is not known.
    started: float | None
    seconds: float | None
    #: How many attempts there were that did not count.
    lost_attempts: int


class AttemptEnded(TaskEvent, frozen=True, gc=False):
    """An attempt at a task did not count: the task runs again, or its `TaskEnded` follows."""

    #: From 1 on.
    number: int
    #: Id of the pilot, and the worker; "": none had begun it.
    pilot: str
    worker: str
    #: Why it did not count.
    reason: str
    #: When it began, by the wall clock of the worker's host; None: it had not begun, or that is not known.
    started: float | None = None


class PilotChanged(SessionEvent, frozen=True, gc=False):
    """A pilot is in a new state, or what the resource manager says of its job has changed."""

    #: Id of the pilot, and what people call it.
    pilot: str
    name: str
    state: PilotState
    #: Why it is in its state.
    reason: str
    #: What the resource manager says of its job, as `Pilot.job`.
    job: str


class QPUChanged(SessionEvent, frozen=True, gc=False):
    """A QPU of a pilot has reported what it is, for the first time or anew: after a calibration, say."""

    #: Id of the pilot.
    pilot: str
    info: QPUInfo


class EventsDropped(SessionEvent, frozen=True, gc=False):
    """Here so many events are missing: the observer is too slow, and its queue was full. Whatever the kinds."""

    count: int


class Observer(Protocol):
    """What `PilotManager.subscribe` takes: a callable that gets lists of events.

    - **Thread.** Each subscription has a thread of its own, in which the observer is called, and nothing else. It may
      block, and may use the manager and its tasks like any thread. One that blocks delays only itself: neither the
      manager nor other observers wait for it.
    - **Order.** Events come in the order in which the manager's thread has seen them happen: those of about 50 ms in
      one list, which is never empty, and belongs to the observer. When a task's `TaskEnded` comes, the task is done.
      Events that come while too many wait are left out; `EventsDropped` then says how many, where they would have been.
    - **Attach.** Only what is new is reported: tasks that were submitted before have no `TaskSubmitted`, those that had
      ended no `TaskEnded`. What was before stands in `PilotManager.tasks` and `PilotManager.pilots`.
    - **Errors.** What it raises is logged, once for each subscription; it is called with the next events all the same.
    - **End.** What has happened before `PilotManager.unsubscribe` or `PilotManager.close` is still reported; they wait
      some seconds for that.

    Example, of one that counts how tasks end:

        class Ends:
            def __init__(self):
                self.count = Counter()

            def __call__(self, events):
                self.count.update(event.state for event in events)

        ends = Ends()
        manager.subscribe(ends, kinds=[TaskEnded])
    """

    def __call__(self, events: list[SessionEvent], /) -> object:
        """These have happened, in this order."""
