"""Waits for whatever comes first: of ZeroMQ's sockets, and of what has a descriptor."""

from __future__ import annotations

import select
from typing import Any

import zmq


class Poller:
    """As `zmq.Poller`, each wait of which takes several times as long. For one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, Any] = {}

    def register(self, one: Any) -> None:
        """End waits when there is something to read: a socket of ZeroMQ's, a descriptor, or what has one."""
        if isinstance(one, zmq.Socket):
            self._sockets[one.fileno()] = one
        self._epoll.register(one, select.EPOLLIN)

    def unregister(self, one: Any) -> None:
        """Undo `register`."""
        if isinstance(one, zmq.Socket):
            del self._sockets[one.fileno()]
        self._epoll.unregister(one)

    def wait(self, seconds: float) -> set[int]:
        """Wait, for so long at most; the descriptors on which there is something to read, as far as that was asked."""
        # the descriptor of a socket of ZeroMQ's tells what has come since its events were read (zmq_getsockopt(3))
        if any(socket.get(zmq.EVENTS) & zmq.POLLIN for socket in self._sockets.values()):
            seconds = 0.0
        return {descriptor for descriptor, _ in self._epoll.poll(seconds)}
