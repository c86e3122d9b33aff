"""What pilots do with the tasks that they are sent, on the virtual clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pilot.descriptions import PilotDescription
from pilot.resources import ROUNDING, Node, QPUInfo
from pilot.scheduling.events import SendBatch
from pilot.scheduling.records import TaskRecord

if TYPE_CHECKING:
    from pilot.qos.simulation.bundling import Bundling
    from pilot.qos.simulation.jobs import Job

#: Qubits of simulated QPUs whose circuits are told apart by estimates alone.
QUBITS = 1 << 20


class Ran(msgspec.Struct, frozen=True, gc=False):
    """A task has run."""

    task: int
    began: float
    ended: float
    fidelity: float
    cores: float = 1.0


class Site(ABC):
    """One pilot. It tells the simulator of what happens by the callables that it gets."""

    def __init__(self, id: str) -> None:
        self.id = id
        #: Set by the simulator: calls a function at a time.
        self.at: Callable[[float, Callable[[float], None]], None]
        #: Set by the simulator: a batch is over, as far as these tasks go.
        self.over: Callable[[float, int, list[Ran]], None]
        #: Set by the simulator: tasks of a batch were not run, why, and how many of them had begun.
        self.lost: Callable[[float, int, list[int], str, int], None]
        #: Set by the simulator: these tasks were cancelled before they began.
        self.cancelled: Callable[[float, int, list[int]], None]
        #: Set by the simulator: a task has begun.
        self.began: Callable[[float, int], None]
        #: Set by the simulator: the job of a task.
        self.job: Callable[[int], Job]
        #: Set by the simulator: it has drained.
        self.drained: Callable[[], None]
        #: Its job has ended.
        self.is_gone = False

    @property
    @abstractmethod
    def description(self) -> PilotDescription:
        """As it is submitted."""

    @property
    def queue_seconds(self) -> float:
        """From its submission until it is active."""
        return 0.0

    @property
    def size(self) -> float:
        """How many tasks of one core, or circuits, run there at a time."""
        return 1.0

    @property
    def memory(self) -> int:
        """Bytes of each of its nodes."""
        return 1 << 40

    @property
    def nodes(self) -> list[Node]:
        """What it has; by default no cores."""
        return [Node("n", "n", 0, [], 1 << 30)]

    def infos(self) -> list[QPUInfo]:
        """What its QPUs report."""
        return []

    @abstractmethod
    def run(self, batch: SendBatch, now: float) -> None:
        """Take a batch."""

    def cancel(self, tasks: list[int], now: float) -> None:
        """Give up these tasks, if they have not begun. The default goes on with them."""
        return

    def drain(self, now: float) -> None:
        """Finish what has begun, give the rest back, and end. The default ends at once."""
        self.drained()

    def stop(self) -> None:
        """Its job ends: nothing more is heard of what it has."""
        self.is_gone = True


#: Tasks that run at the same time, with the fidelity of each over that alone.
Tasks = list[tuple[int, float]]


def grouped(bundling: Bundling | None, qpu: str, tasks: list[int], job: Callable[[int], Job]) -> list[Tasks]:
    """The tasks of a batch, those together that run at the same time."""
    if bundling is None or len(tasks) == 1:
        return [[(task, 1.0)] for task in tasks]
    groups = bundling.groups(qpu, [job(task).kind for task in tasks])
    return [[(tasks[at], its) for at, its in zip(one.members, one.relative, strict=True)] for one in groups]


def together(qpu: str, tasks: Tasks, begins: float, job: Callable[[int], Job]) -> list[Ran]:
    """How these tasks run at the same time on a QPU: as long as the longest, each with a part of the QPU."""
    if len(tasks) == 1:  # nearly always: no lists
        ((task, relative),) = tasks
        one = job(task)
        seconds = one.kind.seconds[qpu] if one.seconds is None else one.seconds
        return [Ran(task, begins, begins + seconds, one.kind.fidelity[qpu] * relative)]
    its = [job(task) for task, _ in tasks]
    ends = begins + max(one.kind.seconds[qpu] if one.seconds is None else one.seconds for one in its)
    return [
        Ran(task, begins, ends, one.kind.fidelity[qpu] * relative, 1.0 / len(tasks))
        for (task, relative), one in zip(tasks, its, strict=True)
    ]


class SimulatedQPU(Site):
    """A QPU that runs one task at a time, in the order in which they come, as long as the truth of its kind says."""

    def __init__(self, name: str, bundling: Bundling | None = None, **fields: Any) -> None:
        """Make it.

        Args:
            name: of the QPU.
            bundling: which tasks of a batch run at the same time; None: none do.
            fields: of its `QPUInfo`.
        """
        super().__init__(name)
        self._bundling = bundling
        self.name = name
        self._free = 0.0
        #: Batches that it has, and their tasks with the times at which they begin and end.
        self._batches: dict[int, list[Ran]] = {}
        self._info = QPUInfo(**{"name": name, "qubits": QUBITS, "accepts_jobs": True, "max_circuits": 1, **fields})

    @property
    def description(self) -> PilotDescription:
        return PilotDescription(cores_per_node=1, qpus=(self.name,), name=self.id)

    def infos(self) -> list[QPUInfo]:
        return [self._info]

    def run(self, batch: SendBatch, now: float) -> None:
        name, number, ran = self.name, batch.batch, []
        free = now if now > self._free else self._free
        for tasks in grouped(self._bundling, name, [record.id for record in batch.entries], self.job):
            ended = together(name, tasks, free, self.job)
            ran += ended
            free = ended[0].ended
        self._free = free
        self._batches[number] = ran
        self.at(free, lambda time: self._over(time, number, ran))

    def fail(self, now: float) -> None:
        """It loses all that it has."""
        batches, self._batches, self._free = self._batches, {}, now
        for number, ran in batches.items():
            begun = sum(one.began < now for one in ran)
            self.lost(now, number, [one.task for one in ran], f"{self.name} failed", begun)

    def _over(self, now: float, number: int, ran: list[Ran]) -> None:
        if self._batches.pop(number, None) is not None:  # it has not failed meanwhile
            self.over(now, number, ran)


class SimulatedNodes(Site):
    """Nodes that run batches as their cores, GPUs and memory come free, in the order in which they come."""

    def __init__(self, id: str, description: PilotDescription, queue_seconds: float = 0.0) -> None:
        """Make it.

        Args:
            id: of the pilot.
            description: what it has, and its walltime.
            queue_seconds: how long its job waits before it begins.
        """
        super().__init__(id)
        self._description, self._queue_seconds = description, queue_seconds
        self._free = np.array([self.size, description.gpus_per_node * self._count, float(self.memory) * self._count])
        self._waiting: deque[SendBatch] = deque()
        #: Numbers of the batches that run.
        self._running: set[int] = set()
        self._drains = False

    @property
    def description(self) -> PilotDescription:
        return self._description

    @property
    def queue_seconds(self) -> float:
        return self._queue_seconds

    @property
    def _count(self) -> int:
        return self._description.number_of_nodes

    @property
    def size(self) -> float:
        return float(self._count * self._description.cores)

    @property
    def memory(self) -> int:
        given = self._description.memory
        return given if isinstance(given, int) else super().memory

    @property
    def nodes(self) -> list[Node]:
        gpus = [f"gpu-{number}" for number in range(self._description.gpus_per_node)]
        names = (f"n{number}" for number in range(self._count))
        return [Node(name, name, self._description.cores, gpus, self.memory) for name in names]

    def run(self, batch: SendBatch, now: float) -> None:
        self._waiting.append(batch)
        self._begin(now)

    def drain(self, now: float) -> None:
        self._drains = True
        waiting, self._waiting = self._waiting, deque()
        for batch in waiting:
            tasks = [record.id for record in batch.entries]
            self.lost(now, batch.batch, tasks, f"{self.id} drains", 0)
        if not self._running:
            self.drained()

    def stop(self) -> None:
        super().stop()
        self._waiting.clear()
        self._running.clear()

    def _begin(self, now: float) -> None:
        while self._waiting and (_taken(self._waiting[0]) <= self._free + ROUNDING).all():
            batch = self._waiting.popleft()
            self._free -= _taken(batch)
            self._running.add(batch.batch)
            self.at(*self._ran(batch, now))

    def _ran(self, batch: SendBatch, now: float) -> tuple[float, Callable[[float], None]]:
        ran = []
        for record in batch.entries:
            ends = now + self._seconds(record)
            ran.append(Ran(record.id, now, ends, float("nan"), batch.resources.cores))
            now = ends

        def over(time: float) -> None:
            if batch.batch not in self._running:  # its job has ended meanwhile
                return
            self._running.remove(batch.batch)
            self._free += _taken(batch)
            self.over(time, batch.batch, ran)
            self._begin(time)
            if self._drains and not self._running:
                self.drained()

        return now, over

    def _seconds(self, record: TaskRecord) -> float:
        job = self.job(record.id)
        return job.seconds if job.seconds is not None else job.kind.seconds[""]


def _taken(batch: SendBatch) -> NDArray[np.float64]:
    """`(3,)`: cores, GPUs and bytes of a batch."""
    needs = batch.resources
    return np.array([needs.cores, needs.all_gpus, needs.all_memory], float)
