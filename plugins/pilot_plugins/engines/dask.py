"""``engine="dask"``: a Dask cluster of the pilot's own; a worker is a Dask worker with one long-running task."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import dask
from distributed import Client, LocalCluster, Security, default_client, get_worker, secede

from pilot.interfaces import Allocation, Engine, OnExit, WorkerSpec
from pilot.wire.folders import is_text, sockets
from pilot_plugins.engines.dask_references import DaskReferences
from pilot_plugins.engines.dask_sockets import address_of

log = logging.getLogger(__name__)

#: Dask's processes start an HTTP server without authentication in any case. Here it has nothing to say, listens on
#: loopback, and is closed as soon as it is there.
NO_ROUTES: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
HTTP_ADDRESS = "127.0.0.1:0"
#: Defaults that take the place of Dask's, with which an idle worker uses 3 % of a core: how often it looks whether its
#: event loop is late, and a profile of its tasks, of which the pilot's one is always there.
IDLE_DEFAULTS = {"distributed": {"admin": {"tick": {"interval": "500ms"}}, "worker": {"profile": {"enabled": False}}}}
#: The same settings' names, as environment variables of a worker have them.
IDLE_VARIABLES = {
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "distributed.admin.tick.interval",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "distributed.worker.profile.enabled",
}
#: Where a cluster listens that is for this host alone.
LOOPBACK = "127.0.0.1"
#: Seconds that a new client waits for the first workers.
WORKERS_SECONDS = 30
#: Seconds that a client has to leave its scheduler.
CLOSE_SECONDS = 2
#: An exception, as Python writes it at the end of a traceback.
_ERROR = re.compile(r"[\w.]*(Error|Exception): .+")


class PilotClient(Client):
    """A client of a pilot's cluster."""

    @property
    def dashboard_link(self) -> None:
        """None: the cluster has no dashboard of Dask's; that of quantum-pilot is `pilot.dashboard.open`."""


