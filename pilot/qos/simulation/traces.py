"""Queues of real QPUs: what was recorded, and a site that takes its load from it."""

from __future__ import annotations

import csv
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, file_error
from pilot.qos import text_files
from pilot.qos.simulation.sites import QUBITS, Site, Tasks, grouped, together
from pilot.resources import QPUInfo
from pilot.scheduling.events import SendBatch
from pilot.times import moment

if TYPE_CHECKING:
    from pilot.qos.simulation.bundling import Bundling

#: Columns of a trace file.
COLUMNS = ("qpu", "time_utc", "pending_jobs", "active")
#: Jobs that one manager may have in the queue of a QPU at a time.
DEPTH = 1_000_000


class QueueTrace(NamedTuple):
    """The queue of one QPU, at the moments at which it changed."""

    name: str
    #: `(n_samples,)`: seconds since the first sample of the file.
    times: NDArray[np.float64]
    #: `(n_samples,)`: jobs of all users.
    pending: NDArray[np.int64]
    #: `(n_samples,)`: True where the QPU took jobs.
    active: NDArray[np.bool_]


def read(path: str | Path) -> dict[str, QueueTrace]:
    """The traces in a CSV file with the columns ``qpu,time_utc,pending_jobs,active``, which may be packed (``.xz``).

    Raises:
        DescriptionError: it cannot be read, or a line is not valid.
    """
    file = Path(path)
    try:
        with text_files.opened(file) as lines:
            found = _read(csv.reader(lines), str(path))
    except (*text_files.ERRORS, csv.Error) as error:
        raise DescriptionError(
            f"trace: {path} cannot be read: {file_error(error)}", field="trace", given=str(path)
        ) from error
    first = min(rows[0][0] for rows in found.values())
    return {
        name: QueueTrace(
            name,
            np.array([row[0] - first for row in rows]),
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows], bool),
        )
        for name, rows in sorted(found.items())
    }


def _read(lines: Iterable[list[str]], path: str) -> dict[str, list[tuple[float, int, bool]]]:
    found: dict[str, list[tuple[float, int, bool]]] = {}
    number = 0
    for number, words in enumerate(lines, 1):
        if number == 1 and tuple(words) == COLUMNS:
            continue
        try:
            qpu, time, pending, active = words
            seconds = moment(time)
            row = (seconds, int(pending), {"0": False, "1": True}[active])
            if row[1] < 0 or (qpu in found and found[qpu][-1][0] >= seconds):
                raise ValueError
        except (ValueError, KeyError, OverflowError):
            raise DescriptionError(
                f"trace: line {number} of {path} is {','.join(words)!r}; expected {','.join(COLUMNS)}, with a time "
                "such as 2023-11-16T13:59:48, later than that of the line before of this QPU",
                field="trace",
                given=path,
            ) from None
        found.setdefault(qpu, []).append(row)
    if not found:
        raise DescriptionError(f"trace: {path} has no samples", field="trace", given=path)
    return found


class Waits:
    """How long jobs wait that are sent to one QPU of a trace; of everything that was recorded."""

    def __init__(self, trace: QueueTrace) -> None:
        self._times = trace.times
        self._pending, self._active = trace.pending, trace.active
        self._departed = np.concatenate([[0], np.maximum(0, -np.diff(trace.pending)).cumsum()])
        self._active_times = trace.times[trace.active]

    def start(self, now: float) -> float:
        """When a job that is sent now starts: when as many jobs have left as are pending now; infinite: not before the
        end. Where the QPU takes no jobs now, at the next sample at which it does at the earliest."""
        at = max(0, bisect_right(self._times, now) - 1)
        starts = now
        if not self._active[at]:
            later = bisect_right(self._active_times, now)
            starts = float(self._active_times[later]) if later < len(self._active_times) else np.inf
        if pending := int(self._pending[at]):
            gone = bisect_left(self._departed, self._departed[at] + pending)
            left = float(self._times[gone]) if gone < len(self._times) else np.inf
            starts = max(starts, left)
        return starts


class TracedQPU(Site):
    """A QPU whose queue is that of a trace; own jobs wait for the others', and for own ones before them."""

    def __init__(self, trace: QueueTrace, names: str | None = None, bundling: Bundling | None = None) -> None:
        """Make it.

        Args:
            trace: of its queue.
            names: of the QPU in estimates, where that is another one than in the trace.
            bundling: which tasks of a batch run at the same time, as one job; None: each is a job.
        """
        super().__init__(trace.name)
        self.name = names or trace.name
        self.trace = trace
        self.waits = Waits(trace)
        self._bundling = bundling
        self._next = 1
        #: Own jobs whose turn has come, with their batch.
        self._turn: deque[tuple[Tasks, int]] = deque()
        self._running = False
        #: Own tasks that have not begun.
        self._waiting: dict[int, int] = {}

    @property
    def description(self) -> PilotDescription:
        return PilotDescription(cores_per_node=1, qpus=(self.name,), name=self.id)

    def infos(self) -> list[QPUInfo]:
        return [
            QPUInfo(
                name=self.name,
                qubits=QUBITS,
                max_circuits=1,
                accepts_jobs=bool(self.trace.active[0]),
                pending_jobs=int(self.trace.pending[0]),
                queue_depth=DEPTH,
            )
        ]

    def begin(self, seen: Callable[[TracedQPU, int, bool], None]) -> None:
        """Report each sample when it is time to."""
        times = self.trace.times

        def report(now: float) -> None:
            at = self._next
            self._next += 1
            if self._next < len(times):
                self.at(float(times[self._next]), report)
            seen(self, int(self.trace.pending[at]), bool(self.trace.active[at]))

        if len(times) > 1:
            self.at(float(times[1]), report)

    def run(self, batch: SendBatch, now: float) -> None:
        for tasks in grouped(self._bundling, self.name, [record.id for record in batch.entries], self.job):
            self._waiting.update((task, batch.batch) for task, _ in tasks)
            starts = self.waits.start(now)
            if starts == now:
                self._their_turn(tasks, batch.batch, now)
            elif starts < np.inf:
                self.at(starts, self._turn_of(tasks, batch.batch))

    def cancel(self, tasks: list[int], now: float) -> None:
        for task in tasks:
            if (batch := self._waiting.pop(task, None)) is not None:
                self.cancelled(now, batch, [task])

    def _turn_of(self, tasks: Tasks, batch: int) -> Callable[[float], None]:
        return lambda now: self._their_turn(tasks, batch, now)

    def _their_turn(self, tasks: Tasks, batch: int, now: float) -> None:
        self._turn.append((tasks, batch))
        if not self._running:
            self._begin_next(now)

    def _begin_next(self, now: float) -> None:
        self._running = False
        while self._turn and not self._running:
            tasks, batch = self._turn.popleft()
            if left := [one for one in tasks if self._waiting.get(one[0]) == batch]:  # they were not cancelled
                self._run(left, batch, now)

    def _run(self, tasks: Tasks, batch: int, now: float) -> None:
        self._running = True
        for task, _ in tasks:
            del self._waiting[task]
            self.began(now, task)
        ran = together(self.name, tasks, now, self.job)

        def over(time: float) -> None:
            self.over(time, batch, ran)
            self._begin_next(time)

        self.at(ran[0].ended, over)
