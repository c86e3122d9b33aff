"""`ActiveTask`: a task that the coordinator has, and the steps that it has taken."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pilot.service.parsing import Source
from pilot.service.store import Work

if TYPE_CHECKING:
    from sqlalchemy import Row

    from pilot.manager.handles import Task

#: The steps of a task, in their order. One that does not apply to a task is taken at the same moment as the next one.
STEPS = (
    "received",  # the request came
    "validated",  # its envelope is right
    "persisted",  # its row is on disk
    "preprocessed",  # its texts are circuits
    "estimated",  # it is known what it takes: qubits, memory, time, fidelities where they were asked for
    "queued",  # the manager has it
    "scheduled",  # a pilot was chosen
    "compiled",  # for its QPU
    "dispatched",  # a worker, or the QPU, has begun
    "corrected",  # errors were mitigated, and the parts put together
    "stored",  # the result is on disk
    "retired",  # the coordinator has forgotten it
)
#: The state of a task by its last step; "received" before these, and how it ended after them.
_STATES = {"queued": "queued", "scheduled": "queued", "compiled": "running", "dispatched": "running"}
_STATES["corrected"] = "running"
#: It has ended.
_LAST_STEPS = ("stored", "retired")

#: Seconds to the deadline of a task whose deadline has passed while it waited in the store.
_SHORTEST = 1e-3

#: Hears of each step of a task.
Listener = Callable[["ActiveTask", str, float], None]


class ActiveTask:
    """One task between its row and its result."""

    def __init__(self, row: Row[Any], listener: Listener) -> None:
        self.number: int = row.number
        self.id: str = row.id
        self.user: str = row.user
        self.route: str = row.route
        self.name: str = row.name
        self.content: str = row.content
        self.work = msgspec.json.decode(row.work, type=Work)
        self.steps: list[tuple[str, float]] = [(name, when) for name, when in json.loads(row.steps)]
        #: Seconds since the epoch.
        self.submitted: float = row.submitted
        self.steps.append(("persisted", row.submitted))
        #: Texts that are being parsed.
        self.missing: set[Source] = set()
        #: The manager's tasks, one for each program or function; and those that are not over.
        self.tasks: Sequence[Task] = ()
        self.waited: set[int] = set()
        #: Its end is being written.
        self.is_ending = False
        #: How it ended, or is to end.
        self.end = ""
        self._listener = listener

    def step(self, name: str, when: float | None = None) -> None:
        """It has taken this step, and those before it that do not apply to it. Steps that it has taken do not come
        again: a second attempt takes none."""
        taken = self.steps[-1][0]
        at = STEPS.index(taken) + 1
        for one in STEPS[at : STEPS.index(name) + 1]:
            moment = max(when or time.time(), self.steps[-1][1])
            self.steps.append((one, moment))
            self._listener(self, one, moment)

    @property
    def state(self) -> str:
        """ "received", "queued" or "running", or how it ended."""
        return state_after(self.steps[-1][0], self.end)

    @property
    def is_over(self) -> bool:
        """Its end is on disk."""
        return self.steps[-1][0] in _LAST_STEPS

    def options(self, now: float) -> dict[str, Any]:
        """Fields of its description. A deadline counts from the submission on, for the manager from now on."""
        deadline = self.work.options.get("deadline")
        if deadline is None:
            return self.work.options
        return {**self.work.options, "deadline": max(_SHORTEST, deadline - max(0.0, now - self.submitted))}

    def sources(self) -> list[Source]:
        """Its texts."""
        return [(hash, self.work.format) for hash in self.work.programs]

    def manager_keys(self) -> list[str]:
        """What the manager knows its tasks by."""
        return [f"{self.id}.{place}" for place in range(max(1, len(self.work.programs)))]


def state_after(step: str, end: str) -> str:
    """The state of a task that has taken this step last; ``end`` is how it ended, where it has."""
    return end if step in _LAST_STEPS else _STATES.get(step, "received")
