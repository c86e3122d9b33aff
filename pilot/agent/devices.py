"""The devices of a pilot: QPUs that one worker at a time has, on the agent's node, as long as the pilot lives."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from pilot.resources import QPUInfo
from pilot.worker.device import unusable

log = logging.getLogger(__name__)

#: A worker of a device that has ended is not replaced sooner than this number of seconds after its own start.
START_SECONDS = 2.0
#: This number of workers in a row that end before they have reported means that the device is given up.
FAILED_STARTS = 3
#: A device that reports the same as before is passed on after so many seconds.
SAME_SECONDS = 60.0


class Devices:
    """What each device reports of itself, and which of them needs a worker. For the agent's thread."""

    def __init__(self, names: Iterable[str]) -> None:
        self._has_worker = dict.fromkeys(names, False)
        #: When the next worker may be started.
        self._next_start: dict[str, float] = {}
        #: How often in a row the worker has ended before it reported.
        self._failed_starts: dict[str, int] = {}
        self._infos: dict[str, QPUInfo] = {}
        #: Counts how often a device has reported something new.
        self.changes = 0

    @property
    def infos(self) -> list[QPUInfo]:
        """What the devices report, as far as they have."""
        return list(self._infos.values())

    def due(self, now: float) -> list[str]:
        """The devices for which a worker is to be started now."""
        waiting = [name for name, has_worker in self._has_worker.items() if not has_worker]
        return [name for name in waiting if now >= self._next_start.get(name, now)]

    def worker_started(self, name: str, now: float) -> None:
        self._has_worker[name] = True
        self._next_start[name] = now + START_SECONDS

    def worker_ended(self, name: str) -> None:
        self._has_worker[name] = False

    def reported(self, name: str, info: QPUInfo) -> None:
        """Take in what a device reports."""
        self._failed_starts[name] = 0
        if info.problem:
            log.warning("the device %s cannot be used: %s", name, info.problem)
        else:
            log.info("the device %s has %d qubits", name, info.qubits)
        self._update(name, info)

    def is_given_up(self, name: str) -> bool:
        """True when its workers have ended too often before they reported."""
        return name not in self._has_worker

    def start_failed(self, name: str, reason: str) -> None:
        """The worker of a device ended before it has reported. After `FAILED_STARTS` times the device is given up."""
        self._failed_starts[name] = self._failed_starts.get(name, 0) + 1
        if self._failed_starts[name] < FAILED_STARTS:
            return
        why = f"its worker has ended {FAILED_STARTS} times before it was open (the last one {reason})"
        log.warning("the device %s is given up: %s", name, why)
        del self._has_worker[name]
        self._update(name, unusable(QPUInfo(name=name, qubits=0), why))

    def _update(self, name: str, info: QPUInfo) -> None:
        before = self._infos.get(name)
        if before is None or _tells_more(before, info):
            self._infos[name] = info
            self.changes += 1


def _tells_more(before: QPUInfo, info: QPUInfo) -> bool:
    """True when a report is worth a message. That a QPU is still the same is told once a minute, not after each job;
    where others have jobs in its queue, always: how long they take is learned from that."""
    if info.pending_jobs is not None or (info.asked or 0.0) >= (before.asked or 0.0) + SAME_SECONDS:
        return before != info
    return msgspec.structs.replace(before, asked=info.asked) != info