class DaskEngine(Engine):
    """The scheduler runs in the agent's process, each worker in one of its own on its node. On one host they use Unix
    sockets, else TLS with keys made here, which the nodes read from the pilot's folder.

    A worker's task leaves Dask's thread pool (``distributed.secede``), so the native client finds the workers free.
    """

    #: The setting in ``dask.config`` before there was a client of ours.
    _scheduler_before: ClassVar[Any] = None

    def __init__(self, allocation: Allocation) -> None:
        super().__init__(allocation)
        dask.config.update_defaults(IDLE_DEFAULTS)
        self._folder = allocation.folder / "dask"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._serving: dict[str, Any] = {}
        self._cluster: LocalCluster | None = None
        self._is_stopping = False
        self._client: Client
        self._joined: Mapping[str, str] = {}

    def start(self, on_broken: Callable[[str], None]) -> None:
        here = self.allocation.address == LOOPBACK and self.allocation.ports is None
        self._cluster, pem = (_start_cluster(address_of(sockets())), {}) if here else self._start_with_tls()
        self._joined = {"address": self._cluster.scheduler_address, **pem}
        self._client = Client(self._cluster, set_as_default=False)
        scheduler: Any = self._cluster.scheduler
        scheduler.loop.add_callback(self._watch_scheduler, scheduler, on_broken)

    async def _watch_scheduler(self, scheduler: Any, on_broken: Callable[[str], None]) -> None:
        await scheduler.finished()
        if not self._is_stopping:
            on_broken("Dask's scheduler has ended, as by client.shutdown(); client.close() only disconnects")

    def _start_with_tls(self) -> tuple[LocalCluster, dict[str, str]]:
        """A cluster that other hosts reach, and the files with its keys."""
        security = Security.temporary()
        pem = {}
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for role in ("ca_file", "cert", "key"):
            path = self._folder / f"{role}.pem"
            path.touch(mode=0o600)
            path.write_text(security.tls_ca_file if role == "ca_file" else getattr(security, f"tls_scheduler_{role}"))
            pem[role] = str(path)
        first, last = self.allocation.ports or (0, 0)
        for port in range(first, last + 1):
            try:
                return _start_cluster(f"tls://{self.allocation.address}", port, security), pem
            except RuntimeError:  # the port is taken
                if port == last:
                    raise
        raise AssertionError("a range of ports is never empty")

    def join(self, client: Mapping[str, str], on_broken: Callable[[str], None]) -> None:
        self._joined = client
        self._client = self._open(client, default=False)

    def spawn(self, spec: WorkerSpec, on_exit: OnExit) -> None:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self._joined["address"]]
        command += [
            "--name",
            spec.name,
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--dashboard-address",
            HTTP_ADDRESS,
            "--memory-limit",
            "0",
        ]
        # A worker's name places a task only once the worker is there; this task must never go elsewhere.
        resources = {**dask.config.get("distributed.worker.resources", {}), spec.name: 1}
        command += ["--resources", ",".join(f"{name}={amount}" for name, amount in resources.items())]
        folders = _own_folders(spec.name)
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)
        command += ["--local-directory", str(folders[0])]
        if "key" in self._joined:
            command += ["--host", self.allocation.address]
            command += ["--tls-ca-file", self._joined["ca_file"]]
            command += ["--tls-cert", self._joined["cert"], "--tls-key", self._joined["key"]]
            if self.allocation.ports is not None:
                command += ["--worker-port", ":".join(map(str, dict.fromkeys(self.allocation.ports)))]
        else:
            command += ["--host", address_of(folders[-1])]
        settings = {name: str(dask.config.get(setting)) for name, setting in IDLE_VARIABLES.items()}
        log_path = Path(spec.folder) / f"{spec.name}.dask.log"
        with log_path.open("ab") as log_file:
            # Dask imports NumPy before the worker's own code runs: the numbers of threads are there from the start.
            process = subprocess.Popen(
                command,
                env={**settings, **os.environ, **spec.environment, "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]"},
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        self._processes[spec.name] = process
        self._serving[spec.name] = self._client.submit(
            _serve, spec, resources={spec.name: 1}, pure=False, key=f"serve-{spec.name}"
        )
        threading.Thread(target=self._watch, args=(spec.name, process, log_path, on_exit), daemon=True).start()

    def _watch(self, name: str, process: subprocess.Popen[bytes], log_path: Path, on_exit: OnExit) -> None:
        code = process.wait()
        self._processes.pop(name, None)
        if (serving := self._serving.pop(name, None)) is not None:
            serving.release()
        for folder in _own_folders(name):  # one that was killed has not removed what it had there
            shutil.rmtree(folder, ignore_errors=True)
        on_exit(f"was killed by signal {-code}" if code < 0 else f"ended with code {code}{_cause(log_path)}")

    def kill(self, name: str) -> None:
        if (process := self._processes.pop(name, None)) is not None:
            process.kill()

    def stop(self) -> None:
        self._is_stopping = True
        for name in list(self._processes):
            self.kill(name)
        self._client.close(timeout=2)
        if self._cluster is not None:
            self._cluster.close(timeout=2)

    def client(self) -> dict[str, str]:
        return {**self._joined, "workers": str(self.allocation.cores)}

    @classmethod
    def connect(cls, client: Mapping[str, str]) -> Any:
        """A ``distributed.Client`` of this pilot's cluster, Dask's default until it is closed. Waits for the workers of
        all nodes that the pilot has."""
        if not _default_client_is_there():
            cls._scheduler_before = dask.config.get("scheduler", None)
        opened = cls._open(client, default=True)
        wanted = int(client["workers"]) * int(client.get("nodes", 1))
        try:
            opened.wait_for_workers(wanted, timeout=WORKERS_SECONDS)  # a program may ask for them at once
        except TimeoutError:
            there = len(opened.nthreads())
            log.warning("%d of %d workers of Dask are there after %d s", there, wanted, WORKERS_SECONDS)
        return opened

    @classmethod
    def references(cls, connected: Any) -> DaskReferences:
        return DaskReferences(connected)

    @staticmethod
    def _open(client: Mapping[str, str], *, default: bool) -> Client:
        security = None
        if "key" in client:
            security = Security(
                require_encryption=True,
                tls_ca_file=client["ca_file"],
                tls_client_cert=client["cert"],
                tls_client_key=client["key"],
            )
        kind: Any = PilotClient
        opened: Client = kind(client["address"], security=security, set_as_default=default)
        return opened

    @classmethod
    def disconnect(cls, client: Mapping[str, str], connected: Any) -> None:
        connected.close(timeout=CLOSE_SECONDS)
        # Each client gives back the setting that it found, which is that of another one when it was not the first.
        if not _default_client_is_there() and dask.config.get("scheduler", None) == "dask.distributed":
            dask.config.set(scheduler=cls._scheduler_before)


def _start_cluster(host: str, port: int = 0, security: Security | None = None) -> LocalCluster:
    """A scheduler without workers that listens there.

    Raises:
        RuntimeError: the port is taken.
    """
    dask.config.set(NO_ROUTES)
    cluster = LocalCluster(
        n_workers=0,
        host=host,
        scheduler_port=port,
        security=security,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": HTTP_ADDRESS},
        silence_logs=False,
    )
    scheduler: Any = cluster.scheduler
    scheduler.loop.add_callback(scheduler.http_server.stop)
    return cluster


def _own_folders(name: str) -> list[Path]:
    """The folders of one Dask worker, for its files and for its sockets; of the first the path is UTF-8 text, which a
    worker sends to its scheduler, wherever there is such a folder."""
    files, sockets_ = (folder / f"dask-{name}" for folder in (Path(tempfile.gettempdir()), sockets()))
    return [files, sockets_] if is_text(files) else [sockets_]


def _cause(log_path: Path) -> str:
    """The first error in the log of a worker that an error has ended, to be added to a reason; the later ones follow
    from it. Empty: no error has."""
    with contextlib.suppress(OSError):
        lines = log_path.read_text(errors="replace").splitlines()
        errors = [line for line in lines if _ERROR.fullmatch(line)]
        if errors and errors[-1] == lines[-1]:
            return f": {errors[0]}"
    return ""


def _default_client_is_there() -> bool:
    try:
        default_client()
    except ValueError:
        return False
    return True


def _serve(spec: WorkerSpec) -> None:
    """In the Dask worker: leave its thread pool, work until the agent ends it, and end the process."""
    from pilot.worker import serve

    worker = get_worker()
    worker.loop.add_callback(worker.http_server.stop)
    secede()
    serve(spec)
    os._exit(0)
