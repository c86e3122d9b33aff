"""Where a manager listens, and which of its addresses an agent picks."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot.agent.node import outward_address
from pilot.errors import SessionError
from pilot.wire.addresses import (
    candidates,
    endpoint,
    hosts,
    interfaces,
    is_loopback,
    listen,
    listen_also,
    listen_at,
    split,
    usable,
)
from pilot.wire.keys import new_keys
from pilot.wire.reaching import reach
from pilot.wire.server import Server
from pilot.wire.session import Connection

KEYS = tuple(key.encode() for key in new_keys())
HERE = platform.node()


def serving(
    address: str = "tcp://127.0.0.1", ports: tuple[int, int] | None = None, keys: tuple[bytes, ...] = KEYS
) -> Server:
    server = Server(keys, ports)  # type: ignore[arg-type]
    server.listen(address)
    return server


@pytest.fixture
def server() -> Iterator[Server]:
    server = serving()
    yield server
    server.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that is open, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield endpoint("127.0.0.1", listener.getsockname()[1])


def closed() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return endpoint("127.0.0.1", probe.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port", "text"), [("10.0.0.1", 5, "tcp://10.0.0.1:5"), ("fd00::2", 65535, "tcp://[fd00::2]:65535")]
)
def test_endpoint_and_back(host: str, port: int, text: str) -> None:
    assert endpoint(host, port) == text
    assert split(text) == (host, port)


def test_candidates_are_others_first_and_loopback_last() -> None:
    found = candidates(4711)
    assert found[-1] == "tcp://127.0.0.1:4711"
    assert [is_loopback(one) for one in found] == [False] * len(hosts()) + [True]


def test_hosts_are_ipv4_first_and_bridges_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(family: socket.AddressFamily, address: str) -> Any:
        return SimpleNamespace(family=family, address=address)

    found = {
        "docker0": [at(socket.AF_INET, "172.17.0.1")],
        "eth0": [at(socket.AF_INET6, "fd00::2"), at(socket.AF_INET, "10.0.0.1"), at(socket.AF_INET6, "fe80::1%eth0")],
        "eth1": [at(socket.AF_INET, "10.0.0.2")],
        "lo": [at(socket.AF_INET, "127.0.0.1")],
    }
    up = SimpleNamespace(isup=True)
    monkeypatch.setattr("psutil.net_if_addrs", lambda: found)
    monkeypatch.setattr("psutil.net_if_stats", lambda: dict.fromkeys(found, up) | {"eth1": SimpleNamespace(isup=False)})
    assert hosts() == ("10.0.0.1", "fd00::2", "172.17.0.1")
    assert hosts("docker0") == ("172.17.0.1", "10.0.0.1", "fd00::2")
    assert interfaces() == ("docker0", "eth0")
    assert outward_address("tcp://10.0.0.9:1", "docker0") == "172.17.0.1"


def test_loopback_counts_on_its_own_host_only() -> None:
    known = ("tcp://10.0.0.1:1", "tcp://[fd00::2]:1", "tcp://127.0.0.1:1")
    assert usable(known, HERE) == (known[2], known[0], known[1])
    assert usable(known, "elsewhere") == known[:2]
    assert usable(known[2:], "elsewhere") == ()


def test_reach_takes_the_first_that_holds_the_key(server: Server, silent: str) -> None:
    other = serving(keys=tuple(key.encode() for key in new_keys()))
    try:
        known = (closed(), silent, other.address, server.address)
        assert reach(known, HERE, KEYS, timeout=1.0) == server.address
    finally:
        other.close()


def test_reach_does_not_wait_for_those_behind(server: Server, silent: str) -> None:
    began = time.monotonic()
    assert reach((closed(), server.address, silent), HERE, KEYS, timeout=120) == server.address
    assert time.monotonic() - began < 60


def test_reach_nobody(silent: str) -> None:
    began = time.monotonic()
    assert reach((closed(), silent), HERE, KEYS, timeout=0.3) is None
    assert time.monotonic() - began < 60
    assert reach((), HERE, KEYS, timeout=120) is None


def test_reach_ends_at_once_when_all_refuse() -> None:
    began = time.monotonic()
    assert reach((closed(), closed()), HERE, KEYS, timeout=120) is None
    assert time.monotonic() - began < 60


def test_a_server_stays_within_its_ports(silent: str) -> None:
    taken = split(silent)[1]
    with pytest.raises(SessionError, match=rf"all ports from {taken} to {taken} of 127\.0\.0\.1 are taken"):
        serving(ports=(taken, taken))
    server = serving(ports=(taken, min(taken + 20, 65535)))
    try:
        assert taken < split(server.address)[1] <= taken + 20
    finally:
        server.close()


def test_a_server_takes_the_port_that_it_is_told_when_free(silent: str) -> None:
    wanted = closed()
    first = serving(wanted)
    second = serving(wanted)
    try:
        assert first.address == wanted
        assert second.address != wanted
    finally:
        first.close()
        second.close()


def before(*known: str) -> Connection:
    return Connection(known, HERE, *(key.decode() for key in KEYS))


@pytest.fixture
def near(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "socket"


def listened(*args: object) -> Connection:
    connection, server = listen(*args)  # type: ignore[arg-type]
    server.close()
    return connection


def test_a_manager_opens_no_port_until_one_is_needed(near: Path) -> None:
    assert listened(before(), None, None, near).addresses == ()
    assert [is_loopback(one) for one in listened(before(), "127.0.0.1", None, near).addresses] == [True]
    assert [is_loopback(one) for one in listened(before(), None, (1024, 65535), near).addresses] == [True]
    near.parent.chmod(0o755)  # others could take the socket's place
    found = listened(before(), None, None, near)
    assert found.near == "" and [is_loopback(one) for one in found.addresses] == [True]


def test_a_manager_listens_for_tunnels_and_outwards_once_that_is_needed(near: Path) -> None:
    first, server = listen(before(), None, None, near)
    try:
        for_tunnels = listen_also(server, first, outwards=False)
        assert [is_loopback(one) for one in for_tunnels.addresses] == [True] and for_tunnels.near == first.near
        assert listen_also(server, for_tunnels, outwards=False) == for_tunnels
        outwards = listen_also(server, for_tunnels, outwards=True)
        assert {split(one)[0] for one in outwards.addresses} == {*hosts(), "127.0.0.1"}
        assert listen_also(server, outwards, outwards=True) == outwards or not hosts()
    finally:
        server.close()


def test_an_address_that_is_not_this_hosts(near: Path) -> None:
    with pytest.raises(
        SessionError, match=r"address: '203\.0\.113\.9' is not valid; expected an address of this host: .*127\.0\.0\.1"
    ):
        listen(before(), "203.0.113.9", None, near)
    with pytest.raises(SessionError, match=r"'no\.such\.invalid' is not valid; expected an address of this host"):
        listen(before(), "no.such.invalid", None, near)
    with pytest.raises(SessionError, match="address: 5 is not valid; expected an address of this host, as a text"):
        listen(before(), 5, None, near)  # type: ignore[arg-type]


@pytest.mark.parametrize("ports", [(0, 10), (20, 10), (1, 65536), 5, (5,), (1, 2, 3), ("a", "b"), (1.5, 9), (True, 9)])
def test_ports_that_are_none(ports: Any, near: Path) -> None:
    with pytest.raises(SessionError, match=r"ports: .* from 1 to 65535"):
        listen(before(), None, ports, near)


@pytest.mark.skipif(not hosts(), reason="this host has no address but loopback")
def test_an_address_of_this_hosts_comes_first_and_is_taken_again(near: Path) -> None:
    first = listened(before(), hosts()[0], None, near)
    assert [split(one)[0] for one in first.addresses] == [hosts()[0], "127.0.0.1"]
    assert split(first.addresses[0])[1] == split(first.addresses[1])[1]  # one port is enough for the firewall
    assert listened(first, None, None, near) == first


@pytest.mark.skipif(not hosts(), reason="this host has no address but loopback")
def test_on_another_host_it_listens_where_it_can(near: Path) -> None:
    old = before("tcp://203.0.113.9:5000", "tcp://127.0.0.1:5000")
    found = listened(old, None, None, near)
    assert {split(one)[0] for one in found.addresses} == {*hosts(), "127.0.0.1"}


@pytest.mark.skipif(not hosts(), reason="this host has no address but loopback")
def test_an_interface_whose_port_is_taken_gets_another_or_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server((hosts()[0], 0)) as taken:
        port = taken.getsockname()[1]
        server = serving(f"tcp://127.0.0.1:{port}")
        assert split(server.address)[1] == port
        try:
            found = listen_at(server, hosts()[:1], (server.address,))
            assert len(found) == 1 and split(found[0])[1] != port
        finally:
            server.close()
        server = serving(ports=(port, port))
        try:
            with pytest.raises(SessionError, match=f"all ports from {port} to {port}"):
                listen_at(server, hosts()[:1], (server.address,))
        finally:
            server.close()
