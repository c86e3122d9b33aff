"""Unix sockets between processes of one host: whole messages in order, whatever the other end does."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.errors import SessionError
from pilot.wire.keys import new_keys
from pilot.wire.messages import CancelTasks, Heartbeat, Refused, encode
from pilot.wire.server import Server
from pilot.wire.sockets import SocketClient, SocketServer, Stream, is_reached

Eventually = Callable[..., Any]

#: Connects to the path that it is given, and says what has come of it.
STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
one = socket.socket(socket.AF_UNIX)
try:
    one.connect(sys.argv[1])
    one.sendall(b"\\1\\0\\0\\0\\1\\0\\0\\0\\0\\0\\0\\0x")
    print("read", one.recv(10))
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A private folder, below a path that is too long for the address of a socket."""
    path = tmp_path / ("long" * 30)
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def server(folder: Path) -> Iterator[SocketServer]:
    one = SocketServer(folder / "socket")
    yield one
    one.close()


@pytest.mark.parametrize("seed", range(4))
def test_messages_come_out_as_they_went_in(seed: int) -> None:
    """However the bytes are cut on their way."""
    chance = random.Random(seed)
    sizes = [0, 1, 100, 70_000, 600_000]
    sent = [[chance.randbytes(chance.choice(sizes)) for _ in range(chance.randrange(1, 5))] for _ in range(30)]
    for as_views in (False, True):
        writer, stream = map(Stream, socket.socketpair())
        received: list[list[bytes]] = []
        for frames in sent:
            writer.send([memoryview(one) for one in frames] if as_views else frames)
            received += stream.read() if chance.random() < 0.5 else []
        while not writer.flush():
            received += stream.read()
        writer.close()
        while stream.is_open:
            received += stream.read()
        assert received == sent
        stream.close()


def test_bytes_one_by_one_and_no_message_at_all() -> None:
    whole, end = socket.socketpair()
    stream = Stream(end)
    received = []
    for byte in b"\2\0\0\0" + bytes([3] + [0] * 7) + bytes(8) + b"abc" + b"\0\0\0\0" + b"\xff\xff":
        whole.send(bytes([byte]))
        received += stream.read()
    assert received == [[b"abc", b""], []]
    whole.close()
    assert stream.read() == [] and not stream.is_open
    stream.close()


def test_client_and_server_talk(server: SocketServer, eventually: Eventually) -> None:
    client = SocketClient(server.address, "one")
    client.send(CancelTasks([1, 2]), [b"x" * 100_000])
    assert eventually(server.receive, timeout=60)[0] == b"one"
    assert server.send(b"one", Refused("why"), [b"frame"])
    assert not server.send(b"other", Refused("why"), [])
    assert client.receive(timeout_ms=60_000) == (Refused("why"), [b"frame"])
    assert client.receive() is None
    second = SocketClient(server.address, "one")  # takes its place
    second.send(Heartbeat())
    assert eventually(server.receive, timeout=60)[0] == b"one"
    assert server.send(b"one", Refused("second"), [])
    assert second.receive(timeout_ms=60_000) == (Refused("second"), [])
    for one in (client, second):
        one.close()


def test_a_peer_that_reads_nothing_blocks_nobody(server: SocketServer, eventually: Eventually) -> None:
    client = SocketClient(server.address, "slow")
    client.send(Heartbeat())
    eventually(server.receive, timeout=60)
    frame = os.urandom(1 << 20)
    for number in range(20):
        assert server.send(b"slow", CancelTasks([number]), [frame])
    received = []
    while len(received) < 20:
        assert server.receive() is None  # sends what is left
        while (one := client.receive()) is not None:
            received.append(one)
    assert received == [(CancelTasks([number]), [frame]) for number in range(20)]
    client.close()


def test_a_connection_that_breaks(folder: Path, eventually: Eventually) -> None:
    first = SocketServer(folder / "socket")
    watched, other = SocketClient(first.address, "watched", watched=True), SocketClient(first.address, "other")
    for client in (watched, other):
        client.send(Heartbeat())
    assert {eventually(first.receive, timeout=60)[0] for _ in range(2)} == {b"watched", b"other"}
    first.close()
    assert eventually(lambda: watched.receive() or watched.is_broken(), timeout=60) is True
    assert other.receive() is None and not is_reached(first.address)
    other.send(CancelTasks([7]))  # is kept
    second = SocketServer(folder / "socket")
    assert eventually(lambda: other.receive() or second.receive(), timeout=60) == (b"other", [encode(CancelTasks([7]))])
    assert watched.is_broken()
    for client in (watched, other):
        client.close()
    second.close()


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701])
def test_a_folder_that_others_can_enter_has_no_socket(
    folder: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder.chmod(mode)
    with pytest.raises(SessionError, match=r"is not this user's alone \(chmod 700\)"):
        SocketServer(folder / "socket")
    server = Server(tuple(key.encode() for key in new_keys()))  # type: ignore[arg-type]
    server.listen_near(folder / "socket")
    assert server.near == ""
    assert "processes of this host use TCP with encryption" in caplog.text
    server.close()


def test_a_folder_that_is_opened_to_others_later(server: SocketServer, folder: Path) -> None:
    """As long as others cannot write there, they can put no other socket in the place of this one."""
    folder.chmod(0o755)
    assert is_reached(server.address)
    folder.chmod(0o775)
    assert not is_reached(server.address)


def test_a_socket_that_was_removed_is_made_again(
    server: SocketServer, folder: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    before = SocketClient(server.address, "before")
    before.send(Heartbeat())
    (folder / "socket").unlink()
    assert not is_reached(server.address)
    server.look_out()
    server.look_out()
    assert caplog.text.count("was removed, and is made again") == 1
    after = SocketClient(server.address, "after")
    after.send(Heartbeat())
    assert {eventually(server.receive, timeout=60)[0] for _ in range(2)} == {b"before", b"after"}
    before.close()
    after.close()


def test_a_folder_that_was_opened_to_others_is_told_of(
    server: SocketServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for expected in (1, 2):
        folder.chmod(0o775)
        assert not is_reached(server.address)
        server.look_out()
        server.look_out()
        assert caplog.text.count("refuse a socket there until chmod go-w") == expected
        folder.chmod(0o700)
        server.look_out()
        assert is_reached(server.address)


def test_a_server_that_another_one_has_replaced_leaves_its_file(server: SocketServer, folder: Path) -> None:
    other = SocketServer(folder / "socket")
    server.look_out()
    server.close()
    assert is_reached(other.address)
    other.close()
    assert not (folder / "socket").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders are closed to others
        path = Path(name, "socket")
        server = SocketServer(path)

        def answer() -> str:
            process = subprocess.Popen([sys.executable, "-c", STRANGER, path], stdout=subprocess.PIPE, text=True)
            while process.poll() is None:
                assert server.receive() is None
            return process.communicate()[0].strip()

        assert answer() == "PermissionError"
        path.parent.chmod(0o711)  # as if somebody had opened it later
        path.chmod(0o777)
        assert answer() in ("read b''", "ConnectionResetError", "BrokenPipeError")
        assert "a connection of another user's" in caplog.text
        server.close()
