"""Messages between processes of one host over Unix sockets: no encryption, and no threads that pass them on.

A socket is a file in a folder of this user's (`socket_files.py`), and each end asks the system for the user at the
other end.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import time
from collections import deque
from pathlib import Path

from pilot.errors import SessionError
from pilot.wire import messages, socket_files
from pilot.wire.messages import Frame, Frames, Message
from pilot.wire.polling import Poller
from pilot.wire.socket_files import SocketFile, is_foreign

log = logging.getLogger(__name__)

#: How the address of such a socket begins.
SCHEME = "ipc://"
#: Seconds that a process which does nothing else waits for a peer that takes nothing.
SEND_SECONDS = 30.0
#: Seconds between two tries to connect again.
RETRY_SECONDS = 0.1
#: Bytes that are read at once, at first and at most: memory for many is mapped anew for each read. And so many reads in
#: a row from one connection, before the others have their turn.
_SMALL_CHUNK, _CHUNK, _CHUNKS = 1 << 14, 1 << 18, 16
#: How a message begins: the number of its frames; their lengths follow.
_COUNT = struct.Struct("<I")


class Stream:
    """One connection: messages go in and come out whole. For one thread; only `flush` blocks, for as long as it is
    told."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._incoming = bytearray()
        self._outgoing: deque[memoryview] = deque()
        self._chunk = _SMALL_CHUNK
        #: False once the peer is gone.
        self.is_open = True

    def fileno(self) -> int:
        """The descriptor of the connection."""
        return self._socket.fileno()

    def send(self, frames: Frames) -> bool:
        """Send; False when a part is left for `flush`."""
        lengths = [one.nbytes if isinstance(one, memoryview) else len(one) for one in frames]
        data = b"".join((struct.pack(f"<I{len(lengths)}Q", len(lengths), *lengths), *frames))
        sent = 0
        if not self._outgoing:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self.is_open = False
        if sent == len(data) or not self.is_open:
            return True
        self._outgoing.append(memoryview(data)[sent:])
        return False

    def flush(self, seconds: float = 0.0) -> bool:
        """Send what is left, for so long at most; True when nothing is left, or the peer is gone."""
        deadline = time.monotonic() + seconds if seconds else 0.0
        while self._outgoing and self.is_open:
            try:
                rest = self._outgoing[0][self._socket.send(self._outgoing[0]) :]
            except BlockingIOError:
                left = deadline - time.monotonic() if seconds else 0.0
                if left <= 0:
                    return False
                _wait_writable(self, left)
            except OSError:
                self.is_open = False
            else:
                self._outgoing.popleft()
                if rest:
                    self._outgoing.appendleft(rest)
        return True

    def read(self) -> list[list[bytes]]:
        """The messages that have come."""
        received: list[list[bytes]] = []
        for _ in range(_CHUNKS):
            try:
                data = self._socket.recv(self._chunk)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.is_open = False
                break
            self._take(data, received)
            if len(data) < self._chunk:
                self._chunk = _SMALL_CHUNK if len(data) < _SMALL_CHUNK else _CHUNK
                break
            self._chunk = _CHUNK
        return received

    def _take(self, data: bytes, received: list[list[bytes]]) -> None:
        if self._incoming:
            self._incoming += data
            at = _cut(self._incoming, received)
            del self._incoming[:at]
        elif (at := _cut(data, received)) < len(data):
            self._incoming += data[at:]

    def close(self) -> None:
        """Close; what the system has taken is still delivered."""
        self.is_open = False
        self._socket.close()


def _cut(data: bytes | bytearray, received: list[list[bytes]]) -> int:
    """Add the messages that are complete; where the rest begins."""
    at = 0
    while len(data) - at >= _COUNT.size:
        (count,) = _COUNT.unpack_from(data, at)
        place = at + _COUNT.size + 8 * count
        if len(data) < place:
            break
        lengths = struct.unpack_from(f"<{count}Q", data, at + _COUNT.size)
        if len(data) < place + sum(lengths):
            break
        frames = []
        for length in lengths:
            frames.append(bytes(data[place : place + length]))
            place += length
        received.append(frames)
        at = place
    return at


def _wait_writable(stream: Stream, seconds: float) -> None:
    poll = select.poll()
    poll.register(stream, select.POLLOUT)
    poll.poll(1000 * seconds)


