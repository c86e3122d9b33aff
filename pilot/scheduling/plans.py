"""`Plan`: the tasks that wait for one QPU, where a policy has chosen it for them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from math import exp, isnan
from typing import Any

import msgspec
import numpy as np

from pilot.resources import Option
from pilot.scheduling.assigning import COST, FIDELITY, Column, Row
from pilot.scheduling.records import TaskRecord

#: A second's weight in the busy share falls by a factor of e in so many seconds.
BUSY_SECONDS = 3600.0


class Assigned(msgspec.Struct, frozen=True, eq=False):
    """Why a task goes to its QPU: what was known when a policy chose it. As a text when it is asked for."""

    policy: str
    pilot: str
    qpu: str
    #: The number of its column.
    at: int
    row: Row
    #: Seconds until it would have begun: there, and where that is soonest (of all would be kept with the task).
    wait: float
    least_wait: float
    #: Seconds that it was expected to run.
    seconds: float

    def __str__(self) -> str:
        fits, fidelity, cost = self.row.fits, self.row.values[FIDELITY], self.row.values[COST]
        known = (
            ("a fidelity of", fidelity[self.at], ".4f", "", np.fmax.reduce(fidelity[fits], initial=-np.inf)),
            ("a wait of", self.wait, ".1f", " s", self.least_wait),
            ("a run time of", self.seconds, ".3g", " s", None),
            ("a cost of", cost[self.at], ".3g", "", np.fmin.reduce(cost[fits], initial=np.inf)),
        )
        figures = []
        for what, value, form, unit, best in known:
            if isnan(value):
                continue
            figure = f"{what} {value:{form}}{unit}"
            if best is not None and fits.sum() > 1:
                figure += f" (best: {best:{form}}{unit})"
            figures.append(figure)
        among = f"of {fits.sum()} QPUs" if fits.sum() > 1 else "the only QPU that can run it"
        end = f": {', '.join(figures)}" if figures else ""
        return f"the policy {self.policy} chose {self.qpu} of {self.pilot}, {among}{end}"


class Choice(msgspec.Struct, frozen=True, eq=False):
    """What a policy chose for a task in a plan."""

    option: Option
    #: That it is expected to run; 0 where that is not known.
    seconds: float
    reason: Assigned


class Plan:
    """The tasks that wait for one QPU, and when it is expected to be done with all that it has."""

    __slots__ = ("_batches", "_began", "_busy", "_changed", "_heap", "_sorted", "at", "column", "seconds", "tasks")

    def __init__(self, column: Column, now: float) -> None:
        self.column = column
        #: The number of its column.
        self.at = 0
        self.tasks: dict[TaskRecord, Choice] = {}
        #: That all of them are expected to run.
        self.seconds = 0.0
        self._heap: list[tuple[Any, int, TaskRecord]] = []
        #: The last is next; empty: the heap has the order.
        self._sorted: list[TaskRecord] = []
        self._batches = 0
        #: Since when the QPU works on the first batch that it has.
        self._began = now
        self._busy, self._changed = 0.0, now

    def put(self, record: TaskRecord, planned: Choice) -> None:
        """A task waits for this QPU now."""
        self.tasks[record] = planned
        self.seconds += planned.seconds
        self._sorted.clear()
        heapq.heappush(self._heap, (-record.terms.priority, record.id, record))

    def drop(self, record: TaskRecord) -> Choice:
        """A task waits here no more."""
        planned = self.tasks.pop(record)
        self.seconds = self.seconds - planned.seconds if self.tasks else 0.0
        return planned

    def clear(self) -> None:
        """No task waits any more."""
        self.tasks.clear()
        self._heap.clear()
        self._sorted.clear()
        self.seconds = 0.0

    def sort(self, key: Callable[[TaskRecord], Any]) -> None:
        """Until another task comes, its tasks are in the order of this key."""
        self._sorted = sorted(self.tasks, key=key, reverse=True)

    def first(self) -> TaskRecord:
        """The task that is next, by priority, then by id, where they are not sorted; there must be one."""
        while self._sorted:
            if self._sorted[-1] in self.tasks:
                return self._sorted[-1]
            self._sorted.pop()
        while self._heap[0][2] not in self.tasks:
            heapq.heappop(self._heap)
        return self._heap[0][2]

    def ahead(self, now: float) -> Iterator[tuple[TaskRecord, float]]:
        """Its tasks, by priority, then by id, and seconds until each begins."""
        seconds = max(self.begins(now) + self.column.device.expected - now, 0.0)
        for record in sorted(self.tasks, key=lambda record: (-record.terms.priority, record.id)):
            yield record, seconds
            seconds += self.tasks[record].seconds

    def begins(self, now: float) -> float:
        """When the QPU begins, or began, what it has."""
        return self._began if self.column.device.batches else now

    def look(self, now: float) -> tuple[float, float]:
        """Take in what the QPU has: when it is expected to be free if it runs all that it has, and its busy share."""
        device = self.column.device
        before, self._batches = self._batches, device.batches
        if before != device.batches:
            decay = exp((self._changed - now) / BUSY_SECONDS)
            self._busy = decay * self._busy + (1.0 - decay) * (before > 0)
            self._changed = now
            if device.batches < before or before == 0:
                self._began = now
        return self.begins(now) + device.expected + self.seconds, self._busy
