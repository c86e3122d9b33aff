"""The workers of a pilot on all its nodes, and which of them runs which batch. The agent's inner half; ``agent.py``
is the outer.

Cores are counted by what runs: an idle worker takes none. A batch goes to an idle worker of its shape (its
`Resources`) on a node with room; one is started when there is none. Batches start in the order in which they came; one
that waits for cores keeps those behind it from taking them, one that waits for a GPU only those that need GPUs, one
that waits for a device nobody. Each device has a worker of its own, on the agent's node, as long as the pilot lives. An
MPI task has a worker on the agent's node, which starts its ranks on the cores and GPUs that are set aside for them.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from pilot.agent.gpus import lacks_gpus
from pilot.agent.nodes import Place, spread
from pilot.interfaces import Allocation, Engine, WorkerSpec
from pilot.resources import SLOT, Capacity, Node, QPUInfo, Resources, shortage
from pilot.results import TIMED_OUT, Outcome
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.channel import MAIN, Frame, Keys, Server
from pilot.wire.messages import Message
from pilot.wire.processes import end_left, with_threads
from pilot.wire.session import AgentSettings
from pilot.worker import gpus as gpu_variables
from pilot.worker.device import unusable

log = logging.getLogger(__name__)

#: Seconds that the last messages of a worker may take to arrive after it has ended.
EXIT_GRACE = 0.2
#: Seconds that a worker has to carry out a cancellation or a timeout itself.
OBEY_SECONDS = 3.0
#: The same for one that has a device: it cancels the job at the vendor's first.
DEVICE_OBEY_SECONDS = 10.0
#: Seconds after which a worker that was killed is gone, whatever the engine says.
LEAVE_SECONDS = 1.0
#: Batches of no more patience (seconds) than this are given ahead.
SHORT_PATIENCE = 1.0
#: Seconds after which an idle worker of another shape ends.
IDLE_SECONDS = 60.0
#: Seconds after which a worker to which nothing was sent is told that the agent is there; it gives the agent up after
#: some times as many (`worker.AGENT_SILENT_SECONDS`).
WORKER_BEAT_SECONDS = 5.0
#: No more batches than this are held for workers that are being started before those behind them are looked at.
HELD_BATCHES = 64
#: Seconds between two looks at workers that must obey.
ENFORCE_SECONDS = 0.1
#: A worker of a device that has ended is not replaced sooner than so many seconds after its own start.
DEVICE_START_SECONDS = 2.0
#: Seconds that the workers of devices have to end jobs and sessions when the pilot ends.
DEVICE_END_SECONDS = 10.0
#: A node whose process says nothing for so many seconds, or cannot be reached by so many beats in a row, is gone.
NODE_SILENT_SECONDS = 20.0
NODE_UNREACHED = 3
#: So many workers in a row that end before they have reported mean that none will.
FAILED_STARTS = 3

#: Sends a message to the manager, kept until acknowledged.
Report = Callable[[Message, Sequence[Frame]], None]


class _Batch:
    def __init__(self, run: messages.RunBatch, body: bytes) -> None:
        self.run = run
        self.body = body
        #: Tasks of which neither an outcome came nor that they were given back.
        self.open = len(run.tasks)
        self.partial: list[bytes] = []
        self.returned: set[int] = set()
        self.began = 0.0

    def is_short(self) -> bool:
        """True for a batch of slots' tasks behind which another one may wait."""
        return (
            self.run.resources == SLOT
            and not self.run.alone
            and not self.run.limit
            and self.run.patience <= SHORT_PATIENCE
        )

    def missing(self) -> list[int]:
        """The tasks that are open."""
        known = {outcome.task for body in self.partial for outcome in messages.decode_outcomes(body)}
        return [task for task in self.run.tasks if task not in known and task not in self.returned]


