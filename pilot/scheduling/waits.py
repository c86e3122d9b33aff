"""What lanes wait for, so that later lanes do not take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pilot.resources import ROUNDING, Resources
from pilot.scheduling.fitting import misfit
from pilot.scheduling.index import Group, Index
from pilot.scheduling.lanes import Lane
from pilot.scheduling.pilot_records import BATCH_SECONDS, SLOWEST, TAKES_LONGER, PilotRecord
from pilot.scheduling.ranking import Way
from pilot.scheduling.records import TaskRecord

#: A task of unknown duration is over before a reservation begins when there is so many times the mean of its function.
SURELY_LONGER = 3.0


class Waits:
    """What the lanes wait for that were looked at since the last event, the most urgent first.

    While a lane waits for cores, later lanes do not take them: short tasks, which are sent ahead, would leave no slot
    to a long one, and tasks of one core none to one of two. Wide tasks reserve as many pilots as they need, the
    emptiest first; on these, tasks may run that leave the cores that are reserved, or are over by the time that the
    wide task can start. While a lane waits for GPUs or memory, this applies to lanes that need these.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        #: Groups of which a lane waits for all pilots.
        self._whole: set[Group] = set()
        #: What is waited for on a pilot, found when somebody asks, and by how many of the lanes that wait.
        self._held: dict[str, tuple[int, _Held]] = {}

    def add(self, lane: Lane, now: float) -> None:
        """This lane waits."""
        record, group = lane.head, lane.group
        needs = record.terms.resources
        some_gpus = reserved = None
        if needs.all_gpus > 1 and group.room_for_gpus > len(lane):
            lacking = (one for one in self._open(group, record, now) if one.lacks_gpus(needs))
            free = ((one, one.gpus, one.used_gpus) for one in lacking)
            some_gpus = {pilot.id for pilot, _ in _enough(free, needs.all_gpus, len(lane))}
        if needs.cores > 1 and group.room > len(lane):
            ready = self._open(group, record, now)
            if needs.num_gpus or needs.memory:
                ready = (one for one in ready if not one.lacks_gpus(needs) and not one.lacks_memory(needs))
            if self._waiting:
                ready = (one for one in ready if self._held_on(one, now).reservation is None)
            free = ((one, one.cores, one.used_cores) for one in ready)
            reserved = {pilot.id: count for pilot, count in _enough(free, needs.cores, len(lane))}
        self._waiting.append(_Waiting(group, record, some_gpus, reserved))
        if needs.cores <= 1 and not needs.num_gpus and not needs.memory and _all_in_time(group, record, now):
            self._whole.add(group)

    def _open(self, group: Group, record: TaskRecord, now: float) -> Iterator[PilotRecord]:
        """Pilots for which a task waits: not those that others wait for."""
        needs, pilots = record.terms.resources, group.pilots()
        if group.ending:
            pilots = (one for one in pilots if _in_time(one, record, now))
        if self._waiting:
            pilots = (one for one in pilots if not self._held_on(one, now).holds(record, needs))
        return pilots

    def holds(self, group: Group) -> bool:
        """True when a lane waits for all pilots of this group."""
        return group in self._whole

    def hold_all(self, index: Index) -> bool:
        """True when a lane waits for all active pilots."""
        return bool(self._whole) and any(len(group.ways) == len(index.pilots) for group in self._whole)

    def usable(
        self, record: TaskRecord, group: Group, now: float, before: Sequence[TaskRecord] = ()
    ) -> Callable[[Way], bool] | None:
        """Whether a task may take a way with room now; None: it may take all. ``before``: tasks of its lane that wait
        and are before it."""
        terms = record.terms
        is_free = bool(terms.resources.qpu) or not self._waiting
        if is_free and not before and not group.ending and not group.unsure:
            return None

        def may_take(way: Way) -> bool:
            pilot, needs, slowness = way.pilot, way.option.resources, way.option.slowness
            if pilot.ends_at is not None:
                if not pilot.has_time(terms, record.seconds, now, slowness):
                    return False
                if not pilot.has_ample_time(terms, now, slowness) and not pilot.has_credit(needs, 1):
                    return False
            if pilot.id in group.unsure and misfit(terms, pilot.offer) is not None:
                return False
            for other in before:
                if _in_time(pilot, other, now) and misfit(other.terms, pilot.offer) is None:
                    return False
            return is_free or self._held_on(pilot, now).leaves(record, needs, now)

        return may_take

    def _held_on(self, pilot: PilotRecord, now: float) -> _Held:
        """What the lanes wait for on this pilot."""
        seen, held = self._held.get(pilot.id, (0, _NOTHING))
        if seen < len(self._waiting):
            for waiting in self._waiting[seen:]:
                held = waiting.added_to(held, pilot, now)
            self._held[pilot.id] = (len(self._waiting), held)
        return held


