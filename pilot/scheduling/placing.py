"""Which tasks go out now, where, and how many at a time.

Lanes are looked at by priority, then by their first task. A batch is cut off the front of one when a pilot that fits
has credit for it. How many tasks make a batch follows from what they are expected to take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from pilot.interfaces import Policy
from pilot.resources import Option, Terms
from pilot.scheduling import events
from pilot.scheduling.fitting import concrete, misfit
from pilot.scheduling.records import BATCH_SECONDS, PATIENCE, PATIENCE_SECONDS, PilotRecord, SentBatch, TaskRecord
from pilot.states import TaskState

#: Tasks in a batch at most.
BATCH_TASKS = 1000
#: The end of a lane is cut in batches of no less work than this (seconds), however many slots there are.
SMALLEST_BATCH_SECONDS = 0.002
#: A device gets half of its share of the work at a time while a job waits for less than this part of the time that
#: the share takes.
CHEAP_WAIT = 0.05
#: Tasks for devices that queue their jobs are gathered until none has come for this part of the queue's seconds, and at
#: most for so many.
LINGER, LINGER_SECONDS = 0.1, 0.25
#: A device gives back what it has not begun no sooner than this.
DEVICE_PATIENCE_SECONDS = 60.0


class Placer:
    """Cuts batches off lanes for pilots. It alone says where a task goes."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        #: When a task for devices came last, by lane.
        self._arrived: dict[Terms, float] = {}
        #: Number of the last batch.
        self.batch = 0

    def arrived(self, terms: Terms, now: float) -> None:
        """A new task is in this lane."""
        if terms.resources.qpu:
            self._arrived[terms] = now

    def place(
        self, lanes: dict[Terms, deque[TaskRecord]], pilots: Sequence[PilotRecord], now: float, commands: list[Any]
    ) -> None:
        """Send batches as long as a lane has tasks and a pilot that fits has credit; lanes that run empty are removed.

        A lane that waits for cores keeps those behind it from taking them: short tasks, which are sent ahead, would
        leave no slot to a long one, and tasks of one core none to one of two. One that waits for GPUs does so to those
        that need GPUs. One that waits for a device keeps nobody from anything.
        """
        waiting = [(terms, lane) for terms, lane in lanes.items() if lane]
        waiting.sort(key=lambda item: (-item[0].priority, item[1][0].id))
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
                self._arrived.pop(terms, None)
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

    def _gathers(self, terms: Terms, fitting: list[PilotRecord], now: float) -> bool:
        """True while tasks for devices that queue their jobs still come in: they go out together then."""
        devices = (one.devices[way.resources.qpu] for one in fitting for way in concrete(terms, one.capacity(now)))
        waits = [device.queue for device in devices]
        linger = min(LINGER * max(waits, default=0.0), LINGER_SECONDS)
        return now - self._arrived.get(terms, float("-inf")) < linger

    def _send_off(
        self, lane: deque[TaskRecord], terms: Terms, fitting: list[PilotRecord], now: float, commands: list[Any]
    ) -> None:
        """Batches off the front of a lane, as long as these pilots have credit."""
        cores = -1.0
        while lane and fitting:
            choice = self._choose(lane[0], terms, fitting, now)
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

    def _choose(
        self, entry: TaskRecord, terms: Terms, fitting: list[PilotRecord], now: float
    ) -> tuple[PilotRecord, Option, str] | None:
        """Where the next task of a lane goes now, and with what; None: it waits."""
        seconds, needs = entry.seconds, terms.resources
        if not terms.others and not needs.qpu:
            only = Option(needs)
            free = {pilot.id: pilot for pilot in fitting if pilot.is_free(terms, needs, seconds, now)}
            if not free:
                return None
            choice, reason = self._policy.choose(terms, [pilot.candidate(only, seconds) for pilot in free.values()])
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
        choice, reason = self._policy.choose(terms, candidates)
        if terms.others and not needs.qpu and seconds is not None:
            everywhere = [pilot.candidate(option, seconds) for pilot, option in ways]
            if self._policy.choose(terms, everywhere)[0] not in candidates:
                return None  # what is busy now will still be done with it first
        return free[choice.id], choice.option, reason

    def _cut(
        self, lane: deque[TaskRecord], pilot: PilotRecord, option: Option, slots: float, most: int, reason: str
    ) -> events.SendBatch:
        """A batch off the front of the lane: about `BATCH_SECONDS` of work, less when the lane runs out."""
        share = -(-len(lane) // max(1, int(2 * slots)))
        slowness = pilot.slowness * option.slowness
        total, entries = 0.0, list[TaskRecord]()
        while lane and len(entries) < most:
            entry = lane[0]
            seconds = entry.seconds
            if entries:
                if seconds is None or entry.suspect or entries[0].suspect:
                    break  # alone: not known yet how long it takes, or its last worker died
                after = (total + seconds) * slowness
                if after > BATCH_SECONDS or (len(entries) >= share and after > SMALLEST_BATCH_SECONDS):
                    break
            total += seconds or 0.0
            entries.append(lane.popleft())
        return self._send(entries, pilot, option, total * slowness, reason)

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
        share = part * (sum(entry.weight for entry in lane) + sum(one.weight for one in others)) - device.weight
        if device.queue < CHEAP_WAIT * share * rate:
            share /= 2
        most = min(BATCH_TASKS, device.info.max_circuits or BATCH_TASKS)
        weight, entries = 0.0, list[TaskRecord]()
        while lane and len(entries) < most:
            entry = lane[0]
            if entries and (weight + entry.weight / 2 > share or entry.suspect or entries[0].suspect):
                break
            weight += entry.weight
            entries.append(lane.popleft())
        return self._send(entries, pilot, option, weight * rate, reason)

    def _send(
        self, entries: list[TaskRecord], pilot: PilotRecord, option: Option, expected: float, reason: str
    ) -> events.SendBatch:
        self.batch += 1
        for entry in entries:
            entry.state = TaskState.BOUND
            entry.pilot = pilot.id
            entry.batch = self.batch
            entry.reason = reason
        needs = option.resources
        pilot.put(self.batch, SentBatch({entry.id: entry for entry in entries}, needs, expected, option.slowness))
        patience = max(PATIENCE * expected, PATIENCE_SECONDS)
        if needs.qpu:
            patience = max(patience, DEVICE_PATIENCE_SECONDS)
        return events.SendBatch(pilot.id, self.batch, needs, entries, patience, entries[0].suspect)
