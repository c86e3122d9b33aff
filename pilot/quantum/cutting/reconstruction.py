"""The value of the whole circuit from the means of its pieces, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from pilot.quantum.cutting.contraction import variance_of_draws
from pilot.quantum.cutting.results import CutResult
from pilot.quantum.runner import tree_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pilot.quantum.cutting.decomposition import Decomposition
    from pilot.quantum.cutting.samples import Samples
    from pilot.quantum.runner import Runner

#: Terms times values that are added up at once: 32 MiB for each fragment.
_AT_ONCE = 1 << 22
#: From so many terms times values times fragments on the sum is worth tasks of its own: two seconds of one core.
PARALLEL_PRODUCTS = 1 << 27


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """What some of the terms add to everything that the values and their errors are made of: add them up.

    The first three are over all terms with their coefficients, the last three over the drawn ones, once a draw.
    """

    #: `(n_values,)`: `Σ c_t T_t`.
    values: NDArray[np.float64]
    #: For each fragment `(n_choices, n_values)`: the derivative of `values` by the mean of each choice.
    slopes: tuple[NDArray[np.float64], ...]
    #: `(n_values,)`: `Σ m_t s_t T_t`.
    drawn: NDArray[np.float64]
    #: Its derivatives.
    drawn_slopes: tuple[NDArray[np.float64], ...]
    #: `(n_values,)`: an estimate of `Σ m_t T_t²` without the shots' share.
    drawn_squares: NDArray[np.float64]

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            values=self.values + other.values,
            slopes=tuple(map(add, self.slopes, other.slopes)),
            drawn=self.drawn + other.drawn,
            drawn_slopes=tuple(map(add, self.drawn_slopes, other.drawn_slopes)),
            drawn_squares=self.drawn_squares + other.drawn_squares,
        )


def reconstruct(
    decomposition: Decomposition,
    means: Sequence[NDArray[np.float64]],
    variances: Sequence[NDArray[np.float64]],
    manager: Runner | None = None,
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
    without them: `T_t²` by `∏_f (x² - var x)`, and the square of the mean less its own variance by shots.
    Few draws estimate their spread badly, so the interval is widened to Student's.

    Args:
        decomposition: coefficients and choices.
        means: for each fragment `(n_choices, n_observables)`.
        variances: of the means, in the same shape.
        manager: runs the sums of many terms as tasks, and adds these up in a tree; without it, or with few
            terms, all is done here.
    """
    sums = _all_sums(decomposition, means, variances, manager)
    shot_variance = variance_of(sums.slopes, variances)
    sampling_variance = variance_of_draws(
        decomposition, sums.drawn, sums.drawn_squares, variance_of(sums.drawn_slopes, variances)
    )
    return CutResult(
        values=sums.values,
        standard_errors=np.sqrt(shot_variance + sampling_variance),
        shot_errors=np.sqrt(shot_variance),
        sampling_errors=np.sqrt(sampling_variance),
    )


