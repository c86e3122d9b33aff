"""``engine="ray"``: a Ray cluster of the pilot's own; a worker is an actor."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, ClassVar

import psutil
import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.exceptions import RayError

from pilot.errors import PilotError
from pilot.interfaces import Allocation, Engine, OnExit, WorkerSpec
from pilot.wire.folders import sockets
from pilot_plugins.engines.ray_references import RayReferences

#: Bytes of Ray's object store: values travel through the pilot's own channel, this is for users of the client.
OBJECT_STORE = 256 * 2**20
#: An address that Ray's C++ parts compare with: at no other of loopback do they keep to it.
LOOPBACK = "127.0.0.1"
#: Seconds that Ray has to start on a node.
JOIN_SECONDS = 90.0
#: By these Ray finds its token (Ray's documentation, "Token authentication").
_TOKEN, _MODE = _TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
#: What a worker takes of its node's own resource, of which each node has 1: it places the worker.
PIN_SHARE = 0.0001


class RayEngine(Engine):
    """Ray's head in the agent's process, a raylet on each other node, with token authentication on (Ray's
    documentation, "Token authentication") and their files in the agent's own temporary folder.

    Ray counts cores of its own: workers are declared with none, so that the cores are free for other workers, also
    while a task waits for tasks of its own, and for users of the native client; the pilot's agent counts what really
    runs.
    """

    central = True
    #: The variables of the token before this process was connected to a pilot's cluster; None: it is not.
    _variables_before: ClassVar[dict[str, str | None] | None] = None

    def __init__(self, allocation: Allocation) -> None:
        super().__init__(allocation)
        self._token = secrets.token_hex(32)
        self._raylet: subprocess.Popen[bytes] | None = None
        self._actors: dict[str, Any] = {}
        self._address = ""

    def start(self, on_broken: Callable[[str], None]) -> None:
        self._prepare(self._token)
        with _listening_at(self.allocation.address):
            context = ray.init(
                address="local",
                num_cpus=self.allocation.cores,
                num_gpus=self.allocation.gpus,
                object_store_memory=OBJECT_STORE,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _temp_dir=str(sockets() / "ray"),
                _node_ip_address=self.allocation.address,
                resources={_pin(self.allocation.node): 1.0},
            )
        self._address = context.address_info["gcs_address"]  # type: ignore[attr-defined]
        for process in psutil.Process().children():
            if process.name() in ("raylet", "gcs_server"):
                watch = threading.Thread(target=_watch, args=(process.pid, process.name(), on_broken), daemon=True)
                watch.start()

    def join(self, client: Mapping[str, str], on_broken: Callable[[str], None]) -> None:
        self._prepare(client["token"])
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={client['address']}", "--block"]
        command += [f"--node-ip-address={self.allocation.address}", f"--object-store-memory={OBJECT_STORE}"]
        command += [f"--num-cpus={self.allocation.cores}", f"--num-gpus={self.allocation.gpus}"]
        command += ["--resources", json.dumps({_pin(self.allocation.node): 1.0}), "--disable-usage-stats"]
        command += [f"--temp-dir={sockets() / 'ray'}"]
        environment = {**os.environ, "RAY_AUTH_MODE": "token"}
        log_path = self.allocation.folder / f"ray-{self.allocation.node}.log"
        with log_path.open("wb") as log_file:
            self._raylet = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file
            )
        deadline = time.monotonic() + JOIN_SECONDS
        while "Ray runtime started" not in (output := log_path.read_text()):
            if self._raylet.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Ray did not start on node {self.allocation.node}: {output[-1000:]}")
            time.sleep(0.05)
        watch = threading.Thread(target=_watch, args=(self._raylet.pid, "raylet", on_broken), daemon=True)
        watch.start()

    def _prepare(self, token: str) -> None:
        _use_token(token)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # where prometheus_client is installed, Ray's monitor tells its metrics to everybody here; this is no port
        os.environ["AUTOSCALER_METRIC_PORT"] = "70000"

    def spawn(self, spec: WorkerSpec, on_exit: OnExit) -> None:
        pin = {_pin(spec.node): PIN_SHARE}
        actor = _Worker.options(resources=pin, num_cpus=0).remote()  # type: ignore[attr-defined]
        self._actors[spec.name] = actor

        def ended(served: Future[None]) -> None:
            self._actors.pop(spec.name, None)
            on_exit(_why(served))

        actor.serve.remote(spec).future().add_done_callback(ended)

    def kill(self, name: str) -> None:
        if (actor := self._actors.pop(name, None)) is not None:
            ray.kill(actor)

    def stop(self) -> None:
        if self._raylet is not None:
            self._raylet.kill()
        else:
            ray.shutdown()

    def client(self) -> dict[str, str]:
        return {"address": self._address, "token": self._token}

    @classmethod
    def connect(cls, client: Mapping[str, str]) -> Any:
        """The module ``ray``, connected to this pilot's cluster; ``ray.shutdown()`` disconnects."""
        address = client["address"]
        if ray.is_initialized():
            if (other := _connected_to()) == address:
                return ray
            raise PilotError(
                f"this process is connected to the Ray cluster at {other}, and may be to one at a time: call "
                f"ray.shutdown() before get_client() of a pilot with the one at {address}"
            )
        if cls._variables_before is None:
            cls._variables_before = {name: os.environ.get(name) for name in _TOKEN_VARIABLES}
        _set_token_variables({_TOKEN: client["token"], _MODE: "token"})
        try:
            with _listening_at(address):
                ray.init(address=address, log_to_driver=False)
        except BaseException:
            cls.disconnect(client, ray)
            raise
        return ray

    @classmethod
    def references(cls, connected: Any) -> RayReferences:
        return RayReferences()

    @classmethod
    def disconnect(cls, client: Mapping[str, str], connected: Any) -> None:
        if ray.is_initialized():
            if _connected_to() != client["address"]:
                return
            ray.shutdown()
        if cls._variables_before is not None and os.environ.get(_TOKEN) == client["token"]:
            _set_token_variables(cls._variables_before)
            cls._variables_before = None


