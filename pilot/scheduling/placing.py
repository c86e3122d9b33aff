"""Which tasks are sent now, where, and how many at a time.

Lanes are taken by priority, then by their first task. A batch is cut off the front of one when a pilot that fits
has credit for it (`Batches`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pilot.errors import ErrorCode, PluginError
from pilot.interfaces import Candidate, Policy
from pilot.resources import Option, Terms
from pilot.scheduling.batches import Batches, Reason, goes_with
from pilot.scheduling.complaints import complaint
from pilot.scheduling.events import Command
from pilot.scheduling.index import Index
from pilot.scheduling.lanes import Lane
from pilot.scheduling.lookahead import Lookahead
from pilot.scheduling.pilot_records import (
    PilotRecord,
    depth_of,
)
from pilot.scheduling.queue import TaskQueue
from pilot.scheduling.ranking import Way
from pilot.scheduling.records import Chosen, TaskRecord
from pilot.scheduling.waits import Waits

if TYPE_CHECKING:
    from pilot.scheduling.planning import Planner

#: Tasks for devices that queue their jobs are gathered until none has come for this part of the queue's seconds, and at
#: most for so many.
LINGER, LINGER_SECONDS = 0.1, 0.25


class Placer:
    """Takes batches from the lanes for pilots. It alone decides where a task goes; it asks the policy.

    A policy that raises, or returns something invalid, fails the tasks that it was asked about, and nothing else.
    """

    def __init__(
        self,
        policy: Policy,
        queue: TaskQueue,
        index: Index,
        qpu_policy: Policy | None = None,
        may_come: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make it.

        Args:
            policy: for cores, and for QPUs unless there is another one for these.
            queue: of the tasks.
            index: of the pilots that fit.
            qpu_policy: for QPUs.
            may_come: True while a pilot is on its way.
        """
        self._queue = queue
        self._index = index
        #: By whether tasks are for devices.
        self._policies = {False: policy, True: qpu_policy or policy}
        self.batches = Batches(index, self._policies)
        #: Where it takes the pilot that is done first, which the index knows.
        self._is_balanced = {key: type(one).choose is Policy.choose for key, one in self._policies.items()}
        #: Where lanes are sorted by the policy. A planner sorts the tasks for devices itself.
        self._has_order = {key: type(one).order is not Policy.order for key, one in self._policies.items()}
        #: What the policy's `order` gave last for each queued task, by id.
        self._orders: dict[int, Any] = {}
        #: For a policy with `assign`; None: the policy has none, and NumPy is not needed.
        self._planner: Planner | None = None
        if type(self._policies[True]).assign is not Policy.assign:
            from pilot.scheduling.planning import Planner

            self._planner = Planner(self._policies[True], queue, index, self.batches, may_come)
            queue.has_planner = True
            self._has_order[True] = False
        self._lookahead = Lookahead(queue, index, self.batches) if policy.looks_ahead else None

    def place(self, now: float, commands: list[Command]) -> None:
        """Send batches as long as a lane has tasks and a pilot that fits has credit.

        What lanes wait for, later lanes do not take (`Waits`). A lane that waits for a device stops no other.
        """
        self._orders.clear()
        for for_devices, has_order in self._has_order.items():
            if has_order:
                self._sort_lanes(for_devices, now, commands)
        waits = Waits()
        if self._index.lanes(False):
            self._place_on_cores(waits, now, commands)
        if self._planner is not None:
            self._planner.place(now, commands)
        elif self._has_order[True]:
            self._place_by_policy(True, waits, now, commands)
        elif self._index.lanes(True):
            for lane in self._in_order(True):
                if not self._index.with_open_devices:
                    break
                if not self._gathers(lane, now):
                    self._send_off(lane, waits, now, commands)

    def _place_on_cores(self, waits: Waits, now: float, commands: list[Command]) -> None:
        if self._policies[False].is_strict:
            self._place_strictly(waits, now, commands)
        elif self._has_order[False]:
            self._place_by_policy(False, waits, now, commands)
        elif self._lookahead is None or not self._lookahead.place(now, commands):
            self._place_in_order(waits, now, commands)

    @property
    def has_queued(self) -> bool:
        """True while tasks wait in the queues of QPUs, and may be assigned again."""
        return self._planner is not None and self._planner.has_queued

    def _place_in_order(self, waits: Waits, now: float, commands: list[Command]) -> None:
        for lane in self._in_order(False):
            if waits.holds(lane.group):
                continue
            self._send_off(lane, waits, now, commands)
            if self._all_wait(lane, waits, now):
                break

    def _place_by_policy(self, for_devices: bool, waits: Waits, now: float, commands: list[Command]) -> None:
        """The policy's first task of all lanes is next, until each lane is empty or waits. So it does not matter
        whether what happens at one time is placed at once or one after another."""
        order = [(self._key(lane), lane) for lane in self._in_order(for_devices)]  # sorted, as the lanes are
        at = 0
        while at < len(order):
            lane = order[at][1]
            if for_devices and not self._index.with_open_devices:
                break
            if self._gathers(lane, now) if for_devices else waits.holds(lane.group):
                at += 1
                continue
            until = order[at + 1][0] if at + 1 < len(order) else None
            if self._send_off(lane, waits, now, commands, until):
                at += 1
                if not for_devices and self._all_wait(lane, waits, now):
                    break
                continue
            del order[at]
            if lane:
                insort(order, (self._key(lane), lane))

    def _all_wait(self, lane: Lane, waits: Waits, now: float) -> bool:
        """Note that this lane waits, if it has tasks; True: nothing is left for later lanes."""
        if not lane or len(self._queue.lanes) <= 1:
            return False
        waits.add(lane, now)
        return waits.hold_all(self._index)

    def _key(self, lane: Lane) -> tuple[Any, int]:
        """The place of a lane's first task in the policy's order."""
        return self._orders[lane.head.id], lane.head.id

    def _in_order(self, for_devices: bool) -> Iterator[Lane]:
        """The lanes that an active pilot fits, each once. Their order may change meanwhile, as tasks are taken."""
        if self._has_order[for_devices]:
            lanes = [lane for lane in self._queue.lanes.values() if lane.group.ways]
            yield from (lane for lane in lanes if lane and lane.is_for_devices is for_devices)
            return
        seen: set[Lane] = set()
        order, at = self._index.lanes(for_devices), 0
        while at < len(order):
            lane = order[at][2]
            if lane in seen:
                at += 1
                continue
            seen.add(lane)
            yield lane

    # ---- the policy -----------------------------------------------------------------------------------------

    def _sort_lanes(self, for_devices: bool, now: float, commands: list[Command]) -> None:
        """Each lane of this kind in the policy's order, the lanes by their first tasks; empty ones are removed."""
        policy, lanes = self._policies[for_devices], self._queue.lanes
        mine = [lane for lane in lanes.values() if lane.is_for_devices is for_devices]
        failed, why, keyed = list[TaskRecord](), "", []
        for lane in mine:
            for record in lane:
                try:
                    keyed.append((policy.order(record, now), record.id, lane, record))
                except BaseException as error:
                    failed.append(record)
                    why = why or complaint(policy, "order", error)
        try:
            keyed.sort(key=itemgetter(0, 1))
        except BaseException as error:  # keys that cannot be compared
            failed += [record for *_, record in keyed]
            why, keyed = complaint(policy, "order", error), []
        if failed:
            self._queue.fail_queued(failed, ErrorCode.PLUGIN_ERROR, why, commands)
        self._orders.update((record.id, order) for order, _, _, record in keyed)
        ordered = dict[Lane, list[TaskRecord]]()
        for *_, lane, record in keyed:
            ordered.setdefault(lane, []).append(record)
        for lane in mine:
            lanes.pop(lane.terms, None)
        for lane, records in ordered.items():
            lane.reorder(records)
            lanes[lane.terms] = lane
            self._index.moved(lane)

    def _place_strictly(self, waits: Waits, now: float, commands: list[Command]) -> None:
        """Send tasks for cores in the policy's order, until the next one has to wait."""
        policy = self._policies[False]
        while lanes := [lane for lane in self._in_order(False) if lane.group.ways]:
            heads = [lane.head for lane in lanes]
            try:
                record, lane = min(
                    zip(heads, lanes, strict=True), key=lambda one: (policy.order(one[0], now), one[0].id)
                )
            except BaseException as error:
                why = complaint(policy, "order", error)
                self._queue.fail_queued(heads, ErrorCode.PLUGIN_ERROR, why, commands)
                continue
            try:
                found = self._choose(record, lane, waits, now)
            except PluginError as error:
                self._queue.fail_queued([record], ErrorCode.PLUGIN_ERROR, str(error), commands)
                continue
            if found is None:
                return
            lane.remove((record,))
            commands.append(self.batches.single(record, lane, *found, now))
            self._queue.lane_changed(lane)

    def _ask(self, terms: Terms, candidates: list[Candidate]) -> tuple[Candidate, str]:
        policy = self._policies[bool(terms.resources.qpu)]
        try:
            choice, reason = policy.choose(terms, candidates)
            if choice not in candidates:
                raise PluginError(f"{complaint(policy, 'choose')} returned {choice!r}, which is no candidate")
            return choice, str(reason)
        except PluginError:
            raise
        except BaseException as error:
            raise PluginError(complaint(policy, "choose", error)) from error

    # ---- lanes ----------------------------------------------------------------------------------------------

    def _gathers(self, lane: Lane, now: float) -> bool:
        """True while tasks for devices that queue their jobs still come in: they go out together then."""
        since = now - lane.last_arrival
        return since < LINGER_SECONDS and since < LINGER * lane.group.longest_queue()

    def _send_off(
        self,
        lane: Lane,
        waits: Waits,
        now: float,
        commands: list[Command],
        until: tuple[Any, int] | None = None,
    ) -> bool:
        """Batches off the front of a lane, as long as pilots have credit.

        Args:
            lane: the lane.
            waits: what lanes before it wait for.
            now: seconds by a clock that never steps.
            commands: what to do.
            until: the `_key` of the next lane; none is sent after the lane's first task is behind that.

        Returns:
            True where its first task has to wait.
        """
        failed: list[TaskRecord] = []
        why, sent, blocked = "", False, False
        while lane and (until is None or self._key(lane) <= until):
            record = lane.head
            try:
                found = self._choose(record, lane, waits, now)
                if found is None and self._may_skip(lane):
                    record, found = self._choose_later(lane, waits, now)
            except PluginError as error:
                failed.append(lane.pop())
                why = str(error)
                continue
            if found is None:
                blocked = True
                break
            sent = True
            way, reason = found
            if record is not lane.head:
                lane.remove((record,))
                commands.append(self.batches.single(record, lane, way, reason, now))
            elif way.option.resources.qpu:
                lanes = [lane, *self._sharing(lane, way, waits, now)]
                commands.append(self.batches.cut_for_device(lanes, way, reason, now))
                for other in lanes[1:]:
                    self._queue.lane_changed(other)
            else:
                commands.append(self.batches.cut(lane, way, reason, now))
        if failed:
            self._queue.fail(failed, ErrorCode.PLUGIN_ERROR, why, commands)
        if sent or failed:
            self._queue.lane_changed(lane)
        return blocked

    def _sharing(self, lane: Lane, way: Way, waits: Waits, now: float) -> list[Lane]:
        """Lanes whose first tasks go the same way, and may share the device with those of this lane."""
        if not lane.terms.shares_qpu:
            return []
        found = []
        for other in [other for *_, other in self._index.lanes(True) if other is not lane]:
            if not goes_with(lane.head, other.head):
                continue
            try:
                its = self._choose(other.head, other, waits, now)
            except PluginError:  # it fails when it is its own turn
                continue
            if its is not None and its[0].pilot is way.pilot and its[0].option == way.option:
                found.append(other)
        return found

    def _may_skip(self, lane: Lane) -> bool:
        """True when a later task of the lane may run where its first one has too little time or memory."""
        return bool((lane.group.ending and lane.shortest < lane.longest) or lane.group.unsure)

    def _choose_later(self, lane: Lane, waits: Waits, now: float) -> tuple[TaskRecord, tuple[Way, Reason] | None]:
        """The first task of the lane that can go now, though those before it cannot."""
        waiting: dict[Terms, TaskRecord] = {}
        for record in lane:
            if record.terms not in waiting:
                found = self._choose(record, lane, waits, now, list(waiting.values()))
                if found is not None:
                    return record, found
                waiting[record.terms] = record
        return lane.head, None

    def _choose(
        self, record: TaskRecord, lane: Lane, waits: Waits, now: float, before: Sequence[TaskRecord] = ()
    ) -> tuple[Way, Reason] | None:
        """Where a task goes now, with what resources, and why; None: it waits. It does not go where one of those
        ``before`` it in the lane can run."""
        group, needs, seconds = lane.group, record.terms.resources, record.seconds
        if record.terms.others:
            return self._choose_option(record, lane, waits, now, before)
        ranking = group.ranking(depth_of(needs, seconds), needs.memory)
        if not ranking:
            return None
        is_usable = waits.usable(record, group, now, before)
        if self._is_balanced[lane.is_for_devices]:
            best = ranking.first_done(seconds or 0.0, is_usable)
            if best is None:
                return None
            return best[1], Chosen(best[1].pilot.name, best[1].option, best[0], len(ranking))
        ways = sorted((way for way in ranking if is_usable is None or is_usable(way)), key=itemgetter(0))
        if not ways:
            return None
        candidates = [way.pilot.candidate(way.option, seconds) for way in ways]
        choice, reason = self._ask(record.terms, candidates)
        return ways[candidates.index(choice)], reason

    def _choose_option(
        self, record: TaskRecord, lane: Lane, waits: Waits, now: float, before: Sequence[TaskRecord]
    ) -> tuple[Way, Reason] | None:
        """The same for a task that can run with different resources."""
        seconds, is_usable = record.seconds, waits.usable(record, lane.group, now, before)
        every = sorted((way for some in lane.group.ways.values() for way in some), key=itemgetter(0))
        ways = [
            way
            for way in every
            if _is_free(way.pilot, record, way.option, now) and (is_usable is None or is_usable(way))
        ]
        if not ways:
            return None
        candidates = [way.pilot.candidate(way.option, seconds) for way in ways]
        choice, reason = self._ask(record.terms, candidates)
        if not record.terms.resources.qpu and seconds is not None:
            everywhere = [way.pilot.candidate(way.option, seconds) for way in every]
            if self._ask(record.terms, everywhere)[0] not in candidates:
                return None  # what is busy now will still be done with it first
        return ways[candidates.index(choice)], reason


def _is_free(pilot: PilotRecord, record: TaskRecord, option: Option, now: float) -> bool:
    """True when a batch may be sent now: there is credit for it, and time enough to finish it."""
    ahead = pilot.has_ample_time(record.terms, now, option.slowness)
    depth = depth_of(option.resources, record.seconds, ahead)
    return pilot.has_credit(option.resources, depth) and pilot.has_time(
        record.terms, record.seconds, now, option.slowness
    )
