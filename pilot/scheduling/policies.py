"""The policies of the library: which pilot gets a batch, and when to request pilots and give them back.

The time comes with each call, and no policy keeps tasks or pilots that it is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import msgspec

from pilot.descriptions import PilotDescription
from pilot.errors import invalid
from pilot.fields import TIMES, seconds_of
from pilot.interfaces import Policy

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