@contextlib.contextmanager
def _listening_at(address: str) -> Iterator[None]:
    """While a cluster on loopback is started, or connected to, Ray takes loopback for this host's own address, as it
    does on macOS and Windows: else it replaces it by one that others reach, and listens on all of them.

    Args:
        address: of the cluster, with or without a port.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER  # the only place where it asks for this on Linux
    if address.startswith(LOOPBACK):
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _connected_to() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _set_token_variables(values: Mapping[str, str | None]) -> None:
    """Have Ray's next connection of this process use this token. It reads the variables once."""
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _pin(node: str) -> str:
    """The resource that this node alone has."""
    return f"pilot-node-{node}"


def _watch(pid: int, name: str, on_broken: Callable[[str], None]) -> None:
    """Without its raylet a cluster starts no more actors, and the old ones end after a while; Ray does not report
    it."""
    descriptor = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.close(descriptor)
    on_broken(f"Ray's {name} has ended")


def _use_token(token: str) -> None:
    """Have Ray use this token: it turns authentication on for a new cluster unless the mode is set (and read once,
    when ``ray`` is imported)."""
    os.environ.pop(_MODE, None)
    os.environ[_TOKEN] = token


@ray.remote(max_restarts=0)
class _Worker:
    def serve(self, spec: WorkerSpec) -> None:
        from pilot.worker import serve  # in the actor's process

        serve(spec)
        ray.actor.exit_actor()  # one that has nothing to do any more would keep its process


def _why(served: Future[None]) -> str:
    try:
        served.result()
    except RayError as error:
        return f"ended ({type(error).__name__}: {str(error).splitlines()[0]})"
    return "ended as requested"
