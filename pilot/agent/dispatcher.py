"""Which worker runs which batch.

A batch goes to an idle worker of its shape (its `Resources`) on a node with room; one is started when there is none.
Batches start in the order in which they came. While one waits for cores, later batches do not take them; while one
waits for a GPU, this applies only to batches that need GPUs; a batch that waits for a device stops no other. A short
batch may also go to a worker that runs another short one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

import msgspec

from pilot.agent.batches import END_SECONDS, Batch, Worker
from pilot.agent.nodes import spread
from pilot.agent.workers import WorkerPool
from pilot.resources import Capacity, Resources, shortage
from pilot.results import TIMED_OUT, Outcome
from pilot.wire import messages
from pilot.wire.connecting import MAIN
from pilot.wire.messages import Frames, Message
from pilot.wire.server import Server

log = logging.getLogger(__name__)

#: No more batches than this are held for workers that are being started before those behind them are looked at.
HELD_BATCHES = 64

#: Why batches come back that had not begun when the pilot was ended.
_ENDED = "given back, not begun: the pilot was ended"

#: Sends a message to the manager, kept until acknowledged.
Report = Callable[[Message, Frames], None]


class Dispatcher:
    """Gives batches to the workers of a pool, and reports their outcomes. For the agent's thread."""

    def __init__(self, pool: WorkerPool, server: Server, report: Report) -> None:
        """Make it.

        Args:
            pool: the workers.
            server: where they connect to.
            report: sends to the manager.
        """
        self._pool = pool
        self._server = server
        self._report = report
        self._queue: deque[Batch] = deque()
        self._batches: dict[int, Batch] = {}
        #: Pickles of functions, by digest, that the manager sends once.
        self._codes: dict[str, bytes] = {}
        self._stopping = False
        #: Workers that had one short batch when they were last looked at, and may get another.
        self._ready_for_more: dict[str, Worker] = {}

    # ---- called by the agent --------------------------------------------------------------------------------

    def add(self, run: messages.RunBatch, frames: list[bytes]) -> None:
        """Take a batch."""
        if run.renewed:
            self._codes.clear()
        self._codes.update(zip(run.sent, frames[1:], strict=True))
        batch = Batch(run, frames[0], {digest: self._codes[digest] for digest in run.functions})
        self._batches[run.batch] = batch
        if self._stopping:
            self._give_back(batch, _ENDED)
        else:
            self._queue.append(batch)

    def held(self) -> dict[int, list[int]]:
        """The open tasks of each batch."""
        return {id: batch.missing() for id, batch in self._batches.items()}

    def started(self) -> list[messages.TaskStarted]:
        """The tasks that were reported to run, and are not over."""
        reports = [(batch, batch.started) for batch in self._batches.values()]
        return [one for batch, one in reports if one is not None and one.task in batch.missing()]

    def cancel(self, request: messages.CancelTasks) -> None:
        """Stop tasks: those that have not begun are given back at once, the worker ends those that run."""
        wanted = set(request.tasks)
        queued, self._queue = self._queue, deque()
        for batch in queued:
            if wanted.isdisjoint(batch.run.tasks):
                self._queue.append(batch)
            else:
                self._give_back(batch, "given back for a cancellation, not begun")
        for worker in self._pool.workers.values():
            if not all(wanted.isdisjoint(batch.run.tasks) for batch in worker.batches):
                self._pool.send(worker, request)
                if request.running:
                    worker.unwanted |= wanted
                    worker.end_by = worker.end_by or time.monotonic() + worker.end_seconds()

    def reply(self, message: messages.TaskReply, frames: Frames) -> None:
        """Pass on what the manager answers a task."""
        if (worker := self._pool.workers.get(message.worker)) is not None:
            self._pool.send(worker, message, frames)

    def manager_changed(self, welcome: messages.Welcome) -> None:
        """Another manager has the session: what the one before was asked is asked again."""
        for worker in self._pool.workers.values():
            if worker.batches:
                self._pool.send(worker, welcome)

    def waits(self) -> list[messages.TaskWaits]:
        """What tasks wait for now."""
        return list(self._pool.lending.waits.values())

    def drain(self, reason: str = "given back, the pilot drains") -> None:
        """Give back the batches that have not begun."""
        while self._queue:
            self._give_back(self._queue.popleft(), reason)

    def stop(self) -> None:
        """Begin nothing any more. Workers hand over what they have finished, give back the rest, and end."""
        self._stopping = True
        self.drain(_ENDED)
        for worker in self._pool.workers.values():
            if worker.batches:
                self._pool.send(worker, messages.Stop())

    def is_idle(self) -> bool:
        """True when nothing runs and nothing waits."""
        return not self._batches

    def attend(self) -> None:
        """Take in the messages of workers and nodes and the ends of workers; give idle workers work."""
        while (received := self._server.receive()) is not None:
            peer, message, frames = received
            try:
                self._received(peer, message, frames)
            except Exception:
                log.exception("a message from %r cannot be taken in", peer)
        self._notice_exits()
        if self._pool.started and not self._stopping:
            self._pool.keep()
            self._pool.lending.let_go_on()
            self._dispatch()
            self._pool.enforce()

    def _notice_exits(self) -> None:
        for worker, reason in self._pool.lost():
            self._ready_for_more.pop(worker.name, None)
            for batch in worker.batches:
                del self._batches[batch.run.batch]
                self._lose_batch(worker, batch, f"worker {worker.name} {reason}")
            if (name := worker.shape.qpu) and self._pool.devices.is_given_up(name):
                for batch in [batch for batch in self._queue if batch.run.resources.qpu == name]:
                    self._queue.remove(batch)
                    self._give_back(batch, f"given back, not begun: {name} cannot be used")

    # ---- outcomes -------------------------------------------------------------------------------------------

    def _received(self, peer: bytes, message: Message, frames: list[bytes]) -> None:
        name = peer.decode("utf-8", "replace").removesuffix(MAIN)
        worker = self._pool.workers.get(name)
        if worker is None:
            self._pool.node_received(peer, message)
            return
        worker.heard = time.monotonic()
        if isinstance(message, messages.OutcomesReport):
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
        elif isinstance(message, messages.TaskStarted | messages.TaskOutput | messages.TaskCall):
            if isinstance(message, messages.TaskStarted) and (batch := self._batches.get(message.batch)) is not None:
                batch.started = message
            self._report(message, frames)
        elif isinstance(message, messages.TaskWaits):
            message = msgspec.structs.replace(message, node=worker.place.name)
            self._ready_for_more.pop(worker.name, None)
            self._pool.lending.lend(worker, message)
            self._report(message, ())
        elif isinstance(message, messages.TaskResumes):
            self._pool.lending.want_back(worker, at_once=message.at_once)
            self._report(message, ())
        else:
            self._pool.received(worker, message)

    def _outcomes(self, worker: Worker, batch: int, count: int) -> messages.OutcomesReport:
        return messages.OutcomesReport(
            batch, worker.name, count, worker.place.name, worker.gpu_names(), worker.shape.qpu
        )

    def _progressed(self, worker: Worker, batch: Batch) -> None:
        if batch.open > 0:
            return
        self._batches.pop(batch.run.batch, None)
        if batch in worker.batches:
            worker.batches.remove(batch)
            worker.idle_since = time.monotonic()
            if not worker.batches:
                self._ready_for_more.pop(worker.name, None)
                self._pool.free(worker)
                worker.leave_by = min(worker.leave_by, worker.idle_since + END_SECONDS)
        if worker.batches:
            worker.batches[0].began = time.monotonic()
            if worker.may_have_more():
                self._ready_for_more[worker.name] = worker
        else:
            worker.end_by = None
            worker.unwanted.clear()

    def _give_back(self, batch: Batch, reason: str) -> None:
        del self._batches[batch.run.batch]
        self._report(messages.UnfinishedTasks(batch.run.batch, "", batch.run.tasks, reason, False), ())

    def _lose_batch(self, worker: Worker, batch: Batch, reason: str) -> None:
        """Report the tasks that a dead worker leaves open.

        It is not known in which of its batches it died: outcomes of the first one may be lost with it.
        """
        tasks = batch.missing()
        if batch is worker.batches[0] and worker.overdue and len(tasks) == 1:
            seconds = time.monotonic() - batch.began
            body = messages.encode([Outcome(tasks[0], TIMED_OUT, time.time() - seconds, seconds)])
            self._report(self._outcomes(worker, batch.run.batch, 1), [body])
            return
        # A cancellation may have come too late to end anything: that is not why the worker died.
        was_ended = worker.killed or worker.leaving
        was_asked = was_ended and worker.end_by is not None and not worker.overdue
        blame = not was_asked and not worker.blameless
        self._report(messages.UnfinishedTasks(batch.run.batch, worker.name, tasks, reason, blame, not was_asked), ())

    # ---- giving work ----------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if not self._queue:
            return
        held: list[Worker] = []  # not there yet: what they will run has its room set aside meanwhile
        passed: list[Batch] = []
        gpus_waited_for = False
        while self._queue and len(held) < HELD_BATCHES:
            batch = self._queue.popleft()
            needs = batch.run.resources
            if needs.num_gpus and gpus_waited_for:
                passed.append(batch)
                continue
            hosts = self._pool.hosts(needs)
            if hosts is None and (reason := self._shortage(needs)) is not None:
                self._give_back(batch, f"given back, not begun: {reason}")
                continue
            worker = None if hosts is None else self._pool.find(needs, hosts)
            if worker is not None and worker.joined:
                self._give(worker, batch)
                continue
            passed.append(batch)
            if worker is not None:
                held.append(worker)
                self._pool.reserve(worker)
            elif needs.num_gpus and (hosts is not None or self._waits_for_gpus(needs)):
                gpus_waited_for = True
            elif not needs.qpu:
                break
        self._queue.extendleft(reversed(passed))
        for worker in held:
            self._pool.unreserve(worker)
        while self._queue and self._ready_for_more and self._queue[0].is_short():
            # a short batch goes to a busy worker already, which then need not wait for it
            worker = self._ready_for_more.pop(next(iter(self._ready_for_more)))
            if worker.may_have_more():
                self._give(worker, self._queue.popleft())

    def _shortage(self, needs: Resources) -> str | None:
        """Why this can never run on the present nodes; None when it can."""
        return shortage(needs, Capacity((), "the pilot", (), self._pool.nodes.facts(), None))

    def _waits_for_gpus(self, needs: Resources) -> bool:
        """True when it is only for GPUs that these ranks have no room."""
        without = msgspec.structs.replace(needs, num_gpus=0.0)
        return needs.ranks > 0 and spread(self._pool.nodes.for_ranks(), without) is not None

    def _give(self, worker: Worker, batch: Batch) -> None:
        run = batch.run
        unknown, renewed = worker.functions.lacking(run.functions)
        sent = {digest: batch.codes[digest] for digest in unknown}
        worker.functions.add(sent)
        if not worker.batches:
            self._pool.occupy(worker)
        worker.batches.append(batch)
        worker.had = self._pool.nodes.gpu_names(worker.rank_gpus)
        if worker.may_have_more():
            self._ready_for_more[worker.name] = worker
        batch.began = time.monotonic()
        run = messages.RunBatch(
            run.batch,
            run.resources,
            [],
            run.functions,
            unknown,
            run.give_back_seconds,
            run.alone,
            run.limit,
            worker.hosts,
            worker.had,
            renewed,
        )
        self._pool.send(worker, run, [batch.body, *sent.values()])
