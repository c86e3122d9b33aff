"""``kind="integral"``: the integral of a power of x, its range cut into parts that run side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilot.descriptions import TaskDescription
from pilot.interfaces import JointFunction, Offer, Part, Prepared


@dataclass(frozen=True)
class Midpoint(JointFunction):
    """The midpoint rule. A worker runs all parts together that wait for it."""

    power: int

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [self._run(*call) for call in calls]

    def _run(self, low: float, high: float) -> float | ValueError:
        if low < 0:
            return ValueError(f"the range begins below 0: {low}")  # only this part fails
        return (high - low) * ((low + high) / 2) ** self.power


def prepare(description: TaskDescription, offer: Offer) -> Prepared:
    """``args=(low, high)``, ``kwargs={"power": n, "parts": m}``; as many parts as there are cores by default."""
    if len(description.args) != 2 or not description.args[0] < description.args[1]:
        raise description.wrong("args", "two ascending numbers")
    low, high = description.args
    number = description.kwargs.get("parts", offer.cores)
    edges = [low + (high - low) * place / number for place in range(number + 1)]
    function = Midpoint(description.kwargs.get("power", 1))
    parts = tuple(Part(function=function, args=pair) for pair in itertools.pairwise(edges))
    return Prepared(name="integral", parts=parts, combine=Part(function=sum, args=()) if number > 1 else None)
