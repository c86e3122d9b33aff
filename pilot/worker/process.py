"""The process that runs tasks: one batch at a time, on one slot of a pilot.

Two threads. The main thread runs the tasks of a batch and sends their outcomes; over a Unix socket it also receives the
agent's messages while it has no batch, so that a short one needs no change of threads. While a batch takes long the
*control thread* receives them, sends what is finished, and gives back what was not begun. It carries out cancellations
and timeouts by sending all that is known and ending the process, which no task can refuse.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pilot.interfaces import WorkerSpec
from pilot.results import CANCELLED, TIMED_OUT, Outcome
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.connecting import MAIN, Connector
from pilot.wire.mappings import Mappings
from pilot.wire.spool import Spool
from pilot.worker import device, programs, task_process
from pilot.worker.batch import HeldBatch
from pilot.worker.calls import Sender, TaskCalls, here
from pilot.worker.capture import Capture
from pilot.worker.functions import Functions
from pilot.worker.reports import Reports
from pilot.worker.runner import Runner

if TYPE_CHECKING:
    from pilot.wire.connecting import AnyClient

#: Seconds after which a running batch sends its outcomes, and reports which task runs.
FLUSH_SECONDS = 0.1
#: An idle worker waits for so long for a message before it looks whether it is connected.
IDLE_MS = 1000
#: A batch that runs for so many seconds has the attention of the control thread, when that looks next.
LONG_SECONDS = 0.01
#: Seconds without a message of the agent after which a worker ends.
AGENT_SILENT_SECONDS = 30.0
#: Seconds between two reports on an idle device, and on one that takes no jobs now.
LOOK_SECONDS, DOWN_SECONDS = 60.0, 5.0
#: Seconds that a device has to end its job and its session when its worker ends.
DEVICE_END_SECONDS = 5.0


def serve(spec: WorkerSpec) -> None:
    """Work until the agent ends it. Blocks; the engine calls it in a process of its own for each worker."""
    task_process.prepare(spec.name)
    os.environ.update(spec.environment)
    task_process.activate()
    for path in reversed(spec.sys_path):
        if path not in sys.path:
            sys.path.insert(0, path)
    os.chdir(spec.working_directory)
    importlib.invalidate_caches()
    capture = Capture(Path(spec.folder), spec.name)
    _Worker(spec, capture).run()


def _place_ranks(batch: HeldBatch, folder: str) -> None:
    """The ranks of a batch of MPI tasks start on the nodes that it has."""
    from pilot.worker import mpi  # only here: 1 MiB that other workers do without
    from pilot.worker.launch import RankLayout

    mpi.layout.set(RankLayout(batch.resources, batch.hosts, folder, batch.gpus))


class _Worker:
    def __init__(self, spec: WorkerSpec, capture: Capture) -> None:
        self._spec = spec
        self._pid = os.getpid()
        self._capture = capture
        self._reports = Reports(spec.name, capture)
        self._functions = Functions()
        #: From the control thread to the main thread; None: stop.
        self._inbox: queue.SimpleQueue[HeldBatch | None] = queue.SimpleQueue()
        #: What is in hand, the running one first.
        self._batches: deque[HeldBatch] = deque()
        self._connector = Connector()
        #: The connection by which messages come, who holds it while he waits for one, and when the last one came.
        self._client = self._connect(self._spec.name)
        self._reading = threading.Lock()
        self._heard = time.monotonic()
        self._is_stopped = False
        #: Ends a pause of the control thread.
        self._attention = threading.Event()
        #: The main thread's connection, by which its tasks ask.
        self._main = self._connect(self._spec.name + MAIN)
        self._calls = TaskCalls(spec.name, self._main, self._attend, lambda: self._give_back(self._calls))
        self._mappings = Mappings()
        spool = Spool(Path(spec.spool), spec.spool_bytes, self._mappings)
        here[:] = [(self._calls, spool, self._pid)]
        self._runner = Runner(self._functions, self._calls, spool, capture, self._reports)

    def run(self) -> None:
        client = self._main
        self._client.send(messages.Hello(self._spec.name, os.getpid(), platform.node(), versions()))
        threading.Thread(target=self._control, args=(client,), name="pilot-control", daemon=True).start()
        if self._spec.resources.qpu:
            device.held = device.Held(self._spec.resources.qpu, Path(self._spec.folder).parent)
        while (batch := self._next(client)) is not None:
            if batch.resources.ranks:
                _place_ranks(batch, self._spec.folder)
            index = batch.begin()
            if batch.has_attention:
                self._attention.set()
            with task_process.running():
                while index is not None:
                    index = self._runner.advance(batch, index)
            with batch.lock:  # sent within it: else the control thread could end the process in between
                if outcomes := batch.take():
                    self._send_outcomes(self._calls, batch, outcomes)
            self._batches.popleft()
        client.close()
        self._client.close()
        if task_process.end_below(
            self._pid
        ):  # what tasks have left: Python's own exit would wait for it, and for its locks
            self._connector.close(linger_ms=2000)
            os._exit(0)

    def _next(self, client: AnyClient) -> HeldBatch | None:
        """The next batch; None: stop. Meanwhile the state of the device is reported to the agent."""
        if device.held is None:
            return self._take() if self._client.can_be_shared else self._inbox.get()
        while True:
            info = device.held.look()
            client.send(messages.DeviceReport(info))
            with contextlib.suppress(queue.Empty):
                return self._inbox.get(timeout=DOWN_SECONDS if device.is_down(info) else LOOK_SECONDS)

    def _take(self) -> HeldBatch | None:
        """As `_next`, and receives it in this thread, unless the control thread is about to."""
        while True:
            with self._reading:
                while self._inbox.empty():
                    self._read(IDLE_MS)
            with contextlib.suppress(queue.Empty):
                return self._inbox.get(block=False)

    def _send_outcomes(self, client: Sender, batch: HeldBatch, outcomes: list[Outcome]) -> None:
        while self._reports.ended:
            client.send(self._reports.ended.pop(0))
        head = messages.OutcomesReport(batch.id, self._spec.name, len(outcomes))
        client.send(head, [messages.encode(outcomes)])

    # ---- the control thread ---------------------------------------------------------------------------------

    def _connect(self, name: str) -> AnyClient:
        return self._connector.connect(self._spec.keys, self._spec.address, name, watched=True)

    def _control(self, main: AnyClient) -> None:
        client = self._client
        while not self._is_stopped:
            if client.can_be_shared and device.held is None and not self._is_busy():
                self._attention.wait(FLUSH_SECONDS)
                self._attention.clear()
            else:
                with self._reading:
                    self._read(self._pause_ms())
            self._mappings.drop_removed()
            if time.monotonic() - self._heard > AGENT_SILENT_SECONDS and not self._hears_now():
                self._end(client)
            if client.is_broken() or main.is_broken():
                self._end(client)  # a batch or its outcome may be lost unnoticed; the end of a process is noticed
            with contextlib.suppress(IndexError):  # the main thread has just finished it
                self._watch(client, self._batches[0])

    def _is_busy(self) -> bool:
        """True while the main thread has a batch that may take long, and reads no messages."""
        with contextlib.suppress(IndexError):
            batch = self._batches[0]
            return batch.at is not None and (batch.has_attention or time.perf_counter() - batch.began > LONG_SECONDS)
        return False

    def _attend(self) -> None:
        """The running task expects messages: they are received at once, until its batch is over."""
        with contextlib.suppress(IndexError):
            self._batches[0].has_attention = True
        self._attention.set()

    def _hears_now(self) -> bool:
        """Whether a message is there: a task may have kept the interpreter for itself since the last look."""
        before = self._heard
        if self._reading.acquire(blocking=False):
            try:
                self._read(0)
            finally:
                self._reading.release()
        return self._heard > before

    def _read(self, timeout_ms: int) -> None:
        """Take in the next message, from now on for so long; who calls this holds ``_reading``."""
        if (received := self._client.receive(timeout_ms)) is None:
            return
        self._heard = time.monotonic()
        message, frames = received
        if not isinstance(message, messages.Stop):
            self._received(self._client, message, frames)
            return
        if self._batches or device.held is not None:
            self._hand_over(self._client)
        self._is_stopped = True
        self._inbox.put(None)

    def _received(self, client: AnyClient, message: messages.Message, frames: list[bytes]) -> None:
        if isinstance(message, messages.RunBatch):
            functions = self._functions.take(message, frames[1:])
            batch = HeldBatch(message, messages.decode_batch(frames[0]), functions)
            self._batches.append(batch)
            self._inbox.put(batch)
            if self._calls.is_waiting:  # what it waits for may be in there
                self._give_back(client)
        elif isinstance(message, messages.CancelTasks):
            for batch in list(self._batches):
                self._cancel(client, batch, message)
        elif isinstance(message, messages.Welcome):
            self._calls.repeat()
        else:
            self._calls.received(message, frames)

    def _pause_ms(self) -> int:
        """Time until something may have to be done."""
        pause = FLUSH_SECONDS
        with contextlib.suppress(IndexError):
            batch = self._batches[0]
            with batch.lock:
                timeout = None if batch.at is None else batch.works[batch.at].timeout
            if timeout is not None:
                pause = min(pause, batch.task_began + timeout - time.perf_counter())
        return int(max(pause, 0.001) * 1000)

    def _watch(self, client: AnyClient, batch: HeldBatch) -> None:
        """Send what is finished, give back what waits too long, end a task that runs too long."""
        with batch.lock:
            at, now = batch.at, time.perf_counter()
            if at is None:
                return
            work, runs = batch.works[at], now - batch.task_began
            if work.timeout is not None and runs >= work.timeout:
                self._end_task(client, batch, at, TIMED_OUT)
            if now - batch.began < FLUSH_SECONDS:
                return
            if outcomes := batch.take():
                self._send_outcomes(client, batch, outcomes)
            if at != batch.reported and runs >= FLUSH_SECONDS / 2:
                batch.reported = at
                client.send(messages.TaskStarted(batch.id, self._spec.name, work.task, batch.task_wall))
            if (output := self._reports.running(work.task, now)) is not None:
                client.send(output)
            is_late = now - batch.began > batch.give_back_seconds
        if is_late:
            self._give_back(client)

    def _cancel(self, client: AnyClient, batch: HeldBatch, request: messages.CancelTasks) -> None:
        with batch.lock:
            batch.skip.update(request.tasks)
            at = batch.at
            if at is None or not request.running:
                return
            for index in range(at, at + batch.together):
                if batch.works[index].task in request.tasks:
                    self._end_task(client, batch, index, CANCELLED)

    def _give_back(self, client: Sender, held: HeldBatch | None = None) -> None:
        """Give back the tasks that have not begun; the lock of ``held`` is held."""
        for batch in list(self._batches):
            with contextlib.nullcontext() if batch is held else batch.lock:
                tasks = batch.give_back()
            if tasks:
                client.send(messages.UnfinishedTasks(batch.id, self._spec.name, tasks, "given back, not begun", False))

    def _end_task(self, client: AnyClient, batch: HeldBatch, at: int, status: int) -> None:
        """End the running task in the only way that always works: with the process. Nothing else is lost; this thread
        keeps the lock, so that the main thread does not continue."""
        client.send(messages.WorkerLeaving())
        self._end_device()  # first: a task that is reported as cancelled runs nowhere any more
        seconds = time.perf_counter() - batch.task_began
        stdout, stderr = self._capture.take()
        task = batch.works[at].task
        batch.done.append(Outcome(task, status, batch.task_wall, seconds, None, stdout, stderr))
        self._send_outcomes(client, batch, batch.take())
        assert batch.at is not None
        if others := [one.task for one in batch.works[batch.at : batch.at + batch.together] if one.task != task]:
            reason = "given back: another task of the same job was ended"
            client.send(messages.UnfinishedTasks(batch.id, self._spec.name, others, reason, False))
        self._give_back(client, held=batch)
        self._end(client)

    def _hand_over(self, client: AnyClient) -> None:
        """Send what is finished, give back the rest, and end the process. This thread keeps the locks, so that the main
        thread does not continue. What runs is given back last: at once it may begin elsewhere."""
        why, running = "the pilot was ended", list[messages.UnfinishedTasks]()
        for batch in list(self._batches):
            batch.lock.acquire()
            if outcomes := batch.take():
                self._send_outcomes(client, batch, outcomes)
            if tasks := batch.give_back():
                client.send(messages.UnfinishedTasks(batch.id, self._spec.name, tasks, why, False, False))
            if tasks := batch.unfinished():
                running.append(messages.UnfinishedTasks(batch.id, self._spec.name, tasks, why, False, True))
        self._end(client, running)

    def _end_device(self) -> None:
        """End the device's job and session, once."""
        if device.held is not None:
            device.call_with_timeout(DEVICE_END_SECONDS, device.held.end)

    def _end(self, client: AnyClient, last: Sequence[messages.Message] = ()) -> None:
        if self._spec.resources.ranks:
            from pilot.worker import mpi  # as in `_place_ranks`

            mpi.end_all()
        self._end_device()
        programs.end_all()
        task_process.end_below(self._pid)
        for message in last:
            client.send(message)
        client.close(linger_ms=2000)
        self._connector.close(linger_ms=2000)
        os._exit(0)
