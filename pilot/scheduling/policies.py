"""The policies of the library: which pilot gets a batch, and when to request pilots and give them back.

The time comes with each call, and no policy keeps tasks or pilots that it is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import msgspec

from pilot.descriptions import PilotDescription
from pilot.errors import invalid
from pilot.interfaces import Policy, QueuedTask
from pilot.times import TIMES, seconds_of

#: After so many failures in a row of pilots that were not active yet, no more are requested.
FAILED_STARTS = 3
#: After a pilot was given back, so many times the backlog is a reason to request one without waiting.
URGENT = 2.0


class Balanced(Policy):
    """By priority, then by submission; the pilot on which the work is expected to be finished first."""


class Makespan(Policy):
    """The same, but a short queue of tasks that are known well is planned as a whole, so that it is over first: at the
    end of a campaign, or with few long tasks of different needs. Its tasks do not keep the order of submission."""

    looks_ahead = True


# ---- orders ----------------------------------------------------------------------------------------------------


class FirstComeFirstServed(Policy):
    """By submission, without regard to priorities."""

    def __init__(self, strict: bool = False) -> None:
        """Make it.

        Args:
            strict: no task for cores starts before one that was submitted earlier, even where there is room for it.
        """
        if not isinstance(strict, bool):
            raise ValueError(f"strict: {strict!r} is not valid; expected True or False")
        self.is_strict = strict

    def order(self, task: QueuedTask, now: float) -> Any:
        return task.arrived, task.id


class HighestResponseRatio(Policy):
    """By `(wait + run time) / run time`, the highest first (HRRN): short tasks first, but no task waits for ever."""

    def __init__(self, unknown: float = 1.0) -> None:
        """Make it.

        Args:
            unknown: seconds that tasks of unknown length count as.
        """
        self._unknown = _positive("unknown", unknown)

    def order(self, task: QueuedTask, now: float) -> Any:
        seconds = max(_length(task, self._unknown), 1e-9)
        return -(now - task.arrived + seconds) / seconds


class HighestPriority(Policy):
    """By priority, which grows while a task waits; among equals by submission."""

    def __init__(self, ageing: float = 0.0) -> None:
        """Make it.

        Args:
            ageing: by how much a priority grows in an hour; 0: tasks of low priority may wait for ever.
        """
        self._ageing = _positive("ageing", ageing, zero=True)

    def order(self, task: QueuedTask, now: float) -> Any:
        return -task.terms.priority - self._ageing * (now - task.arrived) / 3600.0, task.id


class ShortestFirst(Policy):
    """By run time, the shortest first."""

    def __init__(self, unknown: float = 1.0, ageing: float = 0.0) -> None:
        """Make it.

        Args:
            unknown: seconds that tasks of unknown length count as.
            ageing: seconds that a task counts less for each second that it has waited; 0: long ones may wait for ever.
        """
        self._unknown = _positive("unknown", unknown)
        self._ageing = _positive("ageing", ageing, zero=True)

    def order(self, task: QueuedTask, now: float) -> Any:
        return _length(task, self._unknown) - self._ageing * (now - task.arrived), task.id


class FairShare(Policy):
    """By what tasks of the same name have used, the least first; a name stands for a user, a project or a job class."""

    def __init__(self, half_life: float = 3600.0, shares: Mapping[str, float] | None = None) -> None:
        """Make it.

        Args:
            half_life: seconds after which what was used counts half.
            shares: by name, how much it may use in proportion to others; 1 for names that are not in it.
        """
        self._half_life = _positive("half_life", half_life)
        if not isinstance(shares, Mapping | None):
            raise ValueError(f"shares: {shares!r} is not valid; expected numbers by name, such as {{'ada': 2.0}}")
        self._shares = {name: _positive(f"shares[{name!r}]", share) for name, share in (shares or {}).items()}
        #: By name: seconds used, and when that was so.
        self._used: dict[str, tuple[float, float]] = {}

    def order(self, task: QueuedTask, now: float) -> Any:
        return self._use(task.title, now) / self._shares.get(task.title, 1.0), task.id

    def sent(self, tasks: Sequence[QueuedTask], seconds: float, now: float) -> None:
        lengths = [_length(task, 0.0) for task in tasks]
        if not all(lengths):
            lengths = [task.weight for task in tasks]
        whole = sum(lengths) or 1.0
        for task, length in zip(tasks, lengths, strict=True):
            own = seconds * length / whole * (task.terms.resources.cores or 1.0)
            self._used[task.title] = (self._use(task.title, now) + own, now)

    def _use(self, name: str, now: float) -> float:
        used, since = self._used.get(name, (0.0, now))
        return used * float(0.5 ** ((now - since) / self._half_life))


def _length(task: QueuedTask, unknown: float) -> float:
    """Seconds that a task is expected to run: on the average pilot, or on the QPU where it is shortest."""
    known = [one.seconds for one in task.estimates if one.seconds is not None]
    if known:
        return min(known)
    return unknown if task.seconds is None else task.seconds


def _positive(name: str, given: Any, zero: bool = False) -> float:
    """A setting that is a number above 0, or of at least 0."""
    expected = f"a number {'of at least' if zero else 'above'} 0"
    if isinstance(given, bool) or not isinstance(given, int | float) or not (given > 0 or (zero and given == 0)):
        raise ValueError(f"{name}: {given!r} is not valid; expected {expected}")
    return float(given)


# ---- autoscaling -----------------------------------------------------------------------------------------------


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """What an autoscaler may do.

    Raises:
        DescriptionError: a value is not valid; the message says which.
    """

    #: The description of each of its pilots.
    description: PilotDescription
    #: The least number of pilots, also when there is nothing to do, and the largest.
    minimum: int = 0
    maximum: int = 4
    #: Seconds after which an idle pilot is given back.
    idle: float = 60.0
    #: Seconds of measured work for each core that may be queued before another pilot is a gain.
    backlog: float = 30.0
    #: Seconds that there must be too much queued before a pilot is asked for.
    delay: float = 5.0

    def __post_init__(self) -> None:
        for field, least in (("minimum", 0), ("maximum", 1)):
            number = getattr(self, field)
            if not isinstance(number, int) or number < least:
                raise invalid(f"autoscale.{field}", number, f"a whole number of at least {least}")
        if self.minimum > self.maximum:
            raise invalid("autoscale.minimum", self.minimum, f"at most maximum ({self.maximum})")
        for field, expected in (("idle", TIMES), ("backlog", TIMES), ("delay", TIMES.replace("above", "of at least"))):
            given = getattr(self, field)
            try:
                seconds = seconds_of(given)
            except ValueError:
                seconds = None
            fine = isinstance(seconds, Real) and not isinstance(seconds, bool)
            if not fine or seconds < 0 or (seconds == 0 and field != "delay"):
                raise invalid(f"autoscale.{field}", given, expected)
            msgspec.structs.force_setattr(self, field, float(seconds))
        if self.description.renewals:
            raise self.description.wrong("renewals", "0 with autoscale, which asks for the next pilot itself")

    @property
    def cores(self) -> int:
        """Cores of one of its pilots."""
        return self.description.cores * self.description.number_of_nodes


class Demand(NamedTuple):
    """The queued tasks that its pilots could run, and the cores that there are for them."""

    tasks: int = 0
    #: Cores that those would take, all at once, of which it is known how long they take; and their core-seconds.
    known: float = 0.0
    work: float = 0.0
    #: Cores that those would take of which it is not known yet.
    unknown: float = 0.0
    #: Cores of the pilots that fit and are active or on their way; and of the latter alone.
    cores: float = 0.0
    on_the_way: float = 0.0


class Member(NamedTuple):
    """A pilot that the autoscaler requested, and that is not about to end."""

    id: str
    active: bool
    #: It has tasks.
    busy: bool
    #: Tasks that it has finished.
    finished: int


class Decision(NamedTuple):
    """How many pilots to request, and which to give back."""

    ask: int
    drain: tuple[str, ...]


class Autoscaler:
    """Decides for one description. Called about once a second."""

    def __init__(self, scaling: Scaling) -> None:
        self.scaling = scaling
        self._too_much_since: float | None = None
        self._gave_back: float | None = None
        #: Pilot → since when it is idle, and how many tasks it had finished then.
        self._idle: dict[str, tuple[float, int]] = {}
        self._failed_starts = 0

    @property
    def paused(self) -> bool:
        """True when its pilots do not start: it requests no more."""
        return self._failed_starts >= FAILED_STARTS

    def started(self) -> None:
        """One of its pilots is active."""
        self._failed_starts = 0

    def failed(self) -> None:
        """One of its pilots failed before it was active."""
        self._failed_starts += 1

    def decide(self, now: float, demand: Demand, members: Sequence[Member], asked: int = 0) -> Decision:
        """What to do now.

        Args:
            now: seconds by a clock that never steps.
            demand: what is queued.
            members: its pilots.
            asked: number of pilots that were requested and are not among the members yet.
        """
        alive = len(members) + asked
        idle = self._idle_for(now, members)
        return Decision(self._ask(now, demand, alive), self._give_back(now, demand, alive, idle))

    def _idle_for(self, now: float, members: Sequence[Member]) -> dict[str, float]:
        known, self._idle = self._idle, {}
        for one in members:
            if one.active:
                since, finished = known.get(one.id, (now, one.finished))
                self._idle[one.id] = (now if one.busy or one.finished != finished else since, one.finished)
        return {id: now - since for id, (since, _) in self._idle.items()}

    def _ask(self, now: float, demand: Demand, alive: int) -> int:
        wanted = self._wanted(demand)
        if not wanted:
            self._too_much_since = None
        elif self._too_much_since is None:
            self._too_much_since = now
        if self.paused:
            return 0
        missing = max(0, self.scaling.minimum - alive)
        if self._too_much_since is None or now - self._too_much_since < self.scaling.delay:
            return missing
        calm = self._gave_back is not None and now - self._gave_back < self.scaling.idle
        if calm and not self._is_urgent(demand):
            return missing
        self._too_much_since = None
        return max(missing, min(wanted, self.scaling.maximum - alive))

    def _wanted(self, demand: Demand) -> int:
        """How many more pilots the backlog is worth, without regard to the maximum."""
        if not demand.tasks:
            return 0
        unknown = max(0.0, demand.unknown - demand.on_the_way)
        way = max(0.0, demand.on_the_way - demand.unknown)
        known = min(demand.work / self.scaling.backlog - demand.cores, demand.known - way)
        cores = unknown + max(0.0, known)
        return max(-int(-cores // self.scaling.cores), 0 if demand.cores else 1)

    def _is_urgent(self, demand: Demand) -> bool:
        cores = max(demand.cores, self.scaling.cores)
        much = demand.work > URGENT * self.scaling.backlog * cores
        return much or demand.unknown - demand.on_the_way > URGENT * self.scaling.cores

    def _give_back(self, now: float, demand: Demand, alive: int, idle: dict[str, float]) -> tuple[str, ...]:
        if demand.tasks:
            return ()
        long = sorted((id for id, seconds in idle.items() if seconds >= self.scaling.idle), key=lambda id: -idle[id])
        given = tuple(long[: max(0, alive - self.scaling.minimum)])
        if given:
            self._gave_back = now
        return given