def connected(address: str) -> Stream | None:
    """A connection to the server of this user that listens there; None: there is none on this host."""
    try:
        return Stream(socket_files.connected(Path(address.removeprefix(SCHEME))))
    except (OSError, SessionError):
        return None


def is_reached(address: str) -> bool:
    """True when a server of this user listens there, on this host."""
    if (stream := connected(address)) is None:
        return False
    stream.close()
    return True


class SocketServer:
    """The listening end. For one thread; nothing here blocks but `close`."""

    def __init__(self, path: Path) -> None:
        """Listen.

        Args:
            path: of the socket; a file that an earlier server left there is replaced.

        Raises:
            OSError: there can be no socket.
            SessionError: others can enter its folder, or its path is not UTF-8 and cannot be written down.
        """
        self.address = f"{SCHEME}{path}"
        try:
            self.address.encode()
        except UnicodeEncodeError as error:
            raise SessionError(f"{str(path)!r} is not UTF-8", path=str(path)) from error
        self._path = path
        self._file = SocketFile(path)
        self._socket = self._file.socket
        #: Readable when something has come.
        self.events = select.epoll()
        self.events.register(self._socket, select.EPOLLIN)
        #: By descriptor; and by name, those that have said it.
        self._streams: dict[int, Stream] = {}
        self._peers: dict[bytes, Stream] = {}
        self._names: dict[int, bytes] = {}
        self._received: deque[tuple[bytes, list[bytes]]] = deque()
        self._has_looked = False
        #: Others could write into its folder at the last look.
        self._is_refused = False

    def register(self, poller: Poller) -> None:
        """Have the poller end its wait when something has come."""
        poller.register(self.events)

    def send(self, peer: bytes, message: Message, frames: Frames) -> bool:
        """Send; False when this peer is not connected."""
        stream = self._peers.get(peer)
        if stream is None or not stream.is_open:
            return False
        if not stream.send([messages.encode(message), *frames]):
            self.events.modify(stream, select.EPOLLIN | select.EPOLLOUT)
        return True

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """The next message with its sender, or None when there is none now, or when all that was there was returned: a
        caller that waits for ``events`` before it asks again misses nothing."""
        if self._has_looked and not self._received:
            self._has_looked = False
        elif not self._received:
            for descriptor, event in self.events.poll(0):
                if descriptor == self._socket.fileno():
                    self._accept()
                elif (stream := self._streams.get(descriptor)) is not None:
                    self._look(stream, event)
            self._has_looked = bool(self._received)
        return self._received.popleft() if self._received else None

    def _accept(self) -> None:
        while True:
            try:
                one = self._socket.accept()[0]
            except BlockingIOError:
                return
            except OSError as error:  # no descriptor is left: it waits
                log.warning("a connection to %s cannot be taken: %s", self.address, error.strerror)
                return
            if is_foreign(one):
                log.warning("a connection of another user's to %s was refused", self.address)
                one.close()
                continue
            stream = Stream(one)
            self._streams[stream.fileno()] = stream
            self.events.register(stream, select.EPOLLIN)

    def _look(self, stream: Stream, event: int) -> None:
        descriptor = stream.fileno()
        if event & select.EPOLLOUT and stream.flush():
            self.events.modify(descriptor, select.EPOLLIN)
        if event & ~select.EPOLLOUT:
            for frames in stream.read():
                if (name := self._names.get(descriptor)) is not None:
                    self._received.append((name, frames))
                else:
                    self._name(stream, b"".join(frames[:1]))
        if not stream.is_open:
            self._forget(stream)

    def _name(self, stream: Stream, name: bytes) -> None:
        """A peer that connects again takes the place of its connection before."""
        if (before := self._peers.get(name)) is not None:
            self._forget(before)
        self._peers[name], self._names[stream.fileno()] = stream, name

    def _forget(self, stream: Stream) -> None:
        descriptor = stream.fileno()
        self.events.unregister(descriptor)
        del self._streams[descriptor]
        name = self._names.pop(descriptor, None)
        if name is not None:
            del self._peers[name]
        stream.close()

    def look_out(self) -> None:
        """Listen again when the socket's file was removed, as by who cleans temporary folders up; and warn when the
        mode of its folder was changed."""
        was_refused, self._is_refused = self._is_refused, self._file.is_refused()
        if self._is_refused and not was_refused:
            folder = str(self._path.parent)
            log.warning("others can write into %r: new processes refuse a socket there until chmod go-w", folder)
        if (file := self._file.again()) is None:
            return
        log.warning("the socket %r was removed, and is made again", str(self._path))
        self._accept()
        self.events.unregister(self._socket)
        self._file.remove()
        self._file, self._socket = file, file.socket
        self.events.register(self._socket, select.EPOLLIN)

    def close(self) -> None:
        """Close; what was not sent yet has a moment to go."""
        self._file.remove()
        for stream in self._streams.values():
            stream.flush(0.5)
            stream.close()
        self.events.close()


