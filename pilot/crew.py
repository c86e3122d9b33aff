"""The workers of a pilot, and which of them runs which batch. The agent's inner half; ``agent.py`` is the outer.

Cores are counted by what runs: an idle worker takes none. A batch goes to an idle worker of its shape (its
`Resources`); one is started when there is none. Batches start in the order in which they came; one that waits for
cores keeps those behind it from taking them, one that waits for a GPU does not.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pilot import messages
from pilot.channel import Frame, Keys, Server
from pilot.descriptions import SLOT, Resources
from pilot.interfaces import Allocation, Engine, WorkerSpec
from pilot.messages import Message
from pilot.results import TIMED_OUT, Outcome
from pilot.worker import MAIN, versions

log = logging.getLogger(__name__)

#: Seconds that the last messages of a worker may take to arrive after it has ended.
EXIT_GRACE = 0.2
#: Seconds that a worker has to carry out a cancellation or a timeout itself.
OBEY_SECONDS = 3.0
#: Batches of no more patience (seconds) than this are given ahead.
SHORT_PATIENCE = 1.0
#: Seconds after which an idle worker of another shape ends.
IDLE_SECONDS = 60.0
#: So many workers in a row that end before they have reported mean that none will.
FAILED_STARTS = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

#: Sends a message to the manager, kept until acknowledged.
Report = Callable[[Message, Sequence[Frame]], None]


class _Batch:
    def __init__(self, run: messages.Run, body: bytes) -> None:
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
    def __init__(self, name: str, shape: Resources, gpus: dict[int, float]) -> None:
        self.name = name
        self.shape = shape
        self.gpus = gpus
        self.joined = False
        #: What it has: the batch that it runs, and one ahead of it.
        self.batches: deque[_Batch] = deque()
        self.functions: set[str] = set()
        self.idle_since = self.heard = time.monotonic()
        #: By when it must have ended ``unwanted`` tasks, or (``overdue``) the one that runs too long.
        self.obey_by: float | None = None
        self.unwanted: set[int] = set()
        self.exit: tuple[float, str] | None = None
        self.overdue = False


class Crew:
    """Starts workers, gives them batches, and notices when one is gone. For the agent's thread."""

    def __init__(
        self,
        engine: Engine,
        server: Server,
        keys: Keys,
        settings: Any,
        spool: Path,
        report: Report,
        wake: Callable[[], None],
    ) -> None:
        """Make the crew; `start` starts it.

        Args:
            engine: where the workers run.
            server: where they connect to.
            keys: of the session.
            settings: the agent's `AgentSettings`.
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
        self._exits: deque[tuple[str, str]] = deque()
        self._workers: dict[str, _Worker] = {}
        self._queue: deque[_Batch] = deque()
        self._batches: dict[int, _Batch] = {}
        self._codes: dict[str, bytes] = {}
        self._count = 0
        self._failed_starts = 0
        self._stopping = False
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        ids = visible.split(",") if visible else [str(one) for one in range(self.allocation.gpus)]
        self._gpu_ids = ids[: self.allocation.gpus]
        self.started = False
        #: Why the crew cannot go on; None while it can.
        self.broken: str | None = None

    @property
    def allocation(self) -> Allocation:
        """What the pilot has."""
        return self._engine.allocation

    # ---- the agent calls ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine and a warm worker for each core, in the background; `started` tells."""
        self._call(self._start_engine)

    def _start_engine(self) -> None:
        self._engine.start(self._broke)
        self.started = True
        self._wake()

    def _broke(self, reason: str) -> None:
        self.broken = reason
        self._wake()

    def add(self, run: messages.Run, frames: list[bytes]) -> None:
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
        for batch in [batch for batch in self._queue if wanted & set(batch.run.tasks)]:
            self._queue.remove(batch)
            self._give_back(batch, "given back for a cancellation, not begun")
        for worker in self._workers.values():
            if any(wanted & set(batch.run.tasks) for batch in worker.batches):
                self._send(worker, messages.Cancel(list(tasks)))
                worker.unwanted |= wanted
                worker.obey_by = worker.obey_by or time.monotonic() + OBEY_SECONDS

    def drain(self) -> None:
        """Give back what was not begun."""
        while self._queue:
            self._give_back(self._queue.popleft(), "given back, the pilot drains")

    def beat(self) -> None:
        """Tell every worker that its agent is there."""
        for worker in self._workers.values():
            if worker.joined:
                self._send(worker, messages.Beat())

    def is_idle(self) -> bool:
        """True when nothing runs and nothing waits."""
        return not self._batches

    def stop(self) -> None:
        """End all workers and the engine. Blocks."""
        self._stopping = True
        for worker in self._workers.values():
            self._send(worker, messages.Stop())
        self._calls.submit(self._engine.stop)
        self._calls.shutdown()

    def attend(self) -> None:
        """Take in what workers say and what became of them; give idle ones work."""
        while (received := self._server.receive()) is not None:
            peer, message, frames = received
            try:
                self._received(peer.decode("utf-8", "replace"), message, frames)
            except Exception:
                log.exception("a message from %r cannot be taken in", peer)
        self._notice_exits()
        if self.started:
            self._keep_slots()
            self._dispatch()
            self._enforce()

    # ---- what workers say -----------------------------------------------------------------------------------

    def _received(self, peer: str, message: Message, frames: list[bytes]) -> None:
        worker = self._workers.get(peer.removesuffix(MAIN))
        if worker is None:
            return
        worker.heard = time.monotonic()
        if isinstance(message, messages.Hello):
            self._joined(worker, message)
        elif isinstance(message, messages.Outcomes):
            self._report(message, frames)
            if (batch := self._batches.get(message.batch)) is not None:
                batch.open -= message.count
                if batch.open > 0:
                    batch.partial.append(frames[0])
                self._progressed(worker, batch)
        elif isinstance(message, messages.Lost):
            self._report(message, ())
            if (batch := self._batches.get(message.batch)) is not None:
                batch.returned.update(message.tasks)
                batch.open -= len(message.tasks)
                self._progressed(worker, batch)
        elif isinstance(message, messages.Started):
            self._report(message, ())

    def _joined(self, worker: _Worker, hello: messages.Hello) -> None:
        if hello.versions != versions():
            self.broken = f"its workers run Python and quantum-pilot {hello.versions}, the agent {versions()}"
        worker.joined = True
        self._failed_starts = 0

    def _progressed(self, worker: _Worker, batch: _Batch) -> None:
        if batch.open <= 0:
            self._batches.pop(batch.run.batch, None)
            if batch in worker.batches:
                worker.batches.remove(batch)
                worker.idle_since = time.monotonic()
            if worker.batches:
                worker.batches[0].began = time.monotonic()
            else:
                worker.obey_by = None
                worker.unwanted.clear()

    def _give_back(self, batch: _Batch, reason: str) -> None:
        del self._batches[batch.run.batch]
        self._report(messages.Lost(0, batch.run.batch, "", batch.run.tasks, reason, False), ())

    # ---- giving work ----------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if not self._queue:
            return
        busy = [worker.shape for worker in self._workers.values() if worker.batches]
        cores = self.allocation.cores - sum(shape.num_cpus for shape in busy)
        memory = self.allocation.memory - sum(shape.memory for shape in busy)
        idle: dict[Resources, list[_Worker]] = {}
        for one in self._workers.values():
            if not one.batches and one.exit is None:
                idle.setdefault(one.shape, []).append(one)
        for batch in list(self._queue):
            needs = batch.run.resources
            if needs.num_cpus > cores + 1e-9 or needs.memory > memory:
                break
            ready = idle.get(needs)
            worker = ready.pop() if ready else self._spawn(needs)
            if worker is None:
                continue  # no GPU is free
            cores -= needs.num_cpus
            memory -= needs.memory
            if worker.joined:
                self._queue.remove(batch)
                self._give(worker, batch)
        self._give_ahead()

    def _give_ahead(self) -> None:
        """A short batch goes to a busy worker already, which then does not wait for it when it is free."""
        waiting = [worker for worker in self._workers.values() if len(worker.batches) == 1 and worker.shape == SLOT]
        for worker in waiting:
            if not self._queue or not self._queue[0].is_short() or not worker.batches[0].is_short():
                return
            self._give(worker, self._queue.popleft())

    def _give(self, worker: _Worker, batch: _Batch) -> None:
        run = batch.run
        unknown = [digest for digest in run.functions if digest not in worker.functions]
        worker.functions.update(unknown)
        worker.batches.append(batch)
        batch.began = time.monotonic()
        run = messages.Run(run.batch, run.resources, [], run.functions, unknown, run.patience, run.alone, run.limit)
        self._send(worker, run, [batch.body, *(self._codes[digest] for digest in unknown)])

    def _enforce(self) -> None:
        """Kill workers that do not obey, and end those that nobody needs."""
        now = time.monotonic()
        for worker in list(self._workers.values()):
            if worker.batches and worker.exit is None:
                self._enforce_on(worker, worker.batches[0], now)
            elif not worker.batches and worker.shape != SLOT and now - worker.idle_since > IDLE_SECONDS:
                self._retire(worker)

    def _enforce_on(self, worker: _Worker, batch: _Batch, now: float) -> None:
        limit = batch.run.limit
        # a worker says so when a task takes long: its silence lasts no longer than one task, unless it cannot speak
        if worker.obey_by is None and limit and now > max(batch.began, worker.heard) + limit + OBEY_SECONDS:
            worker.overdue = True
            worker.obey_by = now
        if worker.obey_by is None or now < worker.obey_by:
            return
        if worker.overdue or any(worker.unwanted & set(one.missing()) for one in worker.batches):
            worker.obey_by = now + OBEY_SECONDS
            self._call(self._engine.kill, worker.name)
        else:
            worker.obey_by = None

    def _retire(self, worker: _Worker) -> None:
        del self._workers[worker.name]
        self._send(worker, messages.Stop())

    # ---- starting and losing workers ------------------------------------------------------------------------

    def _keep_slots(self) -> None:
        slots = sum(worker.shape == SLOT for worker in self._workers.values())
        for _ in range(slots, self.allocation.cores):
            self._spawn(SLOT)

    def _spawn(self, shape: Resources) -> _Worker | None:
        if shape != SLOT:
            for other in list(self._workers.values()):
                if other.shape not in (SLOT, shape) and not other.batches and other.joined:
                    self._retire(other)
        gpus = self._pick_gpus(shape.num_gpus)
        if gpus is None:
            return None
        self._count += 1
        worker = _Worker(f"{self.allocation.pilot}.{self._count}", shape, gpus)
        self._workers[worker.name] = worker
        spec = WorkerSpec(
            name=worker.name,
            resources=shape,
            address=self._server.address,
            keys=self._keys,
            folder=str(self.allocation.folder / "workers"),
            spool=str(self._spool),
            sys_path=self._settings.sys_path,
            working_directory=self._settings.working_directory,
            environment=self._environment(worker),
        )
        self._call(self._engine.spawn, spec, lambda reason: self._gone(worker.name, reason))
        return worker

    def _environment(self, worker: _Worker) -> dict[str, str]:
        threads = str(max(1, int(worker.shape.num_cpus)))
        environment: dict[str, str] = dict.fromkeys(_THREADS, threads) | self._settings.environment
        if self._gpu_ids:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpu_ids[one] for one in worker.gpus)
        return environment

    def _pick_gpus(self, wanted: float) -> dict[int, float] | None:
        """GPU index → share of it, for a new worker; None when too little is free."""
        load = dict.fromkeys(range(self.allocation.gpus), 0.0)
        for worker in self._workers.values():
            for index, share in worker.gpus.items():
                load[index] += share
        share = wanted if wanted < 1 else 1.0
        free = sorted((used, index) for index, used in load.items() if used + share <= 1 + 1e-9)
        count = -(-wanted // 1) if wanted else 0
        if len(free) < count:
            return None
        picked = [index for _, index in (reversed(free) if wanted < 1 else free)]
        return dict.fromkeys(picked[: int(count)], share)

    def _gone(self, name: str, reason: str) -> None:
        self._exits.append((name, reason))
        self._wake()

    def _notice_exits(self) -> None:
        now = time.monotonic()
        while self._exits:
            name, reason = self._exits.popleft()
            if (worker := self._workers.get(name)) is not None and worker.exit is None:
                worker.exit = (now + EXIT_GRACE, reason)
        for worker in [worker for worker in self._workers.values() if worker.exit is not None]:
            assert worker.exit is not None
            if not worker.batches or now >= worker.exit[0]:
                self._bury(worker, worker.exit[1])

    def _bury(self, worker: _Worker, reason: str) -> None:
        del self._workers[worker.name]
        if not worker.joined and not self._stopping:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS:
                folder = self.allocation.folder / "workers"
                self.broken = f"its workers do not start (the last one {reason}); see the files in {folder}"
        for batch in worker.batches:
            del self._batches[batch.run.batch]
            self._lose(worker, batch, f"worker {worker.name} {reason}")

    def _lose(self, worker: _Worker, batch: _Batch, reason: str) -> None:
        """Report the tasks that a dead worker leaves open.

        In which of its batches it died is not known: outcomes of the first one may have died with it.
        """
        tasks = batch.missing()
        if batch is worker.batches[0] and worker.overdue and len(tasks) == 1:
            seconds = time.monotonic() - batch.began
            body = messages.encode([Outcome(tasks[0], TIMED_OUT, time.time() - seconds, seconds)])
            self._report(messages.Outcomes(0, batch.run.batch, worker.name, 1), [body])
            return
        obeyed = worker.obey_by is not None and not worker.overdue
        self._report(messages.Lost(0, batch.run.batch, worker.name, tasks, reason, not obeyed), ())

    # ---- small ----------------------------------------------------------------------------------------------

    def _send(self, worker: _Worker, message: Message, frames: Sequence[Frame] = ()) -> None:
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
