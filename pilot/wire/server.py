"""The listening end: manager ↔ agent ↔ worker. A message is one frame of ``messages.py``, and frames behind it.

Processes of one host use the Unix sockets of ``sockets.py``, where there can be some, and other hosts the ZeroMQ of
``channel.py``. Who has no peers on other hosts opens no port, which every user of the host could connect to.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pilot.errors import SessionError
from pilot.wire import messages
from pilot.wire.messages import Frames, Message
from pilot.wire.polling import Poller
from pilot.wire.sockets import SocketServer

if TYPE_CHECKING:
    from pilot.wire.channel import FarServer
    from pilot.wire.session import Keys

log = logging.getLogger(__name__)


class Server:
    """The manager for its agents, an agent for its workers and nodes. For one thread."""

    def __init__(self, keys: Keys, ports: tuple[int, int] | None = None, most: int | None = None) -> None:
        """Make it; `listen_near` or `listen` is to be called, or both.

        Args:
            keys: public and secret CURVE key of the session.
            ports: first and last of the TCP ports to choose from; None: any free one.
            most: as for `ConnectionLimit`.
        """
        self._keys, self._ports, self._most = keys, ports, most
        self._near: SocketServer | None = None
        self._far: FarServer | None = None
        self._near_first = True
        self._poller: Poller | None = None

    def listen_near(self, path: Path) -> None:
        """Listen at a Unix socket, if there can be one.

        Args:
            path: of the socket, in a folder of this user's alone. An earlier one there is replaced.
        """
        try:
            self._near = SocketServer(path)
        except (OSError, SessionError) as error:
            log.warning(
                "processes of this host use TCP with encryption, which is slower: no socket %r: %s", str(path), error
            )

    def listen(self, address: str) -> str:
        """Listen at a TCP address, as `FarServer.listen`; it may be a further one.

        Raises:
            SessionError: the address is not this host's, or all ports are taken.
        """
        if self._far is not None:
            return self._far.listen(address)
        from pilot.wire.channel import FarServer  # only here: ZeroMQ takes 6 MiB

        far = FarServer(self._keys, self._ports, self._most)
        try:
            found = far.listen(address)
        except BaseException:
            far.close()
            raise
        self._far = far
        if self._poller is not None:
            far.register(self._poller)
        return found

    @property
    def near(self) -> str:
        """The address of the Unix socket; "": there is none."""
        return "" if self._near is None else self._near.address

    @property
    def address(self) -> str:
        """The first TCP address; "": there is none."""
        return "" if self._far is None else self._far.address

    def register(self, poller: Poller) -> None:
        """Have the poller end its wait when something has come."""
        self._poller = poller
        for one in (self._near, self._far):
            if one is not None:
                one.register(poller)

    def send(self, peer: bytes, message: Message, frames: Frames = ()) -> bool:
        """Send; False when this peer is not connected."""
        if self._near is not None and self._near.send(peer, message, frames):
            return True
        return self._far is not None and self._far.send(peer, message, frames)

    def receive(self) -> tuple[bytes, Message, list[bytes]] | None:
        """The next message with its sender, or None when there is none now. Never blocks."""
        while (received := self._receive()) is not None:
            peer, frames = received
            if (message := messages.read(frames, peer)) is not None:
                return peer, message, frames[1:]
        return None

    def _receive(self) -> tuple[bytes, list[bytes]] | None:
        """What has come from this host and from others, in turn, so that neither waits for long."""
        if self._near is None or self._far is None:
            only = self._near or self._far
            return None if only is None else only.receive()
        self._near_first = not self._near_first
        if self._near_first:
            return self._near.receive() or self._far.receive()
        return self._far.receive() or self._near.receive()

    def look_out(self) -> None:
        """As `SocketServer.look_out` and `FarServer.look_out`: call it every second."""
        for one in (self._near, self._far):
            if one is not None:
                one.look_out()

    def close(self) -> None:
        """Close; what was not sent yet has a moment to go."""
        self._poller = None  # it has a descriptor
        for one in (self._near, self._far):
            if one is not None:
                one.close()