class _Worker:
    def __init__(self, name: str, shape: Resources, place: Place, gpus: dict[int, float]) -> None:
        self.name = name
        self.shape = shape
        self.place = place
        self.gpus = gpus
        self.joined = False
        #: Its process, once it has joined.
        self.pid = 0
        #: Its device has said something of itself.
        self.reported = False
        #: What it has: the batch that it runs, and one ahead of it.
        self.batches: deque[_Batch] = deque()
        self.functions: set[str] = set()
        self.idle_since = self.heard = self.told = time.monotonic()
        #: By when it must have ended ``unwanted`` tasks, or (``overdue``) the one that runs too long.
        self.obey_by: float | None = None
        self.unwanted: set[int] = set()
        self.exit: tuple[float, str] | None = None
        self.overdue = False
        #: It has said that it ends: it gets no more work, and is gone by then whatever its engine says.
        self.leaving = False
        self.leave_by = 0.0
        #: The engine was told to kill it.
        self.killed = False
        #: It is no task's fault that it is gone.
        self.innocent = False
        #: Where the ranks of its MPI task run: node → ranks, and what each of them has of which GPU there.
        self.hosts: dict[str, int] = {}
        self.rank_gpus: dict[str, list[dict[int, float]]] = {}
        #: What is on record for all its tasks once one has run: the GPUs that its ranks had.
        self.had: dict[str, list[str]] | None = None

    def gpu_names(self) -> list[str]:
        """The GPUs that its tasks, or the ranks of its task, have."""
        own = [self.place.node.gpus[index] for index in self.gpus]
        return own + [name for names in (self.had or {}).values() for name in dict.fromkeys(names)]


class _Pool:
    """Workers that have no batch, by shape and node: one is found without looking at all of them."""

    def __init__(self) -> None:
        self._shapes: dict[Resources, dict[Place, dict[str, _Worker]]] = {}

    def add(self, worker: _Worker) -> None:
        self._shapes.setdefault(worker.shape, {}).setdefault(worker.place, {})[worker.name] = worker

    def discard(self, worker: _Worker) -> None:
        places = self._shapes.get(worker.shape, {})
        workers = places.get(worker.place, {})
        if workers.pop(worker.name, None) is None or workers:
            return
        del places[worker.place]
        if not places:
            del self._shapes[worker.shape]

    def find(self, shape: Resources) -> _Worker | None:
        """One of this shape, on an open node with room."""
        for place, workers in self._shapes.get(shape, {}).items():
            if place.entered and (shape.ranks or place.has_room(shape)):
                return next(iter(workers.values()))
        return None

    def others(self, shape: Resources) -> list[_Worker]:
        """Those of neither this shape nor the slots' nor the devices'."""
        shapes = [places for one, places in self._shapes.items() if one not in (SLOT, shape) and not one.qpu]
        return [worker for places in shapes for workers in places.values() for worker in workers.values()]


