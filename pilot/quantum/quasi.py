"""Weights that are not counts: quasi-probabilities, what they are worth, and the nearest probabilities.

Undoing errors of the readout turns counts into weights that may be negative. Their scatter is not that of as many
counts. `QuasiOutcomes` therefore keeps the counts it was made from: values and their errors are made of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuasiOutcomes(Outcomes):
    """Outcomes whose weights had the errors of the readout undone, with the counts that were measured.

    Weights add up to the number of shots (to 1 where the outcomes are exact) and may be negative.
    """

    #: What was counted, or how probable it was, before.
    measured: Outcomes
    #: `(num_bits, 2, 2)`: the inverse of each classical bit's readout matrix `P(read | prepared)`; the identity
    #: where a bit was not corrected.
    inverses: NDArray[np.float64]
    #: `(num_bits, 2)`: one standard deviation of how often each bit reads 1 when 0 was prepared, and when 1 was.
    deviations: NDArray[np.float64]
    #: `(num_bits,)`: the qubit that each bit was read from; -1 where it was not corrected.
    qubits: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What was sampled, and what each sample adds to the means of some parities: `frequencies @ values`."""

    #: `(n_outcomes,)`: never negative, of sum 1.
    frequencies: NDArray[np.float64]
    #: `(n_outcomes, n_masks)`.
    values: NDArray[np.float64]
    #: `(n_masks,)`: the largest size that a value can have.
    bounds: NDArray[np.float64]


def contributions(outcomes: Outcomes, places: Sequence[int], masks: NDArray[np.bool_]) -> Samples:
    """What each sample adds to the means of some parities.

    - Counts: a sample adds +1 or -1.
    - `QuasiOutcomes`: a sample adds the product, over the parity's bits, of `B[0, b] - B[1, b]`, with `b` the
      bit that was read and `B` the inverse of its readout matrix: the unbiased estimator of the parity (Bravyi
      et al., PRA 103 042605, 2021, section II). Bits outside the parity have no part in it.
    - Other weights, some negative: only the weights are known, so they count as sampled in proportion to their
      sizes, and a sample adds its sign times the sum of all sizes (quasi-probability sampling; Temme, Bravyi and
      Gambetta, PRL 119 180509, 2017).

    Args:
        outcomes: of one circuit.
        places: of the classical bits that the parities are of.
        masks: `(n_masks, len(places))`: which of these belong to each parity.
    """
    if isinstance(outcomes, QuasiOutcomes):
        factors = (outcomes.inverses[:, 0] - outcomes.inverses[:, 1])[list(places)]
        bits = outcomes.measured.bits()[:, list(places)]
        values, bounds = np.ones((len(bits), len(masks))), np.ones(len(masks))
        for column, factor in enumerate(factors):
            values *= np.where(masks[:, column], factor[bits[:, column]][:, None], 1.0)
            bounds *= np.where(masks[:, column], np.abs(factor).max(), 1.0)
        return Samples(outcomes.measured.weights / outcomes.measured.weights.sum(), values, bounds)
    weights = outcomes.weights / outcomes.weights.sum()
    sizes = np.abs(weights)
    overhead = sizes.sum()
    signed = parities(outcomes.bits()[:, list(places)], masks)
    signed *= (overhead * np.where(weights < 0, -1.0, 1.0))[:, None]
    return Samples(sizes / overhead, signed, np.full(len(masks), overhead))


def parities(bits: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """+1 or -1, `(n_outcomes, n_masks)`: the product of the signs of those bits that are in the mask."""
    odd = (bits.astype(np.float64) @ masks.T.astype(np.float64)) % 2
    signs: NDArray[np.float64] = 1.0 - 2.0 * odd
    return signs


def nearest_probabilities(weights: ArrayLike) -> NDArray[np.float64]:
    """The probabilities nearest to real `weights` of sum 1, by Euclidean distance.

    Negative weights become zero and what they lacked is taken evenly from the others (Smolin, Gambetta and
    Smith, PRL 108 070502, 2012).

    Args:
        weights: `(n,)`, n at least 1.
    """
    given = np.asarray(weights, dtype=np.float64)
    falling = np.sort(given)[::-1]
    excess = (np.cumsum(falling) - 1.0) / np.arange(1, len(given) + 1)
    kept = int(np.flatnonzero(falling > excess)[-1])
    probabilities: NDArray[np.float64] = (given - excess[kept]).clip(min=0.0)
    return probabilities
