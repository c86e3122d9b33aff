"""Stages around compiled circuits, by `pilot.quantum.mitigation`: pulses, random gates, zero-noise extrapolation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Merge, Step, Variant
from pilot.quantum.execution import without_noise
from pilot.quantum.expectation import Expectation
from pilot.quantum.mitigation import DynamicalDecoupling, Twirling, ZeroNoise

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.quantum.outcomes import Outcomes
    from pilot.quantum.runner import Runner

#: Stages of variants whose circuits are those of the observables.
_AROUND = ("readout", "twirling", "dd")


@dataclass(frozen=True)
class ZeroNoiseExtrapolation(QosStage):
    """Runs circuits with more noise, and extrapolates their values to none. For observables of circuits not cut."""

    zero_noise: ZeroNoise = field(default_factory=ZeroNoise)
    required: bool = False

    name = "zne"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """One."""
        goal = context.goal
        if goal.observables is None or any(step.stage not in _AROUND for step in variant.steps):
            return
        if not all(map(_has_pairs, variant.circuits)):
            return  # nothing to fold
        planned = goal.plan()
        factors = self.zero_noise.factors
        merge = partial(_extrapolated, self.zero_noise, planned.constants, planned.norms, variant.merge)
        made = variant.around(self.zero_noise, Step(stage=self.name, text=f"noise times {list(factors)}"))
        yield replace(made, merge=merge, factors=factors)


@dataclass(frozen=True)
class Decoupling(QosStage):
    """Fills idle times with pulses, which helps against noise that is slow.

    How slow it is, no calibration says. The prediction knows the cost of the pulses alone, so the stage is chosen only
    where it is `required`.
    """

    required: bool = False

    name = "dd"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """One."""
        yield variant.around(DynamicalDecoupling(), Step(stage=self.name, text="pulses in idle times"))


@dataclass(frozen=True)
class PauliTwirling(QosStage):
    """Puts random Pauli gates around gates between qubits, which makes coherent errors random.

    How much of the errors is coherent, no calibration says. The prediction knows the cost alone, so the stage is chosen
    only where it is `required`.
    """

    required: bool = False

    name = "twirling"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """One, where there are gates between qubits."""
        if any(map(_has_pairs, variant.circuits)):
            yield variant.around(Twirling(), Step(stage=self.name, text="random Pauli gates"))


def _has_pairs(circuit: QuantumCircuit) -> bool:
    return any(len(entry.qubits) == 2 and entry.name != "barrier" for entry in circuit.data)


def _extrapolated(
    zero_noise: ZeroNoise,
    constants: NDArray[np.float64],
    norms: NDArray[np.float64],
    merge: Merge,
    outcomes: Sequence[Outcomes],
    manager: Runner | None,
) -> Expectation:
    found: Expectation = without_noise(zero_noise, constants, norms, lambda its: merge(its, manager), list(outcomes))
    return found
