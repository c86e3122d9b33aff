"""How long runs of several tasks at once take: so much for a run, and so much for each task in it."""

from __future__ import annotations

#: Runs whose weights differ by less than this factor say nothing about what a task adds.
ALIKE = 1.5
#: By how much a run may be larger or smaller than the one before.
STEP = 2.0
#: Weight of the newest run in means.
NEWEST = 0.3
#: A run may take so many times what it takes without tasks: three quarters of the time are then for the tasks.
MOST = 4.0


class RunTimes:
    """The runs of one function that runs tasks together, on a pilot of slowness 1."""

    __slots__ = ("_alone", "_before", "_each", "_last")

    def __init__(self) -> None:
        #: Weight and seconds of the last run, and of the last one before whose weight was another one.
        self._last = self._before = (0.0, 0.0)
        #: Mean seconds of a run without its tasks; None: not known yet.
        self._alone: float | None = None
        #: Seconds of a task of weight 1 in a run, by the last one.
        self._each = 0.0

    def measured(self, weight: float, seconds: float) -> None:
        """Take in a run."""
        if not _are_alike(weight, self._last[0]):
            self._before = self._last
        self._last = weight, seconds
        before, its_seconds = self._before
        if before and not _are_alike(weight, before):
            each = min(max((seconds - its_seconds) / (weight - before), 0.0), seconds / weight)
            alone = seconds - each * weight
            self._alone = alone if self._alone is None else self._alone + NEWEST * (alone - self._alone)
            self._each = max(seconds - self._alone, 0.0) / weight

    def allows(self, weight: float) -> bool:
        """True for a run of this weight when the run itself, without its tasks, takes a fair part of the time, or when
        it is to be found out what it takes."""
        last, _ = self._last
        if weight > STEP * last:
            return False
        if self._alone is None or weight <= last / STEP:
            return True
        return self._alone + self._each * weight <= MOST * self._alone


def _are_alike(one: float, other: float) -> bool:
    return one < ALIKE * other and other < ALIKE * one
