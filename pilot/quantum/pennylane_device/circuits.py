"""Tapes as circuit tasks, for QPUs and the simulators of circuits.

A tape whose measurements are all expectation values of Pauli sums is one task with observables, whatever they are and
exact without shots. Any other is split and turned until everything is read off in the computational basis; samples, or
the probabilities of all outcomes, then go through PennyLane's own measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.devices import ExecutionConfig
from pennylane.devices.preprocess import decompose, validate_device_wires, validate_measurements
from pennylane.exceptions import DeviceError
from pennylane.measurements import CountsMP, ExpectationMP, ProbabilityMP, SampleMP, VarianceMP
from pennylane.tape import QuantumScript
from pennylane.transforms import broadcast_expand, defer_measurements, diagonalize_measurements, split_non_commuting
from pennylane.wires import Wires
from qiskit.circuit import ClassicalRegister
from qiskit.quantum_info import SparsePauliOp

from pilot.descriptions import TaskDescription
from pilot.quantum.pennylane_device.simulators import Plan
from pilot.quantum.primitives.submission import check_gives_shots, shot_order, task_fields
from pilot.quantum.programs import load
from pilot.quantum.seeds import draw_seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pilot.quantum.outcomes import Outcomes

#: Operations that circuits have, too; others are decomposed into these by PennyLane.
GATES = frozenset(
    """
    Identity Hadamard PauliX PauliY PauliZ S T SX RX RY RZ PhaseShift U1 U2 U3 Adjoint(S) Adjoint(T) Adjoint(SX)
    CNOT CY CZ CH SWAP ISWAP ECR CRX CRY CRZ ControlledPhaseShift IsingXX IsingYY IsingZZ Toffoli CCZ CSWAP
    GlobalPhase Barrier
    """.split()  # noqa: SIM905
)
_NAME = "pilot.qubit with a QPU"
_ANALYTIC = (ExpectationMP, ProbabilityMP, VarianceMP)
_SAMPLED = (*_ANALYTIC, CountsMP, SampleMP)


class Circuits:
    """Circuit tasks for one QPU."""

    def __init__(self, qpu: str, wires: Wires | None, fields: Mapping[str, Any]) -> None:
        """Make it.

        Args:
            qpu: as in ``TaskDescription.qpu``.
            wires: of the device; None: those of each tape.
            fields: of the tasks.

        Raises:
            DescriptionError: an unknown field, or one that is not allowed.
        """
        self._wires = wires
        self._fields = task_fields("pilot.qubit", qpu, fields)

    def supports_derivatives(self, config: ExecutionConfig | None, circuit: QuantumScript | None) -> bool:
        """None: gradients are more circuits (parameter-shift)."""
        return False

    def setup(self, config: ExecutionConfig, circuit: QuantumScript | None) -> ExecutionConfig:
        """Measurements in the middle move to the end."""
        method = config.mcm_config.mcm_method
        if method not in (None, "deferred"):
            raise DeviceError(f"{_NAME}: mcm_method={str(method)!r} was given; allowed: 'deferred', the default")
        return replace(config, mcm_config=replace(config.mcm_config, mcm_method="deferred"), convert_to_numpy=True)

    def transforms(self, config: ExecutionConfig) -> qml.CompilePipeline:
        """Any tape as ones that are a circuit each."""
        pipeline = qml.CompilePipeline()
        pipeline.add_transform(validate_device_wires, self._wires, name=_NAME)
        pipeline.add_transform(_name_wires)
        pipeline.add_transform(
            validate_measurements,
            analytic_measurements=lambda one: _allowed(one, _ANALYTIC),
            sample_measurements=lambda one: _allowed(one, _SAMPLED),
            name=_NAME,
        )
        pipeline.add_transform(defer_measurements, allow_postselect=False)
        pipeline.add_transform(broadcast_expand)
        pipeline.add_transform(_split)
        pipeline.add_transform(_turn)
        pipeline.add_transform(
            decompose,
            stopping_condition=lambda operation: operation.name in GATES,
            skip_initial_state_prep=False,
            device_wires=self._wires,
            target_gates=set(GATES),
            name=_NAME,
        )
        return pipeline

    def plan(self, method: str, tapes: Sequence[QuantumScript], config: ExecutionConfig, seeds: Sequence[int]) -> Plan:
        """A task for each tape and number of shots."""
        parts = [_Tape(tape, seed) for tape, seed in zip(tapes, seeds, strict=True)]
        descriptions = [description for part in parts for description in part.descriptions(self._fields)]

        def finish(results: list[Any]) -> list[Any]:
            left = iter(results)
            return [part.result([next(left) for _ in part.shots]) for part in parts]

        return Plan(descriptions=descriptions, finish=finish)


@dataclass(frozen=True)
class _Tape:
    tape: QuantumScript
    seed: int

    @property
    def shots(self) -> list[int | None]:
        """Of each of its results: several with a shot vector."""
        return list(self.tape.shots) or [None]

    def descriptions(self, fields: Mapping[str, Any]) -> list[TaskDescription]:
        """One for each number of shots."""
        wires = list(self.tape.wires)
        program = self.tape.copy(measurements=[qml.expval(qml.Z(wire)) for wire in wires], trainable_params=[])
        circuit = load(program).to_qiskit()
        wanted: dict[str, Any]
        if _is_expectations(self.tape):
            wanted = {"observables": [_operator(one.obs, wires) for one in self.tape.measurements]}
        else:
            check_gives_shots(_NAME, fields)
            wanted = {}
            register = ClassicalRegister(len(self._measured), "wires")
            circuit.add_register(register)
            circuit.measure([wires.index(wire) for wire in self._measured], register)
        return [
            TaskDescription(circuit=circuit, shots=shots, seed=seed, **wanted, **fields)
            for shots, seed in zip(self.shots, draw_seeds(self.seed, len(self.shots)), strict=True)
        ]

    def result(self, results: Sequence[Any]) -> Any:
        """As PennyLane wants it: a value, a tuple of one for each measurement, a tuple of these for a shot vector."""
        values = tuple(
            self._values(one, seed) for one, seed in zip(results, draw_seeds(self.seed, len(results)), strict=True)
        )
        return values if self.tape.shots.has_partitioned_shots else values[0]

    @property
    def _measured(self) -> Wires:
        """Wires that are read off."""
        return Wires.all_wires([one.wires for one in self.tape.measurements]) or self.tape.wires

    def _values(self, result: Any, seed: int) -> Any:
        if _is_expectations(self.tape):
            values = tuple(np.float64(value) for value in result.values)
        elif result.shots is None:
            state = np.sqrt(_probabilities(result, len(self._measured)))  # in the basis that all is read off in
            values = tuple(one.process_state(state, self._measured) for one in self.tape.measurements)
        else:
            samples = result.bits("wires")[shot_order(result, np.random.default_rng(seed))].astype(np.int64)
            values = tuple(one.process_samples(samples, self._measured) for one in self.tape.measurements)
        return values if len(values) > 1 else values[0]


@qml.transform  # type: ignore[untyped-decorator]
def _name_wires(tape: QuantumScript) -> Any:
    """Measurements of all wires say which these are, before gates come and go."""
    return validate_device_wires(tape, tape.wires, name=_NAME)


@qml.transform  # type: ignore[untyped-decorator]
def _split(tape: QuantumScript) -> Any:
    """Measurements that cannot be read off together go into tapes of their own."""
    if _is_expectations(tape):
        return (tape,), lambda results: results[0]
    return split_non_commuting(tape)


@qml.transform  # type: ignore[untyped-decorator]
def _turn(tape: QuantumScript) -> Any:
    """What is read off is Z, after more gates."""
    if _is_expectations(tape):
        return (tape,), lambda results: results[0]
    return diagonalize_measurements(tape)


def _is_expectations(tape: QuantumScript) -> bool:
    return all(
        isinstance(one, ExpectationMP) and one.obs is not None and one.obs.pauli_rep is not None
        for one in tape.measurements
    )


def _allowed(measurement: Any, kinds: tuple[type[Any], ...]) -> bool:
    """Of these kinds, and of something that can be read off: Pauli words, for expectation values also their sums."""
    if not isinstance(measurement, kinds):
        return False
    observable = measurement.obs
    if observable is None or isinstance(observable, qml.Hadamard):
        return True
    if observable.pauli_rep is None:
        return False
    return isinstance(measurement, ExpectationMP) or len(observable.pauli_rep) == 1


def _operator(observable: Any, wires: list[Any]) -> SparsePauliOp:
    """A Pauli sum on the circuit's qubits."""
    terms = [
        ("".join(word.values()), [wires.index(wire) for wire in word], float(np.real(coefficient)))
        for word, coefficient in observable.pauli_rep.items()
    ]
    return SparsePauliOp.from_sparse_list(terms, num_qubits=max(1, len(wires)))


def _probabilities(outcomes: Outcomes, width: int) -> NDArray[np.float64]:
    """Of all outcomes `(2 ** width,)`, the first measured wire the highest bit, as PennyLane counts."""
    places = outcomes.bits("wires").astype(np.int64) @ (1 << np.arange(width)[::-1])
    probabilities = np.zeros(1 << width)
    np.add.at(probabilities, places, outcomes.weights)
    return probabilities
