"""Batches: how many tasks are sent together, by what they are expected to take."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from pilot.interfaces import Policy
from pilot.resources import Option, rounded_up
from pilot.scheduling import events
from pilot.scheduling.index import Index
from pilot.scheduling.lanes import Lane
from pilot.scheduling.pilot_records import BATCH_SECONDS, GIVE_BACK_FACTOR, GIVE_BACK_SECONDS, PilotRecord, SentBatch
from pilot.scheduling.ranking import Way
from pilot.scheduling.records import Chosen, Planned, TaskRecord
from pilot.states import TaskState

if TYPE_CHECKING:
    from pilot.scheduling.plans import Assigned

#: Tasks in a batch at most.
BATCH_TASKS = 1000
#: The end of a lane is cut in batches of no less work than this (seconds), however many slots there are.
SMALLEST_BATCH_SECONDS = 0.002
#: A device gets half of its share of the work at a time while a job waits for less than this part of the time that
#: the share takes.
CHEAP_WAIT = 0.05
#: A device gives back what it has not begun no sooner than this.
DEVICE_GIVE_BACK_SECONDS = 60.0
#: Why a task went where it is: a policy's text, or what a text is made from when somebody asks.
Reason: TypeAlias = "str | Chosen | Planned | Assigned"


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
        """A batch off the front of the lane: about `BATCH_SECONDS` of work, less when the lane runs out."""
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
        total = 0.0
        for record in lane.taken():
            seconds = record.seconds
            if records:
                if len(records) >= most or seconds is None or record.runs_alone or records[0].runs_alone:
                    break  # alone: not known yet how long it takes, or its last worker died
                after = (total + seconds) * slowness
                if after > BATCH_SECONDS or (len(records) >= share and after > SMALLEST_BATCH_SECONDS):
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
            records.append(record)
        if memory != option.resources.memory:
            option = msgspec.structs.replace(option, resources=msgspec.structs.replace(option.resources, memory=memory))
        return self.send(records, pilot, option, total * slowness, reason, now)

    def cut_for_device(self, lane: Lane, way: Way, reason: Reason, now: float) -> events.SendBatch:
        """A batch for a device: its share of what the devices have and of the lane, by speed, when each job waits long
        before it runs; half of that when jobs are cheap, so that the devices end together."""
        device = way.pilot.devices[way.option.resources.qpu]
        assert device.info is not None
        speeds = lane.group.speeds
        rate = device.rate or speeds.usual
        share = speeds.part(rate) * (lane.weight + speeds.weight) - device.weight
        if device.queue < CHEAP_WAIT * share * rate:
            share /= 2
        most = min(BATCH_TASKS, device.info.max_circuits or BATCH_TASKS)
        weight = 0.0
        records: list[TaskRecord] = []
        for record in lane.taken():
            if len(records) >= most:
                break
            if records and (weight + record.weight / 2 > share or record.runs_alone or records[0].runs_alone):
                break
            weight += record.weight
            records.append(record)
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
        for record in records:
            record.state = TaskState.BOUND
            record.pilot = pilot.id
            record.batch = self.last
            record.reason = reason
        needs = option.resources
        is_known = expected > 0.0 and not needs.qpu
        ends_at = now + expected if is_known else None
        entries = {record.id: record for record in records}
        pilot.put(self.last, SentBatch(entries, needs, expected, option.slowness, ends_at))
        self._index.touch(pilot)
        if (policy := self._notes.get(bool(needs.qpu))) is not None:
            policy.sent(records, expected, now)
        seconds = max(GIVE_BACK_FACTOR * expected, GIVE_BACK_SECONDS)
        if needs.qpu:
            seconds = max(seconds, DEVICE_GIVE_BACK_SECONDS)
        return events.SendBatch(pilot.id, self.last, needs, records, seconds, records[0].runs_alone)
