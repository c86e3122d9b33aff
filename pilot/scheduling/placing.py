"""Which tasks are sent now, where, and how many at a time.

Lanes are taken by priority, then by their first task. A batch is cut off the front of one when a pilot that fits
has credit for it. How many tasks make a batch follows from what they are expected to take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import index, itemgetter
from typing import TYPE_CHECKING

from pilot.errors import ErrorCode, PluginError
from pilot.interfaces import Candidate, Policy
from pilot.resources import Option, Terms
from pilot.scheduling import events
from pilot.scheduling.events import Command
from pilot.scheduling.fitting import concrete, misfit
from pilot.scheduling.queue import TaskQueue
from pilot.scheduling.records import (
    BATCH_SECONDS,
    GIVE_BACK_FACTOR,
    GIVE_BACK_SECONDS,
    PilotRecord,
    SentBatch,
    TaskRecord,
)
from pilot.states import TaskState

if TYPE_CHECKING:
    from pilot.scheduling.assigning import Rows

#: Tasks in a batch at most, and tasks that a policy is asked to assign at once.
BATCH_TASKS = 1000
ASSIGNED_TASKS = 1000
#: The end of a lane is cut in batches of no less work than this (seconds), however many slots there are.
SMALLEST_BATCH_SECONDS = 0.002
#: A device gets half of its share of the work at a time while a job waits for less than this part of the time that
#: the share takes.
CHEAP_WAIT = 0.05
#: Tasks for devices that queue their jobs are gathered until none has come for this part of the queue's seconds, and at
#: most for so many.
LINGER, LINGER_SECONDS = 0.1, 0.25
#: A device gives back what it has not begun no sooner than this.
DEVICE_GIVE_BACK_SECONDS = 60.0


class Placer:
    """Takes batches from the lanes for pilots. It alone decides where a task goes; it asks the policy.

    A policy that raises, or returns something invalid, fails the tasks that it was asked about, and nothing else.
    """

    def __init__(self, policy: Policy, queue: TaskQueue) -> None:
        self._policy = policy
        self._queue = queue
        self._has_order = type(policy).order is not Policy.order
        #: Makes the table for `Policy.assign`; None: the policy has none, and NumPy is not needed.
        self._rows: type[Rows] | None = None
        if type(policy).assign is not Policy.assign:
            from pilot.scheduling.assigning import Rows

            self._rows = Rows
        #: Number of the last batch.
        self.batch = 0

    def place(self, pilots: Sequence[PilotRecord], now: float, commands: list[Command]) -> None:
        """Send batches as long as a lane has tasks and a pilot that fits has credit; lanes that run empty are removed.

        While a lane waits for cores, later lanes do not take them: short tasks, which are sent ahead, would leave no
        slot to a long one, and tasks of one core none to one of two. While a lane waits for GPUs, this applies to lanes
        that need GPUs. A lane that waits for a device stops no other.
        """
        lanes = self._queue.lanes
        if self._has_order:
            self._sort_lanes(now, commands)
            waiting = list(lanes.items())
        else:
            waiting = [(terms, lane) for terms, lane in lanes.items() if lane]
            waiting.sort(key=lambda item: (-item[0].priority, item[1][0].id))
        if self._rows is not None:
            self._assign(self._rows, pilots, now, commands)
            waiting = [(terms, lane) for terms, lane in waiting if not terms.resources.qpu]
        active = list(pilots)
        promised: set[str] = set()  # pilots whose GPUs a lane waits for
        for terms, lane in waiting:
            needs = terms.resources
            if not active and not needs.qpu:
                continue
            among = pilots if needs.qpu else active
            fitting = [pilot for pilot in among if misfit(terms, pilot.capacity(now)) is None]
            if needs.num_gpus and not terms.others:
                fitting = [pilot for pilot in fitting if pilot.id not in promised]
            if needs.qpu and self._gathers(terms, fitting, now):
                continue
            self._send_off(lane, terms, fitting, now, commands)
            if not lane:
                del lanes[terms]
                self._queue.last_arrivals.pop(terms, None)
                continue
            if needs.qpu:
                continue
            timely = [pilot for pilot in fitting if pilot.has_time(terms, lane[0].seconds, now)]
            scarce = [pilot for pilot in timely if pilot.waits_for_gpu(needs)]
            if scarce and needs.all_gpus > 1:  # as many GPUs as that come free on one of them
                scarce = [max(scarce, key=lambda pilot: pilot.gpus - pilot.used_gpus)]
            promised.update(pilot.id for pilot in scarce)
            waited_for = [pilot for pilot in timely if not pilot.waits_for_gpu(needs)]
            if waited_for:
                if needs.cores > 1:  # as many cores as that come free on one of them
                    waited_for = [max(waited_for, key=lambda pilot: pilot.cores - pilot.used_cores)]
                active = [pilot for pilot in active if pilot not in waited_for]

    # ---- the policy -----------------------------------------------------------------------------------------

    def _sort_lanes(self, now: float, commands: list[Command]) -> None:
        """Each lane in the policy's order, the lanes by their first tasks; empty ones are removed."""
        lanes, failed, why = self._queue.lanes, list[TaskRecord](), ""
        keyed = []
        for number, lane in enumerate(lanes.values()):
            for record in lane:
                try:
                    keyed.append((self._policy.order(record, now), record.id, number, record))
                except (Exception, SystemExit) as error:
                    failed.append(record)
                    why = why or self._complaint("order", error)
        try:
            keyed.sort(key=itemgetter(0, 1))
        except (Exception, SystemExit) as error:  # keys that cannot be compared
            failed += [record for *_, record in keyed]
            why, keyed = self._complaint("order", error), []
        terms, ordered = list(lanes), dict[int, deque[TaskRecord]]()
        for *_, number, record in keyed:
            ordered.setdefault(number, deque()).append(record)
        lanes.clear()
        lanes.update((terms[number], lane) for number, lane in ordered.items())
        if failed:
            self._queue.fail(failed, ErrorCode.PLUGIN_ERROR, why, commands)

    def _ask(self, terms: Terms, candidates: list[Candidate]) -> tuple[Candidate, str]:
        try:
            choice, reason = self._policy.choose(terms, candidates)
        except (Exception, SystemExit) as error:
            raise PluginError(self._complaint("choose", error)) from error
        if choice not in candidates:
            raise PluginError(f"{self._complaint('choose')} returned {choice!r}, which is no candidate")
        return choice, str(reason)

    def _complaint(self, method: str, error: BaseException | None = None) -> str:
        what = f"the policy {type(self._policy).__name__}: {method}"
        return what if error is None else f"{what} raised {type(error).__name__}: {error}"

    def _assign(
        self, make_rows: type[Rows], pilots: Sequence[PilotRecord], now: float, commands: list[Command]
    ) -> None:
        """Send tasks for QPUs where the policy wants them, as far as there is room."""
        records = [record for terms, lane in self._queue.lanes.items() if terms.resources.qpu for record in lane]
        if not records or not any(device.has_room for pilot in pilots for device in pilot.devices.values()):
            return
        try:
            records.sort(key=lambda record: (self._policy.order(record, now), record.id))
        except (Exception, SystemExit) as error:
            self._fail_queued(records, self._complaint("order", error), commands)
            return
        del records[ASSIGNED_TASKS:]
        rows = make_rows(records, pilots, now)
        try:
            numbers = list(map(index, self._policy.assign(records, rows.table, now)))
            if len(numbers) != len(records):
                raise ValueError(f"{len(numbers)} numbers for {len(records)} tasks")
        except (Exception, SystemExit) as error:
            self._fail_queued(records, self._complaint("assign", error), commands)
            return
        groups: dict[tuple[int, Terms], deque[TaskRecord]] = {}
        wrong = []
        for number, record in zip(numbers, records, strict=True):
            if number == -1:
                continue
            if 0 <= number < len(rows.columns) and rows.options(record.terms)[number] is not None:
                groups.setdefault((number, record.terms), deque()).append(record)
            else:
                wrong.append(record)
        if wrong:
            reason = f"{self._complaint('assign')} returned QPUs that do not exist or cannot run the tasks"
            self._fail_queued(wrong, reason, commands)
        for (number, terms), group in groups.items():
            pilot, name = rows.columns[number]
            option = rows.options(terms)[number]
            assert option is not None
            reason = f"the policy {type(self._policy).__name__} chose {name} of {pilot.name}"
            self._send_group(group, pilot, option, reason, now, commands)

    def _send_group(
        self,
        group: deque[TaskRecord],
        pilot: PilotRecord,
        option: Option,
        reason: str,
        now: float,
        commands: list[Command],
    ) -> None:
        """Batches of tasks that are meant for one QPU, as long as it has credit."""
        device = pilot.devices[option.resources.qpu]
        most = min(BATCH_TASKS, (device.info.max_circuits if device.info else None) or BATCH_TASKS)
        while group and pilot.is_free(group[0].terms, option.resources, group[0].seconds, now):
            records = [group.popleft()]
            while group and len(records) < most and not records[0].runs_alone and not group[0].runs_alone:
                records.append(group.popleft())
            self._queue.remove([record.id for record in records])
            expected = sum(record.weight for record in records) * (device.rate or 1.0)
            commands.append(self._send(records, pilot, option, expected, reason))

    def _fail_queued(self, failed: Sequence[TaskRecord], reason: str, commands: list[Command]) -> None:
        self._queue.remove([record.id for record in failed])
        self._queue.fail(failed, ErrorCode.PLUGIN_ERROR, reason, commands)

    # ---- lanes ----------------------------------------------------------------------------------------------

    def _gathers(self, terms: Terms, fitting: list[PilotRecord], now: float) -> bool:
        """True while tasks for devices that queue their jobs still come in: they go out together then."""
        devices = (one.devices[way.resources.qpu] for one in fitting for way in concrete(terms, one.capacity(now)))
        waits = [device.queue for device in devices]
        linger = min(LINGER * max(waits, default=0.0), LINGER_SECONDS)
        return now - self._queue.last_arrivals.get(terms, float("-inf")) < linger

    def _send_off(
        self, lane: deque[TaskRecord], terms: Terms, fitting: list[PilotRecord], now: float, commands: list[Command]
    ) -> None:
        """Batches off the front of a lane, as long as these pilots have credit."""
        cores, why = -1.0, ""
        failed: list[TaskRecord] = []
        while lane and fitting:
            try:
                choice = self._choose(lane[0], terms, fitting, now)
            except PluginError as error:
                failed.append(lane.popleft())
                why = str(error)
                continue
            if choice is None:
                break
            pilot, option, reason = choice
            if option.resources.qpu:
                commands.append(self._cut_for_device(lane, terms, pilot, option, fitting, reason, now))
                continue
            if cores < 0:
                cores = sum(one.cores for one in fitting)
            slots = cores / option.resources.cores
            most = 1 if option.resources.ranks or not pilot.has_ample_time(terms, now) else BATCH_TASKS
            commands.append(self._cut(lane, pilot, option, slots, most, reason))
        if failed:
            self._queue.fail(failed, ErrorCode.PLUGIN_ERROR, why, commands)

    def _choose(
        self, record: TaskRecord, terms: Terms, fitting: list[PilotRecord], now: float
    ) -> tuple[PilotRecord, Option, str] | None:
        """Where the next task of a lane goes now, and with which resources; None: it waits."""
        seconds, needs = record.seconds, terms.resources
        if not terms.others and not needs.qpu:
            only = Option(needs)
            free = {pilot.id: pilot for pilot in fitting if pilot.is_free(terms, needs, seconds, now)}
            if not free:
                return None
            choice, reason = self._ask(terms, [pilot.candidate(only, seconds) for pilot in free.values()])
            return free[choice.id], only, reason
        ways = [(pilot, option) for pilot in fitting for option in concrete(terms, pilot.capacity(now))]
        free = {pilot.id: pilot for pilot, _ in ways}
        candidates = [
            pilot.candidate(option, seconds)
            for pilot, option in ways
            if pilot.is_free(terms, option.resources, seconds, now)
        ]
        if not candidates:
            return None
        choice, reason = self._ask(terms, candidates)
        if terms.others and not needs.qpu and seconds is not None:
            everywhere = [pilot.candidate(option, seconds) for pilot, option in ways]
            if self._ask(terms, everywhere)[0] not in candidates:
                return None  # what is busy now will still be done with it first
        return free[choice.id], choice.option, reason

    def _cut(
        self, lane: deque[TaskRecord], pilot: PilotRecord, option: Option, slots: float, most: int, reason: str
    ) -> events.SendBatch:
        """A batch off the front of the lane: about `BATCH_SECONDS` of work, less when the lane runs out."""
        share = -(-len(lane) // max(1, int(2 * slots)))
        slowness = pilot.slowness * option.slowness
        total = 0.0
        records: list[TaskRecord] = []
        while lane and len(records) < most:
            record = lane[0]
            seconds = record.seconds
            if records:
                if seconds is None or record.runs_alone or records[0].runs_alone:
                    break  # alone: not known yet how long it takes, or its last worker died
                after = (total + seconds) * slowness
                if after > BATCH_SECONDS or (len(records) >= share and after > SMALLEST_BATCH_SECONDS):
                    break
            total += seconds or 0.0
            records.append(lane.popleft())
        return self._send(records, pilot, option, total * slowness, reason)

    def _cut_for_device(
        self,
        lane: deque[TaskRecord],
        terms: Terms,
        pilot: PilotRecord,
        option: Option,
        fitting: list[PilotRecord],
        reason: str,
        now: float,
    ) -> events.SendBatch:
        """A batch for a device: its share of what the devices have and of the lane, by speed, when each job waits long
        before it runs; half of that when jobs are cheap, so that the devices end together."""
        device = pilot.devices[option.resources.qpu]
        assert device.info is not None
        others = [
            one.devices[way.resources.qpu]
            for one in fitting
            for way in concrete(terms, one.capacity(now))
            if way.resources.qpu
        ]
        known = [one.rate for one in others if one.rate is not None]
        usual = sum(known) / len(known) if known else 1.0
        rate = device.rate or usual
        part = (1 / rate) / sum(1 / (one.rate or usual) for one in others)
        share = part * (sum(record.weight for record in lane) + sum(one.weight for one in others)) - device.weight
        if device.queue < CHEAP_WAIT * share * rate:
            share /= 2
        most = min(BATCH_TASKS, device.info.max_circuits or BATCH_TASKS)
        weight = 0.0
        records: list[TaskRecord] = []
        while lane and len(records) < most:
            record = lane[0]
            if records and (weight + record.weight / 2 > share or record.runs_alone or records[0].runs_alone):
                break
            weight += record.weight
            records.append(lane.popleft())
        return self._send(records, pilot, option, weight * rate, reason)

    def _send(
        self, records: list[TaskRecord], pilot: PilotRecord, option: Option, expected: float, reason: str
    ) -> events.SendBatch:
        self.batch += 1
        for record in records:
            record.state = TaskState.BOUND
            record.pilot = pilot.id
            record.batch = self.batch
            record.reason = reason
        needs = option.resources
        pilot.put(self.batch, SentBatch({record.id: record for record in records}, needs, expected, option.slowness))
        seconds = max(GIVE_BACK_FACTOR * expected, GIVE_BACK_SECONDS)
        if needs.qpu:
            seconds = max(seconds, DEVICE_GIVE_BACK_SECONDS)
        return events.SendBatch(pilot.id, self.batch, needs, records, seconds, records[0].runs_alone)
