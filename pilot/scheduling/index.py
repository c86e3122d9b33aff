"""Which active pilots fit the queued tasks, and which of them have room: kept up to date, so that a decision looks
only at what has changed.

Pilots tell of changes: of what they have (`refit`), and of what they were sent (`touch`). Lanes whose tasks can run in
the same ways share a `Group`; a lane that no active pilot fits is not among the ordered lanes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from math import inf

import msgspec

from pilot.resources import ROUNDING, Option, Resources, Terms, rounded_up
from pilot.scheduling.fitting import concrete, misfit
from pilot.scheduling.lanes import Lane
from pilot.scheduling.pilot_records import PilotRecord
from pilot.scheduling.ranking import Ranking, Way

#: Changes that are remembered for groups that have not been looked at since.
MOST_CHANGES = 4096
#: Groups without lanes are kept until there are so many groups, or twice as many as are needed.
MOST_GROUPS = 1000
#: Numbers of a pilot's ways: its QPUs and other options.
MOST_WAYS = 1 << 12

_Key = tuple[int, int, Lane]


class Speeds:
    """Sums over the devices of a group: how fast they are, and what they have."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[float | None, float]] = {}
        self._unknown = 0
        self._rates = self._inverse = 0.0
        #: Weight of all that they have.
        self.weight = 0.0

    def update(self, way: Way, gone: bool = False) -> None:
        """What is known of a device has changed, or it is gone."""
        if (before := self._parts.pop(way.number, None)) is not None:
            self._add(*before, -1)
        if not gone:
            device = way.pilot.devices[way.option.resources.qpu]
            self._parts[way.number] = (device.rate, device.weight)
            self._add(device.rate, device.weight, 1)
        if not self._parts:  # sums of fractions are not exact
            self._rates = self._inverse = self.weight = 0.0

    def _add(self, rate: float | None, weight: float, sign: int) -> None:
        self.weight += sign * weight
        if rate is None:
            self._unknown += sign
        else:
            self._rates += sign * rate
            self._inverse += sign / rate

    @property
    def usual(self) -> float:
        """The mean rate of those that are measured, for those that are not."""
        known = len(self._parts) - self._unknown
        return self._rates / known if known else 1.0

    def part(self, rate: float) -> float:
        """The part of all work that a device of this rate does."""
        return (1 / rate) / (self._inverse + self._unknown / self.usual)


