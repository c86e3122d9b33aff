"""The native clients of a pilot's engine that the user's process has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any, NamedTuple

from pilot.interfaces import Engine

log = logging.getLogger(__name__)


class _Open(NamedTuple):
    """A client that is connected."""

    engine: type[Engine]
    address: dict[str, str]
    client: Any


class Clients:
    """Opens clients, and closes them when their cluster ends: one that is left open goes on looking for it, and Ray
    ends the process after a minute."""

    def __init__(self) -> None:
        #: Held while one connects; and while the list is changed, for which nobody waits long.
        self._connecting, self._lock = Lock(), Lock()
        self._open: list[_Open] = []

    def open(self, engine: type[Engine], address: dict[str, str], check: Callable[[], None]) -> Any:
        """A client of the cluster at this address. Blocks until it is connected.

        Args:
            engine: of the cluster.
            address: what `Engine.connect` needs.
            check: raises when the cluster has ended. It is called when the client is connected, which `close` could not
                close before; the client is closed then.
        """
        with self._connecting:
            one = _Open(engine, address, engine.connect(address))
        with self._lock:
            self._open.append(one)
        try:
            check()
        except BaseException:
            with self._lock:
                is_left = one in self._open
                if is_left:
                    self._open.remove(one)
            if is_left:
                _close(one)
            raise
        return one.client

    def close(self) -> None:
        """Close all that are open. Blocks until that is done."""
        while True:
            with self._lock:
                if not self._open:
                    return
                one = self._open.pop()
            _close(one)

    def close_soon(self) -> None:
        """The same in the background."""
        if self._open:
            Thread(target=self.close, name="pilot-clients", daemon=True).start()


def _close(one: _Open) -> None:
    try:
        one.engine.disconnect(one.address, one.client)
    except Exception:
        log.warning("the client of %s cannot be closed", one.address.get("address"), exc_info=True)
