"""Sums over the terms for many outcomes at once.

The terms are not added up one by one. Fragments are taken in one after the other, and terms that agree in
their choices at all fragments to come are added before the next one is: with two fragments that is a product
of matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from pilot.quantum.estimates import widening

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pilot.quantum.cutting.decomposition import Decomposition

#: What is less probable than this is taken for impossible.
NOTHING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Quasi-probabilities of some outcomes and their variances, in one shape."""

    values: NDArray[np.float64]
    variances: NDArray[np.float64]

    @classmethod
    def joined(cls, blocks: Sequence[Block], axis: int) -> Block:
        """Blocks side by side along `axis`, as one flat block."""
        return cls(
            values=np.concatenate([each.values for each in blocks], axis=axis).reshape(-1),
            variances=np.concatenate([each.variances for each in blocks], axis=axis).reshape(-1),
        )


def block_on_grid(
    decomposition: Decomposition, quasi: Sequence[NDArray[np.float64]], variances: Sequence[NDArray[np.float64]]
) -> Block:
    """Every combination of the fragments' outcomes. This is what a worker runs.

    The variances are those of `reconstruction.reconstruct`, with quasi-probabilities for means.

    Args:
        decomposition: the terms.
        quasi: for each fragment `(n_choices, n_outcomes)`.
        variances: of `quasi`.

    Returns:
        Arrays with one axis a fragment.
    """
    choices = decomposition.choices
    values = _contract(decomposition.coefficients, choices, quasi)
    variance = _shot_variance(decomposition.coefficients, choices, quasi, variances)
    if decomposition.draws.any():
        signed = decomposition.signed_draws
        squares = [each**2 - its for each, its in zip(quasi, variances, strict=True)]
        variance = variance + variance_of_draws(
            decomposition,
            _contract(signed, choices, quasi),
            _contract(decomposition.draws.astype(np.float64), choices, squares),
            _shot_variance(signed, choices, quasi, variances),
        )
    return Block(values=values, variances=variance)


def variance_of_draws(
    decomposition: Decomposition,
    drawn: NDArray[np.float64],
    squares: NDArray[np.float64],
    drawn_variance: NDArray[np.float64],
    bounds: NDArray[np.float64] | float = 1.0,
) -> NDArray[np.float64]:
    """The variance of the sampled terms' share of each value: see `reconstruct`.

    Args:
        decomposition: all terms.
        drawn: `Σ m_t s_t T_t`.
        squares: `Σ m_t T_t²`.
        drawn_variance: of `drawn`, by shots.
        bounds: how large a product can be.
    """
    n, weight = int(decomposition.draws.sum()), decomposition.draw_weight
    if n == 0:
        return np.zeros_like(drawn)
    if n == 1:  # one draw says nothing about its spread
        bound: NDArray[np.float64] = np.full_like(drawn, weight**2) * np.square(bounds)
        return bound
    square_of_mean = (drawn**2 - drawn_variance) / n**2
    variance: NDArray[np.float64] = n * weight**2 * (n / (n - 1) * (squares / n - square_of_mean)).clip(min=0)
    return variance * widening(n - 1)


def likely_outcomes(
    decomposition: Decomposition,
    quasi: Sequence[NDArray[np.float64]],
    masses: Sequence[NDArray[np.float64]],
    limit: int,
) -> tuple[NDArray[np.intp], ...]:
    """The numbers of the `limit` most probable outcomes, for each fragment `(n_listed,)`.

    Outcomes are searched as CutQC's dynamic definition does (Tang et al., ASPLOS 2021, section 4.3): a bin of
    outcomes is as probable as they are together, and only the `limit` most probable bins are split further.
    So no outcome above one in `limit` is lost, as far as the quasi-probabilities are exact.

    Args:
        decomposition: the terms.
        quasi: for each fragment `(n_choices, n_outcomes)`.
        masses: for each fragment `(n_choices,)`: the sum of each quasi-distribution.
        limit: how many to find.
    """
    rows = np.stack(decomposition.choices, axis=1)
    state = decomposition.coefficients[:, None]  # (n_rows, n_found)
    found: list[NDArray[np.intp]] = []
    for fragment, its_quasi in enumerate(quasi):
        later = np.ones(len(rows))
        for column, mass in enumerate(masses[fragment + 1 :], start=1):
            later *= mass[rows[:, column]]
        by_choice = csr_array((later, (rows[:, 0], np.arange(len(rows)))), shape=(len(its_quasi), len(rows)))
        parent, number = _likely_bins(by_choice @ state, its_quasi, limit)
        found = [*(each[parent] for each in found), number]
        if fragment == len(quasi) - 1:
            break
        suffix, group = np.unique(rows[:, 1:], axis=0, return_inverse=True)
        merged = np.zeros((len(suffix), len(parent)))
        for row, target in enumerate(group.reshape(-1)):
            merged[target] += state[row, parent] * its_quasi[rows[row, 0], number]
        rows, state = suffix, merged
    return tuple(found)