class Changes:
    """The pilots whose load has changed, the last ones in order."""

    def __init__(self) -> None:
        #: How many changes there were, and the last of them.
        self.count = 0
        self.last: list[PilotRecord] = []

    def add(self, pilot: PilotRecord) -> None:
        """What this pilot has to do, or how fast it is, has changed."""
        self.count += 1
        self.last.append(pilot)
        if len(self.last) > MOST_CHANGES:
            del self.last[: MOST_CHANGES // 2]

    def since(self, count: int) -> list[PilotRecord] | None:
        """The pilots that have changed since there were so many changes, once each; None: it is not known any more."""
        new = self.count - count
        if new == 1:
            return self.last[-1:]
        if new > len(self.last):
            return None
        return list({pilot.id: pilot for pilot in self.last[len(self.last) - new :]}.values())


class Group:
    """Lanes whose tasks fit the same pilots in the same ways, and the pilots that have room for them."""

    def __init__(self, terms: Terms, changes: Changes) -> None:
        """Make it, without pilots.

        Args:
            terms: what the tasks need, as `Terms.matched` says and without a priority.
            changes: of the pilots' loads.
        """
        self.terms = terms
        self.lanes: dict[Terms, Lane] = {}
        #: By pilot.
        self.ways: dict[str, list[Way]] = {}
        #: Pilots that may have too little memory for some of the tasks; pilots whose walltime ends.
        self.unsure: set[str] = set()
        self.ending: set[str] = set()
        #: Cores of all its pilots, and of each.
        self.cores = 0
        self._cores: dict[str, int] = {}
        self.speeds = Speeds()
        self._changes = changes
        self._taken = changes.count
        self._memory = terms.resources.memory
        self._rankings: dict[int, Ranking] = {}
        self._longest_queue: float | None = None
        self._first_end: float | None = None
        self._room: int | None = None
        self._room_for_gpus: int | None = None

    def refit(self, pilot: PilotRecord, active: bool) -> None:
        """What this pilot can run is different now."""
        gone = self.ways.pop(pilot.id, ())
        for way in gone:
            for ranking in self._rankings.values():
                ranking.remove(way.number)
            if way.option.resources.qpu:
                self.speeds.update(way, gone=True)
        self.unsure.discard(pilot.id)
        self.ending.discard(pilot.id)
        self.cores -= self._cores.pop(pilot.id, 0)
        self._longest_queue = self._first_end = None
        self._room = self._room_for_gpus = None
        if not active or misfit(self.terms, pilot.offer) is not None:
            return
        options = concrete(self.terms, pilot.offer)
        if not options:
            return
        self.ways[pilot.id] = [
            Way(pilot.number * MOST_WAYS + at, pilot, self._tuned(option)) for at, option in enumerate(options)
        ]
        self._cores[pilot.id] = pilot.cores
        self.cores += pilot.cores
        self._update(pilot)
        if self.terms.resources.memory and not self.terms.others:
            full = self._with_memory(rounded_up(self.terms.resources.memory))
            if misfit(msgspec.structs.replace(self.terms, resources=full), pilot.offer) is not None:
                self.unsure.add(pilot.id)
        if pilot.ends_at is not None:
            self.ending.add(pilot.id)

    def ranking(self, depth: int, memory: int) -> Ranking:
        """The ways with room for a task with this memory now; ``depth`` as in `PilotRecord.has_credit`."""
        self.look()
        if memory != self._memory and not self.terms.others:
            self._memory = memory
            self._rankings.clear()
            for ways in self.ways.values():
                ways[:] = [way._replace(option=self._tuned(way.option)) for way in ways]
        if (ranking := self._rankings.get(depth)) is None:
            ranking = self._rankings[depth] = Ranking(depth, (way for some in self.ways.values() for way in some))
        return ranking

    def look(self) -> None:
        """Take in what has changed since the last look."""
        taken, self._taken = self._taken, self._changes.count
        if taken == self._taken:
            return
        changed = self._changes.since(taken)
        if changed is None:
            self._rankings.clear()
            self.speeds = Speeds()
            changed = list(self.pilots()) if self.terms.resources.qpu else []
        for pilot in changed:
            self._update(pilot)

    def pilots(self) -> Iterator[PilotRecord]:
        """Those that fit."""
        return (ways[0].pilot for ways in self.ways.values())

    @property
    def first_end(self) -> float:
        """When the first walltime of a pilot is over."""
        if self._first_end is None:
            self._first_end = min((one.ends_at for one in self.pilots() if one.ends_at is not None), default=inf)
        return self._first_end

    @property
    def room(self) -> int:
        """How many of the tasks its pilots have cores for when nothing else runs, at least one on each."""
        if self._room is None:
            needs = self.terms.resources
            self._room = sum(max(1, int(one.cores / needs.cores + ROUNDING)) for one in self.pilots())
        return self._room

    @property
    def room_for_gpus(self) -> int:
        """The same for GPUs."""
        if self._room_for_gpus is None:
            needs = self.terms.resources
            self._room_for_gpus = sum(max(1, int(one.gpus / needs.all_gpus + ROUNDING)) for one in self.pilots())
        return self._room_for_gpus

    def longest_queue(self) -> float:
        """The longest time that a job waits in the queue of one of the devices."""
        if self._longest_queue is None:
            devices = (way.pilot.devices[way.option.resources.qpu] for ways in self.ways.values() for way in ways)
            self._longest_queue = max((device.queue for device in devices), default=0.0)
        return self._longest_queue

    def _update(self, pilot: PilotRecord) -> None:
        ways = self.ways.get(pilot.id)
        if not ways:
            return
        for ranking in self._rankings.values():
            ranking.update(ways)
        for way in ways:
            if way.option.resources.qpu:
                self.speeds.update(way)

    def _tuned(self, option: Option) -> Option:
        """The same with the memory of the next task."""
        if self.terms.others or option.resources.memory == self._memory:
            return option
        return msgspec.structs.replace(option, resources=self._with_memory(self._memory))

    def _with_memory(self, memory: int) -> Resources:
        return msgspec.structs.replace(self.terms.resources, memory=memory)

    # ---- checks ---------------------------------------------------------------------------------------------

    def validate(self, active: dict[str, PilotRecord]) -> None:
        """Raise AssertionError unless it is what a computation from nothing gives."""
        self.look()
        other = Group(self.terms, self._changes)
        other._memory = self._memory
        for pilot in active.values():
            other.refit(pilot, True)
        assert self.ways == other.ways, f"other pilots fit {self.terms} than the index has"
        assert (self.unsure, self.ending) == (other.unsure, other.ending), f"{self.terms}: pilots to be looked at"
        assert self.cores == other.cores, f"{self.terms}: {self.cores} cores, not {other.cores}"
        for depth, ranking in self._rankings.items():
            assert list(ranking) == list(other.ranking(depth, self._memory)), f"{self.terms}: others have room"
        for mine, right in ((self.speeds.usual, other.speeds.usual), (self.speeds.weight, other.speeds.weight)):
            assert abs(mine - right) <= 1e-6 * max(1.0, abs(right)), f"{self.terms}: sums over devices: {mine}, {right}"


class Index:
    """The groups, and the lanes that active pilots fit, in order."""

    def __init__(self) -> None:
        #: The active pilots, by id.
        self.pilots: dict[str, PilotRecord] = {}
        #: How often it has changed what pilots there are, and what they have.
        self.version = 0
        self.changes = Changes()
        #: The pilots with a device that takes another batch now.
        self.with_open_devices: set[str] = set()
        self._groups: dict[Terms, Group] = {}
        #: By a lane's terms, with its priority.
        self._group_of: dict[Terms, Group] = {}
        self._most_groups = MOST_GROUPS
        #: Lanes by priority, then by their first task: for slots, and for devices.
        self._order: dict[bool, list[_Key]] = {False: [], True: []}

    # ---- pilots ---------------------------------------------------------------------------------------------

    def pilots_changed(self) -> None:
        """Other pilots than before can, or may, run tasks."""
        self.version += 1

    def touch(self, pilot: PilotRecord) -> None:
        """What this pilot has to do, or how fast it is, has changed."""
        self.changes.add(pilot)
        if pilot.devices:
            self._note_devices(pilot)

    def _note_devices(self, pilot: PilotRecord) -> None:
        if pilot.id in self.pilots:
            for device in pilot.devices.values():
                if device.has_room:
                    self.with_open_devices.add(pilot.id)
                    return
        self.with_open_devices.discard(pilot.id)

    def refit(self, pilot: PilotRecord, active: bool) -> None:
        """What this pilot has, or whether it is active, has changed."""
        self.version += 1
        if active:
            self.pilots[pilot.id] = pilot
        elif self.pilots.pop(pilot.id, None) is None:
            return
        self._note_devices(pilot)
        for group in self._groups.values():
            before = bool(group.ways)
            group.refit(pilot, active)
            if bool(group.ways) != before:
                for lane in group.lanes.values():
                    self.moved(lane)

    # ---- lanes ----------------------------------------------------------------------------------------------

    def add(self, lane: Lane) -> None:
        """A lane, which is empty."""
        group = self._group_of.get(lane.terms)
        if group is None:
            terms = lane.terms if not lane.terms.priority else msgspec.structs.replace(lane.terms, priority=0)
            group = self._groups.get(terms)
            if group is None:
                self._drop_unused()
                group = self._groups[terms] = Group(terms, self.changes)
                for pilot in self.pilots.values():
                    group.refit(pilot, True)
            self._group_of[lane.terms] = group
        lane.group = group
        group.lanes[lane.terms] = lane

    def remove(self, lane: Lane) -> None:
        """A lane is gone."""
        self._place(lane, None)
        del lane.group.lanes[lane.terms]

    def moved(self, lane: Lane) -> None:
        """The first task of a lane may be another one. It has one."""
        self._place(lane, (-lane.terms.priority, lane.head.id, lane) if lane.group.ways else None)

    def lanes(self, for_devices: bool) -> list[_Key]:
        """The lanes that an active pilot fits, with their keys, in order. It changes as tasks are taken."""
        return self._order[for_devices]

    def clear(self) -> None:
        """All lanes are gone."""
        for order in self._order.values():
            order.clear()
        for group in self._groups.values():
            group.lanes.clear()

    def _place(self, lane: Lane, key: _Key | None) -> None:
        order = self._order[lane.is_for_devices]
        if lane.key is not None:
            if len(order) == 1 and key is not None:
                order[0] = lane.key = key
                return
            del order[bisect_left(order, lane.key)]
        lane.key = key
        if key is not None:
            insort(order, key)

    def _drop_unused(self) -> None:
        if len(self._groups) >= self._most_groups:
            self._groups = {terms: group for terms, group in self._groups.items() if group.lanes}
            self._group_of = {terms: group for terms, group in self._group_of.items() if group.lanes}
            self._most_groups = max(MOST_GROUPS, 2 * len(self._groups))

    # ---- checks ---------------------------------------------------------------------------------------------

    def validate(self, active: dict[str, PilotRecord], lanes: dict[Terms, Lane]) -> None:
        """Raise AssertionError unless it agrees with these pilots and lanes."""
        assert self.pilots == active, "other pilots are active than the index has"
        rooms = {id: any(device.has_room for device in pilot.devices.values()) for id, pilot in active.items()}
        assert self.with_open_devices == {id for id, room in rooms.items() if room}, "other devices have room"
        for group in self._groups.values():
            group.validate(active)
        for for_devices, order in self._order.items():
            fit = [lane for lane in lanes.values() if lane.group.ways and lane.is_for_devices is for_devices]
            right = sorted((-lane.terms.priority, lane.head.id) for lane in fit)
            assert [key[:2] for key in order] == right, "lanes are out of order"
