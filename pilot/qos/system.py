"""`QOS`: circuits to a manager's QPUs, in five calls."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, did_you_mean
from pilot.interfaces import SessionEvent, TaskChanged, TaskEnded
from pilot.manager.observers import NO_LIMIT
from pilot.qos.qernel import NEXT, Progress, Qernel, Stage
from pilot.resources import ANY_QPU, QPUEstimate, QPUInfo
from pilot.states import TaskState

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from pilot.manager.handles import Task
    from pilot.manager.manager import PilotManager

#: Seconds after the end of a task by which its events have come.
EVENT_SECONDS = 1.0
_STAGES = {
    TaskState.BOUND: Stage.SCHEDULED,
    TaskState.RUNNING: Stage.RUNNING,
    TaskState.DONE: Stage.DONE,
    TaskState.FAILED: Stage.FAILED,
    TaskState.CANCELLED: Stage.CANCELLED,
}


class Status(msgspec.Struct, frozen=True):
    """Where a job is."""

    stage: Stage
    #: What is expected of it on each QPU.
    estimates: tuple[QPUEstimate, ...]
    #: The QPU that ran it; None: none yet.
    qpu: str | None
    #: How long it was in each stage so far.
    seconds: dict[Stage, float]
    #: Why it is where it is.
    reason: str


class QOS:
    """Runs circuits on the QPUs of a manager's pilots: the calls of QOS (arXiv 2406.19120, table 1).

    Each circuit is estimated on every QPU first. The manager's policy decides where it runs. Any thread may call it; it
    lasts as long as its manager.
    """

    def __init__(self, manager: PilotManager) -> None:
        """Make it, for a manager that is open."""
        self._manager = manager
        self._lock = threading.Condition()
        self._ids = itertools.count(1)
        self._qernels: dict[int, Qernel] = {}
        self._tasks: dict[int, Task[Any]] = {}
        self._progress: dict[int, Progress] = {}
        #: The job that a task runs, or estimates, by the id of the task.
        self._jobs: dict[int, int] = {}
        manager.subscribe(self._observe, kinds=[TaskChanged, TaskEnded], limit=NO_LIMIT)

    def run(self, circuit: QuantumCircuit, shots: int = 4000, *, parents: Sequence[int] = (), **wanted: Any) -> int:
        """Send a circuit on its way. Does not block.

        Args:
            circuit: with its measurements.
            shots: of the circuit.
            parents: jobs that it is made of or a part of.
            wanted: more fields of `TaskDescription`: ``min_fidelity`` (0 where it is not given), ``qpu`` ("*" where it
                is not given), ``priority``, ``mitigation``, …

        Returns:
            The number of the job.

        Raises:
            DescriptionError: a value is not valid, or there is no such job among the parents.
            NoPilotError: no pilot, present or requested, has a QPU that can run it.
        """
        for parent in parents:
            self._check(parent)
        fields = {"qpu": ANY_QPU, "min_fidelity": 0.0, **wanted}
        with self._lock:  # what happens to it is noted after it is known
            job = next(self._ids)
            qernel = Qernel.of(job, circuit, shots, fields, tuple(parents))
            task = self._manager.submit_task(TaskDescription(circuit=circuit, shots=shots, **fields))
            self._qernels[job], self._tasks[job] = qernel, task
            self._progress[job] = Progress([(Stage.SUBMITTED, time.time())])
            for one in _tasks_of(task):
                self._jobs[one.id] = job
            for parent in parents:
                self._progress[parent].children.append(job)
        return job

    def results(self, job: int, timeout: float | None = None) -> Any:
        """What came out of a job; blocks until it is over.

        Args:
            job: from `run`.
            timeout: seconds to wait at most; None: for ever.

        Raises:
            TimeoutError: it is not over within that time.
            CancelledError: it was cancelled.
            Exception: what it failed with.
        """
        return self._tasks[self._check(job)].result(timeout)

    def status(self, job: int) -> Status:
        """Where a job is.

        Raises:
            DescriptionError: there is no such job.
        """
        task = self._tasks[self._check(job)]
        with self._lock:
            progress = self._progress[job]
            if task.done():  # its last events come a moment later
                self._lock.wait_for(lambda: not NEXT[progress.stage], timeout=EVENT_SECONDS)
            stage, seconds = progress.stage, progress.seconds(time.time())
        if task.done() and NEXT[stage]:
            stage = _STAGES[task.state]
        return Status(stage, task.estimates, task.info.qpu, seconds, self._manager.explain(task))

    def backends(self) -> list[str]:
        """The QPUs of the manager's pilots that have reported."""
        return sorted(self._manager.qpus)

    def backend_props(self, name: str) -> QPUInfo:
        """What a QPU reports of itself.

        Raises:
            DescriptionError: no pilot has it, or it has not reported yet.
        """
        known = self._manager.qpus
        if name not in known:
            there = ", ".join(sorted(known)) or "none has reported yet"
            raise DescriptionError(
                f"backend_props: {name!r} is not valid{did_you_mean(name, known)}; QPUs: {there}",
                field="name",
                given=name,
            )
        return known[name]

    def qernel(self, job: int) -> Qernel:
        """What a job was submitted as.

        Raises:
            DescriptionError: there is no such job.
        """
        return self._qernels[self._check(job)]

    def children(self, job: int) -> tuple[int, ...]:
        """The jobs that were made of this one.

        Raises:
            DescriptionError: there is no such job.
        """
        return tuple(self._progress[self._check(job)].children)

    def forget(self, job: int) -> None:
        """Remove a job that is over, with its result, here and in the manager. Its number is not valid any more.

        Raises:
            DescriptionError: there is no such job, it is not over, or a task that is not over needs its result.
        """
        task = self._tasks[self._check(job)]
        self._manager.forget([task])
        with self._lock:
            for one in _tasks_of(task):
                self._jobs.pop(one.id, None)
            for kept in (self._tasks, self._qernels, self._progress):
                kept.pop(job, None)

    def _check(self, job: int) -> int:
        if job not in self._tasks:
            raise DescriptionError(
                f"job: {job!r} is not valid; expected a number that `run` returned", field="job", given=job
            )
        return job

    def _observe(self, events: list[SessionEvent]) -> None:
        with self._lock:
            for event in events:
                if isinstance(event, TaskChanged | TaskEnded) and (job := self._jobs.get(event.task)) is not None:
                    self._note(job, event)
            self._lock.notify_all()

    def _note(self, job: int, event: TaskChanged | TaskEnded) -> None:
        task, progress = self._tasks[job], self._progress[job]
        estimates = {part.estimate.id for part in (task, *task.parts) if part.estimate is not None}
        stage = _STAGES.get(event.state)
        if event.task in estimates:
            stage = Stage.ESTIMATED if event.state is TaskState.DONE else None
        elif event.task != task.id and isinstance(event, TaskEnded):
            stage = None  # a part: the whole ends later
        if stage is not None and stage in NEXT[progress.stage]:
            progress.advance(stage, event.time)


def _tasks_of(task: Task[Any]) -> list[Task[Any]]:
    """A job's task, its parts, and those that estimate them."""
    own = [task, *task.parts]
    return own + [one.estimate for one in own if one.estimate is not None]
