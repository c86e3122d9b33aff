"""A result as bars: counts of bit strings, or numbers in equal parts of their range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

#: Bars of a histogram, at most; the others are put together.
BARS = 16
#: Parts of the range of many numbers.
BINS = 12
#: Characters of a result that is shown as text.
LETTERS = 2000


class Bar(NamedTuple):
    """One bar. ``share`` is its length as a part of the longest one, from 0 to 1."""

    label: str
    value: float
    share: float


class Shown(NamedTuple):
    """A result: what it is, and either bars or a text."""

    title: str
    bars: list[Bar]
    text: str


def shown(result: Any) -> Shown:
    """A result, to be shown: counts (also of an object with ``get_counts()``), numbers, or else as its text."""
    if callable(get := getattr(result, "get_counts", None)):
        result = get()
    kind = type(result).__name__
    if isinstance(result, Mapping) and result and all(_is_number(value) for value in result.values()):
        return _counts({str(key): float(value) for key, value in result.items()})
    numbers = _numbers(result)
    if numbers is not None:
        return _values(numbers, kind)
    text = repr(result)
    return Shown(kind, [], text if len(text) <= LETTERS else f"{text[:LETTERS]}…")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _counts(counts: dict[str, float]) -> Shown:
    """The most frequent outcomes, in the order of their names."""
    first = sorted(counts, key=lambda name: -abs(counts[name]))[:BARS]
    bars = {name: counts[name] for name in sorted(first)}
    if len(counts) > len(first):
        others = [value for name, value in counts.items() if name not in bars]
        bars[f"{len(others):,} others"] = sum(others)
    return Shown(f"{len(counts):,} outcomes, {sum(counts.values()):,g} in all", _bars(bars), "")


def _numbers(result: Any) -> Any:
    """Many real numbers as a flat array; None: it is something else."""
    if not isinstance(result, list | tuple | np.ndarray) or len(result) < 2:
        return None
    try:
        array = np.asarray(result)
    except ValueError:  # lists of different lengths
        return None
    if array.dtype.kind not in "iuf":
        return None
    array = array.ravel()
    return array[np.isfinite(array)] if array.dtype.kind == "f" else array


def _values(numbers: Any, kind: str) -> Shown:
    if not len(numbers):
        return Shown(kind, [], "no finite numbers")
    counts, edges = np.histogram(numbers, BINS if numbers.min() < numbers.max() else 1)
    bars = {
        f"{low:.4g} to {high:.4g}": float(one) for low, high, one in zip(edges[:-1], edges[1:], counts, strict=True)
    }
    title = f"{len(numbers):,} numbers, mean {numbers.mean():.6g}, standard deviation {numbers.std():.3g}"
    return Shown(title, _bars(bars), "")


def _bars(values: dict[str, float]) -> list[Bar]:
    longest = max((abs(value) for value in values.values()), default=0.0) or 1.0
    return [Bar(name, value, abs(value) / longest) for name, value in values.items()]
