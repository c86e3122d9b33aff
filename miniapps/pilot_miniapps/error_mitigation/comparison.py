"""What a method gains: its deviations from the exact values beside those without any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A gain counts as one when it is so many times its standard error.
SIGNIFICANT = 2.0


class Value(msgspec.Struct, frozen=True):
    """One measured value, its standard error, and the exact one."""

    measured: float
    standard_error: float
    exact: float

    @property
    def deviation(self) -> float:
        """How far the value is from the exact one."""
        return abs(self.measured - self.exact)


class Gain(msgspec.Struct, frozen=True):
    """How much closer values are, on average over the circuits: the deviation without a method minus that with it.

    The standard error is that of the mean of the circuits' own gains: both values belong to the same circuit, so what
    makes circuits differ is not in it.
    """

    mean: float
    standard_error: float

    @property
    def verdict(self) -> str:
        """Whether the method helps: "helps", "harms", or "no difference" within the errors."""
        if abs(self.mean) <= SIGNIFICANT * self.standard_error:
            return "no difference"
        return "helps" if self.mean > 0 else "harms"


def mean_deviation(values: Sequence[Value]) -> tuple[float, float]:
    """The mean over the circuits, and its standard error."""
    return _mean([value.deviation for value in values])


def gain(without: Sequence[Value], with_method: Sequence[Value]) -> Gain:
    """What a method gains; both have the same circuits in the same order."""
    return Gain(*_mean([one.deviation - other.deviation for one, other in zip(without, with_method, strict=True)]))


def shot_noise(values: Sequence[Value]) -> float:
    """The mean deviation that the errors of the shots alone would make (normal): what no method can undo."""
    return float(np.sqrt(2 / np.pi) * np.mean([value.standard_error for value in values]))


def row(qpu: str, method: str, values: Sequence[Value], without: Sequence[Value]) -> dict[str, Any]:
    """The row of the report for one method on one QPU."""
    mean, error = mean_deviation(values)
    its = gain(without, values)
    return {
        "qpu": qpu,
        "method": method,
        "deviation": mean,
        "error": error,
        "shot_noise": shot_noise(values),
        "bias": float(np.mean([value.measured - value.exact for value in values])),
        "gain": its.mean,
        "gain_error": its.standard_error,
        "verdict": its.verdict if values is not without else "",
        "circuits": len(values),
    }


def _mean(numbers: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(np.mean(numbers)), float(np.std(numbers, ddof=1) / np.sqrt(len(numbers)))