class _Held(NamedTuple):
    """What is waited for on one pilot: all cores, GPUs, memory, or so many cores."""

    cores: bool = False
    gpus: bool = False
    memory: bool = False
    reservation: _Reservation | None = None

    def holds(self, record: TaskRecord, needs: Resources) -> bool:
        """True when a lane waits for any cores, or for what a task needs besides."""
        if self.cores:
            return True
        besides = (self.gpus and needs.num_gpus > 0) or (self.memory and needs.memory > 0)
        return besides and not record.terms.others

    def leaves(self, record: TaskRecord, needs: Resources, now: float) -> bool:
        """True when no lane waits for what a task would take."""
        if self.holds(record, needs):
            return False
        return self.reservation is None or self.reservation.leaves_room_for(record, needs, now)


_NOTHING = _Held()


class _Waiting(NamedTuple):
    """A lane that waits: for all pilots of its group, or for as many of them as its tasks need."""

    group: Group
    #: Its first task.
    record: TaskRecord
    #: Pilots whose GPUs it waits for, and with how many of its tasks it waits for a pilot's cores; None: all of them.
    some_gpus: set[str] | None
    reserved: dict[str, int] | None

    def added_to(self, held: _Held, pilot: PilotRecord, now: float) -> _Held:
        """What is waited for on this pilot by it, too."""
        record, needs = self.record, self.record.terms.resources
        if pilot.id not in self.group.ways or held.holds(record, needs) or not _in_time(pilot, record, now):
            return held
        lacks_gpus, lacks_memory = pilot.lacks_gpus(needs), pilot.lacks_memory(needs)
        if lacks_gpus or lacks_memory:
            waits_here = lacks_gpus and (self.some_gpus is None or pilot.id in self.some_gpus)
            return held._replace(gpus=held.gpus or waits_here, memory=held.memory or lacks_memory)
        if needs.cores <= 1:
            return held._replace(cores=True)
        if held.reservation is not None:
            return held
        count = _fitting(pilot.cores, needs.cores) if self.reserved is None else self.reserved.get(pilot.id, 0)
        return held._replace(reservation=_Reservation(pilot, needs.cores, count)) if count else held


class _Reservation:
    """Cores of a pilot for so many wide tasks."""

    def __init__(self, pilot: PilotRecord, width: float, count: int) -> None:
        self._pilot = pilot
        self._width = width
        self._cores = width * count

    def leaves_room_for(self, record: TaskRecord, needs: Resources, now: float) -> bool:
        """True when a narrower task may start there: beside the wide ones, or because it is over before them."""
        pilot = self._pilot
        sent = [batch for batch in pilot.sent.values() if batch.qpu not in pilot.devices]
        beside = sum(batch.cores for batch in sent if batch.cores < self._width)
        if beside + needs.cores <= pilot.cores - self._cores + ROUNDING:
            return True
        duration, seconds = record.terms.duration, record.seconds
        if duration is None and seconds is not None:
            duration = SURELY_LONGER * max(seconds * pilot.slowness, BATCH_SECONDS)
        return duration is not None and pilot.has_credit(needs, 1) and now + duration <= self._starts_at(now)

    def _starts_at(self, now: float) -> float:
        """When the first of the wide tasks can start, by what is expected of the others; now if that is not known."""
        free = self._pilot.cores - self._pilot.used_cores
        ends = sorted((batch.ends_at or 0.0, batch.cores) for batch in self._pilot.sent.values() if batch.cores)
        for ends_at, cores in ends:
            free += cores
            if free + ROUNDING >= self._width:
                return ends_at
        return now


def _enough(
    pilots: Iterable[tuple[PilotRecord, float, float]], width: float, tasks: int
) -> list[tuple[PilotRecord, int]]:
    """So many of these pilots, each with what it has and what is in use, that there is room for all tasks, the emptiest
    first, and the number of tasks on each."""
    found = []
    for pilot, have, _ in sorted(pilots, key=lambda one: (one[2] - one[1], one[0].number)):
        count = min(tasks, _fitting(have, width))
        found.append((pilot, count))
        tasks -= count
        if tasks <= 0:
            break
    return found


def _fitting(have: float, width: float) -> int:
    """How many tasks of this width there is room for; one, where it is more than one node has."""
    return max(1, int(have / width + ROUNDING))


def _in_time(pilot: PilotRecord, record: TaskRecord, now: float) -> bool:
    return pilot.has_time(record.terms, record.seconds, now)


def _all_in_time(group: Group, record: TaskRecord, now: float) -> bool:
    """True when a task can be finished on all pilots of the group."""
    if not group.ending:
        return True
    duration, seconds = record.terms.duration, record.seconds
    most = duration if duration is not None else SLOWEST * TAKES_LONGER * (seconds or 0.0)
    return group.first_end - now >= most or all(_in_time(pilot, record, now) for pilot in group.pilots())
