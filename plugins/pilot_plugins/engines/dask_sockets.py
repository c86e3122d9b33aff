"""Dask's communication over Unix sockets, for clusters on one host: there no port is open to other users, and nothing
needs to be encrypted.

It is registered with distributed as the protocol "unix" (entry point ``distributed.comm.backends``). An address is that
of a socket's file, ``unix:///tmp/pilot-1a2b/dask-0f1e2d3c``; one to listen on is that of a folder of this user's alone,
in which each listener makes a file of its own.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from distributed.comm.core import BaseListener, Comm, CommClosedError, Connector
from distributed.comm.registry import Backend
from distributed.comm.tcp import MAX_BUFFER_SIZE, TCP
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.netutil import add_accept_handler

from pilot.wire.socket_files import SocketFile, connected, is_foreign

log = logging.getLogger(__name__)

PREFIX = "unix://"
#: What stands for the host of each address: Dask compares hosts to see what is near.
HOST = "localhost"


class _Socket(socket.socket):
    """A Unix socket that passes over the options of TCP, which distributed sets on each of its streams."""

    def setsockopt(self, level: int, *args: Any) -> None:
        if level != socket.SOL_TCP:
            super().setsockopt(level, *args)


def _comm(one: socket.socket, path: str, deserialize: bool) -> TCP:
    """What distributed reads and writes by.

    Args:
        one: a connected socket, which it takes over.
        path: of the listener's file: both ends have its address, the connecting end has none of its own.
        deserialize: whether messages are read as objects.
    """
    stream = IOStream(_Socket(fileno=one.detach()), max_buffer_size=MAX_BUFFER_SIZE)
    return TCP(stream, PREFIX + path, PREFIX + path, deserialize)


class UnixConnector(Connector):
    """Connects to a listener's file."""

    async def connect(self, address: str, deserialize: bool = True, **_connection_args: Any) -> TCP:
        """A connection.

        Raises:
            OSError: nothing listens there.
            SessionError: others can write into its folder, or another user's process listens there.
        """
        return _comm(connected(Path(address)), address, deserialize)


class UnixListener(BaseListener):
    """Listens at a file of its own."""

    prefix = PREFIX

    def __init__(
        self,
        folder: str,
        comm_handler: Callable[[Comm], Awaitable[None]],
        deserialize: bool,
        allow_offload: bool,
    ) -> None:
        super().__init__()
        self._path = f"{folder}/dask-{secrets.token_hex(4)}"
        self._comm_handler = comm_handler
        self._deserialize = deserialize
        self._allow_offload = allow_offload
        self._file: SocketFile | None = None
        self._stop_accepting: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: there can be no socket in the folder.
            SessionError: others can enter it.
        """
        self._file = SocketFile(Path(self._path))
        self._stop_accepting = add_accept_handler(self._file.socket, self._accept)

    def stop(self) -> None:
        if self._file is not None:
            self._stop_accepting()
            self._file.remove()
            self._file = None

    def _accept(self, one: socket.socket, _address: Any) -> None:
        if is_foreign(one):
            log.warning("a connection of another user's to %s was refused", self._path)
            one.close()
            return
        IOLoop.current().spawn_callback(self._serve, _comm(one, self._path, self._deserialize))

    async def _serve(self, comm: TCP) -> None:
        comm.allow_offload = self._allow_offload
        try:
            await self.on_connection(comm)
        except CommClosedError:  # before the handshake was over
            return
        await self._comm_handler(comm)

    @property
    def listen_address(self) -> str:
        return PREFIX + self._path

    @property
    def contact_address(self) -> str:
        return PREFIX + self._path


class UnixBackend(Backend):
    """What distributed asks for the protocol."""

    def get_connector(self) -> UnixConnector:
        return UnixConnector()

    def get_listener(
        self,
        loc: str,
        handle_comm: Callable[[Comm], Awaitable[None]],
        deserialize: bool,
        allow_offload: bool = True,
        **_connection_args: Any,
    ) -> UnixListener:
        folder = loc.removesuffix(":0")  # distributed adds the port where any would do
        return UnixListener(folder, handle_comm, deserialize, allow_offload)

    def get_address_host(self, loc: str) -> str:
        return HOST

    def resolve_address(self, loc: str) -> str:
        return loc

    def get_local_address_for(self, loc: str) -> str:
        return str(Path(loc).parent)
