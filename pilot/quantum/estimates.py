"""Values of one circuit's outcomes and how sure they are: one estimator for both."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pilot.quantum.outcomes import QuasiOutcomes, contributions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pilot.quantum.outcomes import Outcomes

#: Squares of deviations that are smaller than this, as a share of the largest possible one, are rounding.
_ROUNDING = 1e-24
#: Half of the width of a normal distribution's 95 % interval, in standard deviations.
_NORMAL = 1.959964

#: A readout rate that several circuits share: the qubit, what was prepared, and the rate itself.
Source = tuple[int, int, float]


class Estimate(NamedTuple):
    """Values from the outcomes of one circuit."""

    #: `(n_masks,)`: the mean of each parity.
    means: NDArray[np.float64]
    #: `(n_values,)`: of `means`, weighted.
    values: NDArray[np.float64]
    #: `(n_values,)`: the variance of `values` by the shots and by the random circuits among the copies.
    variances: NDArray[np.float64]
    #: `(n_values,)` each: by how much `values` move with one standard deviation of a rate of the readout.
    shifts: dict[Source, NDArray[np.float64]]


def estimate(
    outcomes: Outcomes, places: Sequence[int], masks: NDArray[np.bool_], coefficients: NDArray[np.float64] | None = None
) -> Estimate:
    """Weighted sums of the means of parities, with their errors.

    The variance is that of the whole sum, shot by shot, so covariances are in it. It is never 0 with counts: see
    `variance_of_mean`. Where the outcomes are those of several random circuits it is at least that of the mean of
    their values, by the scatter of these.

    Args:
        outcomes: of one circuit.
        places: of the classical bits that the parities are of.
        masks: `(n_masks, len(places))`: which of these belong to each parity.
        coefficients: `(n_values, n_masks)`; None: the parities themselves.
    """
    samples = contributions(outcomes, places, masks)
    means = samples.frequencies @ samples.values
    each = samples.values if coefficients is None else samples.values @ coefficients.T
    bounds = samples.bounds if coefficients is None else np.abs(coefficients) @ samples.bounds
    values = means if coefficients is None else coefficients @ means
    variances = np.zeros_like(values)
    if outcomes.shots is not None:
        variances = variance_of_mean(samples.frequencies, each, outcomes.shots, bounds)
    if len(copies := _copies(outcomes)) > 1:
        variances = _with_scatter(copies, places, masks, coefficients, variances)
        variances[variances < _ROUNDING * bounds**2] = 0.0
    shifts = _shifts(outcomes, places, masks, coefficients) if isinstance(outcomes, QuasiOutcomes) else {}
    return Estimate(means, values, variances, shifts)


def add_shifts(total: dict[Source, NDArray[np.float64]], more: dict[Source, NDArray[np.float64]]) -> None:
    """Adds the shifts of another circuit to `total`: a rate that both share moves both values."""
    for source, shift in more.items():
        total[source] = shift + total.get(source, np.zeros_like(shift))


def variance_of_mean(
    frequencies: NDArray[np.float64], values: NDArray[np.float64], shots: int, bounds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The variance of each column's mean over `shots`, never 0.

    For values of +1 and -1 it is Agresti and Coull's (The American Statistician 52 119, 1998), two shots of each sign
    added to those that were taken: `4 p (1 - p) / shots` with `p = (k + 2) / (shots + 4)`. Any other variable is taken
    for the two-valued one with the same second and fourth moment, of which two more shots of each value are added.
    How far its two values are apart is hardly known where few shots differ from the others; the largest distance that
    is possible stands in for one of these shots. The factor `1 + 2 / shots` widens the interval of few shots as
    Student's distribution does.

    Args:
        frequencies: `(n_outcomes,)`, of sum 1.
        values: `(n_outcomes, n_columns)`, that of one shot with each outcome.
        shots: how many were taken.
        bounds: `(n_columns,)`: the largest size that a value can have.
    """
    squares = (values - frequencies @ values) ** 2
    second = frequencies @ squares
    fourth = frequencies @ squares**2
    second[second < _ROUNDING * bounds**2] = 0.0
    varies = second > 0
    # the square of the distance between the two values: 4 σ² + (μ₄ - σ⁴) / σ²
    apart = 3 * second + np.divide(fourth, second, out=np.zeros_like(second), where=varies)
    events = np.divide(shots * second, apart, out=np.zeros_like(second), where=varies)
    apart = (events * apart + 4 * bounds**2) / (events + 1)
    of_one = (shots**2 * second + (2 * shots + 4) * apart) / (shots + 4) ** 2
    variances: NDArray[np.float64] = np.minimum(of_one / shots * (1 + 2 / shots), bounds**2)
    return variances