def reconstruct_sums(
    decomposition: Decomposition,
    samples: Sequence[Samples],
    coefficients: NDArray[np.float64],
    constants: NDArray[np.float64],
    manager: Runner | None = None,
) -> CutResult:
    """Values and standard errors of sums of Pauli strings, the observables.

    As `reconstruct`, with two differences, since strings that one subexperiment measures share its shots. What a
    shot adds to an observable is taken as one number, whose variance counts. And the square of a drawn term is that
    of the sum over strings, estimated without the shots' share: the product over the fragments of
    `x_k x_l - cov(x_k, x_l)` for each pair of strings.

    Args:
        decomposition: coefficients and choices.
        samples: one a fragment.
        coefficients: `(n_observables, n_strings)`.
        constants: `(n_observables,)`, added to the values.
        manager: as for `reconstruct`.
    """
    sums = _all_sums(decomposition, [each.means for each in samples], [each.variances for each in samples], manager)

    def shots_of(slopes: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.sum(
            [each.variance(coefficients, its) for each, its in zip(samples, slopes, strict=True)], axis=0
        )
        return total

    shot_variance = shots_of(sums.slopes)
    sampling_variance = variance_of_draws(
        decomposition,
        coefficients @ sums.drawn,
        _drawn_squares(decomposition, samples, coefficients, sums.drawn_squares),
        shots_of(sums.drawn_slopes),
        np.abs(coefficients).sum(axis=1),
    )
    return CutResult(
        values=constants + coefficients @ sums.values,
        standard_errors=np.sqrt(shot_variance + sampling_variance),
        shot_errors=np.sqrt(shot_variance),
        sampling_errors=np.sqrt(sampling_variance),
    )


def _drawn_squares(
    decomposition: Decomposition,
    samples: Sequence[Samples],
    coefficients: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """`Σ m_t T_t²` of sums of strings, from those of the strings alone, `(n_observables,)`."""
    total: NDArray[np.float64] = coefficients**2 @ squares
    drawn = np.flatnonzero(decomposition.draws)
    if not len(drawn):
        return total
    used = coefficients != 0
    for string in range(len(squares)):
        others = string + 1 + np.flatnonzero(used[used[:, string], string + 1 :].any(axis=0))
        if not len(others):
            continue
        products = np.ones((len(drawn), len(others)))
        for each, choice in zip(samples, decomposition.choices, strict=True):
            products *= each.products(string, others)[choice[drawn]]
        pairs = decomposition.draws[drawn] @ products
        total += 2 * coefficients[:, string] * (coefficients[:, others] @ pairs)
    return total


def variance_of(slopes: Sequence[NDArray[np.float64]], variances: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """`(n_values,)`: the variance of a sum with these derivatives by means with these variances."""
    total = np.zeros(variances[0].shape[1])
    for slope, variance in zip(slopes, variances, strict=True):
        total += np.sum(slope**2 * variance, axis=0)
    return total


def sums_of(
    decomposition: Decomposition, means: Sequence[NDArray[np.float64]], variances: Sequence[NDArray[np.float64]]
) -> Sums:
    """The sums over the terms of `decomposition`. This is what a worker runs on its part of them."""
    n_values = means[0].shape[1]
    step = max(1, _AT_ONCE // max(1, n_values))
    n_terms = len(decomposition.coefficients)
    parts = (decomposition.part(slice(start, start + step)) for start in range(0, n_terms, step))
    return reduce(add, (_sums(part, means, variances) for part in parts))


def add_sums(parts: Sequence[Sums]) -> Sums:
    """The sum of sums: a node of the tree."""
    return reduce(add, parts)


def _all_sums(
    decomposition: Decomposition,
    means: Sequence[NDArray[np.float64]],
    variances: Sequence[NDArray[np.float64]],
    manager: Runner | None,
) -> Sums:
    n_terms, n_values = len(decomposition.coefficients), means[0].shape[1]
    tasks = n_terms * n_values * len(means) // (PARALLEL_PRODUCTS // 4)
    if manager is None or tasks < 4:
        return sums_of(decomposition, means, variances)
    step = -(-n_terms // min(tasks, n_terms))
    parts = [decomposition.part(slice(start, start + step)) for start in range(0, n_terms, step)]
    futures = manager.map(sums_of, parts, [means] * len(parts), [variances] * len(parts))
    total: Sums = tree_sum(manager, add_sums, futures)
    return total


def _sums(
    decomposition: Decomposition, means: Sequence[NDArray[np.float64]], variances: Sequence[NDArray[np.float64]]
) -> Sums:
    factors = [mean[choice] for mean, choice in zip(means, decomposition.choices, strict=True)]
    products = _product(factors, factors[0].shape)
    values, slopes = decomposition.coefficients @ products, _slopes(decomposition, decomposition.coefficients, means)
    if not decomposition.draws.any():
        nothing = np.zeros_like(values)
        no_slopes = tuple(np.zeros_like(slope) for slope in slopes)
        return Sums(values=values, slopes=slopes, drawn=nothing, drawn_slopes=no_slopes, drawn_squares=nothing)
    signed = decomposition.signed_draws
    squared = [
        factor**2 - variance[choice]
        for factor, variance, choice in zip(factors, variances, decomposition.choices, strict=True)
    ]
    return Sums(
        values=values,
        slopes=slopes,
        drawn=signed @ products,
        drawn_slopes=_slopes(decomposition, signed, means),
        drawn_squares=decomposition.draws @ _product(squared, products.shape),
    )


def _slopes(
    decomposition: Decomposition, weights: NDArray[np.float64], means: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], ...]:
    """For each fragment `(n_choices, n_values)`: the derivative of `Σ_t weights_t T_t` by its means."""
    factors = [mean[choice] for mean, choice in zip(means, decomposition.choices, strict=True)]
    slopes = []
    for fragment, (mean, choice) in enumerate(zip(means, decomposition.choices, strict=True)):
        others = [factor for other, factor in enumerate(factors) if other != fragment]
        by_choice = csr_array((weights, (choice, np.arange(len(choice)))), shape=(len(mean), len(choice)))
        slopes.append(by_choice @ _product(others, factors[0].shape))
    return tuple(slopes)


def _product(factors: Sequence[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The product of `factors`, each of `shape`; ones if there are none."""
    product = np.ones(shape)
    for factor in factors:
        product *= factor
    return product