def _likely_bins(
    weights: NDArray[np.float64], quasi: NDArray[np.float64], limit: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The most probable pairs of a column of `weights` and one of `quasi`, both `(n_choices, …)`.

    A pair is as probable as the product of the two columns says. Bins are ranges of columns of `quasi`, halved
    until they hold one.
    """
    running = np.concatenate([np.zeros((len(quasi), 1)), np.cumsum(quasi, axis=1)], axis=1)
    parent = np.arange(weights.shape[1])
    low, high = np.zeros_like(parent), np.full_like(parent, quasi.shape[1])
    while (high - low).max() > 1:
        middle = (low + high) // 2
        wide = high - low > 1
        parent = np.concatenate([parent, parent[wide]])
        low, high = (
            np.concatenate([low, middle[wide]]),
            np.concatenate([np.where(wide, middle, high), high[wide]]),
        )
        value = np.einsum("ab,ab->b", weights[:, parent], running[:, high] - running[:, low])
        best = np.argsort(-value, kind="stable")[:limit]
        kept = np.sort(best[value[best] > NOTHING] if (value > NOTHING).any() else best[:1])
        parent, low, high = parent[kept], low[kept], high[kept]
    return parent, low


def _contract(
    weights: NDArray[np.float64], choices: Sequence[NDArray[np.intp]], factors: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """`Σ_t weights_t ∏_f factors[f][choices[f][t], x_f]` with one axis a fragment."""
    shape = tuple(factor.shape[1] for factor in factors)
    result: NDArray[np.float64] = _without(weights, choices, factors, len(factors) - 1).T @ factors[-1]
    return result.reshape(shape)


def _shot_variance(
    weights: NDArray[np.float64],
    choices: Sequence[NDArray[np.intp]],
    quasi: Sequence[NDArray[np.float64]],
    variances: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """The variance by shots of `_contract`, in its shape; see `reconstruction.reconstruct`."""
    shape = tuple(each.shape[1] for each in quasi)
    total = np.zeros(shape)
    for fragment, variance in enumerate(variances):
        if variance.any():
            slopes = _without(weights, choices, quasi, fragment)
            others = (*shape[:fragment], *shape[fragment + 1 :])
            total += np.moveaxis((slopes**2).T.dot(variance).reshape(*others, shape[fragment]), -1, fragment)
    return total


def _without(
    weights: NDArray[np.float64],
    choices: Sequence[NDArray[np.intp]],
    factors: Sequence[NDArray[np.float64]],
    fragment: int,
) -> NDArray[np.float64]:
    """`_contract` before `fragment` is taken in: `(n_choices of it, product of the others' n_outcomes)`."""
    order = [other for other in range(len(factors)) if other != fragment]
    rows = np.stack([choices[each] for each in (*order, fragment)], axis=1)
    state = weights[:, None]
    for each in order:
        suffix, group = np.unique(rows[:, 1:], axis=0, return_inverse=True)
        state = _taken_in(state, rows[:, 0], factors[each], group.reshape(-1), len(suffix))
        rows = suffix
    by_choice = csr_array(
        (np.ones(len(rows)), (rows[:, 0], np.arange(len(rows)))), shape=(len(factors[fragment]), len(rows))
    )
    result: NDArray[np.float64] = by_choice @ state
    return result


def _taken_in(
    state: NDArray[np.float64],
    choice: NDArray[np.intp],
    factor: NDArray[np.float64],
    group: NDArray[np.intp],
    n_groups: int,
) -> NDArray[np.float64]:
    """For each group of rows, the sum over them of `state[row] ⊗ factor[choice[row]]`.

    Returns:
        `(n_groups, state.shape[1] * factor.shape[1])`.
    """
    if state.shape[1] == 1:
        sums: NDArray[np.float64] = csr_array((state[:, 0], (group, choice)), shape=(n_groups, len(factor))) @ factor
        return sums
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    new = np.empty((n_groups, math.prod((state.shape[1], factor.shape[1]))))
    for number, rows in enumerate(members):
        new[number] = (state[rows].T @ factor[choice[rows]]).reshape(-1)
    return new
