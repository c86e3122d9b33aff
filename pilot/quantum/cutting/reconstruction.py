"""The value of the whole circuit from the means of its pieces, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class CutResult:
    """Expectation values of the observables, in the order they were given, each `(n_observables,)`."""

    values: NDArray[np.float64]
    #: One standard deviation of `values`: shots and sampled terms together.
    standard_errors: NDArray[np.float64]
    #: The part from the finite number of shots.
    shot_errors: NDArray[np.float64]
    #: The part from taking a sample of the decomposition's terms; zero if all were taken.
    sampling_errors: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """The circuit as a sum of `n_terms` products: one choice at each fragment, times a coefficient."""

    #: `(n_terms,)`
    coefficients: NDArray[np.float64]
    #: `(n_terms,)`: how often a sampled term was drawn; 0 where the coefficient is exact.
    draws: NDArray[np.int64]
    #: For each fragment `(n_terms,)`: the choice that each term makes there.
    choices: tuple[NDArray[np.intp], ...]


def reconstruct(
    decomposition: Decomposition,
    means: Sequence[NDArray[np.float64]],
    variances: Sequence[NDArray[np.float64]],
) -> CutResult:
    """Values and standard errors from the means of each fragment's subexperiments.

    The value is `V = Σ_t c_t ∏_f x[f, a_f(t)]`, with `x[f, a]` the mean of choice `a` at fragment `f` and
    `a_f(t)` the choice that term `t` makes there (qiskit-addon-cutting, "How to reconstruct expectation
    values").

    **Shots.** Distinct subexperiments are independent, but each mean stands in many terms. `V` is linear in
    each mean, so all that it adds to the variance is its own variance times the square of the sum of
    everything it multiplies:

        var_shots = Σ_f Σ_a (∂V/∂x[f, a])² var x[f, a],    ∂V/∂x[f, a] = Σ_{t: a_f(t)=a} c_t ∏_{g≠f} x[g,
        a_g(t)]

    to first order. Products of the errors of two fragments come in through the derivatives, which are taken
    at the measured means; that counts them twice, so with few shots the error is slightly too large, never
    too small.

    **Sampled terms.** `n` draws among the terms that are not exact, term `t` drawn `m_t` times, each draw of
    weight `±w`. Their sum is `n` times a mean of independent draws `s_t T_t`, with `T_t` the term's product
    and `s_t` its sign:

        var_sampling = n w² var_draws,    var_draws = n / (n-1) (Σ m_t/n T_t² - (Σ m_t/n s_t T_t)²)

    The shots of one draw enter its square too and are counted above already, so the squares are estimated
    without
    them: `T_t²` by `∏_f (x² - var x)`, and the square of the mean less its own variance by shots.

    Args:
        decomposition: coefficients and choices.
        means: for each fragment `(n_choices, n_observables)`.
        variances: of the means, in the same shape.
    """
    factors = [mean[choice] for mean, choice in zip(means, decomposition.choices, strict=True)]
    products = _product(factors, factors[0].shape)
    values = decomposition.coefficients @ products
    shot_variance = _shot_variance(decomposition, decomposition.coefficients, factors, variances)
    sampling_variance = _sampling_variance(decomposition, factors, products, variances)
    return CutResult(
        values=values,
        standard_errors=np.sqrt(shot_variance + sampling_variance),
        shot_errors=np.sqrt(shot_variance),
        sampling_errors=np.sqrt(sampling_variance),
    )


def _shot_variance(
    decomposition: Decomposition,
    coefficients: NDArray[np.float64],
    factors: Sequence[NDArray[np.float64]],
    variances: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """The variance that the shots give to `Σ_t coefficients_t T_t`, `(n_observables,)`."""
    total = np.zeros(factors[0].shape[1])
    for fragment, (choice, variance) in enumerate(zip(decomposition.choices, variances, strict=True)):
        others = [factor for other, factor in enumerate(factors) if other != fragment]
        slopes = np.zeros_like(variance)
        np.add.at(slopes, choice, coefficients[:, None] * _product(others, factors[0].shape))
        total += np.sum(slopes**2 * variance, axis=0)
    return total


def _sampling_variance(
    decomposition: Decomposition,
    factors: Sequence[NDArray[np.float64]],
    products: NDArray[np.float64],
    variances: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """The variance of the sampled terms' share of the value, `(n_observables,)`."""
    n = int(decomposition.draws.sum())
    if n == 0:
        return np.zeros(products.shape[1])
    share = np.where(decomposition.draws > 0, decomposition.coefficients, 0.0)
    weight = np.abs(share).sum() / n
    if n == 1:  # one draw says nothing about its spread, but no product is beyond -1 and 1
        return np.full(products.shape[1], weight**2)
    frequency = decomposition.draws / n
    signed = np.sign(share) * frequency
    squares = _product(
        [
            factor**2 - variance[choice]
            for factor, variance, choice in zip(factors, variances, decomposition.choices, strict=True)
        ],
        products.shape,
    )
    square_of_mean = (signed @ products) ** 2 - _shot_variance(decomposition, signed, factors, variances)
    draw_variance = n / (n - 1) * (frequency @ squares - square_of_mean)
    variance: NDArray[np.float64] = n * weight**2 * draw_variance.clip(min=0)
    return variance


def _product(factors: Sequence[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The product of `factors`, each of `shape`; ones if there are none."""
    product = np.ones(shape)
    for factor in factors:
        product *= factor
    return product
