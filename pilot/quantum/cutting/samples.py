"""What the subexperiments of one fragment sampled: means of its parts of the Pauli strings, and how they scatter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pilot.quantum.estimates import estimate
from pilot.quantum.outcomes import Samples as Contributions
from pilot.quantum.outcomes import contributions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pilot.quantum.outcomes import Outcomes


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What one subexperiment gave."""

    #: The number of its choice.
    choice: int
    #: `(n_here,)`: the Pauli strings that it measures, by their numbers.
    strings: NDArray[np.intp]
    #: `(n_here, num_bits)`: which classical bits belong to the sign of each.
    masks: NDArray[np.bool_]
    outcomes: Outcomes

    @cached_property
    def sampled(self) -> Contributions:
        """What was sampled, and what each outcome adds to the mean of each string."""
        return contributions(self.outcomes, range(self.outcomes.num_bits), self.masks)

    @property
    def means(self) -> NDArray[np.float64]:
        """`(n_here,)`."""
        means: NDArray[np.float64] = self.sampled.frequencies @ self.sampled.values
        return means

    def variance(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Of sums of the strings' means, `(n_sums,)`, as `estimates.estimate` says; 0 where outcomes are exact.

        Args:
            weights: `(n_sums, n_here)`; None: the means themselves.
        """
        found = estimate(self.outcomes, range(self.outcomes.num_bits), self.masks, weights)
        total: NDArray[np.float64] = found.variances + sum(shift**2 for shift in found.shifts.values())
        return total

    def covariance(self, place: int, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Of the mean of one string here with those of others, `(n_places,)`; by their places in `strings`."""
        if self.outcomes.shots is None:
            return np.zeros(len(places))
        frequencies, values = self.sampled.frequencies, self.sampled.values
        one, others = values[:, place], values[:, places]
        means = (frequencies @ one) * (frequencies @ others)
        product: NDArray[np.float64] = ((frequencies * one) @ others - means) / (self.outcomes.shots - 1)
        return product


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Those of all subexperiments of one fragment."""

    #: One a subexperiment, in the fragment's order.
    outcomes: tuple[Outcomes, ...]
    #: One for each of these that measures a Pauli string.
    each: tuple[Sample, ...]
    n_choices: int
    n_strings: int

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """`(n_choices, n_strings)`."""
        means = np.zeros((self.n_choices, self.n_strings))
        for sample in self.each:
            means[sample.choice, sample.strings] = sample.means
        return means

    @cached_property
    def variances(self) -> NDArray[np.float64]:
        """Of `means`, in its shape."""
        variances = np.zeros((self.n_choices, self.n_strings))
        for sample in self.each:
            variances[sample.choice, sample.strings] = sample.variance()
        return variances

    def variance(self, coefficients: NDArray[np.float64], slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of this fragment's shots in the variances of sums of strings.

        Strings that one subexperiment measures have their covariances in it: what a shot adds to a sum is taken as one
        number.

        Args:
            coefficients: `(n_sums, n_strings)`.
            slopes: `(n_choices, n_strings)`: the derivative of each string's value by its mean here.

        Returns:
            `(n_sums,)`.
        """
        total = np.zeros(len(coefficients))
        for sample in self.each:
            weights = coefficients[:, sample.strings] * slopes[sample.choice, sample.strings]
            if len(sample.strings) == 1:  # nothing to have a covariance with
                total += weights[:, 0] ** 2 * self.variances[sample.choice, sample.strings[0]]
            else:
                total += sample.variance(weights)
        return total

    def products(self, string: int, others: NDArray[np.intp]) -> NDArray[np.float64]:
        """Unbiased estimates of the products of one string's mean with others', `(n_choices, n_others)`."""
        products: NDArray[np.float64] = self.means[:, [string]] * self.means[:, others]
        for sample in self.each:
            place = np.flatnonzero(sample.strings == string)
            if len(place):
                _, here, there = np.intersect1d(sample.strings, others, return_indices=True)
                products[sample.choice, there] -= sample.covariance(int(place[0]), here)
        return products
