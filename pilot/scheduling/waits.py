"""What lanes wait for, so that later lanes do not take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pilot.resources import ROUNDING, Resources
from pilot.scheduling.fitting import misfit
from pilot.scheduling.index import Group, Index
from pilot.scheduling.lanes import Lane
from pilot.scheduling.pilot_records import BATCH_SECONDS, SLOWEST, TAKES_LONGER, PilotRecord
from pilot.scheduling.ranking import Way
from pilot.scheduling.records import TaskRecord


class Waits:
    """What the lanes wait for that were looked at since the last event, the most urgent first.

    While a lane waits for cores, later lanes do not take them: short tasks, which are sent ahead, would leave no slot
    to a long one, and tasks of one core none to one of two. Wide tasks reserve as many pilots as they need, the
    emptiest first; on these, tasks may run that leave the cores that are reserved, or are over by the time that the
    wide task can start. While a lane waits for GPUs or memory, this applies to lanes that need these.
    """

    def __init__(self) -> None:
        #: Groups with the task that waits for any of their pilots.
        self._groups: list[tuple[Group, TaskRecord]] = []
        self._whole: set[Group] = set()
        self._pilots: set[str] = set()
        self._reserved: dict[str, _Reservation] = {}
        self._gpus: set[str] = set()
        self._memory: set[str] = set()

    def add(self, lane: Lane, now: float) -> None:
        """This lane waits."""
        record, group = lane.head, lane.group
        needs = record.terms.resources
        if needs.cores <= 1 and not needs.num_gpus and not needs.memory:
            self._groups.append((group, record))
            if _all_in_time(group, record, now):
                self._whole.add(group)
            return
        timely = [
            pilot
            for pilot in group.pilots()
            if _in_time(pilot, record, now) and not self._is_held(pilot, record, needs, now)
        ]
        without_gpus = [pilot for pilot in timely if pilot.lacks_gpus(needs)]
        without_memory = [pilot for pilot in timely if pilot.lacks_memory(needs)]
        if needs.all_gpus > 1:
            some = ((pilot, pilot.gpus, pilot.used_gpus) for pilot in without_gpus)
            without_gpus = [pilot for pilot, _ in _enough(some, needs.all_gpus, len(lane))]
        self._gpus.update(pilot.id for pilot in without_gpus)
        self._memory.update(pilot.id for pilot in without_memory)
        waited_for = [pilot for pilot in timely if not pilot.lacks_gpus(needs) and not pilot.lacks_memory(needs)]
        if needs.cores <= 1:
            self._pilots.update(pilot.id for pilot in waited_for)
            return
        free = ((one, one.cores, one.used_cores) for one in waited_for if one.id not in self._reserved)
        for pilot, count in _enough(free, needs.cores, len(lane)):
            self._reserved[pilot.id] = _Reservation(pilot, needs.cores, count)

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
        is_free = terms.resources.qpu or not (
            self._groups or self._pilots or self._reserved or self._gpus or self._memory
        )
        if is_free and not before and not group.ending and not group.unsure:
            return None

        def may_take(way: Way) -> bool:
            pilot, needs = way.pilot, way.option.resources
            if pilot.ends_at is not None:
                if not pilot.has_time(terms, record.seconds, now):
                    return False
                if not pilot.has_ample_time(terms, now) and not pilot.has_credit(needs, 1):
                    return False
            if pilot.id in group.unsure and misfit(terms, pilot.offer) is not None:
                return False
            for other in before:
                if _in_time(pilot, other, now) and misfit(other.terms, pilot.offer) is None:
                    return False
            return bool(is_free) or self._leaves(pilot, record, needs, now)

        return may_take

    def _leaves(self, pilot: PilotRecord, record: TaskRecord, needs: Resources, now: float) -> bool:
        """True when no lane waits for what a task would take."""
        if self._is_held(pilot, record, needs, now):
            return False
        reservation = self._reserved.get(pilot.id)
        return reservation is None or reservation.leaves_room_for(record, needs, now)

    def _is_held(self, pilot: PilotRecord, record: TaskRecord, needs: Resources, now: float) -> bool:
        """True when a lane waits for any cores of a pilot, or for what a task needs besides."""
        if pilot.id in self._pilots:
            return True
        if not record.terms.others and (
            (needs.num_gpus and pilot.id in self._gpus) or (needs.memory and pilot.id in self._memory)
        ):
            return True
        return any(pilot.id in group.ways and _in_time(pilot, waiting, now) for group, waiting in self._groups)


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
            duration = TAKES_LONGER * max(seconds * pilot.slowness, BATCH_SECONDS)
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
        count = min(tasks, max(1, int(have / width + ROUNDING)))
        found.append((pilot, count))
        tasks -= count
        if tasks <= 0:
            break
    return found


def _in_time(pilot: PilotRecord, record: TaskRecord, now: float) -> bool:
    return pilot.has_time(record.terms, record.seconds, now)


def _all_in_time(group: Group, record: TaskRecord, now: float) -> bool:
    """True when a task can be finished on all pilots of the group."""
    if not group.ending:
        return True
    duration, seconds = record.terms.duration, record.seconds
    most = duration if duration is not None else SLOWEST * TAKES_LONGER * (seconds or 0.0)
    return group.first_end - now >= most or all(_in_time(pilot, record, now) for pilot in group.pilots())
