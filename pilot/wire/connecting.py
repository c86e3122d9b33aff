"""The connecting end of a channel, by the address: Unix sockets on one host, ZeroMQ between hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot.wire.sockets import SCHEME, SocketClient

if TYPE_CHECKING:
    import zmq

    from pilot.wire.channel import Client
    from pilot.wire.session import Keys

    AnyClient = Client | SocketClient

#: Added to a worker's name: the second connection of a worker, of its main thread, which only sends.
MAIN = "~"


class Connector:
    """Makes connections, and ends them together."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    def connect(self, keys: Keys, address: str, name: str, watched: bool = False) -> AnyClient:
        """Connect, now or as soon as the server is there.

        Args:
            keys: public and secret CURVE key of the session.
            address: of a Unix socket, or ``tcp://host:port``.
            name: what the server sees as sender.
            watched: `is_broken` will be called, often.
        """
        if address.startswith(SCHEME):
            return SocketClient(address, name, watched)
        import zmq  # only here: 2 MiB that workers beside their agent do without

        from pilot.wire.channel import Client

        if self._context is None:
            self._context = zmq.Context()
        return Client(self._context, keys, address, name, watched)

    def close(self, linger_ms: int) -> None:
        """End what goes to other hosts; blocks until the last messages have gone, for so long at most."""
        if self._context is not None:
            self._context.destroy(linger=linger_ms)
