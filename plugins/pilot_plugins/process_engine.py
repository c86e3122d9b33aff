"""``engine="process"``: a plain process a worker, forked from a warm server. For laptops and quick tests."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

from pilot.interfaces import Allocation, Engine, WorkerSpec
from pilot.worker import serve


class ProcessEngine(Engine):
    """Workers are children of the standard library's fork server, which imported the library once."""

    def __init__(self, allocation: Allocation) -> None:
        super().__init__(allocation)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["pilot.worker"])
        self._workers: dict[str, ForkServerProcess] = {}

    def start(self, on_broken: Callable[[str], None]) -> None:
        """Nothing to start: the first worker starts the fork server."""

    def join(self, client: Mapping[str, str], on_broken: Callable[[str], None]) -> None:
        """Nothing to join: each node has a fork server of its own."""

    def spawn(self, spec: WorkerSpec, on_exit: Callable[[str], None]) -> None:
        process = self._context.Process(target=serve, args=(spec,), name=spec.name)
        process.start()
        self._workers[spec.name] = process
        threading.Thread(target=self._watch, args=(process, on_exit), daemon=True).start()

    @staticmethod
    def _watch(process: ForkServerProcess, on_exit: Callable[[str], None]) -> None:
        wait([process.sentinel])
        process.join()
        code = process.exitcode or 0
        on_exit(f"was killed by signal {-code}" if code < 0 else f"ended with code {code}")

    def kill(self, name: str) -> None:
        if (process := self._workers.pop(name, None)) is not None:
            process.kill()

    def stop(self) -> None:
        for name in list(self._workers):
            self.kill(name)
