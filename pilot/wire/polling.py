"""Waits for whatever comes first: of ZeroMQ's sockets, and of what has a descriptor."""

from __future__ import annotations

import select
from typing import Any

#: ZMQ_EVENTS and ZMQ_POLLIN of zmq.h. A process that connects to its own host alone does not load ZeroMQ.
_EVENTS, _POLLIN = 15, 1


class Watched:
    """A socket of ZeroMQ's that is asked for its events only when these may have changed: when its descriptor says so,
    or after it was used (zmq_getsockopt(3), ZMQ_FD). To ask takes as long as to take a message from a Unix socket."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._is_quiet = False
        #: A `Poller` looks at its descriptor.
        self.is_polled = False

    def fileno(self) -> int:
        """The descriptor, which is readable when the events may have changed."""
        return int(self._socket.fileno())

    def stir(self) -> None:
        """It is about to be used, or its descriptor is readable."""
        self._is_quiet = False

    def has_message(self) -> bool:
        """True when there is something to receive."""
        if self._is_quiet and self.is_polled:
            return False
        self._is_quiet = not self._socket.get(_EVENTS) & _POLLIN
        return not self._is_quiet


class Poller:
    """As `zmq.Poller`, each wait of which takes several times as long. For one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, Watched] = {}

    def register(self, one: Any) -> None:
        """End waits when there is something to read: a `Watched`, a descriptor, or what has one."""
        self._epoll.register(one, select.EPOLLIN)
        if isinstance(one, Watched):
            self._sockets[one.fileno()] = one
            one.is_polled = True

    def unregister(self, one: Any) -> None:
        """Undo `register`."""
        self._epoll.unregister(one)
        if isinstance(one, Watched):
            del self._sockets[one.fileno()]
            one.is_polled = False

    def wait(self, seconds: float) -> set[int]:
        """Wait, for so long at most; the descriptors that are readable."""
        for socket in self._sockets.values():
            if socket.has_message():
                seconds = 0.0
        ready = {descriptor for descriptor, _ in self._epoll.poll(seconds)}
        for descriptor in ready & self._sockets.keys():
            self._sockets[descriptor].stir()
        return ready
