"""The cut circuit as a sum of products: terms, their coefficients, and what each asks of the fragments."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qiskit_addon_cutting.qpd import WeightType, generate_qpd_weights

from pilot.errors import DescriptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from qiskit_addon_cutting.qpd import QPDBasis

#: More terms than this are a mistake: `num_samples` keeps them down.
MAX_TERMS = 1_000_000
#: The add-on draws from NumPy's global generator, which all threads share.
_numpy_state = threading.Lock()


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """The circuit as a sum of `n_terms` products: one choice at each fragment, times a coefficient."""

    #: `(n_terms,)`
    coefficients: NDArray[np.float64]
    #: `(n_terms,)`: how often a sampled term was drawn; 0 where the coefficient is exact.
    draws: NDArray[np.int64]
    #: For each fragment `(n_terms,)`: the choice that each term makes there.
    choices: tuple[NDArray[np.intp], ...]

    def part(self, terms: slice) -> Decomposition:
        """Some of the terms."""
        return Decomposition(
            coefficients=self.coefficients[terms],
            draws=self.draws[terms],
            choices=tuple(choice[terms] for choice in self.choices),
        )

    @property
    def signed_draws(self) -> NDArray[np.float64]:
        """`(n_terms,)`: the draws with the signs of the coefficients."""
        return np.sign(self.coefficients) * self.draws

    @property
    def draw_weight(self) -> float:
        """What one draw adds to the sum, without its sign; 0 if no term was drawn."""
        n = int(self.draws.sum())
        return float(np.abs(self.coefficients[self.draws > 0]).sum()) / n if n else 0.0

    def weights(self, fragment: int, n_choices: int) -> NDArray[np.float64]:
        """`(n_choices,)`: the sum of the coefficients' magnitudes over the terms that make each choice there."""
        return np.asarray(np.bincount(self.choices[fragment], np.abs(self.coefficients), n_choices), dtype=np.float64)


def terms_of(
    bases: Sequence[QPDBasis], num_samples: int | None, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]:
    """The decomposition's terms (the map of each cut, `(n_terms, n_cuts)`), coefficients, and draws.

    Weights are the add-on's, as is what it makes of them: the exact ones above `1 / num_samples`, a sample of
    the rest; the coefficient is the weight's share times the product of all kappa, with the sign of the exact
    coefficient.
    """
    number = math.prod(len(basis.coeffs) for basis in bases)
    if num_samples is None and number > MAX_TERMS:
        raise DescriptionError(
            f"num_samples: the {len(bases)} cuts have {number:,} terms, too many to take all; "
            "give a number to sample, such as 1000, or allow wider pieces (max_qubits)"
        )
    with _numpy_state:
        state = np.random.get_state()
        np.random.seed(seed % 2**32)
        try:
            weights = generate_qpd_weights(bases, math.inf if num_samples is None else num_samples)
        finally:
            np.random.set_state(state)
    terms = np.array(list(weights), dtype=np.intp).reshape(len(weights), len(bases))
    redundancy = np.array([weight for weight, _ in weights.values()])
    kappa = math.prod(float(basis.kappa) for basis in bases)
    signs = np.ones(len(terms))
    for cut, basis in enumerate(bases):
        signs *= np.sign(np.asarray(basis.coeffs, dtype=float))[terms[:, cut]]
    sampled = np.array([kind is WeightType.SAMPLED for _, kind in weights.values()])
    return terms, redundancy / redundancy.sum() * kappa * signs, _draws(np.where(sampled, redundancy, 0.0))


def _draws(redundancy: NDArray[np.float64]) -> NDArray[np.int64]:
    """How often each term was drawn: the add-on draws as often as the weight to sample, rounded up."""
    total = redundancy.sum()
    if not total:
        return np.zeros(len(redundancy), dtype=np.int64)
    draws: NDArray[np.int64] = np.rint(redundancy * (math.ceil(total - 1e-6) / total)).astype(np.int64)
    return draws
