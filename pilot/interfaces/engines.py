"""The contract of engines, which run workers in a placeholder job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pilot.interfaces.references import References
from pilot.resources import Resources


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine may use on one node."""

    pilot: str
    #: The node's name, one for each node of the pilot.
    node: str = "node-0"
    #: Nodes of the pilot.
    nodes: int = 1
    #: Address to listen on: of this machine's own when the pilot has one node, else one that the other nodes reach.
    address: str = "127.0.0.1"
    #: Ports to listen on, first and last; None: any.
    ports: tuple[int, int] | None = None
    cores: int
    gpus: int
    #: Bytes.
    memory: int
    #: Private folder of this pilot below the session folder.
    folder: Path


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a worker process (see ``worker/process.py``)."""

    name: str
    #: The node that it runs on.
    node: str = "node-0"
    resources: Resources
    #: Where the agent listens.
    address: str
    #: The session's CURVE keys, public and secret.
    keys: tuple[bytes, bytes]
    #: Folder for its captured output.
    folder: str
    #: Folder for large values, and above how many bytes results go there.
    spool: str
    spool_bytes: int = 1 << 20
    sys_path: tuple[str, ...]
    working_directory: str
    #: Set before anything of the user's is imported; an engine that imports NumPy in the worker sets it before that.
    environment: dict[str, str]


class OnExit(Protocol):
    """What an engine calls when a worker is gone."""

    def __call__(self, reason: str, blameless: bool = False) -> None:
        """Report the reason; ``blameless``: the tasks that it ran are not the cause."""


class Engine(ABC):
    """A cluster in which workers run. Its methods may block and are called from one thread at a time.

    There is one object on each node of the pilot: the agent's starts the cluster, those on other nodes join it.
    A worker is a process of the engine that calls ``pilot.worker.serve(spec)``, which connects to the agent and
    returns when the agent ends it. Work does not pass through the engine: it places workers, reports when one is gone,
    and gives users its native client.
    """

    #: True when `spawn` and `kill` are called on the agent's node for all nodes, False when on the worker's own.
    central = False

    def __init__(self, allocation: Allocation) -> None:
        self.allocation = allocation

    @abstractmethod
    def start(self, on_broken: Callable[[str], None]) -> None:
        """Start the cluster on private ports and folders, with its own authentication on.

        ``on_broken(reason)`` is called, from any thread, when the cluster as a whole cannot go on; the pilot ends then,
        and is started again or fails.
        """

    @abstractmethod
    def join(self, client: Mapping[str, str], on_broken: Callable[[str], None]) -> None:
        """On another node: join the cluster whose `client` this is. ``on_broken(reason)``: this node cannot go on."""

    @abstractmethod
    def spawn(self, spec: WorkerSpec, on_exit: OnExit) -> None:
        """Start a worker. ``on_exit(reason)`` is called once, from any thread, when it is gone."""

    @abstractmethod
    def kill(self, name: str) -> None:
        """End this worker at once. Nothing happens when it is gone already."""

    @abstractmethod
    def stop(self) -> None:
        """End the cluster, or this node's part of it, with all its processes."""

    def client(self) -> dict[str, str]:
        """What `connect` and `join` need."""
        return {}

    @classmethod
    def connect(cls, client: Mapping[str, str]) -> Any:
        """The engine's native client, in the user's process.

        Args:
            client: of `client`, and "nodes": on how many nodes the pilot's workers are.

        Raises:
            NotImplementedError: it has none.
        """
        raise NotImplementedError(f"{cls.__name__} has no native client")

    @classmethod  # noqa: B027 - nothing to do is right for those without one
    def disconnect(cls, client: Mapping[str, str], connected: Any) -> None:
        """Close what `connect` returned. Nothing happens when the user has closed it; the cluster may be gone."""

    @classmethod
    def references(cls, connected: Any) -> References:
        """What makes references of the engine's own kind to tasks of a manager, in the user's process.

        Args:
            connected: what `connect` returned.

        Raises:
            NotImplementedError: it has no such references.
        """
        raise NotImplementedError(f"{cls.__name__} has no references of its own")
