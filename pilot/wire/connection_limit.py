"""Bounds the connections of a server: each takes a descriptor, also of somebody without the session's key, until its
handshake has failed.

ZeroMQ accepts all of them. When there are too many, the kernel drops what asks for another one (socket(7),
``SO_ATTACH_FILTER``, on the listening sockets), until some are gone. The connections that there are go on, and those
that ask again, as agents do, get in then.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import struct

import zmq

log = logging.getLogger(__name__)

#: Events of a socket's monitor that a `ConnectionLimit` needs.
EVENTS = zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
#: Connections at a time, where descriptors are not limited.
MOST = 32768
#: <asm-generic/socket.h>; Python has no names for them.
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
#: A program of the kernel's packet filter that takes nothing: ``BPF_RET | BPF_K`` with 0 (<linux/filter.h>).
_DROP = struct.pack("=HBBI", 0x06, 0, 0, 0)


class ConnectionLimit:
    """The listening sockets of one server, and its connections. For one thread."""

    def __init__(self, most: int | None = None) -> None:
        """``most``: connections at a time; None: half of the descriptors that this process may have, `MOST` at most."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        some = MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 2)
        self._most = some if most is None else most
        self._listening: set[int] = set()
        self._connected: set[int] = set()
        self.is_reached = False

    def take(self, event: int, descriptor: int) -> None:
        """Take in an event of the socket's monitor, of those in `EVENTS`, with its value."""
        if event == zmq.EVENT_LISTENING:
            self._listening.add(descriptor)
        elif event == zmq.EVENT_ACCEPTED:
            self._connected.add(descriptor)
        elif event in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED):
            self._connected.discard(descriptor)
            self._listening.discard(descriptor)

    def check(self) -> None:
        """Have the kernel drop further connections, or let them in again, by what was taken in."""
        if not self.is_reached and len(self._connected) > self._most:
            log.warning("%d connections at a time: further ones wait until some are gone", len(self._connected))
            self._set(_ATTACH_FILTER)
            self.is_reached = True
        elif self.is_reached and len(self._connected) <= self._most // 2:
            self._set(_DETACH_FILTER)
            self.is_reached = False

    def _set(self, option: int) -> None:
        import ctypes  # only here: it takes memory in each worker

        program = ctypes.create_string_buffer(_DROP, len(_DROP))
        value = struct.pack("@HP", 1, ctypes.addressof(program))
        for descriptor in self._listening:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as listening:
                listening.setsockopt(socket.SOL_SOCKET, option, value)
