"""Another user of this host, who tries to read or harm a session: a process without rights, forked before it begins.

What it sends is random, drawn from a seed, and of the kinds that the listeners there are speak: ZMTP (ZeroMQ), gRPC
(Ray), TLS (Dask) and HTTP, with pickles that leave a file when somebody loads them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import random
import resource
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zmq

#: Who "nobody" is (passwd(5)).
NOBODY = 65534
#: Seconds that it waits for a connection, and for an answer.
CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 0.02
#: Bytes of an answer that it reads at most.
ANSWER_BYTES = 1 << 16
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(4) + b"\x04" + bytes(5)
#: Pages that Dask and Ray have had without authentication.
_PAGES = (
    "/",
    "/health",
    "/metrics",
    "/json/identity.json",
    "/info/main/workers.html",
    "/api/jobs/",
    "/get_runtime_env",
)

Address = tuple[str, int]


class Touch:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.close, (_Opened(self._path),)


class _Opened:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.open, (str(self._path), os.O_CREAT | os.O_WRONLY, 0o666)


class Stranger:
    """The process; its methods are called in the benchmark's own. Make it before any thread runs."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Fork it.

        Args:
            folder: where its pickles leave files; everybody may write there.
            seed: of what it sends.
        """
        self._ours, theirs = multiprocessing.Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            try:
                _become_nobody()
                _Attack(folder, seed).serve(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def ask(self, what: str, *args: Any) -> None:
        """Have it begin; `answer` waits for the end."""
        self._ours.send((what, args))

    def is_done(self) -> bool:
        """True when `answer` would not block."""
        return self._ours.poll()

    def answer(self) -> Any:
        """What came of the last `ask`. Blocks."""
        return self._ours.recv()

    def end(self) -> None:
        """End it. Blocks."""
        self._ours.close()
        os.waitpid(self._pid, 0)


def _become_nobody() -> None:
    """And open no file of Python's after that: nobody may read them."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", 1), CONNECT_SECONDS)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536),) * 2)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


class _Attack:
    """What it does, in its own process."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._pickle = pickle.dumps(Touch(folder / "unpickled"))
        self._dice = random.Random(seed)
        self._secrets: list[bytes] = []
        self._held: list[socket.socket] = []
        self.read: list[str] = []

    def serve(self, orders: Connection) -> None:
        with contextlib.suppress(EOFError):
            while True:
                what, args = orders.recv()
                orders.send(getattr(self, what)(*args))

    def know(self, secrets: Sequence[bytes]) -> int:
        """What it must not find: text by which a secret is recognised."""
        self._secrets = list(secrets)
        return os.getuid()

    def check_pickle(self) -> None:
        """What it sends does leave a file when it is loaded."""
        pickle.loads(self._pickle)

    def flood(self, ports: Sequence[Address], messages: int, connections: int, stubborn: bool) -> dict[str, int]:
        """Send so many random messages over so many connections, which stay open until all are sent.

        A listener may close a connection after the first message that it does not understand. So each connection gets
        its messages in one write; or, ``stubborn``, one by one, and there are further connections for those that could
        not be sent.
        """
        sent = made = 0
        share = -(-messages // connections)
        while sent < messages or made < connections:
            address = ports[made % len(ports)]
            made += 1
            with contextlib.suppress(OSError):
                connection = socket.create_connection(address, CONNECT_SECONDS)
                if made <= connections:
                    self._held.append(connection)
                connection.settimeout(CONNECT_SECONDS)
                texts = [self._message() for _ in range(min(share, messages - sent))]
                for one in texts if stubborn else [b"".join(texts)]:
                    connection.sendall(one)
                    sent += 1 if stubborn else len(texts)
        answers = sum(self._look(one, "flood") for one in self._held)
        for one in self._held:
            one.close()
        self._held.clear()
        return {"sent": sent, "connections": made, "answers": answers}

    def speak(self, ports: Sequence[Address]) -> dict[str, int]:
        """Try each port with each protocol, as a client without a key."""
        tried = 0
        for address in ports:
            for way in (self._by_http, self._by_tls, self._by_zeromq, self._by_grpc):
                tried += 1
                with contextlib.suppress(OSError, ssl.SSLError, zmq.ZMQError):
                    way(address)
        return {"tried": tried}

    def look_around(self, paths: Sequence[str]) -> dict[str, int]:
        """Try to read these files, and to connect to those that are Unix sockets."""
        opened = 0
        for path in paths:
            with contextlib.suppress(OSError):
                found = Path(path).read_bytes()[: 1 << 24]
                opened += 1
                self._recognise(found, path)
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                opened += 1
                connection.sendall(self._pickle)
                self._look(connection, path)
        return {"tried": len(paths), "opened": opened}

    def report(self) -> list[str]:
        """Where it has found a secret."""
        return self.read

    # ---- messages and answers ---------------------------------------------------------------------------------

    def _message(self) -> bytes:
        body = self._dice.randbytes(self._dice.randrange(1, 2000))
        kind = self._dice.randrange(6)
        if kind == 0:
            return body
        if kind == 1:
            return _GREETING + b"NULL" + bytes(48) + b"\x04\x26\x05READY" + body
        if kind == 2:
            return _HTTP2 + body
        if kind == 3:
            return f"POST {self._dice.choice(_PAGES)} HTTP/1.1\r\nContent-Length: 9999\r\n\r\n".encode() + self._pickle
        if kind == 4:
            return struct.pack("<QQ", 1, len(self._pickle)) + self._pickle  # a message of Dask's
        return b"\x16\x03\x01" + struct.pack(">H", len(body)) + body

    def _look(self, connection: Any, where: str) -> int:
        """1 when something comes back."""
        connection.settimeout(ANSWER_SECONDS)
        with contextlib.suppress(OSError):
            found = connection.recv(ANSWER_BYTES)
            self._recognise(found, where)
            return int(bool(found))
        return 0

    def _recognise(self, found: bytes, where: str) -> None:
        if any(secret in found for secret in self._secrets):
            self.read.append(where)

    def _by_http(self, address: Address) -> None:
        for page in _PAGES:
            with socket.create_connection(address, CONNECT_SECONDS) as connection:
                connection.sendall(f"GET {page} HTTP/1.0\r\n\r\n".encode())
                self._look_for_long(connection, f"http {address}{page}")

    def _by_tls(self, address: Address) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(address, CONNECT_SECONDS) as plain, context.wrap_socket(plain) as connection:
            connection.sendall(struct.pack("<QQ", 1, len(self._pickle)) + self._pickle)
            self._look_for_long(connection, f"tls {address}")

    def _by_zeromq(self, address: Address) -> None:
        """Without a key, and with a key of its own for both ends."""
        public, secret = zmq.curve_keypair()
        with zmq.Context() as context:
            for with_key in (False, True):
                with context.socket(zmq.DEALER) as client:
                    client.linger = 0
                    if with_key:
                        client.curve_publickey, client.curve_secretkey, client.curve_serverkey = public, secret, public
                    client.connect(f"tcp://{address[0]}:{address[1]}")
                    client.send_multipart([self._pickle, self._pickle])
                    if client.poll(200):
                        self._recognise(b"".join(client.recv_multipart()), f"zmtp {address}")

    def _by_grpc(self, address: Address) -> None:
        with socket.create_connection(address, CONNECT_SECONDS) as connection:
            connection.sendall(_HTTP2 + self._pickle)
            self._look_for_long(connection, f"grpc {address}")

    def _look_for_long(self, connection: Any, where: str) -> None:
        end = time.monotonic() + 10 * ANSWER_SECONDS
        while time.monotonic() < end and self._look(connection, where):
            pass
