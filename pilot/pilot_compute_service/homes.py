"""The clusters of a service's pilots that this process is connected to: their clients, and references made there."""

from __future__ import annotations

from threading import RLock
from typing import Any, NamedTuple

from pilot import registry
from pilot.errors import PilotError, PilotFailed
from pilot.interfaces import Record, References
from pilot.manager.manager import PilotManager
from pilot.manager.pilots import Pilot
from pilot.pilot_enums_exceptions import ExecutionEngine
from pilot.states import PilotState, is_final

#: Seconds that one pilot is waited for before the others are looked at.
LOOK_SECONDS = 0.2


class Home(NamedTuple):
    """One cluster: the engine's client, and what makes references there."""

    client: Any
    references: References


class Homes:
    """The connections of one service. Any thread may call it."""

    def __init__(self, manager: PilotManager, engine: ExecutionEngine, record: Record) -> None:
        """Begin. ``record``: as of `References`."""
        self._manager = manager
        self._engine = engine
        self._record = record
        self._lock = RLock()
        #: By the pilot's id.
        self._open: dict[str, Home] = {}

    def of(self, pilot: Pilot | None) -> Home:
        """The cluster of this pilot, or the first there is. Blocks until a pilot is active.

        With Ray it may be another pilot's: a process is connected to one Ray cluster at a time.

        Raises:
            PilotError: no pilot is active, nor will be; or this process cannot be connected.
        """
        if self._engine is ExecutionEngine.RAY and (home := self._connected()) is not None:
            return home
        if pilot is not None:
            return self.at(pilot)
        return self._connected() or self.at(self._first_active())

    def at(self, pilot: Pilot) -> Home:
        """The cluster of this pilot, and no other. Blocks until it is active.

        Raises:
            PilotError: it has ended; or this process is connected to another Ray cluster.
        """
        pilot.wait()  # not with the lock: others may go on meanwhile
        with self._lock:
            home = self._open.get(pilot.id)
            if home is None or not home.references.is_open():
                client = pilot.get_client()
                engine = registry.load("pilot.engines", self._engine.value)
                home = self._open[pilot.id] = Home(client, engine.references(client))
                home.references.record = self._record
            return home

    def address(self, pilot: Pilot) -> str | None:
        """The address of this pilot's cluster; None: this process is not connected to it."""
        home = self._open.get(pilot.id)
        return home.references.address if home is not None and home.references.is_open() else None

    def close(self, pilot: Pilot | None = None) -> None:
        """Make no more references at this pilot, or at any. The clients are the manager's to close."""
        with self._lock:
            for id in list(self._open) if pilot is None else [pilot.id]:
                if (home := self._open.pop(id, None)) is not None:
                    home.references.close()

    def _connected(self) -> Home | None:
        with self._lock:
            return next((home for home in self._open.values() if home.references.is_open()), None)

    def _first_active(self) -> Pilot:
        while True:
            pilots = self._manager.pilots
            if not pilots:
                raise PilotError("this service has no pilot: call create_pilot first")
            for state in (PilotState.ACTIVE, PilotState.DRAINING):
                for pilot in pilots:
                    if pilot.state is state:
                        return pilot
            waiting = [pilot for pilot in pilots if not is_final(pilot.state)]
            if not waiting:
                ends = "; ".join(f"{pilot.name} is {pilot.state.value}: {pilot.reason}" for pilot in pilots)
                raise PilotError(f"no pilot of this service is active any more: {ends}; create another one")
            try:
                waiting[0].wait(LOOK_SECONDS / len(waiting))
            except PilotFailed:
                continue
