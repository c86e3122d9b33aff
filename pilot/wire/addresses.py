"""Where a manager may listen, and which of its addresses an agent reaches."""

from __future__ import annotations

import logging
import platform
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from pilot.errors import SessionError, invalid
from pilot.wire.server import Server
from pilot.wire.session import Connection

log = logging.getLogger(__name__)

_LOOPBACK = "tcp://127.0.0.1"
#: Prefixes of interfaces that reach only containers and virtual machines of this host.
_INWARD = ("docker", "br-", "veth", "virbr", "cni", "flannel", "podman")


def hosts(interface: str = "") -> tuple[str, ...]:
    """This host's addresses by which others may reach it, best first: those of the interface, IPv4 before IPv6,
    those of the host's name before others, bridges to containers last. Without link-local and loopback addresses."""
    named = set()
    with suppress(OSError):
        named = {str(info[4][0]) for info in socket.getaddrinfo(platform.node(), None)}
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found: list[tuple[bool, bool, bool, bool, str]] = []
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        for one in addresses:
            if name in up and one.family in (socket.AF_INET, socket.AF_INET6) and not _is_near(one.address):
                inward, six = name.startswith(_INWARD), one.family is socket.AF_INET6
                found.append((name != interface, inward, six, one.address not in named, one.address))
    return tuple(address for *_, address in sorted(found, key=lambda one: one[:4]))


def interfaces() -> tuple[str, ...]:
    """The names of this host's network interfaces by which others may reach it."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    return tuple(
        name
        for name, addresses in sorted(psutil.net_if_addrs().items())
        if name in up
        and any(one.family in (socket.AF_INET, socket.AF_INET6) and not _is_near(one.address) for one in addresses)
    )


def candidates(port: int, interface: str = "") -> tuple[str, ...]:
    """The addresses of a server that listens on all interfaces, best first, as `hosts`; loopback last."""
    return tuple(endpoint(host, port) for host in (*hosts(interface), "127.0.0.1"))


def endpoint(host: str, port: int) -> str:
    """A host's port as ZeroMQ writes it."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host and port of an `endpoint`."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """True for what can be reached on its own host only."""
    return split(address)[0].startswith(("127.", "::1"))


def usable(addresses: Iterable[str], host: str) -> tuple[str, ...]:
    """The addresses that can be used here: loopback first when ``host`` is this host, else without loopback."""
    near = [one for one in addresses if is_loopback(one)] if host == platform.node() else []
    return (*near, *(one for one in addresses if not is_loopback(one)))


def listen(
    before: Connection, address: str | None, ports: tuple[int, int] | None, near: Path
) -> tuple[Connection, Server]:
    """A manager's server: at a Unix socket, and by TCP when that is asked for, or when there can be no socket: on
    loopback, and at ``address`` or the addresses of the previous manager, where possible.

    Args:
        before: of the previous manager, or one without addresses.
        address: of this host, or a name of it; None: no more than the previous manager.
        ports: first and last; None: any, and none as long as nobody needs one.
        near: path of the socket.

    Raises:
        SessionError: the address is not this host's, or all ports are taken.
    """
    if ports is not None and not _are_ports(ports):
        raise invalid("ports", ports, "two ports from 1 to 65535, first and last", SessionError)
    if address is not None and not isinstance(address, str):
        raise invalid("address", address, "an address of this host, as a text", SessionError)
    server = Server(before.keys, ports)
    try:
        server.listen_near(near)
        is_asked = bool(before.addresses) or address is not None or ports is not None or not server.near
        addresses = _listen_again(server, before, address) if is_asked else ()
    except BaseException:
        server.close()
        raise
    return Connection(addresses, platform.node(), before.public_key, before.secret_key, server.near), server


def _are_ports(given: Any) -> bool:
    if not isinstance(given, tuple | list) or len(given) != 2:
        return False
    first, last = given
    return type(first) is type(last) is int and 1 <= first <= last <= 65535


def _listen_again(server: Server, before: Connection, address: str | None) -> tuple[str, ...]:
    """By TCP, as `listen`; the addresses."""
    loopback = server.listen(next((one for one in before.addresses if is_loopback(one)), _LOOPBACK))
    added: tuple[str, ...] = ()
    wanted = [split(one)[0] for one in before.addresses if not is_loopback(one)]
    if address is not None:
        chosen = _resolve(address)
        if not is_loopback(endpoint(chosen, 1)):
            added = (server.listen(_again(chosen, split(loopback)[1], before.addresses)),)
    elif wanted:
        here = [one for one in wanted if one in hosts()] or hosts()
        added = listen_at(server, here, (*before.addresses, loopback))
    return (*added, loopback)


def listen_also(server: Server, connection: Connection, *, outwards: bool) -> Connection:
    """By TCP from now on: on loopback, for tunnels; ``outwards``: at all addresses of this host, unless it listens at
    one already. Call it in the thread that uses the server.

    Raises:
        SessionError: it was possible at none.
    """
    addresses = connection.addresses or (server.listen(_LOOPBACK),)
    if outwards and all(map(is_loopback, addresses)):
        addresses = (*listen_at(server, hosts(), addresses), *addresses)
    return msgspec.structs.replace(connection, addresses=addresses)


def listen_at(server: Server, wanted: Iterable[str], before: Sequence[str]) -> tuple[str, ...]:
    """Listen at several addresses of this host, where possible, on the ports of ``before`` when these are free.

    Call it in the thread that uses the server.

    Raises:
        SessionError: it was possible at none.
    """
    added: list[str] = []
    problem: SessionError | None = None
    for host in wanted:
        try:
            added.append(server.listen(_again(host, split(before[-1])[1], before)))
        except SessionError as error:
            log.warning("the manager does not listen at %s: %s", host, error)
            problem = error
    if problem is not None and not added:
        raise problem
    if not added:
        log.warning("this host has no address but loopback: agents on other hosts will not reach the manager")
    return tuple(added)


def _again(host: str, port: int, before: Sequence[str]) -> str:
    """A host with the port that it had before, or else this one."""
    return endpoint(host, next((split(one)[1] for one in before if split(one)[0] == host), port))


def _resolve(address: str) -> str:
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise invalid("address", address, f"an address of this host: {error}", SessionError) from error
    own = [one for one in found if one in hosts() or is_loopback(endpoint(one, 1))]
    if not own:
        known = ", ".join((*hosts(), "127.0.0.1"))
        raise invalid("address", address, f"an address of this host: {known}", SessionError)
    return own[0]


def _is_near(address: str) -> bool:
    return address.startswith(("127.", "169.254.", "fe80:", "::1"))
