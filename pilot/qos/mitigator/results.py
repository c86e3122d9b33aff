"""`QosResult`: what a mitigated circuit gives, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.quantum.cutting import Distribution
from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from pilot.qos.mitigator.mitigator import Considered
    from pilot.qos.mitigator.variants import Step


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The best outcome of an optimisation."""

    #: One a qubit, qubit 0 rightmost.
    bits: str
    energy: float


@dataclass(frozen=True, kw_only=True, eq=False)
class QosResult:
    """The result of ``TaskDescription(circuit=…, qos=…)``."""

    #: How often each outcome came, or how probable it is: never negative, in the registers and bit order of the
    #: circuit. None: observables were asked for.
    distribution: Outcomes | None
    #: `(n_observables,)`; None: none were asked for.
    values: NDArray[np.float64] | None
    #: One standard deviation, by the shots: of each value; or of the probability of each outcome, in the order of
    #: `distribution`.
    spread: NDArray[np.float64]
    #: With an objective: the mean energy of all outcomes, and the best of them.
    energy: float | None
    solution: Solution | None
    #: With frozen qubits: the mean energy for each set of their bits, by the bits in the order of the qubits' numbers.
    energies: Mapping[str, float]
    #: What was done, in order; empty: the circuit ran as it was.
    steps: tuple[Step, ...]
    #: The variants that were looked at, with what was predicted of each.
    considered: tuple[Considered, ...]
    #: Why nothing could be predicted; "" if it could.
    reason: str
    #: Circuits that ran, without those that measure a readout; and the shots of all of them, those included.
    circuits: int
    shots: int
    #: Seconds: "decide", each stage's part of it as "decide: STAGE", "run" (queues included), "combine".
    seconds: Mapping[str, float]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """`(n_outcomes,)`: of the outcomes of `distribution`.

        Raises:
            ValueError: observables were asked for, so there is no distribution.
        """
        if self.distribution is None:
            raise ValueError("the result is values of observables; it has no distribution")
        found: NDArray[np.float64] = self.distribution.weights / self.distribution.weights.sum()
        return found

    def plot(self, ax: Axes | None = None, *, names: Sequence[str] | None = None, **options: Any) -> Axes:
        """With bars of one standard error: a histogram of the probabilities, or the values of the observables.

        Args:
            ax: matplotlib's axes to draw in; None: those of a new figure.
            names: of the observables; None: their numbers.
            **options: of matplotlib's `Axes.bar` or `Axes.errorbar`; `most`, as `Outcomes.plot` has it.

        Raises:
            ValueError: the `names` are not as many as the values.
            PluginError: matplotlib is not installed.
        """
        from pilot import plots

        if self.values is not None:
            return plots.values(self.values, self.spread, ax, names=names, **options)
        assert self.distribution is not None
        weights = Outcomes.get_counts(replace(self.distribution, weights=self.probabilities))
        is_added_up = len(weights) < len(self.spread)
        errors = None if is_added_up else {"": dict(zip(weights, self.spread.tolist(), strict=True))}
        return plots.histogram({"": weights}, ax, y="probability", errors=errors, **options)


def spread_of(outcomes: Outcomes) -> NDArray[np.float64]:
    """`(n_outcomes,)`: one standard deviation of each probability, by the shots."""
    if isinstance(outcomes, Distribution):
        return outcomes.standard_errors
    found = outcomes.weights / outcomes.weights.sum()
    if outcomes.shots is None:
        return np.zeros(len(found))
    spread: NDArray[np.float64] = np.sqrt(found * (1 - found).clip(min=0.0) / outcomes.shots)
    return spread
