"""Dask's communication over Unix sockets, for clusters on one host: there no port is open to other users, and nothing
needs to be encrypted.

It is registered with distributed as the protocol "unix" (entry point ``distributed.comm.backends``). An address is that
of a socket's file, ``unix:///tmp/pilot-1a2b/dask-0f1e2d3c``; one to listen on is that of a folder of this user's alone,
in which each listener makes a file of its own. The path is written as in a URL, since Dask looks for a port behind ":".
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from distributed.comm.core import BaseListener, Comm, CommClosedError, Connector, FatalCommClosedError
from distributed.comm.registry import Backend
from distributed.comm.tcp import MAX_BUFFER_SIZE, TCP
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.iostream import IOStream
from tornado.netutil import add_accept_handler

from pilot.wire.socket_files import SocketFile, connected, is_foreign

#: One of Dask's: a worker's messages go to its own file, and not into the output of the task that it runs.
log = logging.getLogger("distributed.comm.unix")

PREFIX = "unix://"
#: What stands for the host of each address: Dask compares hosts to see what is near.
HOST = "localhost"
#: Milliseconds between two looks whether a listener's file is there.
LOOK_MS = 1000


def address_of(path: Path) -> str:
    """What Dask calls this file, or this folder to listen in."""
    return PREFIX + urllib.parse.quote_from_bytes(os.fsencode(path))


def _path(loc: str) -> Path:
    """Of an address without its prefix."""
    return Path(os.fsdecode(urllib.parse.unquote_to_bytes(loc)))


class _Socket(socket.socket):
    """A Unix socket that passes over the options of TCP, which distributed sets on each of its streams."""

    def setsockopt(self, level: int, *args: Any) -> None:
        if level != socket.SOL_TCP:
            super().setsockopt(level, *args)


def _comm(one: socket.socket, listener: str, deserialize: bool) -> TCP:
    """What distributed reads and writes by.

    Args:
        one: a connected socket, which it takes over.
        listener: its address, which both ends have: the connecting end has none of its own.
        deserialize: whether messages are read as objects.
    """
    stream = IOStream(_Socket(fileno=one.detach()), max_buffer_size=MAX_BUFFER_SIZE)
    return TCP(stream, listener, listener, deserialize)


class UnixConnector(Connector):
    """Connects to a listener's file."""

    async def connect(self, address: str, deserialize: bool = True, **_connection_args: Any) -> TCP:
        """A connection.

        Raises:
            OSError: nothing listens there. Dask tries again then, but when the folder is gone, as with its worker.
            SessionError: others can write into its folder, or another user's process listens there.
        """
        path = _path(address)
        try:
            one = connected(path)
        except FileNotFoundError as error:
            if path.parent.exists():
                raise
            raise FatalCommClosedError(f"{path.parent} is gone, as when its worker or its pilot has ended") from error
        return _comm(one, PREFIX + address, deserialize)


class UnixListener(BaseListener):
    """Listens at a file of its own."""

    prefix = PREFIX

    def __init__(
        self,
        folder: Path,
        comm_handler: Callable[[Comm], Awaitable[None]],
        deserialize: bool,
        allow_offload: bool,
    ) -> None:
        super().__init__()
        self._path = folder / f"dask-{secrets.token_hex(4)}"
        self._comm_handler = comm_handler
        self._deserialize = deserialize
        self._allow_offload = allow_offload
        self._file: SocketFile | None = None
        self._stop_accepting: Callable[[], None] = lambda: None
        self._looking = PeriodicCallback(self._look_out, LOOK_MS)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: there can be no socket in the folder.
            SessionError: others can enter it.
        """
        self._listen(SocketFile(self._path))
        self._looking.start()

    def _listen(self, file: SocketFile) -> None:
        self._file = file
        self._stop_accepting = add_accept_handler(file.socket, self._accept)

    def _look_out(self) -> None:
        if self._file is not None and (file := self._file.again()) is not None:
            log.warning("the socket %r was removed, and is made again", str(self._path))
            self._stop_accepting()
            self._file.remove()
            self._listen(file)

    def stop(self) -> None:
        if self._file is not None:
            self._looking.stop()
            self._stop_accepting()
            self._file.remove()
            self._file = None

    def _accept(self, one: socket.socket, _address: Any) -> None:
        if is_foreign(one):
            log.warning("a connection of another user's to %s was refused", self._path)
            one.close()
            return
        IOLoop.current().spawn_callback(self._serve, _comm(one, self.listen_address, self._deserialize))

    async def _serve(self, comm: TCP) -> None:
        comm.allow_offload = self._allow_offload
        try:
            await self.on_connection(comm)
        except CommClosedError:  # before the handshake was over
            return
        await self._comm_handler(comm)

    @property
    def listen_address(self) -> str:
        return address_of(self._path)

    @property
    def contact_address(self) -> str:
        return address_of(self._path)


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
        return UnixListener(_path(folder), handle_comm, deserialize, allow_offload)

    def get_address_host(self, loc: str) -> str:
        return HOST

    def resolve_address(self, loc: str) -> str:
        return loc

    def get_local_address_for(self, loc: str) -> str:
        return loc.rpartition("/")[0]
