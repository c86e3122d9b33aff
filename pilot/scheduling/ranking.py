"""The pilots that have room for the tasks of a lane, in the order in which they are done with what they have."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pilot.resources import Option
from pilot.scheduling.pilot_records import PilotRecord

#: Seconds until it is free, slowness, free cores (negative), number, and the way itself.
_Key = tuple[float, float, float, int, "Way"]
_INFINITE = float("inf")


class Way(NamedTuple):
    """A pilot, and what a task runs with there. There are several where it can have one of several QPUs."""

    #: Its place in the order of pilots and their QPUs.
    number: int
    pilot: PilotRecord
    option: Option


class Ranking:
    """Ways with room for a batch now; ``depth`` as in `PilotRecord.has_credit`."""

    def __init__(self, depth: int, ways: Iterable[Way] = ()) -> None:
        self.depth = depth
        self._order: list[_Key] = []
        self._keys: dict[int, _Key] = {}
        self._least_slowness = _INFINITE
        for way in ways:
            if (key := self._key(way)) is not None:
                self._keys[way.number] = key
                self._order.append(key)
        self._order.sort()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Way]:
        return (key[4] for key in self._order)

    def update(self, ways: Iterable[Way]) -> None:
        """What the pilots of these ways have has changed."""
        for way in ways:
            key = self._key(way)
            self.remove(way.number)
            if key is not None:
                self._keys[way.number] = key
                insort(self._order, key)

    def remove(self, number: int) -> None:
        """This way is gone, if it was there."""
        if (key := self._keys.pop(number, None)) is not None:
            del self._order[bisect_left(self._order, key)]

    def _key(self, way: Way) -> _Key | None:
        """Its place, when it has room."""
        pilot, option = way.pilot, way.option
        if not pilot.has_credit(option.resources, self.depth):
            return None
        wait, slowness, free = pilot.standing(option)
        if slowness < self._least_slowness:
            self._least_slowness = slowness
        return wait, slowness, -free, way.number, way

    def first_done(self, seconds: float, usable: Callable[[Way], bool] | None) -> tuple[float, Way] | None:
        """The way on which a task is expected to be finished first, and in how many seconds.

        Args:
            seconds: how long the task takes on a pilot of slowness 1.
            usable: False for ways that it must not take; None: it may take all.
        """
        best: tuple[float, float, float, int, Way] | None = None
        order, at = self._order, 0
        while at < len(order):
            wait, slowness, free, number, way = order[at]
            if best is not None and wait + seconds * self._least_slowness > best[0]:
                break
            if usable is not None and not usable(way):
                at += 1
                continue
            key = (wait + seconds * slowness, slowness, free, number, way)
            if best is None or key[:4] < best[:4]:
                best = key
            if slowness <= self._least_slowness:
                break  # those behind it are not faster and have more to do
            at = bisect_right(order, (wait, _INFINITE), at + 1)  # as much to do, and slower
        return None if best is None else (best[0], best[4])
