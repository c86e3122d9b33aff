"""Queued tasks that no pilot can run, and none that may come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf

import msgspec

from pilot.errors import ErrorCode
from pilot.resources import Capacity, Terms, rounded_up
from pilot.scheduling import events
from pilot.scheduling.events import Command
from pilot.scheduling.fitting import misfit, unservable
from pilot.scheduling.lanes import Lane
from pilot.scheduling.queue import TaskQueue
from pilot.scheduling.records import TaskRecord


class UnservableTasks:
    """They wait for another pilot, and fail when none comes in time.

    Which lanes can be served is remembered until what is known of the pilots changes, or a walltime comes near its end.
    """

    def __init__(self, queue: TaskQueue, wait_for_pilot: float | None) -> None:
        """Make it.

        Args:
            queue: of the tasks.
            wait_for_pilot: seconds that queued tasks wait for another pilot when none can run them any more, before
                they fail; None: for ever.
        """
        self.wait_for_pilot = wait_for_pilot
        self._queue = queue
        #: By the terms of whole lanes, or of single tasks.
        self._since: dict[Terms, float] = {}

    def since(self, record: TaskRecord) -> float | None:
        """Since when no pilot can run this task; None: one can, or may come."""
        return self._since.get(record.terms, self._since.get(self._queue.matched(record.terms)))

    def clear(self) -> None:
        """No task is queued any more."""
        self._since.clear()

    def fail(self, capacities: Callable[[], list[Capacity]], version: int, now: float, commands: list[Command]) -> None:
        """End the tasks that have waited long enough.

        Args:
            capacities: what the pilots have, and what those may have that may come.
            version: a number that is another one when these are others.
            now: seconds by a clock that never steps.
            commands: what to do.
        """
        doubtful = [lane for lane in self._queue.lanes.values() if not lane.is_served(version, now)]
        if not doubtful and not self._since:
            return
        before, self._since = self._since, {}
        wait, waiting, why = self.wait_for_pilot, 0, ""
        known = capacities()
        for lane in doubtful:
            for terms, reason, records in _unservable(lane, known, version, now):
                if not (records := self._without_fallback(records, reason, known, now, commands)):
                    continue
                if refused := [record for record in records if _is_refused(record)]:
                    self._queue.fail_queued(refused, ErrorCode.NO_PILOT, reason, commands)
                    records = [record for record in records if record.id in self._queue.tasks]
                if not records:
                    continue
                since = before.get(terms, now)
                if wait is not None and now - since >= wait:
                    waited = f"; no other pilot came within {wait:g} s" if wait else ""
                    self._queue.fail_queued(records, ErrorCode.NO_PILOT, reason + waited, commands)
                    continue
                self._since[terms] = since
                waiting, why = waiting + len(records), why or reason
        if waiting and not before:
            commands.append(events.WarnUnservable(waiting, why, wait))

    def _without_fallback(
        self, records: list[TaskRecord], reason: str, pilots: list[Capacity], now: float, commands: list[Command]
    ) -> list[TaskRecord]:
        """Those of these tasks that say nothing of what shall happen then. The others wait, to their deadline, or are
        simulated where a pilot has room for that."""
        left, late = list[TaskRecord](), list[TaskRecord]()
        for record in records:
            if record.terms.fallback == "wait":
                if not waits(record, now):
                    late.append(record)
            elif record.terms.fallback and unservable(record.terms.simulated(), pilots) is None:
                self._queue.change(record, record.terms.simulated())
            else:
                left.append(record)
        if late:
            why = f"{reason}; no other pilot came before its deadline"
            self._queue.fail_queued(late, ErrorCode.NO_PILOT, why, commands)
        return left


def waits(record: TaskRecord, now: float) -> bool:
    """True for a circuit that waits for a QPU that meets what is demanded, as long as it may be over in time."""
    limit = record.terms.deadline
    return record.terms.fallback == "wait" and (limit is None or now - record.arrived < limit)


def _is_refused(record: TaskRecord) -> bool:
    """True for a circuit that was estimated, and that none of the QPUs can run, or none well enough: a pilot like those
    is no help, so it does not wait for one."""
    least, offers = record.terms.min_fidelity, record.estimates
    return bool(offers) and all(one.problem or (one.fidelity is not None and one.fidelity < least) for one in offers)


def _unservable(
    lane: Lane, pilots: Sequence[Capacity], version: int, now: float
) -> Iterator[tuple[Terms, str, list[TaskRecord]]]:
    """The tasks of a lane that none of these pilots can run, by terms, and why; the whole lane at once if it is so."""
    least, most = lane.terms, lane.terms
    if least.resources.memory and not least.others:
        memory = rounded_up(least.resources.memory)
        most = msgspec.structs.replace(least, resources=msgspec.structs.replace(least.resources, memory=memory))
    ends = [capacity.seconds for capacity in pilots if misfit(most, capacity) is None]
    left = max((inf if seconds is None else seconds for seconds in ends), default=-inf)
    if left >= lane.longest:
        lane.served(version, now + left - lane.longest)
        return
    if unservable(least, pilots) is not None:
        yield least, unservable(lane.head.terms, pilots) or "", list(lane)
        return
    by_terms: dict[Terms, list[TaskRecord]] = {}
    for record in lane:
        by_terms.setdefault(record.terms, []).append(record)
    for terms, records in by_terms.items():
        if (reason := unservable(terms, pilots)) is not None:
            yield terms, reason, records
