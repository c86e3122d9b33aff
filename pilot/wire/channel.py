"""Messages between hosts: ZeroMQ over TCP, with CURVE.

Each session has one key pair; every process that can read it is trusted. A peer without it is dropped in the handshake
and logged: nothing that it sends is read.
"""

from __future__ import annotations

import logging
import re
import struct
from typing import Any

import zmq

from pilot.errors import SessionError
from pilot.wire import connection_limit, messages
from pilot.wire.connection_limit import ConnectionLimit
from pilot.wire.messages import Frames, Message
from pilot.wire.polling import Poller, Watched
from pilot.wire.session import Keys

log = logging.getLogger(__name__)

_HEARTBEAT_MS = 5000
#: A connection that takes longer to be made, or to show its key, is tried again.
_CONNECT_MS = 5000
_HOST = re.compile(r"tcp://(\[.*\]|[^:]*)(?::(\d+))?")
#: An event of a socket's monitor: its number and its value.
_EVENT = struct.Struct("=Hi")
#: Connections that wait to be taken: all workers of a pilot connect at about the same time (listen(2)).
_BACKLOG = 4096


class FarServer:
    """The listening end for other hosts. For one thread."""

    def __init__(self, keys: Keys, ports: tuple[int, int] | None = None, most: int | None = None) -> None:
        """Make it; `listen` is to be called.

        Args:
            keys: public and secret CURVE key of the session.
            ports: first and last of those to choose from; None: any free one.
            most: as for `ConnectionLimit`.
        """
        from zmq.auth.thread import ThreadAuthenticator  # brings asyncio: a tenth of the library's import time

        self._context = zmq.Context()
        self._auth = ThreadAuthenticator(self._context, log=log)
        self._auth.start()
        self._auth.configure_curve_callback("*", _Session(keys[0]))
        self._socket = _prepare(self._context.socket(zmq.ROUTER))
        self._socket.curve_server = True
        self._socket.curve_publickey, self._socket.curve_secretkey = keys
        self._socket.router_mandatory = True
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.BACKLOG, _BACKLOG)
        self._ports = ports
        self._limit = ConnectionLimit(most)
        self._accepted = self._admitted = self._dropped = 0
        monitor = f"inproc://pilot-monitor-{id(self)}"
        self._socket.monitor(monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED | connection_limit.EVENTS)
        self._monitor = self._context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.RCVHWM, 0)  # a full one would stop the channel
        self._monitor.connect(monitor)
        self._watched = Watched(self._socket)
        #: Where it listened first.
        self.address = ""

    def register(self, poller: Poller) -> None:
        """Have the poller end its wait when something has come."""
        poller.register(self._watched)

    def listen(self, address: str) -> str:
        """Listen at an address ``tcp://host:port``; without a port, or when that one is taken, at another. Returns the
        address with its port.

        Raises:
            SessionError: the address is not this host's, or all ports are taken.
        """
        host, port = _HOST.fullmatch(address).groups()  # type: ignore[union-attr]
        if self._ports is None:
            choice = [port, "*"] if port else ["*"]
        else:
            first, last = self._ports
            choice = [str(one) for one in range(first, last + 1)]
            choice.sort(key=lambda one: one != port)
        self._socket.ipv6 = host.startswith("[")
        for one in choice:
            try:
                self._socket.bind(f"tcp://{host}:{one}")
            except zmq.ZMQError as error:
                if error.errno == zmq.EADDRINUSE:
                    continue
                raise SessionError(f"{host}:{one} cannot be listened on: {error.strerror}", address=host) from error
            found = str(self._socket.last_endpoint.decode())
            self.address = self.address or found
            return found
        raise SessionError(
            f"all ports from {choice[0]} to {choice[-1]} of {host} are taken: allow more (ports=)", address=host
        )

    def send(self, peer: bytes, message: Message, frames: Frames = ()) -> bool:
        """Send; False when this peer is not connected, or the message was lost."""
        self._watched.stir()
        try:
            self._socket.send_multipart([peer, messages.encode(message), *frames], flags=zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                log.exception("a message to %r was lost", peer)
            return False
        return True

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """The next message with its sender, or None when there is none now. Never blocks."""
        if not self._watched.has_message():
            return None
        try:
            peer, *frames = self._socket.recv_multipart(flags=zmq.NOBLOCK)
        except zmq.Again:
            return None
        return peer, frames

    def look_out(self) -> None:
        """Log the connections that were refused since the last call, and bound their number. Call it every second: a
        handshake takes less."""
        before = self._accepted
        while self._monitor.poll(0):
            event, value = event_of(self._monitor)
            self._accepted += event == zmq.EVENT_ACCEPTED
            self._admitted += event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._limit.take(event, value)
        self._limit.check()
        dropped = before - self._admitted
        if dropped > self._dropped:
            count = dropped - self._dropped
            log.warning("%d connection(s) to %s did not show the session's key: dropped", count, self.address)
            self._dropped = dropped

    def close(self) -> None:
        """Close; what was not sent yet has a moment to go."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=500)
        self._auth.stop()
        self._context.term()


class Client:
    """The connecting end: an agent to its manager, a worker to its agent. For one thread."""

    #: As for `SocketClient`.
    can_be_shared = False

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys, address: str, name: str, watched: bool = False
    ) -> None:
        """Connect, now or as soon as the server is there.

        Args:
            context: where the socket lives.
            keys: public and secret CURVE key of the session.
            address: ``tcp://host:port``.
            name: what the server sees as sender.
            watched: `is_broken` will be called, often.
        """
        self.socket = secure(_prepare(context.socket(zmq.DEALER)), keys, address)
        self.socket.setsockopt(zmq.IDENTITY, name.encode())
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._watched = Watched(self.socket)
        self._made = self._broken = False
        self._monitor: zmq.Socket[bytes] | None = None
        if watched:
            self._monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.socket.connect(address)

    def is_broken(self) -> bool:
        """True once an established connection is gone: messages in transit, in both directions, may be lost. A new one
        is made anyway. One thread may call this while another one sends and receives."""
        assert self._monitor is not None
        while not self._broken and self._monitor.poll(0):
            if event_of(self._monitor)[0] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._made = True
            else:
                self._broken = self._made
        return self._broken

    def register(self, poller: Poller) -> None:
        """Have the poller end its wait when something has come."""
        poller.register(self._watched)

    def unregister(self, poller: Poller) -> None:
        """Undo `register`."""
        poller.unregister(self._watched)

    def send(self, message: Message, frames: Frames = ()) -> None:
        """Send, or keep until the server can be reached."""
        self._watched.stir()
        self.socket.send_multipart([messages.encode(message), *frames])

    def receive(self, timeout_ms: int = 0) -> tuple[Message, list[bytes]] | None:
        """The next message, or None when there is none within the time (-1: wait for ever)."""
        self._watched.stir()
        if timeout_ms and not self.socket.poll(timeout_ms):
            return None
        while True:
            try:
                frames = self.socket.recv_multipart(flags=zmq.NOBLOCK)
            except zmq.Again:
                return None
            if (message := messages.read(frames, b"the server")) is not None:
                return message, frames[1:]

    def close(self, linger_ms: int = 500) -> None:
        """Close; what was not sent yet has a moment to go."""
        if self._monitor is not None:
            self.socket.disable_monitor()
            self._monitor.close(linger=0)
        self.socket.close(linger=linger_ms)


def event_of(monitor: zmq.Socket[bytes]) -> tuple[int, int]:
    """The next event from the monitor of a socket, and its value (zmq_socket_monitor(3)); pyzmq's own function brings
    asyncio."""
    event, value = _EVENT.unpack(monitor.recv_multipart()[0])
    return event, value


def secure(socket: zmq.Socket[bytes], keys: Keys, address: str) -> zmq.Socket[bytes]:
    """The socket, prepared to connect to a server of the session at this address."""
    socket.curve_serverkey = keys[0]
    socket.curve_publickey, socket.curve_secretkey = keys
    socket.ipv6 = "[" in address
    return socket


class _Session:
    """Admits the holders of the session's key."""

    def __init__(self, public_key: bytes) -> None:
        self._public_key = public_key

    def callback(self, domain: str, key: bytes) -> bool:
        """True when the peer has shown this key; the library has checked that it holds the secret one too."""
        admitted = key == self._public_key
        if not admitted:
            log.warning("a connection with the CURVE key %s, which is not of this session, was refused", key.decode())
        return admitted


def _prepare(socket: Any) -> Any:
    socket.setsockopt(zmq.LINGER, 500)
    socket.setsockopt(zmq.SNDHWM, 0)  # the credit of each pilot bounds what is on its way
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 4 * _HEARTBEAT_MS)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _CONNECT_MS)
    return socket