class SocketClient:
    """The connecting end. For one thread, or for two when not both receive at once, nor both send."""

    #: Whether two threads may use it so.
    can_be_shared = True

    def __init__(self, address: str, name: str, watched: bool = False) -> None:
        """Connect, now or as soon as the server is there.

        Args:
            address: of a `SocketServer`.
            name: what the server sees as sender.
            watched: a connection that breaks is not made again (`is_broken`), and `send` may wait for the server.
        """
        self._address = address
        self._name = name.encode()
        self._watched = watched
        #: Readable when something has come; stays the same when a new connection is made.
        self.events = select.epoll()
        self._stream: Stream | None = None
        self._next_try = 0.0
        self._made = False
        #: What cannot be sent yet, and what has come.
        self._kept: deque[list[Frame]] = deque()
        self._received: deque[list[bytes]] = deque()
        self._has_looked = False
        self._connect()

    def _connect(self) -> None:
        if (self._watched and self._made) or time.monotonic() < self._next_try:
            return
        self._next_try = time.monotonic() + RETRY_SECONDS
        if (stream := connected(self._address)) is None:
            return
        self._stream, self._made = stream, True
        self.events.register(stream, select.EPOLLIN)
        stream.send([self._name])
        while self._kept:
            stream.send(self._kept.popleft())
        self._watch_output(stream)

    def _watch_output(self, stream: Stream) -> None:
        if not stream.flush(SEND_SECONDS if self._watched else 0.0):
            self.events.modify(stream, select.EPOLLIN | select.EPOLLOUT)
        if not stream.is_open:
            self._lose(stream)

    def _lose(self, stream: Stream) -> None:
        self._stream = None
        with contextlib.suppress(OSError, ValueError):  # the other thread may have noticed it as well
            self.events.unregister(stream)
        stream.close()

    def register(self, poller: Poller) -> None:
        """Have the poller end its wait when something has come."""
        poller.register(self.events)

    def unregister(self, poller: Poller) -> None:
        """Undo `register`."""
        poller.unregister(self.events)

    def is_broken(self) -> bool:
        """True once an established connection is gone: messages in transit, in both directions, may be lost. One thread
        may call this while another one sends and receives."""
        return self._made and self._stream is None

    def send(self, message: Message, frames: Frames = ()) -> None:
        """Send, or keep until the server can be reached."""
        parts = [messages.encode(message), *frames]
        if self._stream is None:
            self._connect()
        if (stream := self._stream) is None:
            self._kept.append(parts)
        elif not stream.send(parts) or not stream.is_open:
            self._watch_output(stream)

    def receive(self, timeout_ms: int = 0) -> tuple[Message, list[bytes]] | None:
        """The next message, or None when there is none within the time (-1: wait for ever). Without a time, None may
        also mean that all that was there was returned, as for `SocketServer.receive`."""
        if self._stream is None:
            self._connect()
        if self._has_looked and not self._received and not timeout_ms:
            self._has_looked = False
        elif not self._received:
            for _, event in self.events.poll(timeout_ms / 1000 if timeout_ms > 0 else timeout_ms):
                self._look(event)
            self._has_looked = bool(self._received)
        while self._received:
            frames = self._received.popleft()
            if (message := messages.read(frames, b"the server")) is not None:
                return message, frames[1:]
        return None

    def _look(self, event: int) -> None:
        if (stream := self._stream) is None:
            return
        if event & select.EPOLLOUT and stream.flush():
            self.events.modify(stream, select.EPOLLIN)
        if event & ~select.EPOLLOUT:
            self._received.extend(stream.read())
        if not stream.is_open:
            self._lose(stream)

    def close(self, linger_ms: int = 500) -> None:
        """Close; what was not sent yet has a moment to go."""
        if self._stream is not None:
            self._stream.flush(linger_ms / 1000)
            self._stream.close()
        self.events.close()
