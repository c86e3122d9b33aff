"""``engine="subprocess"``: each worker is a new Python interpreter."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping

import msgspec

from pilot.interfaces import Allocation, Engine, OnExit, WorkerSpec
from pilot.worker import serve


class SubprocessEngine(Engine):
    """Starts workers as children of the agent."""

    def __init__(self, allocation: Allocation) -> None:
        super().__init__(allocation)
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, on_broken: Callable[[str], None]) -> None:
        """There is no cluster to start."""

    def join(self, client: Mapping[str, str], on_broken: Callable[[str], None]) -> None:
        """There is no cluster to join: each node starts its own workers."""

    def spawn(self, spec: WorkerSpec, on_exit: OnExit) -> None:
        worker = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE)
        assert worker.stdin is not None
        worker.stdin.write(msgspec.msgpack.encode(spec))  # not on the command line: it holds the session's keys
        worker.stdin.close()
        self._workers[spec.name] = worker
        threading.Thread(target=self._watch, args=(worker, on_exit), daemon=True).start()

    @staticmethod
    def _watch(worker: subprocess.Popen[bytes], on_exit: OnExit) -> None:
        code = worker.wait()
        on_exit(f"was killed by signal {-code}" if code < 0 else f"ended with code {code}")

    def kill(self, name: str) -> None:
        if (worker := self._workers.pop(name, None)) is not None:
            worker.kill()

    def stop(self) -> None:
        for name in list(self._workers):
            self.kill(name)


if __name__ == "__main__":  # in the worker
    serve(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=WorkerSpec))
