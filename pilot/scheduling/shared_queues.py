"""The queues of all users that QPUs report, for policies that choose QPUs by waits. It needs NumPy."""

from __future__ import annotations

import msgspec

from pilot.scheduling import events
from pilot.scheduling.events import Command
from pilot.scheduling.forecasts import QueueForecast
from pilot.scheduling.pilot_records import PilotRecord
from pilot.scheduling.pilots import Pilots


class SharedQueues:
    """Takes note of what QPUs report of their queues."""

    def __init__(self, pilots: Pilots) -> None:
        self._pilots = pilots

    def seen(self, event: events.QueueSeen, now: float, commands: list[Command]) -> None:
        """A queue has changed."""
        pilot = self._pilots.by_id[event.pilot]
        device = pilot.devices.get(event.qpu)
        if device is None or device.info is None:
            return
        self._note(pilot, event.qpu, event.pending, event.accepts_jobs, now)
        if device.info.accepts_jobs is not event.accepts_jobs:
            info = msgspec.structs.replace(device.info, accepts_jobs=event.accepts_jobs)
            self._pilots.device_changed(pilot, info)

    def ready(self, event: events.PilotReady, now: float) -> None:
        """The QPUs of a pilot report all that they know."""
        for info in event.qpus:
            if info.pending_jobs is not None:
                accepts = info.accepts_jobs is not False
                self._note(self._pilots.by_id[event.pilot], info.name, info.pending_jobs, accepts, now)

    def _note(self, pilot: PilotRecord, qpu: str, pending: int, accepts: bool, now: float) -> None:
        if (device := pilot.devices.get(qpu)) is None:
            return
        if device.others is None:
            device.others = QueueForecast(now, pending, accepts)
        else:
            device.others.seen(now, pending, accepts)
