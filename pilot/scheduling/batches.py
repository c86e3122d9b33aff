"""Batches: how many tasks are sent together, by what they are expected to take."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from pilot.interfaces import Policy
from pilot.resources import Option, rounded_up
from pilot.scheduling import events
from pilot.scheduling.complaints import complaint
from pilot.scheduling.index import Index
from pilot.scheduling.lanes import Lane
from pilot.scheduling.pilot_records import (
    BATCH_SECONDS,
    GIVE_BACK_FACTOR,
    GIVE_BACK_SECONDS,
    DeviceRecord,
    PilotRecord,
    SentBatch,
)
from pilot.scheduling.ranking import Way
from pilot.scheduling.records import Chosen, Planned, TaskRecord
from pilot.states import TaskState

if TYPE_CHECKING:
    from pilot.scheduling.plans import Assigned

log = logging.getLogger(__name__)

#: Tasks in a batch at most.
BATCH_TASKS = 1000
#: The end of a lane is cut in batches of no less work than this (seconds), however many slots there are.
SMALLEST_BATCH_SECONDS = 0.002
#: A device gets half of its share of the work at a time while a job waits for less than this part of the time that
#: the share takes.
CHEAP_WAIT = 0.05
#: A device gives back what it has not begun no sooner than this.
DEVICE_GIVE_BACK_SECONDS = 60.0
#: Tasks that may share a device are sent together up to so many, whatever they take and a job of the device holds:
#: those that run at the same time are one circuit.
SHARING_TASKS = 4
#: Why a task went where it is: a policy's text, or what a text is made from when somebody asks.
Reason: TypeAlias = "str | Chosen | Planned | Assigned | Sharing | Simulated"


class Sharing(NamedTuple):
    """Why a task went to its QPU, together with others that may share it. As a text when it is asked for."""

    reason: object
    others: int

    def __str__(self) -> str:
        return f"{self.reason}; sent with {self.others} other task{'s' * (self.others != 1)} that may share the QPU"


class Simulated(NamedTuple):
    """Why a circuit that no QPU is good enough for went to a pilot. As a text when it is asked for."""

    reason: object

    def __str__(self) -> str:
        return f"no QPU was expected to meet its demands, so it is simulated, without noise; {self.reason}"


def goes_with(first: TaskRecord, other: TaskRecord) -> bool:
    """True for a task that may be in one batch for a device with another one: it has the same terms, or the two may
    share the device. Those that share run the same function, with the same settings."""
    if other.terms == first.terms:
        return True
    share = first.terms.shares_qpu and other.terms.shares_qpu
    return share and other.function is first.function


def most_together(device: DeviceRecord, first: TaskRecord) -> int:
    """How many tasks a batch for a device has at most."""
    most = (device.info.max_circuits if device.info is not None else None) or BATCH_TASKS
    return max(min(BATCH_TASKS, most), SHARING_TASKS if first.terms.shares_qpu else 1)


def _run_together(first: TaskRecord, other: TaskRecord, weight: float) -> bool:
    """True when another task may join those of a batch, of this weight together, since the worker runs them at once and
    that takes little longer."""
    runs = first.function.runs
    if runs is None or other.function is not first.function or first.terms.timeout is not None:
        return False  # the time of a run counts for each task's timeout
    return runs.allows(weight + other.weight)


class Batches:
    """Cuts batches off lanes, and gives them to pilots."""

    def __init__(self, index: Index, policies: Mapping[bool, Policy] = MappingProxyType({})) -> None:
        """Make it.

        Args:
            index: learns which pilots got batches.
            policies: learn which tasks were sent, by whether they are for devices.
        """
        self._index = index
        self._notes = {key: one for key, one in policies.items() if type(one).sent is not Policy.sent}
        #: Number of the last batch.
        self.last = 0

    def cut(self, lane: Lane, way: Way, reason: Reason, now: float) -> events.SendBatch:
        """A batch off the front of the lane: about `BATCH_SECONDS` of work, less when the lane runs out, and more when
        tasks run together and the run itself takes long."""
        pilot, option = way.pilot, way.option
        slots = lane.group.cores / option.resources.cores
        share = -(-len(lane) // max(1, int(2 * slots)))
        slowness = pilot.slowness * option.slowness
        terms = lane.head.terms
        memory = most_memory = option.resources.memory
        if memory and not terms.others and pilot.id not in lane.group.unsure:
            # tasks that need more may join: the batch takes what its largest task needs
            most_memory = max(memory, min(rounded_up(memory), pilot.memory - pilot.used_memory))
        most = 1 if option.resources.ranks or not pilot.has_ample_time(terms, now, option.slowness) else BATCH_TASKS
        records: list[TaskRecord] = []
        total = weight = 0.0
        for record in lane.taken():
            seconds = record.seconds
            if records:
                if len(records) >= most or seconds is None or record.runs_alone or records[0].runs_alone:
                    break  # alone: not known yet how long it takes, or its last worker died
                after = (total + seconds) * slowness
                if after > BATCH_SECONDS and not _run_together(records[0], record, weight):
                    break
                if len(records) >= share and after > SMALLEST_BATCH_SECONDS:
                    break
                if record.terms is not terms:
                    terms = record.terms
                    if not pilot.has_ample_time(terms, now, option.slowness):
                        break
                    if not terms.others and terms.resources.memory > memory:
                        if terms.resources.memory > most_memory:
                            break
                        memory = terms.resources.memory
            total += seconds or 0.0
            weight += record.weight
            records.append(record)
        if memory != option.resources.memory:
            option = msgspec.structs.replace(option, resources=msgspec.structs.replace(option.resources, memory=memory))
        return self.send(records, pilot, option, total * slowness, reason, now)

    def cut_for_device(self, lanes: Sequence[Lane], way: Way, reason: Reason, now: float) -> events.SendBatch:
        """A batch for a device: its share of what the devices have and of the lanes, by speed, when each job waits long
        before it runs; half of that when jobs are cheap, so that the devices end together, unless the tasks may share
        the device.

        Args:
            lanes: that of the first task; then those of tasks that may share the device with it.
            way: to the device.
            reason: why the first task goes there.
            now: seconds by a clock that never steps.
        """
        device, first = way.pilot.devices[way.option.resources.qpu], lanes[0].head
        assert device.info is not None
        speeds = lanes[0].group.speeds
        rate = device.rate or speeds.usual
        share = speeds.part(rate) * (sum(lane.weight for lane in lanes) + speeds.weight) - device.weight
        if device.queue < CHEAP_WAIT * share * rate and not first.terms.shares_qpu:
            share /= 2
        most = most_together(device, first)
        weight = 0.0
        records: list[TaskRecord] = []
        while len(records) < most and (left := [lane for lane in lanes if lane and goes_with(first, lane.head)]):
            lane = min(left, key=lambda lane: (-lane.terms.priority, lane.head.id)) if records else lanes[0]
            record = lane.head
            if records and (weight + record.weight / 2 > share or record.runs_alone or records[0].runs_alone):
                break
            weight += record.weight
            records.append(lane.pop())
        return self.send(records, way.pilot, way.option, weight * rate, reason, now)

    def single(self, record: TaskRecord, lane: Lane, way: Way, reason: Reason, now: float) -> events.SendBatch:
        """A batch of one task, which need not be the first of its lane."""
        pilot, option = way.pilot, way.option
        if (device := pilot.devices.get(option.resources.qpu)) is not None:
            expected = record.weight * (device.rate or lane.group.speeds.usual)
        else:
            expected = (record.seconds or 0.0) * pilot.slowness * option.slowness
        return self.send([record], pilot, option, expected, reason, now)

    def send(
        self,
        records: list[TaskRecord],
        pilot: PilotRecord,
        option: Option,
        expected: float,
        reason: Reason,
        now: float,
    ) -> events.SendBatch:
        """A batch of these tasks, which are in no lane any more. ``expected``: seconds that it takes."""
        self.last += 1
        if records[0].terms.shares_qpu and len(records) > 1:
            reason = Sharing(reason, len(records) - 1)
        needs = option.resources
        for record in records:
            record.state, record.worker = TaskState.BOUND, None
            record.pilot = pilot.id
            record.batch = self.last
            record.reason = Simulated(reason) if record.terms.fallback and not needs.qpu else reason
        is_known = expected > 0.0 and not needs.qpu
        ends_at = now + expected if is_known else None
        entries = {record.id: record for record in records}
        pilot.put(self.last, SentBatch(entries, needs, expected, option.slowness, ends_at))
        self._index.touch(pilot)
        if (policy := self._notes.get(bool(needs.qpu))) is not None:
            try:
                policy.sent(records, expected, now)
            except BaseException as error:
                log.error("%s; it is called no more", complaint(policy, "sent", error), exc_info=error)
                del self._notes[bool(needs.qpu)]
        seconds = max(GIVE_BACK_FACTOR * expected, GIVE_BACK_SECONDS)
        if needs.qpu:
            seconds = max(seconds, DEVICE_GIVE_BACK_SECONDS)
        return events.SendBatch(pilot.id, self.last, needs, records, seconds, records[0].runs_alone)
