"""The workers of a pilot on all its nodes: which there are, and which of them are free.

Cores are counted by what runs: an idle worker takes none. Each core has a worker of the slots' shape; workers of other
shapes (their `Resources`) are started when a batch needs one. Each device has a worker of its own, on the agent's node,
as long as the pilot lives. An MPI task has a worker on the agent's node, which starts its ranks on the cores and GPUs
that are set aside for them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pilot.agent.batches import Worker, WorkersByShape, shape_of
from pilot.agent.devices import Devices
from pilot.agent.lending import Lending
from pilot.agent.nodes import Nodes, Place, spread
from pilot.agent.worker_processes import WorkerProcesses
from pilot.interfaces import Engine
from pilot.resources import ROUNDING, SLOT, Node, Resources
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.messages import Frames, Message
from pilot.wire.server import Server
from pilot.wire.session import AgentSettings, Keys

log = logging.getLogger(__name__)

#: Seconds that the last messages of a worker may take to arrive after it has ended.
EXIT_GRACE = 0.2
#: Seconds after which a worker that was killed counts as gone, also without a report of the engine.
LEAVE_SECONDS = 1.0
#: Seconds after which a worker to which nothing was sent gets a heartbeat; it ends after several times as many without
#: one (`pilot.worker.process.AGENT_SILENT_SECONDS`).
WORKER_BEAT_SECONDS = 5.0
#: Seconds between two looks at workers that have to end something.
ENFORCE_SECONDS = 0.1
#: Seconds that the workers of devices have to end jobs and sessions when the pilot ends.
DEVICES_STOP_SECONDS = 10.0
#: This number of workers in a row that end before they have connected means that none will.
FAILED_STARTS = 3


class WorkerPool:
    """Starts and ends workers, finds one for a batch, and detects when one is gone. For the agent's thread."""

    def __init__(
        self,
        engine: Engine,
        home: Node,
        server: Server,
        keys: Keys,
        settings: AgentSettings,
        spool: Path,
        wake: Callable[[], None],
    ) -> None:
        """Make the pool; `start` starts it.

        Args:
            engine: where the workers run.
            home: the agent's own node.
            server: where they connect to.
            keys: of the session.
            settings: of the agent.
            spool: folder for large results.
            wake: makes the agent's thread call `lost` and `keep`; any thread may call it.
        """
        self._engine = engine
        self._server = server
        self._wake = wake
        self._processes = WorkerProcesses(engine, server, keys, settings, spool, wake, self._broke)
        self.nodes = Nodes(home, server, settings.gpus, self._broke)
        self.devices = Devices(settings.devices)
        self.lending = Lending(self.send)
        #: By name; to be read only.
        self.workers: dict[str, Worker] = {}
        #: Those that wait for work, and those that were started and have not connected yet.
        self._idle = WorkersByShape()
        self._starting = WorkersByShape()
        self._exiting: dict[str, Worker] = {}
        self._count = 0
        #: Of the workers' names: those of another agent of this pilot have other names.
        self._prefix = f"{settings.pilot}.{settings.mark.rpartition('.')[2][:4]}"
        self._next_enforce = 0.0
        #: The engine is up on the agent's own node.
        self.started = False
        #: Why the pilot cannot go on; None while it can.
        self.broken: str | None = None

    # ---- called by the agent --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine and a warm worker for each core, in the background; `started` is True then."""
        self._processes.start_engine(self._engine_started)

    def _engine_started(self) -> None:
        self.nodes.home.ready = True
        self.started = True
        self._wake()

    def _broke(self, reason: str) -> None:
        self.broken = reason
        self._wake()

    def beat(self) -> None:
        """Send heartbeats to workers and nodes; call it every second."""
        now = time.monotonic()
        for worker in self.workers.values():
            if worker.joined and now - worker.sent >= WORKER_BEAT_SECONDS:
                self.send(worker, messages.Heartbeat())
        for place in self.nodes.beat(now):
            self._lose_node(place, "cannot be reached any more")

    def stop(self) -> None:
        """End all workers and the engine, on all nodes. Blocks."""
        for worker in self.workers.values():
            self.send(worker, messages.Stop())
        self._let_devices_end()
        self.nodes.stop()
        self._processes.stop()

    def _let_devices_end(self) -> None:
        """Their workers end running jobs and sessions; wait for that, for a limited time."""
        deadline = time.monotonic() + DEVICES_STOP_SECONDS
        waited = {worker.name for worker in self.workers.values() if worker.shape.qpu and worker.joined}
        while waited and time.monotonic() < deadline:
            while self._processes.exits:
                waited.discard(self._processes.exits.popleft()[0])
            time.sleep(0.02)

    def keep(self) -> None:
        """Add new nodes and remove released ones; start the workers that cores and devices lack."""
        self.nodes.invite(self._engine.client)
        self._remove_released()
        for place in self.nodes:
            while place.ready and place.slots < place.node.cores:
                self._start(SLOT, place, {})
        now = time.monotonic()
        for name in self.devices.due(now):
            self.devices.worker_started(name, now)
            self._start(Resources(num_cpus=0.0, qpu=name), self.nodes.home, {})

    def _remove_released(self) -> None:
        for place in [place for place in self.nodes if place.leaving]:
            used = {worker.place.name for worker in self.workers.values() if worker.batches}
            used.update(name for worker in self.workers.values() for name in worker.hosts)
            if place.name not in used:
                self._lose_node(place, "was given back")

    def _lose_node(self, place: Place, reason: str) -> None:
        """A node is gone, and what ran there with it."""
        self.nodes.remove(place, reason)
        for worker in list(self.workers.values()):
            if worker.place is place:
                worker.blameless = True
                self._processes.gone(worker.name, f"is gone with its node {place.name}, which {reason}")
            elif place.name in worker.hosts:
                worker.blameless = True
                self._processes.kill(worker)
                self._processes.gone(worker.name, f"was ended: node {place.name} of its MPI task {reason}")

    # ---- messages of workers and nodes ----------------------------------------------------------------------

    def received(self, worker: Worker, message: Message) -> None:
        """Take in a worker's message about itself."""
        if isinstance(message, messages.Hello):
            self._joined(worker, message)
        elif isinstance(message, messages.WorkerLeaving):
            worker.leaving = True
            worker.leave_by = time.monotonic() + worker.end_seconds()
        elif isinstance(message, messages.DeviceReport):
            worker.reported = True
            self.devices.reported(worker.shape.qpu, message.info)

    def node_received(self, peer: bytes, message: Message) -> None:
        """Take in the message of a node's process."""
        if (place := self.nodes.received(peer, message)) is None:
            return
        if isinstance(message, messages.WorkerGone):
            self._processes.gone(message.worker, message.reason, message.blameless)
        elif isinstance(message, messages.Broken):
            self._lose_node(place, message.reason)

    def _joined(self, worker: Worker, hello: messages.Hello) -> None:
        if hello.versions != versions():
            self.broken = f"its workers run Python and quantum-pilot {hello.versions}, the agent {versions()}"
        worker.joined = True
        worker.pid = hello.pid
        worker.place.failed_starts = 0
        self._starting.discard(worker)
        if worker.exit is None and not worker.batches:
            self._idle.add(worker)

    # ---- workers for batches --------------------------------------------------------------------------------

    def occupy(self, worker: Worker) -> None:
        """It gets a batch: set aside what that needs."""
        self._idle.discard(worker)
        self._set_aside(worker)

    def free(self, worker: Worker) -> None:
        """It has no batch any more."""
        self.lending.end(worker)
        self._set_aside(worker, -1)
        worker.hosts, worker.rank_gpus = {}, {}
        if worker.exit is None and not worker.leaving:
            self._idle.add(worker)

    def reserve(self, worker: Worker) -> None:
        """It has not connected yet: meanwhile set aside what it will run."""
        self._starting.discard(worker)
        self._set_aside(worker)

    def unreserve(self, worker: Worker) -> None:
        """Undo `reserve`."""
        self._set_aside(worker, -1)
        worker.hosts, worker.rank_gpus = {}, {}
        self._starting.add(worker)

    def _set_aside(self, worker: Worker, sign: int = 1) -> None:
        """Cores and memory of what it runs, and the GPUs of its ranks."""
        if not worker.shape.ranks:
            worker.place.take(worker.needs, sign)
        for name, ranks in worker.hosts.items():
            if (place := self.nodes.get(name)) is not None:
                place.take(worker.needs, sign * ranks)
                for gpus in worker.rank_gpus.get(name, ()):
                    place.bind_gpus(gpus, sign)

    def hosts(self, needs: Resources) -> dict[str, int] | None:
        """The nodes where the ranks of an MPI task have room now, empty for other tasks; None when there is no room.
        Idle workers that hold GPUs for the ranks end."""
        if not needs.ranks:
            return {} if self.nodes.has_room(needs) else None
        places = self.nodes.for_ranks()
        hosts = spread(places, needs)
        if hosts is not None or not needs.num_gpus:
            return hosts
        idle = [one for one in self.workers.values() if one.gpus and not one.batches and one.joined]
        for worker in idle:
            worker.place.bind_gpus(worker.gpus, -1)
        hosts = spread(places, needs)
        for worker in idle:
            worker.place.bind_gpus(worker.gpus)
        for worker in idle:
            if hosts is not None and worker.place.name in hosts:
                self._retire(worker)
        return hosts

    def find(self, needs: Resources, hosts: dict[str, int]) -> Worker | None:
        """A worker of this shape, on a node with room, for these ``hosts``: an idle one, else one that is being
        started, else a new one; None when no node has the GPUs.

        The record has one list of GPUs for each worker: a worker whose ranks had other GPUs ends.
        """
        rank_gpus = self.nodes.pick_rank_gpus(needs.num_gpus, hosts)
        worker = self._idle.find(needs)
        while worker is not None and needs.ranks and worker.had not in (None, self.nodes.gpu_names(rank_gpus)):
            self._retire(worker)
            worker = self._idle.find(needs)
        worker = worker or self._starting.find(needs) or self._start_shape(needs)
        if worker is not None:
            worker.needs, worker.hosts, worker.rank_gpus = needs, hosts, rank_gpus
        return worker

    def send(self, worker: Worker, message: Message, frames: Frames = ()) -> None:
        """Send to a worker."""
        worker.sent = time.monotonic()
        self._server.send(worker.name.encode(), message, frames)

    # ---- starting workers -----------------------------------------------------------------------------------

    def _start_shape(self, needs: Resources) -> Worker | None:
        """A new worker for this on the node with the most free cores; None when none has the GPUs."""
        if needs == SLOT or needs.qpu:
            return None  # each core, and each device, has its own already
        shape = shape_of(needs)
        places = [place for place in self.nodes.ready() if place.has_room(needs)]
        if needs.ranks:
            places = [self.nodes.home]
        self._end_others(shape, places)
        for place in sorted(places, key=lambda place: -place.cores):
            gpus = place.pick_gpus(0 if needs.ranks else needs.num_gpus)
            if gpus is not None:
                return self._start(shape, place, gpus)
        return None

    def _end_others(self, shape: Resources, places: Sequence[Place]) -> None:
        """End idle workers of other shapes on these nodes: those that hold GPUs when these are needed, and those whose
        cores would be too many with the new worker's, for an engine may count them."""
        free = {place.name: place.cores - shape.num_cpus for place in places}
        for other in self._idle.others(shape):
            if other.place in places:
                free[other.place.name] -= other.shape.num_cpus
                if (shape.num_gpus and other.gpus) or free[other.place.name] < -ROUNDING:
                    self._retire(other)
                    free[other.place.name] += other.shape.num_cpus

    def _start(self, shape: Resources, place: Place, gpus: dict[int, float]) -> Worker:
        self._count += 1
        worker = Worker(f"{self._prefix}.{self._count}", shape, place, gpus)
        self.workers[worker.name] = worker
        self._starting.add(worker)
        place.bind_gpus(gpus)
        place.slots += shape == SLOT
        self._processes.start(worker)
        return worker

    # ---- ending workers -------------------------------------------------------------------------------------

    def enforce(self) -> None:
        """Kill workers that do not end their tasks in time, and end those that are not needed."""
        now = time.monotonic()
        if now < self._next_enforce:
            return
        self._next_enforce = now + ENFORCE_SECONDS
        for worker in list(self.workers.values()):
            if worker.leaving and worker.exit is None and now >= worker.leave_by:
                worker.leave_by = now + LEAVE_SECONDS
                self._kill(worker)
            if worker.batches:
                if worker.exit is None and worker.has_to_be_killed(now):
                    self._kill(worker)
            elif worker.is_unneeded(now):
                self._retire(worker)

    def _kill(self, worker: Worker) -> None:
        """Have the engine kill it. An engine may not notice that it is gone while children hold its connections: the
        second call does not wait for the engine's report."""
        self._processes.kill(worker)
        if worker.killed:
            self._processes.gone(worker.name, "was killed")
        worker.killed = True

    def _retire(self, worker: Worker) -> None:
        self._remove(worker)
        self.send(worker, messages.Stop())

    def _remove(self, worker: Worker) -> None:
        """Forget a worker, and what was set aside for it."""
        del self.workers[worker.name]
        if worker.shape.qpu:
            self.devices.worker_ended(worker.shape.qpu)
        self.lending.end(worker)
        if worker.batches:
            self._set_aside(worker, -1)
        self._idle.discard(worker)
        self._starting.discard(worker)
        self._exiting.pop(worker.name, None)
        worker.place.bind_gpus(worker.gpus, -1)
        worker.place.slots -= worker.shape == SLOT

    def lost(self) -> list[tuple[Worker, str]]:
        """The workers that are gone, whose last messages have arrived, and why. They are not in the pool any more."""
        now = time.monotonic()
        exits = self._processes.exits
        while exits:
            name, reason, blameless = exits.popleft()
            self._processes.keep_files(name)
            if (worker := self.workers.get(name)) is not None and worker.exit is None:
                worker.exit = (now + EXIT_GRACE, reason)
                worker.blameless |= blameless
                self._exiting[name] = worker
                self._idle.discard(worker)
                self._starting.discard(worker)
        lost = []
        for worker in list(self._exiting.values()):
            assert worker.exit is not None
            if not worker.batches or now >= worker.exit[0]:
                self._lose(worker, worker.exit[1])
                lost.append((worker, worker.exit[1]))
        return lost

    def _lose(self, worker: Worker, reason: str) -> None:
        place = worker.place
        self._remove(worker)
        if worker.joined:
            self._processes.end_left(worker)
        if worker.shape.qpu:
            if not worker.reported and worker.end_by is None:
                self.devices.start_failed(worker.shape.qpu, reason)
        elif not worker.joined and not worker.blameless and self.nodes.get(place.name) is not None:
            place.failed_starts += 1
            if place.failed_starts >= FAILED_STARTS:
                self._cannot_start(place, reason)

    def _cannot_start(self, place: Place, reason: str) -> None:
        why = f"workers do not start (the last one {reason}); see the files in {self._processes.folder.parent}"
        if place.peer is None:
            self.broken = f"its {why}"
        else:
            self._lose_node(place, f"is given up: its {why}")
