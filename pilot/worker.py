"""The process that runs tasks: one batch at a time, on one slot of a pilot.

Two threads. The main one takes a batch from the agent, runs its tasks, and sends their outcomes. The *lifeline*
sleeps beside it and keeps the agent's hand on the worker while a task runs: it sends what is finished when a batch
takes long, gives back what was not begun, and carries out cancellations and timeouts by sending all that is known
and ending the process; no task can refuse that.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from pilot import messages, payload
from pilot.capture import Capture
from pilot.channel import Client
from pilot.errors import ExecutableFailed
from pilot.interfaces import WorkerSpec
from pilot.messages import Work
from pilot.results import CANCELLED, OK, RAISED, TIMED_OUT, Outcome
from pilot.version import __version__

#: Seconds after which a running batch sends what it has, and says which task it is at.
FLUSH_SECONDS = 0.1
#: Seconds without a sign of the agent after which a worker ends.
AGENT_SILENT_SECONDS = 30.0
#: What a worker's second connection adds to its name.
LIFELINE = "~"
#: Bytes of an executable's output that its result keeps of each stream.
OUTPUT_KEPT = 1 << 20


def versions() -> tuple[str, str]:
    """What manager, agents and workers must agree on: Python (major.minor), and this library."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}", __version__


def serve(spec: WorkerSpec) -> None:
    """Work until the agent says stop. Blocks; the engine calls it in a process of its own for each worker."""
    os.environ.update(spec.environment)
    for path in reversed(spec.sys_path):
        if path not in sys.path:
            sys.path.insert(0, path)
    os.chdir(spec.working_directory)
    importlib.invalidate_caches()
    capture = Capture(Path(spec.folder), spec.name)
    _Worker(spec, capture).run()


class _Running:
    """The batch in hand, shared by the two threads; whoever reads or writes its fields holds ``lock``."""

    def __init__(self, run: messages.Run, works: list[Work]) -> None:
        self.lock = threading.Lock()
        self.batch = run.batch
        self.works = works
        self.patience = run.patience
        self.began = time.perf_counter()
        #: Index of the task that runs, None when the batch is over; tasks from ``end`` on were given back.
        self.at: int | None = 0
        self.end = len(works)
        self.task_began = self.began
        self.task_wall = time.time()
        self.done: list[Outcome] = []
        self.skip: set[int] = set()
        #: Index of the last task of which the agent was told that it runs.
        self.told = -1

    def step(self, outcome: Outcome) -> int | None:
        """The running task is over; index of the next one, which begins now."""
        with self.lock:
            self.done.append(outcome)
            assert self.at is not None
            self.at = self.at + 1 if self.at + 1 < self.end else None
            self.task_began = time.perf_counter()
            self.task_wall = time.time()
            return self.at

    def take(self) -> list[Outcome]:
        """The outcomes that were not sent yet. The lock is held."""
        outcomes, self.done = self.done, []
        return outcomes


