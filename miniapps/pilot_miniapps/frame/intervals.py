"""Means of few values, and how well they are known."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev


def interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The mean, and the interval that has the true one with 95 % (Student's t); None of a single value."""
    from scipy.stats import t

    mean = fmean(values)
    if len(values) < 2:
        return mean, None
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return mean, (mean - half, mean + half)
