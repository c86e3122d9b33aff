"""Data of batches and of the workers that run them."""

from __future__ import annotations

import time
from collections import deque

import msgspec

from pilot.agent.nodes import Place
from pilot.resources import SLOT, Resources, rounded_up
from pilot.wire import messages
from pilot.wire.known_functions import KnownFunctions

#: Batches with at most so many seconds until they are given back may wait in a busy worker.
SHORT_SECONDS = 1.0
#: Seconds that a worker has to carry out a cancellation or a timeout itself.
END_SECONDS = 3.0
#: The same for one that has a device: it cancels the job at the vendor's first.
DEVICE_END_SECONDS = 10.0
#: Seconds after which an idle worker of another shape ends.
IDLE_SECONDS = 60.0


class Batch:
    """A batch, from its arrival to the last of its outcomes."""

    def __init__(self, run: messages.RunBatch, body: bytes, codes: dict[str, bytes]) -> None:
        self.run = run
        self.body = body
        #: The pickles of its functions, by digest.
        self.codes = codes
        #: Tasks that have no outcome and were not given back.
        self.open = len(run.tasks)
        self.partial: list[bytes] = []
        self.returned: set[int] = set()
        self.began = 0.0
        #: The last of its tasks that was reported to run.
        self.started: messages.TaskStarted | None = None

    def is_short(self) -> bool:
        """True for a batch of slots' tasks after which another one may wait."""
        return (
            self.run.resources == SLOT
            and not self.run.alone
            and not self.run.limit
            and self.run.give_back_seconds <= SHORT_SECONDS
        )

    def missing(self) -> list[int]:
        """The tasks that are open."""
        known = {outcome.task for body in self.partial for outcome in messages.decode_outcomes(body)}
        return [task for task in self.run.tasks if task not in known and task not in self.returned]


class Worker:
    """A worker, from its start until it is gone."""

    def __init__(self, name: str, shape: Resources, place: Place, gpus: dict[int, float]) -> None:
        self.name = name
        #: What it was made for: its batches need as much, or less memory.
        self.shape = shape
        #: What its present batch, or the one that it will get, takes.
        self.needs = shape
        self.place = place
        self.gpus = gpus
        #: It has connected, and what its process is then.
        self.joined = False
        self.pid = 0
        #: Its task waits for others, which have its cores.
        self.lends = False
        #: Its device has reported.
        self.reported = False
        #: What it has: the batch that it runs, and one ahead of it.
        self.batches: deque[Batch] = deque()
        self.functions = KnownFunctions()
        #: When it became idle, was last heard of, and last got a message.
        self.idle_since = self.heard = self.sent = time.monotonic()
        #: By when it must have ended ``unwanted`` tasks, or (``overdue``) the one that runs too long.
        self.end_by: float | None = None
        self.unwanted: set[int] = set()
        self.overdue = False
        #: When it counts as gone, and why.
        self.exit: tuple[float, str] | None = None
        #: It has announced its end: it gets no more work, and counts as gone by then, also without a report of its
        #: engine.
        self.leaving = False
        self.leave_by = 0.0
        #: The engine was called to kill it.
        self.killed = False
        #: No task is the cause of its end.
        self.blameless = False
        #: Where the ranks of its MPI task run: node → ranks, and the share that each of them has of which GPU there.
        self.hosts: dict[str, int] = {}
        self.rank_gpus: dict[str, list[dict[int, float]]] = {}
        #: The GPUs that its ranks had, which are on record for all its tasks once one has run.
        self.had: dict[str, list[str]] | None = None

    def end_seconds(self) -> float:
        """How long it may take to carry out a cancellation or a timeout itself."""
        return DEVICE_END_SECONDS if self.shape.qpu else END_SECONDS

    def may_have_more(self) -> bool:
        """True when a short batch may wait after the one that it runs."""
        if self.exit is not None or self.leaving or self.lends or not self.place.ready or self.shape != SLOT:
            return False
        return len(self.batches) == 1 and self.batches[0].is_short()

    def has_to_be_killed(self, now: float) -> bool:
        """True when it has not ended in time what it has to end; True again `END_SECONDS` later."""
        first = self.batches[0]
        limit = first.run.limit
        # a worker reports when a task takes long: its silence lasts no longer than one task, unless it hangs
        if self.end_by is None and limit and now > max(first.began, self.heard) + limit + self.end_seconds():
            self.overdue = True
            self.end_by = now
        if self.end_by is None or now < self.end_by:
            return False
        if self.overdue or any(self.unwanted & set(batch.missing()) for batch in self.batches):
            self.end_by = now + END_SECONDS
            return True
        self.end_by = None
        return False

    def is_unneeded(self, now: float) -> bool:
        """True for one that has been idle for long: of another shape than the slots' and the devices', or one more than
        there are slots."""
        if not self.joined or self.shape.qpu or (self.shape == SLOT and self.place.slots <= self.place.node.cores):
            return False
        return now - self.idle_since > IDLE_SECONDS

    def gpu_names(self) -> list[str]:
        """The GPUs that its tasks, or the ranks of its task, have."""
        own = [self.place.node.gpus[index] for index in self.gpus]
        return own + [name for names in (self.had or {}).values() for name in dict.fromkeys(names)]


def shape_of(needs: Resources) -> Resources:
    """The shape of the workers that run what needs this: few sizes of memory serve for all."""
    return msgspec.structs.replace(needs, memory=rounded_up(needs.memory)) if needs.memory else needs


class WorkersByShape:
    """Workers that have no batch, by shape and node: one is found without looking at all of them."""

    def __init__(self) -> None:
        self._shapes: dict[Resources, dict[Place, dict[str, Worker]]] = {}

    def add(self, worker: Worker) -> None:
        self._shapes.setdefault(worker.shape, {}).setdefault(worker.place, {})[worker.name] = worker

    def discard(self, worker: Worker) -> None:
        places = self._shapes.get(worker.shape, {})
        workers = places.get(worker.place, {})
        if workers.pop(worker.name, None) is None or workers:
            return
        del places[worker.place]
        if not places:
            del self._shapes[worker.shape]

    def find(self, needs: Resources) -> Worker | None:
        """One of the shape for these needs, on a node that is ready and has room."""
        for place, workers in self._shapes.get(shape_of(needs), {}).items():
            if place.ready and (needs.ranks or place.has_room(needs)):
                return next(iter(workers.values()))
        return None

    def others(self, shape: Resources) -> list[Worker]:
        """Those of neither this shape nor the slots' nor the devices'."""
        shapes = [places for one, places in self._shapes.items() if one not in (SLOT, shape) and not one.qpu]
        return [worker for places in shapes for workers in places.values() for worker in workers.values()]
