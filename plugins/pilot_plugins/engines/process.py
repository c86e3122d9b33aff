"""``engine="process"``: a plain process a worker, forked from a warm server. For laptops and quick tests."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from pilot.interfaces import Allocation, Engine, OnExit, WorkerSpec
from pilot.worker import serve

#: Seconds for which the start of a worker is tried again when the fork server dies meanwhile.
START_SECONDS = 20.0
#: prctl(2).
_PR_SET_PDEATHSIG = 1
#: The exit code of a worker whose fork server is gone (``multiprocessing.popen_forkserver``).
_UNKNOWN = 255


class ProcessEngine(Engine):
    """Workers are children of the standard library's fork server, which imported the library once.

    They end with it: only it knows how they ended. The next worker starts another one.
    """

    def __init__(self, allocation: Allocation) -> None:
        super().__init__(allocation)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["pilot.worker.process"])
        self._workers: dict[str, ForkServerProcess] = {}

    def start(self, on_broken: Callable[[str], None]) -> None:
        """Nothing to start: the first worker starts the fork server."""

    def join(self, client: Mapping[str, str], on_broken: Callable[[str], None]) -> None:
        """Nothing to join: each node has a fork server of its own."""

    def spawn(self, spec: WorkerSpec, on_exit: OnExit) -> None:
        process = self._workers[spec.name] = self._started(spec)
        threading.Thread(target=self._watch, args=(process, on_exit), daemon=True).start()

    def _started(self, spec: WorkerSpec) -> ForkServerProcess:
        deadline = time.monotonic() + START_SECONDS
        while True:
            process = self._context.Process(target=_serve, args=(spec, os.getpid()), name=spec.name)
            try:
                process.start()
            except (EOFError, ConnectionError):  # the fork server has died, and what it may have forked ends with it
                if time.monotonic() > deadline:
                    raise
            else:
                return process

    def _watch(self, process: ForkServerProcess, on_exit: OnExit) -> None:
        wait([process.sentinel])
        process.join()
        code = process.exitcode or 0
        if self._workers.pop(process.name, None) is not None:  # else it was killed here
            process.close()  # it has two descriptors
        if code == _UNKNOWN:
            on_exit("ended with its fork server, which was killed", blameless=True)
        else:
            on_exit(f"was killed by signal {-code}" if code < 0 else f"ended with code {code}")

    def kill(self, name: str) -> None:
        if (process := self._workers.pop(name, None)) is not None:
            process.kill()

    def stop(self) -> None:
        for name in list(self._workers):
            self.kill(name)


def _serve(spec: WorkerSpec, engine: int) -> None:
    """In the worker: end when the fork server does, and work until the agent ends it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if _parent(os.getppid()) != engine:
        os._exit(_UNKNOWN)  # it has died before
    serve(spec)


def _parent(pid: int) -> int | None:
    """The parent of this process (proc(5), /proc/pid/stat, field 4); None: there is no such process. In a worker, which
    does without psutil."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