class Crew:
    """Starts workers, gives them batches, and notices when one is gone. For the agent's thread."""

    def __init__(
        self,
        engine: Engine,
        home: Node,
        server: Server,
        keys: Keys,
        settings: AgentSettings,
        spool: Path,
        report: Report,
        wake: Callable[[], None],
    ) -> None:
        """Make the crew; `start` starts it.

        Args:
            engine: where the workers run.
            home: the agent's own node.
            server: where they connect to.
            keys: of the session.
            settings: of the agent.
            spool: folder for large results.
            report: sends to the manager.
            wake: makes the agent's thread call `attend`; any thread may call it.
        """
        self._engine = engine
        self._server = server
        self._keys = keys
        self._settings = settings
        self._spool = spool
        self._report = report
        self._wake = wake
        self._calls = ThreadPoolExecutor(1, thread_name_prefix="pilot-engine")
        self._exits: deque[tuple[str, str, bool]] = deque()
        self._home = Place(home, None, server.address.replace("//0.0.0.0:", "//127.0.0.1:"))
        self._places = {home.name: self._home}
        self._workers: dict[str, _Worker] = {}
        #: Those that wait for work, those that were started and have not reported yet, and those that have one short
        #: batch and may get another.
        self._idle = _Pool()
        self._starting = _Pool()
        self._ready_for_more: dict[str, _Worker] = {}
        self._exiting: dict[str, _Worker] = {}
        self._queue: deque[_Batch] = deque()
        self._batches: dict[int, _Batch] = {}
        self._codes: dict[str, bytes] = {}
        self._count = 0
        #: Of the workers' names: those of another agent of this pilot have other names.
        self._prefix = f"{settings.pilot}.{settings.mark.rpartition('.')[2][:4]}"
        self._stopping = False
        self._next_enforce = 0.0
        #: What its devices say of themselves, as far as they have reported.
        self._devices: dict[str, QPUInfo] = {}
        #: How often in a row the worker of each has ended before it reported.
        self._device_deaths: dict[str, int] = {}
        #: The worker of each, and when the next one may be started.
        self._device_workers: dict[str, _Worker | None] = dict.fromkeys(settings.devices)
        self._device_starts: dict[str, float] = {}
        #: The engine is up on the agent's own node.
        self.started = False
        #: Counts how often a node came or went, or a device said something new.
        self.changes = 0
        #: Why the crew cannot go on; None while it can.
        self.broken: str | None = None

    @property
    def allocation(self) -> Allocation:
        """What the pilot has on the agent's own node."""
        return self._engine.allocation

    @property
    def nodes(self) -> list[Node]:
        """The nodes where workers can run now."""
        return [place.node for place in self._open_places()]

    @property
    def qpus(self) -> list[QPUInfo]:
        """What its devices say of themselves."""
        return list(self._devices.values())

    # ---- the agent calls ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine and a warm worker for each core, in the background; `started` tells."""
        self._call(self._start_engine)

    def _start_engine(self) -> None:
        self._engine.start(self._broke)
        self._home.entered = True
        self.started = True
        self._wake()

    def _broke(self, reason: str) -> None:
        self.broken = reason
        self._wake()

    def add(self, run: messages.RunBatch, frames: list[bytes]) -> None:
        """Take a batch."""
        self._codes.update(zip(run.sent, frames[1:], strict=True))
        batch = _Batch(run, frames[0])
        self._batches[run.batch] = batch
        self._queue.append(batch)

    def held(self) -> dict[int, list[int]]:
        """The open tasks of each batch."""
        return {id: batch.missing() for id, batch in self._batches.items()}

    def cancel(self, tasks: Sequence[int]) -> None:
        """Stop these tasks: what was not begun is given back at once, what runs is left to its worker to end."""
        wanted = set(tasks)
        queued, self._queue = self._queue, deque()
        for batch in queued:
            if wanted.isdisjoint(batch.run.tasks):
                self._queue.append(batch)
            else:
                self._give_back(batch, "given back for a cancellation, not begun")
        for worker in self._workers.values():
            if not all(wanted.isdisjoint(batch.run.tasks) for batch in worker.batches):
                self._send(worker, messages.CancelTasks(list(tasks)))
                worker.unwanted |= wanted
                worker.obey_by = worker.obey_by or time.monotonic() + _obey_seconds(worker)

    def drain(self) -> None:
        """Give back what was not begun."""
        while self._queue:
            self._give_back(self._queue.popleft(), "given back, the pilot drains")

    def beat(self) -> None:
        """Tell workers and nodes that the agent is there; call it every second."""
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.joined and now - worker.told >= WORKER_BEAT_SECONDS:
                self._send(worker, messages.Heartbeat())
        for place in [place for place in self._places.values() if place.peer is not None]:
            reached = self._server.send(place.peer, messages.Heartbeat())  # type: ignore[arg-type]
            place.unreached = 0 if reached else place.unreached + 1
            if place.unreached >= NODE_UNREACHED or now - place.heard > NODE_SILENT_SECONDS:
                self._lose_place(place, "cannot be reached any more")

    def is_idle(self) -> bool:
        """True when nothing runs and nothing waits."""
        return not self._batches

    def stop(self) -> None:
        """End all workers and the engine, on all nodes. Blocks."""
        self._stopping = True
        for worker in self._workers.values():
            self._send(worker, messages.Stop())
        self._let_devices_end()
        for place in self._places.values():
            if place.peer is not None:
                self._server.send(place.peer, messages.Stop())
        self._calls.submit(self._engine.stop)
        self._calls.shutdown()

    def attend(self) -> None:
        """Take in what workers and nodes say and what became of them; give idle workers work."""
        while (received := self._server.receive()) is not None:
            peer, message, frames = received
            try:
                self._received(peer, message, frames)
            except Exception:
                log.exception("a message from %r cannot be taken in", peer)
        self._notice_exits()
        if self.started:
            self._invite()
            self._let_go()
            self._keep_slots()
            self._keep_devices()
            self._dispatch()
            self._enforce()

    # ---- nodes ----------------------------------------------------------------------------------------------

    def _join(self, peer: bytes, message: messages.JoinNode) -> None:
        node = message.node
        if node.name in self._places:
            self._server.send(peer, messages.Refused(f"this pilot has a node {node.name} already"))
            return
        if (lacking := lacks_gpus(node, self._settings.gpus)) is not None:
            log.warning("node %s is refused: %s", node.name, lacking)
            self._server.send(peer, messages.Refused(lacking))
            if not node.job:
                self.broken = f"its {lacking}"
            return
        self._places[node.name] = Place(node, peer, message.address)

    def _invite(self) -> None:
        """Tell new nodes how to enter the engine's cluster, once that is up."""
        for place in self._places.values():
            if place.peer is not None and not place.invited:
                place.invited = self._server.send(place.peer, messages.EnterCluster(self._engine.client()))

    def _entered(self, place: Place) -> None:
        place.entered = True
        self.changes += 1
        log.info("node %s (%s) is up: %d cores", place.name, place.node.host, place.node.cores)

    def shrink(self, count: int) -> None:
        """Give back so many of the nodes that came last, each when it has finished what it runs."""
        far = [place for place in self._open_places() if place.peer is not None]
        for place in far[-count:]:
            place.entered = False
            place.leaving = True
            self.changes += 1
        for worker in list(self._ready_for_more.values()):
            if worker.place.leaving:
                del self._ready_for_more[worker.name]

    def _let_go(self) -> None:
        for place in [place for place in self._places.values() if place.leaving]:
            used = {worker.place.name for worker in self._workers.values() if worker.batches}
            used.update(name for worker in self._workers.values() for name in worker.hosts)
            if place.name not in used:
                self._lose_place(place, "was given back")

    def _lose_place(self, place: Place, reason: str) -> None:
        """A node is gone, and what ran there with it."""
        log.warning("node %s %s", place.name, reason)
        del self._places[place.name]
        self.changes += 1
        self._server.send(place.peer, messages.Stop())  # type: ignore[arg-type]
        for worker in list(self._workers.values()):
            if worker.place is place:
                worker.innocent = True
                self._gone(worker.name, f"is gone with its node {place.name}, which {reason}")
            elif place.name in worker.hosts:
                worker.innocent = True
                self._kill(worker)
                self._gone(worker.name, f"was ended: of its MPI task's nodes {place.name} {reason}")

    # ---- what workers say -----------------------------------------------------------------------------------

    def _received(self, peer: bytes, message: Message, frames: list[bytes]) -> None:
        name = peer.decode("utf-8", "replace").removesuffix(MAIN)
        worker = self._workers.get(name)
        if worker is None:
            self._node_received(peer, message)
            return
        worker.heard = time.monotonic()
        if isinstance(message, messages.Hello):
            self._joined(worker, message)
        elif isinstance(message, messages.OutcomesReport):
            self._report(self._outcomes(worker, message.batch, message.count), frames)
            if (batch := self._batches.get(message.batch)) is not None:
                batch.open -= message.count
                if batch.open > 0:
                    batch.partial.append(frames[0])
                self._progressed(worker, batch)
        elif isinstance(message, messages.UnfinishedTasks):
            self._report(message, ())
            if (batch := self._batches.get(message.batch)) is not None:
                batch.returned.update(message.tasks)
                batch.open -= len(message.tasks)
                self._progressed(worker, batch)
        elif isinstance(message, messages.TaskStarted):
            self._report(message, ())
        elif isinstance(message, messages.WorkerLeaving):
            worker.leaving = True
            worker.leave_by = time.monotonic() + _obey_seconds(worker)
            self._ready_for_more.pop(worker.name, None)
        elif isinstance(message, messages.DeviceReport):
            worker.reported = True
            self._device_said(worker, message)

    def _device_said(self, worker: _Worker, message: messages.DeviceReport) -> None:
        name, info = worker.shape.qpu, message.info
        self._device_deaths[name] = 0
        if info.problem:
            log.warning("the device %s cannot be used: %s", name, info.problem)
        else:
            log.info("the device %s has %d qubits", name, info.qubits)
        if self._devices.get(name) != info:
            self._devices[name] = info
            self.changes += 1

    def _device_died(self, name: str, reason: str) -> None:
        """A device's worker ended before it has reported: when that happens again and again, it is given up."""
        self._device_deaths[name] = self._device_deaths.get(name, 0) + 1
        if self._device_deaths[name] < FAILED_STARTS:
            return
        why = f"its worker has ended {FAILED_STARTS} times before it was open (the last one {reason})"
        log.warning("the device %s is given up: %s", name, why)
        del self._device_workers[name]
        self._devices[name] = unusable(QPUInfo(name=name, qubits=0), why)
        self.changes += 1
        waiting = [batch for batch in self._queue if batch.run.resources.qpu == name]
        for batch in waiting:
            self._queue.remove(batch)
            self._give_back(batch, f"given back, not begun: {name} cannot be used")

    def _outcomes(self, worker: _Worker, batch: int, count: int) -> messages.OutcomesReport:
        return messages.OutcomesReport(
            batch, worker.name, count, worker.place.name, worker.gpu_names(), worker.shape.qpu
        )

    def _node_received(self, peer: bytes, message: Message) -> None:
        place = next((one for one in self._places.values() if one.peer == peer), None)
        if isinstance(message, messages.Hello) and message.versions != versions():
            reason = f"it runs Python and quantum-pilot {message.versions}, the agent {versions()}"
            log.warning("node %s is refused: %s", message.host, reason)
            self._server.send(peer, messages.Refused(reason))
        elif isinstance(message, messages.JoinNode):
            self._join(peer, message)
        elif place is not None:
            place.heard = time.monotonic()
            if isinstance(message, messages.NodeReady):
                self._entered(place)
            elif isinstance(message, messages.WorkerGone):
                self._gone(message.worker, message.reason, message.blameless)
            elif isinstance(message, messages.Broken):
                self._lose_place(place, message.reason)

    def _joined(self, worker: _Worker, hello: messages.Hello) -> None:
        if hello.versions != versions():
            self.broken = f"its workers run Python and quantum-pilot {hello.versions}, the agent {versions()}"
        worker.joined = True
        worker.pid = hello.pid
        worker.place.failed_starts = 0
        self._starting.discard(worker)
        if worker.exit is None and not worker.batches:
            self._idle.add(worker)

    def _progressed(self, worker: _Worker, batch: _Batch) -> None:
        if batch.open > 0:
            return
        self._batches.pop(batch.run.batch, None)
        if batch in worker.batches:
            worker.batches.remove(batch)
            worker.idle_since = time.monotonic()
            if not worker.batches:
                self._free(worker)
                worker.leave_by = min(worker.leave_by, worker.idle_since + OBEY_SECONDS)
        if worker.batches:
            worker.batches[0].began = time.monotonic()
            self._may_have_more(worker)
        else:
            worker.obey_by = None
            worker.unwanted.clear()

    def _free(self, worker: _Worker) -> None:
        """It has nothing to do any more."""
        self._ready_for_more.pop(worker.name, None)
        self._set_aside(worker, -1)
        worker.hosts, worker.rank_gpus = {}, {}
        if worker.exit is None and not worker.leaving:
            self._idle.add(worker)

    def _set_aside(self, worker: _Worker, sign: int = 1) -> None:
        """Cores and memory of what it runs, and the GPUs of its ranks."""
        if not worker.shape.ranks:
            worker.place.take(worker.shape, sign)
        for name, ranks in worker.hosts.items():
            if (place := self._places.get(name)) is not None:
                place.take(worker.shape, sign * ranks)
                for gpus in worker.rank_gpus.get(name, ()):
                    place.bind_gpus(gpus, sign)

    def _may_have_more(self, worker: _Worker) -> None:
        if worker.exit is not None or worker.leaving or not worker.place.entered or worker.shape != SLOT:
            return
        if len(worker.batches) == 1 and worker.batches[0].is_short():
            self._ready_for_more[worker.name] = worker

    def _give_back(self, batch: _Batch, reason: str) -> None:
        del self._batches[batch.run.batch]
        self._report(messages.UnfinishedTasks(batch.run.batch, "", batch.run.tasks, reason, False), ())

    # ---- giving work ----------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if not self._queue:
            return
        held: list[_Worker] = []  # not there yet: what they will run has its room set aside meanwhile
        passed: list[_Batch] = []
        gpus_waited_for = False
        while self._queue and len(held) < HELD_BATCHES:
            batch = self._queue.popleft()
            needs = batch.run.resources
            if needs.num_gpus and gpus_waited_for:
                passed.append(batch)
                continue
            hosts = self._hosts(needs)
            if hosts is None and (reason := shortage(needs, self._capacity())) is not None:
                self._give_back(batch, f"given back, not begun: {reason}")
                continue
            worker = None if hosts is None else self._worker_for(needs, hosts)
            if worker is not None and worker.joined:
                self._give(worker, batch)
                continue
            passed.append(batch)
            if worker is not None:
                held.append(worker)
                self._starting.discard(worker)
                self._set_aside(worker)
            elif needs.num_gpus and (hosts is not None or self._waits_for_gpus(needs)):
                gpus_waited_for = True
            elif not needs.qpu:
                break
        self._queue.extendleft(reversed(passed))
        for worker in held:
            self._set_aside(worker, -1)
            worker.hosts, worker.rank_gpus = {}, {}
            self._starting.add(worker)
        self._give_ahead()

    def _hosts(self, needs: Resources) -> dict[str, int] | None:
        """Where the ranks of an MPI task have room now, nothing for other tasks; None when there is no room."""
        if needs.ranks:
            return self._spread(needs)
        return {} if any(place.entered and place.has_room(needs) for place in self._places.values()) else None

    def _spread(self, needs: Resources) -> dict[str, int] | None:
        """Where the ranks of an MPI task can run now; idle workers that hold the GPUs for it end."""
        places = [place for place in self._open_places() if not place.node.job]
        hosts = spread(places, needs)
        if hosts is not None or not needs.num_gpus:
            return hosts
        idle = [one for one in self._workers.values() if one.gpus and not one.batches and one.joined]
        for worker in idle:
            worker.place.bind_gpus(worker.gpus, -1)
        hosts = spread(places, needs)
        for worker in idle:
            worker.place.bind_gpus(worker.gpus)
        for worker in idle:
            if hosts is not None and worker.place.name in hosts:
                self._retire(worker)
        return hosts

    def _waits_for_gpus(self, needs: Resources) -> bool:
        """True when it is only for GPUs that these ranks have no room."""
        places = (place for place in self._open_places() if not place.node.job)
        return needs.ranks > 0 and spread(places, msgspec.structs.replace(needs, num_gpus=0.0)) is not None

    def _names(self, rank_gpus: dict[str, list[dict[int, float]]]) -> dict[str, list[str]]:
        """The GPUs of the ranks by node; nothing when they have none."""
        names = {
            node: [self._places[node].node.gpus[index] for gpus in ranks for index in gpus]
            for node, ranks in rank_gpus.items()
        }
        return names if any(names.values()) else {}

    def _capacity(self) -> Capacity:
        return Capacity((), "the pilot", (), self.nodes, None)

    def _open_places(self) -> list[Place]:
        return [place for place in self._places.values() if place.entered]

    def _worker_for(self, needs: Resources, hosts: dict[str, int]) -> _Worker | None:
        """One of this shape, on a node with room, told where the ranks run: rather one that is there than one that is
        being started, rather that than a new one; None when no node has the GPUs.

        The record has one list of GPUs for each worker: one whose ranks had others ends.
        """
        rank_gpus = {name: self._places[name].pick_rank_gpus(needs.num_gpus, ranks) for name, ranks in hosts.items()}
        worker = self._idle.find(needs)
        while worker is not None and needs.ranks and worker.had not in (None, self._names(rank_gpus)):
            self._retire(worker)
            worker = self._idle.find(needs)
        worker = worker or self._starting.find(needs) or self._spawn(needs)
        if worker is not None:
            worker.hosts, worker.rank_gpus = hosts, rank_gpus
        return worker

    def _give_ahead(self) -> None:
        """A short batch goes to a busy worker already, which then does not wait for it when it is free."""
        while self._queue and self._ready_for_more and self._queue[0].is_short():
            self._give(next(iter(self._ready_for_more.values())), self._queue.popleft())

    def _give(self, worker: _Worker, batch: _Batch) -> None:
        run = batch.run
        unknown = [digest for digest in run.functions if digest not in worker.functions]
        worker.functions.update(unknown)
        if not worker.batches:
            self._idle.discard(worker)
            self._set_aside(worker)
        worker.batches.append(batch)
        worker.had = self._names(worker.rank_gpus)
        self._ready_for_more.pop(worker.name, None)
        self._may_have_more(worker)
        batch.began = time.monotonic()
        run = messages.RunBatch(
            run.batch,
            run.resources,
            [],
            run.functions,
            unknown,
            run.patience,
            run.alone,
            run.limit,
            worker.hosts,
            worker.had,
        )
        self._send(worker, run, [batch.body, *(self._codes[digest] for digest in unknown)])

    def _enforce(self) -> None:
        """Kill workers that do not obey, and end those that nobody needs."""
        now = time.monotonic()
        if now < self._next_enforce:
            return
        self._next_enforce = now + ENFORCE_SECONDS
        for worker in list(self._workers.values()):
            if worker.leaving and worker.exit is None and now >= worker.leave_by:
                worker.leave_by = now + LEAVE_SECONDS
                self._end(worker)
            if worker.batches:
                if (worker.obey_by is not None or worker.batches[0].run.limit) and worker.exit is None:
                    self._enforce_on(worker, worker.batches[0], now)
            elif (
                worker.joined
                and worker.shape != SLOT
                and not worker.shape.qpu
                and now - worker.idle_since > IDLE_SECONDS
            ):
                self._retire(worker)

    def _enforce_on(self, worker: _Worker, batch: _Batch, now: float) -> None:
        limit = batch.run.limit
        # a worker says so when a task takes long: its silence lasts no longer than one task, unless it cannot speak
        if worker.obey_by is None and limit and now > max(batch.began, worker.heard) + limit + _obey_seconds(worker):
            worker.overdue = True
            worker.obey_by = now
        if worker.obey_by is None or now < worker.obey_by:
            return
        if worker.overdue or any(worker.unwanted & set(one.missing()) for one in worker.batches):
            worker.obey_by = now + OBEY_SECONDS
            self._end(worker)
        else:
            worker.obey_by = None

    def _end(self, worker: _Worker) -> None:
        """Have the engine kill it. An engine may not notice that it is gone while children hold its connections: the
        second time nobody waits for that any more."""
        self._kill(worker)
        if worker.killed:
            self._gone(worker.name, "was killed")
        worker.killed = True

    def _retire(self, worker: _Worker) -> None:
        self._remove(worker)
        self._send(worker, messages.Stop())

    def _remove(self, worker: _Worker) -> None:
        """Forget a worker, and what was set aside for it."""
        del self._workers[worker.name]
        if worker.shape.qpu:
            self._device_workers[worker.shape.qpu] = None
        if worker.batches:
            self._set_aside(worker, -1)
        self._idle.discard(worker)
        self._starting.discard(worker)
        self._ready_for_more.pop(worker.name, None)
        self._exiting.pop(worker.name, None)
        worker.place.bind_gpus(worker.gpus, -1)
        worker.place.slots -= worker.shape == SLOT

    # ---- starting and losing workers ------------------------------------------------------------------------

    def _keep_slots(self) -> None:
        for place in self._places.values():
            while place.entered and place.slots < place.node.cores:
                self._start_worker(SLOT, place, {})

    def _keep_devices(self) -> None:
        now = time.monotonic()
        for name, worker in self._device_workers.items():
            if worker is None and now >= self._device_starts.get(name, now):
                self._device_starts[name] = now + DEVICE_START_SECONDS
                self._device_workers[name] = self._start_worker(Resources(num_cpus=0.0, qpu=name), self._home, {})

    def _let_devices_end(self) -> None:
        """Their workers end the jobs that are under way and the sessions; wait for that, but not for ever."""
        deadline = time.monotonic() + DEVICE_END_SECONDS
        waited = {worker.name for worker in self._workers.values() if worker.shape.qpu and worker.joined}
        while waited and time.monotonic() < deadline:
            while self._exits:
                waited.discard(self._exits.popleft()[0])
            time.sleep(0.02)

    def _spawn(self, shape: Resources) -> _Worker | None:
        """A new worker of this shape on the node with the most free cores; None when none has the GPUs."""
        if shape == SLOT or shape.qpu:
            return None  # each core, and each device, has its own already
        places = [place for place in self._open_places() if place.has_room(shape)]
        if shape.ranks:
            places = [self._home]
        self._make_room(shape, places)
        for place in sorted(places, key=lambda place: -place.cores):
            gpus = place.pick_gpus(0 if shape.ranks else shape.num_gpus)
            if gpus is not None:
                return self._start_worker(shape, place, gpus)
        return None

    def _make_room(self, shape: Resources, places: list[Place]) -> None:
        """Idle workers of other shapes end: they may hold GPUs, and memory."""
        for other in self._idle.others(shape):
            if other.place in places:
                self._retire(other)

    def _start_worker(self, shape: Resources, place: Place, gpus: dict[int, float]) -> _Worker:
        self._count += 1
        worker = _Worker(f"{self._prefix}.{self._count}", shape, place, gpus)
        self._workers[worker.name] = worker
        self._starting.add(worker)
        place.bind_gpus(gpus)
        place.slots += shape == SLOT
        spec = WorkerSpec(
            name=worker.name,
            node=place.name,
            resources=shape,
            address=place.address,
            keys=self._keys,
            folder=str(self.allocation.folder / "workers"),
            spool=str(self._spool),
            sys_path=self._settings.sys_path,
            working_directory=self._settings.working_directory,
            environment=self._environment(worker),
        )
        if place.peer is None or self._engine.central:
            self._call(self._engine.spawn, spec, functools.partial(self._gone, worker.name))
        else:
            self._server.send(place.peer, messages.StartWorker(spec))
        return worker

    def _kill(self, worker: _Worker) -> None:
        if worker.place.peer is None or self._engine.central:
            self._call(self._engine.kill, worker.name)
        else:
            self._server.send(worker.place.peer, messages.KillWorker(worker.name))

    def _end_left(self, worker: _Worker) -> None:
        """What the tasks of a worker that is gone have started ends before another one has its cores."""
        if worker.place.peer is None:
            self._call(end_left, self._settings.mark, worker.name, worker.pid)
        else:
            self._server.send(worker.place.peer, messages.KillWorker(worker.name, worker.pid))

    def _environment(self, worker: _Worker) -> dict[str, str]:
        environment = with_threads(max(1, int(worker.shape.num_cpus)), self._settings.environment)
        node = worker.place.node
        if node.gpus:
            environment[gpu_variables.VARIABLES] = ",".join(node.gpu_variables)
            environment |= gpu_variables.assigned(node.gpu_variables, [node.gpus[index] for index in worker.gpus])
        return environment

    def _gone(self, name: str, reason: str, blameless: bool = False) -> None:
        self._exits.append((name, reason, blameless))
        self._wake()

    def _notice_exits(self) -> None:
        now = time.monotonic()
        while self._exits:
            name, reason, blameless = self._exits.popleft()
            if (worker := self._workers.get(name)) is not None and worker.exit is None:
                worker.exit = (now + EXIT_GRACE, reason)
                worker.innocent |= blameless
                self._exiting[name] = worker
                self._idle.discard(worker)
                self._starting.discard(worker)
                self._ready_for_more.pop(name, None)
        for worker in list(self._exiting.values()):
            assert worker.exit is not None
            if not worker.batches or now >= worker.exit[0]:
                self._bury(worker, worker.exit[1])

    def _bury(self, worker: _Worker, reason: str) -> None:
        place = worker.place
        self._remove(worker)
        if worker.joined:
            self._end_left(worker)
        if worker.shape.qpu:
            if not worker.reported and worker.obey_by is None and not self._stopping:
                self._device_died(worker.shape.qpu, reason)
        elif not worker.joined and not worker.innocent and not self._stopping and place.name in self._places:
            place.failed_starts += 1
            if place.failed_starts >= FAILED_STARTS:
                self._cannot_start(place, reason)
        for batch in worker.batches:
            del self._batches[batch.run.batch]
            self._lose(worker, batch, f"worker {worker.name} {reason}")

    def _cannot_start(self, place: Place, reason: str) -> None:
        folder = self.allocation.folder / "workers"
        why = f"workers do not start (the last one {reason}); see the files in {folder}"
        if place.peer is None:
            self.broken = f"its {why}"
        else:
            self._lose_place(place, f"is given up: its {why}")

    def _lose(self, worker: _Worker, batch: _Batch, reason: str) -> None:
        """Report the tasks that a dead worker leaves open.

        In which of its batches it died is not known: outcomes of the first one may have died with it.
        """
        tasks = batch.missing()
        if batch is worker.batches[0] and worker.overdue and len(tasks) == 1:
            seconds = time.monotonic() - batch.began
            body = messages.encode([Outcome(tasks[0], TIMED_OUT, time.time() - seconds, seconds)])
            self._report(self._outcomes(worker, batch.run.batch, 1), [body])
            return
        obeyed = worker.obey_by is not None and not worker.overdue
        blame = not obeyed and not worker.innocent
        self._report(messages.UnfinishedTasks(batch.run.batch, worker.name, tasks, reason, blame, not obeyed), ())

    # ---- small ----------------------------------------------------------------------------------------------

    def _send(self, worker: _Worker, message: Message, frames: Sequence[Frame] = ()) -> None:
        worker.told = time.monotonic()
        self._server.send(worker.name.encode(), message, frames)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        """Call the engine, in its own thread; what it raises breaks the crew."""

        def call() -> None:
            try:
                function(*args)
            except Exception as error:
                log.exception("the engine failed")
                self.broken = f"{type(error).__name__}: {error}"
                self._wake()

        if not self._stopping:
            self._calls.submit(call)


def _obey_seconds(worker: _Worker) -> float:
    """How long it may take to carry out a cancellation or a timeout itself."""
    return DEVICE_OBEY_SECONDS if worker.shape.qpu else OBEY_SECONDS
