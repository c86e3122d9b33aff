"""NSGA-II (Deb et al., IEEE Trans. Evol. Comput. 6, 182, 2002) for two objectives, on arrays: `evolve`.

What it looks for are rows of whole numbers. Of equal rows all but one are taken to be dominated, so that a generation
does not fill up with copies.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: The part of the pairs of parents that exchange numbers; each number is exchanged with a probability of one half.
CROSSED = 0.9

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]


def evolve(
    first: Rows,
    evaluate: Callable[[Rows], Floats],
    mutate: Callable[[Rows], Rows],
    generations: int,
    random: np.random.Generator,
) -> Rows:
    """The last generation, as many rows as the first one has.

    Args:
        first: `(n_rows, n_numbers)`: the first generation.
        evaluate: gives `(n_rows, 2)`: what is to be small.
        mutate: changes some numbers of new rows.
        generations: how many, with the first one.
        random: for selection and crossover.
    """
    rows, values = first, evaluate(first)
    ranks = ranked(values)
    crowding = crowded(values, ranks)
    for _ in range(generations - 1):
        children = mutate(_children(rows, ranks, crowding, random))
        rows, values = np.concatenate([rows, children]), np.concatenate([values, evaluate(children)])
        ranks = ranked(values)
        crowding = crowded(values, ranks)
        kept = np.lexsort((-crowding, ranks))[: len(first)]
        rows, values, ranks, crowding = rows[kept], values[kept], ranks[kept], crowding[kept]
    return rows


def ranked(values: Floats) -> NDArray[np.intp]:
    """`(n_rows,)`: 0 where no other row is as good in both, 1 where only rows of rank 0 are, and so on.

    Args:
        values: `(n_rows, 2)`.
    """
    ranks = np.zeros(len(values), np.intp)
    best: list[float] = []  # of each rank, the least second value so far: they ascend
    order = np.lexsort((values[:, 1], values[:, 0]))
    for at, value in zip(order.tolist(), values[order, 1].tolist(), strict=True):
        rank = bisect_right(best, value)
        ranks[at] = rank
        best[rank : rank + 1] = [value]
    return ranks


def crowded(values: Floats, ranks: NDArray[np.intp]) -> Floats:
    """`(n_rows,)`: how far apart the two neighbours of a row in its rank are, over both values; infinite at the ends.

    Args:
        values: `(n_rows, 2)`.
        ranks: from `ranked`.
    """
    order = np.lexsort((values[:, 0], ranks))
    its, numbers = values[order], ranks[order]
    begins = np.flatnonzero(np.diff(numbers, prepend=-1))
    spans = np.maximum.reduceat(its, begins) - np.minimum.reduceat(its, begins)
    spans = np.where(spans > 0, spans, 1.0)[numbers]
    sums = np.full(len(its), np.inf)
    inside = np.flatnonzero(numbers[2:] == numbers[:-2]) + 1
    sums[inside] = (np.abs(its[inside + 1] - its[inside - 1]) / spans[inside]).sum(axis=1)
    found = np.empty(len(its))
    found[order] = sums
    return found


def _children(rows: Rows, ranks: NDArray[np.intp], crowding: Floats, random: np.random.Generator) -> Rows:
    """As many as there are rows: of pairs of parents, each the better one of two."""
    count = len(rows)
    one, other = random.integers(count, size=(2, count + count % 2))
    is_better = (ranks[one] < ranks[other]) | ((ranks[one] == ranks[other]) & (crowding[one] >= crowding[other]))
    mothers, fathers = np.split(rows[np.where(is_better, one, other)], 2)
    crossed = random.random((len(mothers), 1)) < CROSSED
    swaps = (random.random(mothers.shape) < 0.5) & crossed
    sons, daughters = np.where(swaps, fathers, mothers), np.where(swaps, mothers, fathers)
    children: Rows = np.concatenate([sons, daughters])[:count]
    return children
