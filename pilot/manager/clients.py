"""The native clients of a pilot's engine that the user's process has."""

from __future__ import annotations

import logging
from threading import Lock, Thread
from typing import Any

from pilot.interfaces import Engine

log = logging.getLogger(__name__)


class Clients:
    """Opens clients, and closes them when their cluster ends: one that is left open goes on looking for it, and Ray
    ends the process after a minute."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: list[tuple[type[Engine], dict[str, str], Any]] = []

    def open(self, engine: type[Engine], address: dict[str, str]) -> Any:
        """A client of the cluster at this address. Blocks until it is connected."""
        with self._lock:
            client = engine.connect(address)
            self._open.append((engine, address, client))
            return client

    def close(self) -> None:
        """Close all that are open. Blocks until that is done."""
        with self._lock:
            while self._open:
                engine, address, client = self._open.pop()
                try:
                    engine.disconnect(address, client)
                except Exception:
                    log.warning("the client of %s cannot be closed", address.get("address"), exc_info=True)

    def close_soon(self) -> None:
        """The same in the background."""
        if self._open:
            Thread(target=self.close, name="pilot-clients", daemon=True).start()