def _copies(outcomes: Outcomes) -> tuple[Outcomes, ...]:
    """What each of the random circuits gave, corrected as all together are."""
    if not isinstance(outcomes, QuasiOutcomes):
        return outcomes.copies
    return tuple(replace(outcomes, measured=copy) for copy in outcomes.measured.copies)


def _with_scatter(
    copies: Sequence[Outcomes],
    places: Sequence[int],
    masks: NDArray[np.bool_],
    coefficients: NDArray[np.float64] | None,
    pooled: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The variance with the scatter between random circuits in it.

    The mean of the copies' values has the variance of these divided by their number. It contains that of the shots,
    which all copies together show better: `pooled` is the least. What the scatter is above that is known from few
    copies only, and widened by Student's quantile.
    """
    each = []
    for copy in copies:
        samples = contributions(copy, places, masks)
        means = samples.frequencies @ samples.values
        each.append(means if coefficients is None else coefficients @ means)
    number = len(copies)
    shares = np.array([1.0 if copy.shots is None else copy.shots for copy in copies])
    shares = shares / shares.sum()
    deviations = np.array(each) - shares @ np.array(each)
    scatter = shares**2 @ deviations**2 * number / (number - 1)
    above = np.divide(scatter - pooled, scatter, out=np.zeros_like(scatter), where=scatter > pooled)
    wider = 1 + above * (widening(number - 1) - 1)
    widened: NDArray[np.float64] = np.maximum(pooled, scatter * wider)
    return widened


@lru_cache(maxsize=256)
def widening(freedom: int) -> float:
    """What a variance known from few values is multiplied by, so that its normal 95 % interval is Student's."""
    from scipy.special import stdtrit  # scipy.stats has it too, and takes half a second to import

    return (float(stdtrit(freedom, 0.975)) / _NORMAL) ** 2


def _shifts(
    outcomes: QuasiOutcomes, places: Sequence[int], masks: NDArray[np.bool_], coefficients: NDArray[np.float64] | None
) -> dict[Source, NDArray[np.float64]]:
    """By how much values move with the readout's rates: `a`, of reading 1 in state 0, and `b`, in state 1.

    A parity's factor is `(a + b) / (b - a)` where 0 was read and `(a + b - 2) / (b - a)` where 1 was; these are its
    derivatives.
    """
    samples = contributions(outcomes, places, masks)
    bits = outcomes.measured.bits()[:, list(places)]
    shifts: dict[Source, NDArray[np.float64]] = {}
    for column, place in enumerate(places):
        if not outcomes.deviations[place].any() or not masks[:, column].any():
            continue
        inverse = outcomes.inverses[place]
        matrix = np.linalg.inv(inverse)
        a, b = matrix[1]
        slopes = np.array([[2 * b, -2 * (1 - b)], [-2 * a, 2 * (1 - a)]]) / (b - a) ** 2
        factor = inverse[0] - inverse[1]
        for prepared, rate in enumerate((a, b)):
            ratio = (slopes[prepared] / factor)[bits[:, column]]
            moved = (samples.frequencies * ratio) @ samples.values * masks[:, column]
            moved = moved if coefficients is None else coefficients @ moved
            source = (int(outcomes.qubits[place]), prepared, float(np.round(rate, 12)))
            shifts[source] = outcomes.deviations[place, prepared] * moved
    return shifts