class _Worker:
    def __init__(self, spec: WorkerSpec, capture: Capture) -> None:
        self._spec = spec
        self._capture = capture
        self._spool = payload.Spool(Path(spec.spool))
        self._functions: dict[str, Any] = {}
        self._codes: dict[str, bytes] = {}
        self._running: _Running | None = None
        self._over = False
        self._context = zmq.Context()
        self._client = Client(self._context, spec.keys, spec.address, spec.name)

    def run(self) -> None:
        lifeline = threading.Thread(target=self._lifeline, name="pilot-lifeline", daemon=True)
        lifeline.start()
        self._client.send(messages.Hello(self._spec.name, os.getpid(), platform.node(), versions()))
        while True:
            received = self._client.receive(timeout_ms=-1)
            assert received is not None
            message, frames = received
            if isinstance(message, messages.Stop):
                break
            if isinstance(message, messages.Run):
                self._run_batch(message, frames)
        self._over = True
        lifeline.join()
        self._client.close()
        self._context.term()

    # ---- the main thread ------------------------------------------------------------------------------------

    def _run_batch(self, run: messages.Run, frames: list[bytes]) -> None:
        self._codes.update(zip(run.sent, frames[1:], strict=True))
        batch = messages.decode_batch(frames[0])
        running = self._running = _Running(run, batch.works)
        index: int | None = 0
        while index is not None:
            work, began, wall = running.works[index], running.task_began, running.task_wall
            if work.task in running.skip:
                index = running.step(Outcome(work.task, CANCELLED, wall, 0.0))
                continue
            status, value = self._run_task(run, work, batch.values)
            seconds = time.perf_counter() - began
            stdout, stderr = self._capture.take()
            index = running.step(Outcome(work.task, status, wall, seconds, value, stdout, stderr))
        with running.lock:
            self._running = None
            outcomes = running.take()
        head = messages.Outcomes(0, run.batch, self._spec.name, len(outcomes))
        self._client.send(head, [messages.encode(outcomes)])

    def _run_task(self, run: messages.Run, work: Work, values: dict[int, Any]) -> tuple[int, Any]:
        try:
            function = self._function(run.functions[work.function])
            if work.payload is None:
                result = function()
            else:
                args, kwargs = payload.load(work.payload, values)
                result = function(*args, **kwargs)
            return OK, payload.dump(result, self._spool, "the result")
        except BaseException as error:
            return RAISED, payload.dump_exception(error)

    def _function(self, digest: str) -> Any:
        function = self._functions.get(digest)
        if function is None:
            function = self._functions[digest] = payload.load(self._codes.pop(digest))
        return function

    # ---- the lifeline ---------------------------------------------------------------------------------------

    def _lifeline(self) -> None:
        client = Client(self._context, self._spec.keys, self._spec.address, self._spec.name + LIFELINE)
        client.send(messages.Beat())
        heard = time.monotonic()
        while not self._over:
            received = client.receive(timeout_ms=self._pause_ms())
            if received is not None:
                heard = time.monotonic()
                if isinstance(received[0], messages.Cancel):
                    self._cancel(client, received[0].tasks)
            elif time.monotonic() - heard > AGENT_SILENT_SECONDS:
                self._end(client)
            if (running := self._running) is not None:
                self._watch(client, running)
        client.close()

    def _pause_ms(self) -> int:
        """Time until something may have to be done."""
        running = self._running
        at = running.at if running is not None else None
        if running is None or at is None or (timeout := running.works[at].timeout) is None:
            return int(FLUSH_SECONDS * 1000)
        left = running.task_began + timeout - time.perf_counter()
        return int(max(0.001, min(FLUSH_SECONDS, left)) * 1000)

    def _watch(self, client: Client, running: _Running) -> None:
        """Send what is finished, give back what waits too long, end a task that runs too long."""
        with running.lock:
            at, now = running.at, time.perf_counter()
            if at is None:
                return
            work, runs = running.works[at], now - running.task_began
            if work.timeout is not None and runs >= work.timeout:
                self._farewell(client, running, at, TIMED_OUT)
            if now - running.began < FLUSH_SECONDS:
                return
            self._flush(client, running)
            if at != running.told and runs >= FLUSH_SECONDS / 2:
                running.told = at
                client.send(messages.Started(running.batch, self._spec.name, work.task))
            if now - running.began > running.patience:
                self._give_back(client, running, at)

    def _cancel(self, client: Client, tasks: Sequence[int]) -> None:
        if (running := self._running) is None:
            return
        with running.lock:
            running.skip.update(tasks)
            at = running.at
            if at is not None and running.works[at].task in tasks:
                self._farewell(client, running, at, CANCELLED)

    def _flush(self, client: Client, running: _Running) -> None:
        if outcomes := running.take():
            head = messages.Outcomes(0, running.batch, self._spec.name, len(outcomes))
            client.send(head, [messages.encode(outcomes)])

    def _give_back(self, client: Client, running: _Running, at: int) -> None:
        tasks = [work.task for work in running.works[at + 1 : running.end]]
        if tasks:
            running.end = at + 1
            client.send(messages.Lost(0, running.batch, self._spec.name, tasks, "given back, not begun", False))

    def _farewell(self, client: Client, running: _Running, at: int, status: int) -> None:
        """End the running task the only way that always works: with the process. Nothing else of the batch is lost;
        the lock stays with this thread, so that the main one goes no further."""
        seconds = time.perf_counter() - running.task_began
        stdout, stderr = self._capture.take()
        task = running.works[at].task
        running.done.append(Outcome(task, status, running.task_wall, seconds, None, stdout, stderr))
        self._flush(client, running)
        self._give_back(client, running, at)
        self._end(client)

    def _end(self, client: Client) -> None:
        for pid in list(_children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        client.close(linger_ms=2000)
        self._context.destroy(linger=2000)  # blocks until the last messages have gone
        os._exit(0)


# ---- executables ----------------------------------------------------------------------------------------------

_children: set[int] = set()


def run_executable(
    command: Sequence[str], environment: dict[str, str], working_directory: str | None
) -> subprocess.CompletedProcess[str]:
    """What a TaskDescription with ``executable`` runs.

    Returns:
        Return code 0 and what the program wrote, the last `OUTPUT_KEPT` bytes of each stream.

    Raises:
        ExecutableFailed: it returned another code.
        FileNotFoundError, PermissionError: it cannot be started.
    """
    process = subprocess.Popen(
        list(command),
        env={**os.environ, **environment},
        cwd=working_directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _children.add(process.pid)
    try:
        out, err = (stream[-OUTPUT_KEPT:].decode("utf-8", "replace") for stream in process.communicate())
    finally:
        _children.discard(process.pid)
    if process.returncode:
        tail = "\n".join(err.strip().splitlines()[-5:])
        raise ExecutableFailed(
            f"{command[0]} returned {process.returncode}" + (f": {tail}" if tail else ""),
            command=tuple(command),
            returncode=process.returncode,
            stdout=out,
            stderr=err,
        )
    return subprocess.CompletedProcess(list(command), 0, out, err)
