"""What the subexperiments of one fragment sampled: means of its parts of the Pauli strings, and how they scatter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

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
    #: `(n_outcomes,)` of sum 1, and what each outcome adds to the mean of each string, `(n_outcomes, n_here)`: as
    #: `quasi.contributions` gives them.
    frequencies: NDArray[np.float64]
    values: NDArray[np.float64]
    #: None: exact.
    shots: int | None

    def variance(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n_columns,)`: of the means of `values`, `(n_outcomes, n_columns)`; unbiased, 0 where outcomes are exact."""
        if self.shots is None:
            return np.zeros(values.shape[1])
        means = self.frequencies @ values
        spread: NDArray[np.float64] = (self.frequencies @ values**2 - means**2).clip(min=0) / (self.shots - 1)
        return spread

    def covariance(self, place: int, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Of the mean of one string here with those of others, `(n_places,)`; by their places in `strings`."""
        if self.shots is None:
            return np.zeros(len(places))
        one, others = self.values[:, place], self.values[:, places]
        means = (self.frequencies @ one) * (self.frequencies @ others)
        product: NDArray[np.float64] = ((self.frequencies * one) @ others - means) / (self.shots - 1)
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
            means[sample.choice, sample.strings] = sample.frequencies @ sample.values
        return means

    @cached_property
    def variances(self) -> NDArray[np.float64]:
        """Of `means`, in its shape."""
        variances = np.zeros((self.n_choices, self.n_strings))
        for sample in self.each:
            variances[sample.choice, sample.strings] = sample.variance(sample.values)
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
            total += sample.variance(sample.values @ weights.T)
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
