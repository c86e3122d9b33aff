"""A server that gets too many connections keeps the descriptors of its process."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import zmq

from pilot.wire.channel import Client
from pilot.wire.connection_limit import ConnectionLimit
from pilot.wire.messages import Stop
from pilot.wire.server import Server

MOST = 20


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def refused(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return False
    except TimeoutError:
        return True


def test_too_many_connections_wait_outside(
    eventually: Callable[..., object],
) -> None:
    """Those that are in go on; when the others are gone, another one gets in."""
    keys = zmq.curve_keypair()
    server = Server(keys, most=MOST)
    server.listen("tcp://127.0.0.1")
    port = int(server.address.rpartition(":")[2])
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    early, late = (Client(context, keys, server.address, name) for name in ("early", "late"))
    strangers: list[socket.socket] = []
    try:
        early.send(Stop())
        eventually(lambda: (server.look_out(), server.receive())[1] is not None)
        while len(strangers) < 50 * MOST and not refused(port):
            strangers.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            server.look_out()
        assert len(strangers) < 50 * MOST, "they are let in one after another"
        before = descriptors()
        assert all(refused(port) for _ in range(3))
        assert descriptors() <= before + 1
        assert server.send(b"early", Stop())
        assert early.receive(timeout_ms=5000) is not None
        while strangers:
            strangers.pop().close()
        eventually(lambda: (server.look_out(), not refused(port))[1])
        late.send(Stop())
        eventually(lambda: (server.look_out(), server.receive())[1] is not None)
    finally:
        for one in (*strangers, early, late, server):
            one.close()
        context.term()


def test_half_of_the_descriptors_are_left() -> None:
    limit = ConnectionLimit()
    for descriptor in range(100_000):
        limit.take(zmq.EVENT_ACCEPTED, descriptor)
    limit.check()
    assert limit.is_reached
    for descriptor in range(100_000):
        limit.take(zmq.EVENT_DISCONNECTED, descriptor)
    limit.check()
    assert not limit.is_reached
