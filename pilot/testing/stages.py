"""The contract suite of the mitigator's stages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest

from pilot.descriptions import QosOptions
from pilot.qos.mitigator import Context, Goal, QosStage, Variant
from pilot.qos.mitigator.mitigator import stages_of
from pilot.quantum.fidelities import ideal_of
from pilot.quantum.outcomes import Outcomes, registers_of
from pilot.resources import QPUInfo

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


class QosStageContract:
    """What every stage promises, as tests: without noise the result stays what it is.

    A plugin's author subclasses it::

        class TestMyStage(QosStageContract):
            stage = "mine"
            circuit = a_circuit_that_it_changes()
    """

    #: A stage, or its name in the group ``pilot.qos_stages``.
    stage: QosStage | str
    #: One that the stage has variants for; with its measurements, or without and with observables.
    circuit: QuantumCircuit
    observables: Any = ()
    options = QosOptions()
    #: False for a stage whose variants have other outcomes on purpose, such as those of frozen problems.
    keeps_result = True

    @pytest.fixture
    def context(self) -> Context:
        """What the stage can know, of a device that is wide enough."""
        goal = Goal.of(self.circuit, self.observables, self.options)
        return Context(goal=goal, options=self.options, info=QPUInfo(name="device", qubits=20), shots=10_000)

    @pytest.fixture
    def variants(self, context: Context) -> list[Variant]:
        """Those that the stage makes of the circuit as it is."""
        (stage,) = stages_of([self.stage])
        return list(stage.variants(context.goal.base(), context))

    def test_it_has_variants_that_say_what_was_done(self, variants: list[Variant]) -> None:
        (stage,) = stages_of([self.stage])
        assert variants
        assert all(variant.steps[-1].stage == stage.name and variant.steps[-1].text for variant in variants)

    def test_shots_are_dealt_out(self, variants: list[Variant]) -> None:
        for variant in variants:
            assert len(variant.circuits) == len(variant.shares) == len(variant.groups)
            assert sum(variant.shares) == pytest.approx(1.0)
            spent = int(variant.shots(10_000).sum()) * len(variant.factors)
            assert spent <= 10_000 * (1 - variant.calibration) + 2 * len(variant.circuits) * len(variant.factors)

    def test_the_result_without_noise_is_the_same(self, variants: list[Variant], context: Context) -> None:
        """After the way that what merges takes to a worker."""
        for variant in variants:
            outcomes = [
                replace(exact(circuit), noise_factor=factor)
                for circuit in variant.circuits
                for factor in variant.factors
            ]
            result = cloudpickle.loads(cloudpickle.dumps(variant.merge))(outcomes, None)
            if self.keeps_result:
                assert context.goal.loss(result) == pytest.approx(0.0, abs=1e-9)
            elif context.goal.problem is not None:
                least, greatest = context.goal.problem.bounds()
                assert least - 1e-9 <= context.goal.energy(result) <= greatest + 1e-9

    def test_a_budget_of_nothing(self, context: Context) -> None:
        """Limits are the mitigator's; a stage may ask what is left, and must not fail where that is nothing."""
        (stage,) = stages_of([self.stage])
        none = Context(
            goal=context.goal, options=QosOptions(budget=0, max_circuits=1, max_overhead=1), info=context.info, shots=2
        )
        assert all(variant.circuits for variant in stage.variants(none.goal.base(), none))


def exact(circuit: QuantumCircuit) -> Outcomes:
    """The outcomes of a circuit without noise, with their probabilities."""
    ideal = ideal_of(circuit)
    assert ideal is not None, "the circuit is too wide, or does something else than gates, measurements and resets"
    index = np.flatnonzero(ideal.probabilities > 0)
    bits = np.zeros((len(index), circuit.num_clbits), dtype=bool)
    for place, bit in enumerate(ideal.bits):
        bits[:, bit] = index >> place & 1
    return Outcomes.from_bits(bits, ideal.probabilities[index], registers=registers_of(circuit), shots=None)
