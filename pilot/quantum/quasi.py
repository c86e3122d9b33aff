"""Weights that are not counts: quasi-probabilities, what they are worth, and the nearest probabilities.

Undoing errors of the readout turns counts into weights that may be negative. Means of such weights are right,
but their scatter is not that of as many counts. `QuasiOutcomes` therefore keeps the counts it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuasiOutcomes(Outcomes):
    """Outcomes whose weights had the errors of the readout undone, with the counts that were measured.

    Weights add up to the number of shots (to 1 where the outcomes are exact) and may be negative.
    """

    #: `(n_outcomes,)`: what was counted, or how probable it was, before.
    measured: NDArray[np.int64] | NDArray[np.float64]
    #: `(num_bits, 2, 2)`: the inverse of each classical bit's readout matrix `P(read | prepared)`; the identity
    #: where a bit was not corrected.
    inverses: NDArray[np.float64]


def contributions(
    outcomes: Outcomes, register: str, masks: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What was sampled, and what each sample adds to the means of some parities.

    The mean of parity `m` is estimated by `frequencies @ values[:, m]`, and the scatter of `values` under
    `frequencies` is that of one shot.

    - Counts: a sample adds +1 or -1.
    - `QuasiOutcomes`: a sample adds the product, over the parity's bits, of `B[0, b] - B[1, b]`, with `b` the
      bit that was read and `B` the inverse of its readout matrix: the unbiased estimator of the parity (Bravyi
      et al., PRA 103 042605, 2021, section II).
    - Other weights, some negative: only the weights are known, so they count as sampled in proportion to their
      sizes, and a sample adds its sign times the sum of all sizes (quasi-probability sampling; Temme, Bravyi and
      Gambetta, PRL 119 180509, 2017).

    Args:
        outcomes: of one circuit.
        register: the classical register that the parities are of.
        masks: `(n_masks, width)`: which bits belong to each parity.

    Returns:
        Frequencies `(n_outcomes,)`, never negative, of sum 1; and values `(n_outcomes, n_masks)`.
    """
    bits = outcomes.bits(register)
    if isinstance(outcomes, QuasiOutcomes):
        places = next(entry.places for entry in outcomes.registers if entry.name == register)
        weights = outcomes.measured / outcomes.measured.sum()
        values = np.ones((len(bits), len(masks)))
        for column, place in enumerate(places):
            factor = (outcomes.inverses[place][0] - outcomes.inverses[place][1])[bits[:, column]]
            values *= np.where(masks[:, column], factor[:, None], 1.0)
        return weights, values
    weights = outcomes.weights / outcomes.weights.sum()
    sizes = np.abs(weights)
    overhead = sizes.sum()
    return sizes / overhead, parities(bits, masks) * (overhead * np.where(weights < 0, -1.0, 1.0))[:, None]


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
