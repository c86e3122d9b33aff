"""Which QPU runs which task, where a policy has `assign`. Loaded for such a policy only: it needs NumPy.

A task that a policy has given a QPU leaves its lane and waits in the `Plan` of that QPU until there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import isnan
from operator import index as number_of
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilot.errors import ErrorCode
from pilot.interfaces import Policy, QPUTable
from pilot.resources import Option
from pilot.scheduling.assigning import Column, Rows
from pilot.scheduling.batches import SHARING_TASKS, Batches, goes_with, most_together
from pilot.scheduling.complaints import complaint
from pilot.scheduling.demands import settle
from pilot.scheduling.events import Command, SendCancel
from pilot.scheduling.forecasts import WaitForecaster
from pilot.scheduling.index import Index
from pilot.scheduling.plans import Assigned, Choice, Plan
from pilot.scheduling.queue import TaskQueue
from pilot.scheduling.records import TaskRecord
from pilot.states import TaskState

#: Tasks that a policy is asked to assign at once.
ASSIGNED_TASKS = 1000
#: Tasks are sent together until they are expected to run so many seconds.
BATCH_SECONDS = 10.0
#: Where the policy gave more tasks than this no QPU, they are asked about again when the pilots have changed, or
#: after so many seconds; fewer are each time.
FEW_TASKS, ASK_AGAIN_SECONDS = 100, 1.0


class Planner:
    """Asks the policy for the QPUs of tasks, and sends them there. Does nothing else."""

    def __init__(
        self, policy: Policy, queue: TaskQueue, index: Index, batches: Batches, may_come: Callable[[], bool]
    ) -> None:
        """Make it; ``may_come``: True while a pilot is on its way, which may meet what others do not."""
        self._may_come = may_come
        self._policy = policy
        self._queue = queue
        self._index = index
        self._batches = batches
        self._has_order = type(policy).order is not Policy.order
        self._plans: list[Plan] = []
        #: By the ids of pilots.
        self._of_pilot: dict[str, list[Plan]] = {}
        self._rows = Rows((), 0.0)
        #: `(n_qpus,)` each: when each QPU is expected to be free, its own queue in seconds, its busy share,
        #: and the jobs of all users in its queue.
        self._free: NDArray[np.float64] = np.zeros(0)
        self._queues: NDArray[np.float64] = np.zeros(0)
        self._busy: NDArray[np.float64] = np.zeros(0)
        self._pending: NDArray[np.float64] = np.zeros(0)
        #: The plans of QPUs that report a queue of all users, and whether any QPU has a queue.
        self._shared: list[Plan] = []
        self._has_queues = False
        self._forecaster = WaitForecaster()
        #: Tasks that wait in such a queue: their plan, and their ticket of the queue.
        self._queued: dict[TaskRecord, tuple[Plan, int]] = {}
        self._version = -1
        self._changes = 0
        self._reassigned = float("-inf")
        #: Tasks that the policy gave no QPU; for which pilots, and when, it was asked about them.
        self._unassigned: set[int] = set()
        self._asked, self._asked_at = -1, float("-inf")

    def place(self, now: float, commands: list[Command]) -> None:
        """Give tasks their QPUs, and send those that a QPU has room for."""
        if self._version != self._index.version:
            self._renew(now)
        changed = self._take_in_changes(now)
        changed += self._assign_new(now, commands)
        seconds = self._policy.reassign_seconds
        if seconds is not None and now - self._reassigned >= seconds:
            self._reassigned = now
            self._look(changed, now)
            changed += self._assign_again(now, commands)
        for plan in dict.fromkeys(changed):
            if plan.tasks:
                self._send(plan, now, commands)
                self._look((plan,), now)
        self._changes = self._index.changes.count  # what was sent was looked at when it was sent

    @property
    def has_queued(self) -> bool:
        """True while tasks wait in the queues of QPUs, and may be assigned again."""
        return bool(self._queued)

    # ---- what has changed -----------------------------------------------------------------------------------

    def _renew(self, now: float) -> None:
        """The pilots, or what they have, are others. Tasks of QPUs that take none now go back to their lanes."""
        self._version = self._index.version
        known = {(plan.column.pilot.id, plan.column.name): plan for plan in self._plans}
        pilots = sorted(self._index.pilots.values(), key=lambda pilot: pilot.number)
        columns = [Column(pilot, name, device) for pilot in pilots for name, device in pilot.devices.items()]
        self._plans, self._of_pilot = [], {}
        for at, column in enumerate(columns):
            plan = known.pop((column.pilot.id, column.name), None) or Plan(column, now)
            plan.at = at
            self._plans.append(plan)
            self._of_pilot.setdefault(column.pilot.id, []).append(plan)
            if column.device.closed is not None:
                self._give_back(plan)
        for plan in known.values():
            self._give_back(plan)
        self._rows = Rows(columns, now)
        self._free = np.zeros(len(columns))
        self._busy = np.zeros(len(columns))
        self._pending = np.full(len(columns), np.nan)
        self._queues = np.array([column.device.queue for column in columns], float)
        self._shared = [plan for plan in self._plans if plan.column.device.others is not None]
        self._has_queues = bool(self._shared) or bool(self._queues.any())
        self._look(self._plans, now)

    def _give_back(self, plan: Plan) -> None:
        """The tasks of a QPU are in their lanes again."""
        for record in list(plan.tasks):
            self._queue.change(record, record.terms)

    def _take_in_changes(self, now: float) -> list[Plan]:
        """The plans of pilots that may have more room than before."""
        since, self._changes = self._changes, self._index.changes.count
        if since == self._changes:
            return []
        pilots = self._index.changes.since(since)
        if pilots is None:
            changed = list(self._plans)
        else:
            changed = [plan for pilot in pilots for plan in self._of_pilot.get(pilot.id, ())]
        self._look(changed, now)
        return changed

    def _look(self, plans: Iterable[Plan], now: float) -> None:
        """What these plans, or their QPUs, have is new."""
        for plan in plans:
            self._free[plan.at], self._busy[plan.at] = plan.look(now)

    # ---- the policy -----------------------------------------------------------------------------------------

    def _assign_new(self, now: float, commands: list[Command]) -> list[Plan]:
        """Ask for the QPUs of tasks that have none; the plans that they are in now."""
        if not (lanes := [lane for _, _, lane in self._index.lanes(True)]):
            self._unassigned.clear()
            return []
        few = len(self._unassigned) <= FEW_TASKS
        if few or self._asked != self._version or now - self._asked_at >= ASK_AGAIN_SECONDS:
            self._unassigned.clear()
        if not self._unassigned:
            self._asked, self._asked_at = self._version, now
            records = [record for lane in lanes for record in lane]
        elif sum(map(len, lanes)) == len(self._unassigned):
            return []
        else:
            records = [record for lane in lanes for record in lane if record.id not in self._unassigned]
        if not records:
            return []
        if len(records) > 1:
            try:
                records.sort(key=partial(self._key, now=now))
            except BaseException as error:
                self._fail(records, "order", error, commands)
                return []
            del records[ASSIGNED_TASKS:]
        table = self._rows.table(records, self._waits(now), self._busy, self._pending, now)
        changed = self._carry_out(records, table, now, commands)
        is_full = np.count_nonzero(table.fits) == table.fits.size  # quicker than to look at each task
        if not is_full and not table.fits.any(axis=1).all() and not self._may_come():
            settle(records, self._rows, table, self._queue, now, commands)
        return changed

    def _assign_again(self, now: float, commands: list[Command]) -> list[Plan]:
        """Ask again for tasks that wait for a QPU, here or in its own queue; the plans that they are in now."""
        waiting = [
            (record, plan, wait) for plan in self._plans if plan.tasks for record, wait in plan.ahead(now)
        ] + list(self._in_shared_queues(now))
        if not waiting:
            return []
        records = [record for record, *_ in waiting]
        place = np.array([plan.at for _, plan, _ in waiting])
        waits = np.repeat(self._waits(now)[np.newaxis], len(records), axis=0)
        waits[np.arange(len(records)), place] = [wait for *_, wait in waiting]
        table = self._rows.table(records, waits, self._busy, self._pending, now, place)
        changed = self._carry_out(records, table, now, commands)
        self._look({plan for _, plan, _ in waiting}, now)  # those that tasks left
        return changed

    def _in_shared_queues(self, now: float) -> Iterator[tuple[TaskRecord, Plan, float]]:
        """Tasks that have not begun, the plan of the QPU that they were sent to, and the rest of their wait."""
        self._queued = {record: at for record, at in self._queued.items() if record.state is TaskState.BOUND}
        for record, (plan, ticket) in self._queued.items():
            others = plan.column.device.others
            if others is None or record.moving or record.cancelling or plan.column.pilot.id not in self._of_pilot:
                continue
            ahead = others.ahead(ticket)
            if ahead:
                yield record, plan, self._forecaster.wait(others, now, ahead)

    def _waits(self, now: float) -> NDArray[np.float64]:
        """`(n_qpus,)`: seconds until a task that is assigned now would begin."""
        waits: NDArray[np.float64] = self._free - now
        np.maximum(waits, 0.0, out=waits)
        if self._shared:
            self._forecaster.learn([plan.column.device.others for plan in self._shared], now)  # type: ignore[misc]
            for plan in self._shared:
                assert plan.column.device.others is not None
                self._queues[plan.at] = self._forecaster.wait(plan.column.device.others, now)
                self._pending[plan.at] = plan.column.device.others.pending
        if self._has_queues:
            waits += self._queues
        return waits

    def _key(self, record: TaskRecord, now: float) -> tuple[Any, int]:
        return self._policy.order(record, now), record.id

    def _carry_out(
        self, records: Sequence[TaskRecord], table: QPUTable, now: float, commands: list[Command]
    ) -> list[Plan]:
        """Ask the policy, and put the tasks into the plans of their QPUs."""
        try:
            numbers = list(map(number_of, self._policy.assign(records, table, now)))
            if len(numbers) != len(records):
                raise ValueError(f"{len(numbers)} numbers for {len(records)} tasks")
        except BaseException as error:
            self._fail(records, "assign", error, commands)
            return []
        chosen: list[tuple[int, Plan, TaskRecord]] = []
        wrong: list[TaskRecord] = []
        places: list[int] = table.place.tolist()
        for at, (number, place, record) in enumerate(zip(numbers, places, records, strict=True)):
            if number in (-1, place):
                if place == -1:
                    self._unassigned.add(record.id)
            elif not 0 <= number < len(self._plans) or not table.fits[at, number]:
                wrong.append(record)
            elif record.state is TaskState.BOUND:
                record.moving = True
                commands.append(SendCancel(record.pilot or "", [record.id], running=False))
            else:
                chosen.append((at, self._plans[number], record))
        if wrong:
            reason = f"{complaint(self._policy, 'assign')} returned QPUs that do not exist or cannot run the tasks"
            self._queue.fail_queued(wrong, ErrorCode.PLUGIN_ERROR, reason, commands)
        self._queue.take_out([record for _, _, record in chosen])
        for at, plan, record in chosen:
            self._queue.planned[record] = plan
            plan.put(record, self._choice(at, plan.at, record, table))
        return [plan for _, plan, _ in chosen]

    def _choice(self, at: int, number: int, record: TaskRecord, table: QPUTable) -> Choice:
        row = self._rows.row(record)
        option = row.options[number]
        assert isinstance(option, Option)  # it fits
        seconds = float(table.seconds[at, number])
        pilot, qpu = table.qpus[number]
        waits, fits = table.wait[at], table.fits[at]
        if np.count_nonzero(fits) < len(fits):
            waits = np.where(fits, waits, np.inf)
        least = waits[waits.argmin()]  # quicker than `min`
        reason = Assigned(
            type(self._policy).__name__, pilot, qpu, number, row, float(waits[number]), float(least), seconds
        )
        return Choice(option, 0.0 if isnan(seconds) else seconds, reason)

    def _fail(self, records: Iterable[TaskRecord], method: str, error: BaseException, commands: list[Command]) -> None:
        reason = complaint(self._policy, method, error)
        self._queue.fail_queued(list(records), ErrorCode.PLUGIN_ERROR, reason, commands)

    # ---- sending --------------------------------------------------------------------------------------------

    def _send(self, plan: Plan, now: float, commands: list[Command]) -> None:
        """Send the tasks of a QPU, as long as it has room."""
        if self._has_order:
            try:
                plan.sort(partial(self._key, now=now))
            except BaseException as error:
                self._fail(list(plan.tasks), "order", error, commands)
        while plan.tasks and self._may_send(plan, plan.first(), now):
            self._send_batch(plan, now, commands)

    def _may_send(self, plan: Plan, record: TaskRecord, now: float) -> bool:
        """True when the QPU has room for it now, and time enough to finish it."""
        pilot, needs = plan.column.pilot, plan.tasks[record].option.resources
        depth = plan.column.device.depth if pilot.has_ample_time(record.terms, now) else 1
        return pilot.has_credit(needs, depth) and pilot.has_time(record.terms, record.seconds, now)

    def _send_batch(self, plan: Plan, now: float, commands: list[Command]) -> None:
        """Send the next tasks of a QPU as one batch."""
        column = plan.column
        record = plan.first()
        most = most_together(column.device, record)
        short = SHARING_TASKS if record.terms.shares_qpu else 1
        records, planned = [record], self._take(record)
        expected = planned.seconds or record.weight * (column.device.rate or 1.0)
        while plan.tasks and len(records) < most and not record.runs_alone:
            following = plan.first()
            each = plan.tasks[following].seconds or following.weight * (column.device.rate or 1.0)
            if following.runs_alone or not goes_with(record, following):
                break
            if expected + each > BATCH_SECONDS and len(records) >= short:
                break
            self._take(following)
            records.append(following)
            expected += each
        commands.append(self._batches.send(records, column.pilot, planned.option, expected, planned.reason, now))
        if (others := column.device.others) is not None and self._policy.reassign_seconds is not None:
            self._queued.update(dict.fromkeys(records, (plan, others.ticket)))

    def _take(self, record: TaskRecord) -> Choice:
        """A task leaves the plan of its QPU."""
        return self._queue.planned.pop(record).drop(record)
