"""Why a task is where it is, as a text for users."""

from __future__ import annotations

from itertools import islice

from pilot.interfaces import Policy
from pilot.resources import Capacity, Terms
from pilot.scheduling.fitting import concrete, misfit, unservable
from pilot.scheduling.pilot_records import PilotRecord
from pilot.scheduling.pilots import Pilots
from pilot.scheduling.queue import TaskQueue
from pilot.scheduling.records import TaskRecord
from pilot.scheduling.unservable import UnservableTasks
from pilot.states import PilotState, TaskState


class Explainer:
    """Makes texts of reasons. It decides nothing and changes nothing."""

    def __init__(
        self, queue: TaskQueue, pilots: Pilots, unservable: UnservableTasks, policy: Policy, qpu_policy: Policy
    ) -> None:
        self._queue = queue
        self._unservable = unservable
        self._pilots = pilots
        #: By whether tasks are for devices.
        self._policies = {False: policy, True: qpu_policy}

    def explain(self, record: TaskRecord, capacities: list[Capacity], now: float) -> str:
        """Why this task is where it is; ``capacities``: what there is, and what may come."""
        if record.state is TaskState.WAITING:
            blockers = sorted(record.blockers or ())
            more = "" if len(blockers) <= 5 else f" and {len(blockers) - 5} more"
            return f"waits for the tasks that it depends on: {', '.join(map(str, islice(blockers, 5)))}{more}"
        if record.state is not TaskState.QUEUED:
            return str(record.reason)
        if self._pilots.hold_until is not None:
            return "waits until the agents of the previous manager have reported their tasks"
        if record in self._queue.without_room:
            return f"waits until there is room for its result: {record.attempts[-1].reason}"
        if record in self._queue.delayed:
            left = self._queue.delayed.left(record, now)
            return f"it raised: retry {record.retries} of {record.terms.retries} may begin in {left:.1f} s"
        if (plan := self._queue.planned.get(record)) is not None:
            return f"waits for its QPU: {plan.tasks[record].reason}"
        if (since := self._unservable.since(record)) is not None:
            return self._explain_unservable(record, since, capacities, now)
        return self._explain_queued(record, now)

    def _explain_queued(self, record: TaskRecord, now: float) -> str:
        fits, others = list[str](), list[str]()
        for pilot in self._pilots.by_id.values():
            reason = _obstacle(record, pilot, now)
            (others if reason else fits).append(reason or pilot.name)
        for_devices = bool(record.terms.resources.qpu)
        order = self._policies[for_devices].order
        lanes = [lane for lane in self._queue.lanes.values() if lane.is_for_devices is for_devices]
        key = order(record, now)
        ahead = sum(order(other, now) < key for lane in lanes for other in lane)
        if fits:
            place = f"waits in the queue behind {ahead} task{'s' * (ahead != 1)}" if ahead else "is first in the queue"
            why = f"{place}: {', '.join(fits)} can run it, but "
            why += "has no room now" if len(fits) == 1 else "have no room now"
        else:
            why = "waits: no active pilot can run it now"
        return why + (f"; {'; '.join(others)}" if others else "")

    def _explain_unservable(self, record: TaskRecord, since: float, capacities: list[Capacity], now: float) -> str:
        reason = unservable(record.terms, capacities) or "a suitable pilot has just been requested"
        wait = self._unservable.wait_for_pilot
        if wait is None:
            return f"waits for another pilot: {reason}; submit one that can run it (submit_pilot)"
        left = max(0.0, since + wait - now)
        return f"waits for another pilot: {reason}; it fails in {left:.0f} s unless one is submitted (submit_pilot)"


def _obstacle(record: TaskRecord, pilot: PilotRecord, now: float) -> str | None:
    """Why a pilot cannot take this task now, apart from the work that it has."""
    if (reason := misfit(record.terms, pilot.capacity(now))) is not None:
        return reason
    if pilot.state is not PilotState.ACTIVE:
        pending = f" ({pilot.pending})" if pilot.pending and pilot.state is PilotState.QUEUED else ""
        return f"{pilot.name} is {pilot.state.value}{pending}"
    if (reason := _closed_devices(record.terms, pilot, now)) is not None:
        return reason
    if not pilot.has_time(record.terms, record.seconds, now):
        return f"{pilot.name} has too little walltime left for it"
    return None


def _closed_devices(terms: Terms, pilot: PilotRecord, now: float) -> str | None:
    """Why none of the pilot's suitable devices takes such a task now; None when one does, or none is needed."""
    names = [way.resources.qpu for way in concrete(terms, pilot.capacity(now))]
    if not all(names):
        return None
    reasons = [(name, pilot.devices[name].closed) for name in names]
    if any(closed is None for _, closed in reasons):
        return None
    return "; ".join(f"{name} of {pilot.name} {closed}" for name, closed in reasons)
