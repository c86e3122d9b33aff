"""The processes of the workers: the engine starts and kills them, on the agent's node or through the other nodes' own
processes."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pilot.agent.batches import Worker
from pilot.interfaces import Engine, WorkerSpec
from pilot.wire import messages
from pilot.wire.processes import end_left, with_threads
from pilot.wire.server import Server
from pilot.wire.session import AgentSettings, Keys
from pilot.wire.spool import LOCAL_SPOOL_BYTES, SPOOL_BYTES
from pilot.worker import gpus as gpu_variables

log = logging.getLogger(__name__)

#: Seconds that an engine may take to end.
STOP_SECONDS = 20.0
#: The files of so many workers that are gone are kept.
FILES_KEPT = 100


class WorkerProcesses:
    """Starts and kills workers, and collects which of them are gone. The engine is called in a thread of its own; all
    methods but `gone` are for the agent's thread, and none but `stop` blocks."""

    def __init__(
        self,
        engine: Engine,
        server: Server,
        keys: Keys,
        settings: AgentSettings,
        spool: Path,
        wake: Callable[[], None],
        on_broken: Callable[[str], None],
    ) -> None:
        """Make it; the arguments are those of `WorkerPool`, and ``on_broken`` is called in any thread when the engine
        cannot go on."""
        self._engine = engine
        self._server = server
        self._keys = keys
        self._settings = settings
        self._spool = spool
        self._wake = wake
        self._on_broken = on_broken
        self._calls = ThreadPoolExecutor(1, thread_name_prefix="pilot-engine")
        self._stopping = False
        #: Files of the workers' output are here.
        self.folder = engine.allocation.folder / "workers"
        #: Ends of workers that are not taken in yet: name, reason, and whether no task is the cause.
        self.exits: deque[tuple[str, str, bool]] = deque()
        #: Workers that are gone and whose files are kept, the last one last.
        self._kept: dict[str, None] = {}

    def start_engine(self, on_started: Callable[[], None]) -> None:
        """Start the engine, then call ``on_started``, in the engine's thread."""

        def start() -> None:
            self._engine.start(self._on_broken)
            on_started()

        self._call(start)

    def start(self, worker: Worker) -> None:
        """Start a worker on its node."""
        place = worker.place
        spec = WorkerSpec(
            name=worker.name,
            node=place.name,
            resources=worker.shape,
            address=place.address,
            keys=self._keys,
            folder=str(self.folder),
            spool=str(self._spool),
            spool_bytes=SPOOL_BYTES if self._settings.remote else LOCAL_SPOOL_BYTES,
            sys_path=self._settings.sys_path,
            working_directory=self._settings.working_directory,
            environment=self._environment(worker),
        )
        if place.peer is None or self._engine.central:
            self._call(self._engine.spawn, spec, functools.partial(self.gone, worker.name))
        else:
            self._server.send(place.peer, messages.StartWorker(spec))

    def _environment(self, worker: Worker) -> dict[str, str]:
        environment = with_threads(max(1, int(worker.shape.num_cpus)), self._settings.environment)
        node = worker.place.node
        if node.gpus:
            environment[gpu_variables.VARIABLES] = ",".join(node.gpu_variables)
            environment |= gpu_variables.assigned(node.gpu_variables, [node.gpus[index] for index in worker.gpus])
        return environment

    def kill(self, worker: Worker) -> None:
        """End a worker at once."""
        if worker.place.peer is None or self._engine.central:
            self._call(self._engine.kill, worker.name)
        else:
            self._server.send(worker.place.peer, messages.KillWorker(worker.name))

    def end_left(self, worker: Worker) -> None:
        """End what the tasks of a worker that is gone have left behind, before another one has its cores."""
        if worker.place.peer is None:
            self._call(end_left, self._settings.mark, worker.name, worker.pid)
        else:
            self._server.send(worker.place.peer, messages.KillWorker(worker.name, worker.pid))

    def gone(self, name: str, reason: str, blameless: bool = False) -> None:
        """Take in that a worker is gone. Any thread may call it."""
        self.exits.append((name, reason, blameless))
        self._wake()

    def keep_files(self, name: str) -> None:
        """Keep the files of a worker that is gone, and remove those of an earlier one: a pilot may replace its workers
        without end."""
        self._kept[name] = None
        if len(self._kept) > FILES_KEPT:
            del self._kept[first := next(iter(self._kept))]
            for path in self.folder.glob(f"{first}.*"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def stop(self) -> None:
        """End the engine. Blocks, for `STOP_SECONDS` at most: what hangs is killed with the agent's processes."""
        self._stopping = True
        ended = self._calls.submit(self._engine.stop)
        self._calls.shutdown(wait=False)
        if wait([ended], STOP_SECONDS).not_done:
            log.warning("the engine did not end within %.0f s", STOP_SECONDS)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        """Call the engine in its own thread; the pilot cannot go on when it raises."""

        def call() -> None:
            try:
                function(*args)
            except Exception as error:
                log.exception("the engine failed")
                self._on_broken(f"{type(error).__name__}: {error}")

        if not self._stopping:
            self._calls.submit(call)
