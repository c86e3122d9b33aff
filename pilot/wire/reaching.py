"""Which of a peer's addresses on another host answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import zmq

from pilot.wire.addresses import usable
from pilot.wire.channel import event_of, secure
from pilot.wire.session import Keys

#: Seconds that an address has to answer.
PROBE_SECONDS = 2.0
#: Seconds that the other probes have to finish their handshakes: an interrupted one looks like a foreign connection.
FINISH_SECONDS = 0.1
_DEAD = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


def reach(addresses: Iterable[str], host: str, keys: Keys, timeout: float = PROBE_SECONDS) -> str | None:
    """The first of the addresses where a holder of the session's keys answers; None when there is none.

    All are tried at once; blocks ``timeout`` seconds at most. An open port is not enough, since a private address may
    belong to another host here: the handshake must succeed.

    Args:
        addresses: as `candidates` returns them.
        host: the other's ``platform.node()``.
        keys: public and secret CURVE key of the session.
        timeout: seconds.
    """
    wanted = usable(addresses, host)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    probes = [secure(context.socket(zmq.DEALER), keys, address) for address in wanted]
    monitors = [probe.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | _DEAD) for probe in probes]
    try:
        for probe, address in zip(probes, wanted, strict=True):
            probe.connect(address)
        return _first(wanted, monitors, timeout)
    finally:
        for probe in probes:
            probe.disable_monitor()
        for one in (*monitors, *probes):
            one.close(linger=0)
        context.term()


def _first(wanted: Sequence[str], monitors: Sequence[zmq.Socket[bytes]], timeout: float) -> str | None:
    deadline = time.monotonic() + timeout
    poller = zmq.Poller()
    for monitor in monitors:
        poller.register(monitor, zmq.POLLIN)
    waiting, reached, found = dict(zip(monitors, wanted, strict=True)), set(), None
    while waiting and (left := deadline - time.monotonic()) > 0:
        for monitor, _ in poller.poll(int(left * 1000) + 1):
            poller.unregister(monitor)
            address = waiting.pop(monitor)
            if event_of(monitor)[0] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                reached.add(address)
        for address in wanted:  # the first one that answers, once those before it are known not to
            if address in reached and found is None:
                found = address
                deadline = min(deadline, time.monotonic() + FINISH_SECONDS)
            if address in waiting.values():
                break
    return found or next((address for address in wanted if address in reached), None)
