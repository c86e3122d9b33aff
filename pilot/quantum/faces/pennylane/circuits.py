"""Tapes as circuit tasks, for QPUs and the simulators of circuits.

A tape whose measurements are all expectation values of Pauli sums is one task with observables, for all kinds of them
and exact without shots. Any other is a task for each basis in which its wires are read off (`readings`), and classical
shadows (`shadows`) are tasks of their own. Several values for a parameter are sets of values of one task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.devices import ExecutionConfig
from pennylane.devices.preprocess import decompose, validate_device_wires
from pennylane.exceptions import DeviceError
from pennylane.measurements import (
    ClassicalShadowMP,
    ExpectationMP,
    ProbabilityMP,
    SampleMeasurement,
    ShadowExpvalMP,
    VarianceMP,
)
from pennylane.tape import QuantumScript
from pennylane.transforms import broadcast_expand, defer_measurements
from pennylane.wires import Wires
from qiskit.circuit import ClassicalRegister
from qiskit.quantum_info import SparsePauliOp

from pilot.descriptions import TaskDescription
from pilot.errors import invalid
from pilot.quantum.expectation import Expectation
from pilot.quantum.faces.pennylane.readings import groups, parts_of, reading
from pilot.quantum.faces.pennylane.refusals import TapeRefused
from pilot.quantum.faces.pennylane.shadows import Shadow
from pilot.quantum.faces.pennylane.simulators import Plan
from pilot.quantum.faces.submission import check_gives_shots, shot_order, task_fields
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.programs.pennylane_gates import GATES
from pilot.quantum.programs.pennylane_tapes import circuit_on, is_pennylane

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.quantum.faces.pennylane.readings import Reading

#: Operations that circuits have, too; others are decomposed into these by PennyLane.
_OPERATIONS = frozenset({*GATES, "Adjoint(S)", "Adjoint(T)", "Adjoint(SX)", "GlobalPhase", "Barrier"})
_NAME = "pilot.qubit with a QPU"
_ANALYTIC = (ExpectationMP, ProbabilityMP, VarianceMP)
_SHADOWS = (ClassicalShadowMP, ShadowExpvalMP)


class Circuits:
    """Circuit tasks for one QPU."""

    def __init__(self, qpu: str, wires: Wires | None, fields: Mapping[str, Any]) -> None:
        """Make it.

        Args:
            qpu: as in ``TaskDescription.qpu``.
            wires: of the device; None: those of each tape.
            fields: of the tasks.

        Raises:
            DescriptionError: an unknown field, or one that is not valid.
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
            raise invalid("pilot.qubit.mcm_method", str(method), "'deferred', the default", TapeRefused)
        return replace(config, mcm_config=replace(config.mcm_config, mcm_method="deferred"), convert_to_numpy=True)

    def transforms(self, config: ExecutionConfig) -> qml.CompilePipeline:
        """Any tape as one of the gates that circuits have, checked."""
        pipeline = qml.CompilePipeline()
        pipeline.add_transform(_deferred, self._wires)
        pipeline.add_transform(_decomposed, self._wires)
        return pipeline

    def open_transforms(self, config: ExecutionConfig) -> qml.CompilePipeline:
        """None: there are no adjoint gradients."""
        return qml.CompilePipeline()

    def plan(
        self,
        method: str,
        tapes: Sequence[QuantumScript],
        config: ExecutionConfig,
        seeds: Sequence[int],
        slots: int | None,
    ) -> Plan:
        """The tasks of each tape and number of shots; the manager shares many sets of values out to the slots."""
        runs = [run for tape, seed in zip(tapes, seeds, strict=True) for run in _Tape(tape, self._fields).runs(seed)]

        def finish(results: list[Any]) -> list[Any]:
            left = iter(results)
            values = iter([run.result([next(left) for _ in run.descriptions]) for run in runs])
            return [
                tuple(next(values) for _ in tape.shots) if tape.shots.has_partitioned_shots else next(values)
                for tape in tapes
            ]

        return Plan(descriptions=[one for run in runs for one in run.descriptions], finish=finish)


# ---- what PennyLane does before -----------------------------------------------------------------------------------


@qml.transform  # type: ignore[untyped-decorator]
def _deferred(tape: QuantumScript, wires: Wires | None) -> Any:
    """The tape with its measurements named and checked, those in its middle at its end.

    Raises:
        TapeRefused: it has wires that the device has not, selects outcomes, or measures what circuits cannot give.
    """
    try:
        (tape,), _ = validate_device_wires(tape, wires, name=_NAME)
        (tape,), _ = validate_device_wires(tape, wires or _all_wires(tape), name=_NAME)
        (tape,), _ = defer_measurements(tape, allow_postselect=False)
    except (DeviceError, ValueError) as error:
        raise TapeRefused(f"{_NAME}: {error}") from error
    for one in tape.measurements:
        _check(one, bool(tape.shots))
    return (tape,), _first


@qml.transform  # type: ignore[untyped-decorator]
def _decomposed(tape: QuantumScript, wires: Wires | None) -> Any:
    """The tape in gates that circuits have. One with several values for a parameter becomes one for each where a
    circuit cannot hold them: matrices have no free parameters."""
    try:
        (whole,), _ = decompose(
            tape,
            stopping_condition=_is_gate,
            skip_initial_state_prep=False,
            device_wires=wires,
            target_gates=set(_OPERATIONS),
            name=_NAME,
        )
    except Exception as error:
        if tape.batch_size is None:
            if isinstance(error, DeviceError):
                raise TapeRefused(f"{_NAME}: {error}") from error
            raise
        whole = None
    if tape.batch_size is None or (whole is not None and _has_sets(whole)):
        return (whole,), _first
    tapes, stack = broadcast_expand(tape)
    return [_decomposed(one, wires)[0][0] for one in tapes], stack


def _first(results: Any) -> Any:
    return results[0]


def _all_wires(tape: QuantumScript) -> Wires:
    """The order of the wires of a tape on a device without wires: ascending if they count from 0, else as they
    appear; as on PennyLane's own simulators."""
    wires = tape.wires
    return Wires(range(len(wires))) if set(wires) == set(range(len(wires))) else wires


def _is_gate(operation: Any) -> bool:
    return operation.name in _OPERATIONS and is_pennylane(operation)


def _has_sets(tape: QuantumScript) -> bool:
    """Its values can be sets of values of a circuit's parameters."""
    if any(isinstance(one, _SHADOWS) for one in tape.measurements):
        return False
    return all(_is_gate(one) and all(np.ndim(value) < 2 for value in one.data) for one in tape.operations)


def _check(measurement: Any, sampled: bool) -> None:
    kinds: tuple[type[Any], ...] = (SampleMeasurement, *_SHADOWS) if sampled else _ANALYTIC
    if not isinstance(measurement, kinds):
        how = "with finite shots" if sampled else "for analytic simulation"
        raise TapeRefused(
            f"Measurement {measurement} not accepted {how} on {_NAME}. Expectation values, variances and "
            "probabilities are; with shots also samples, counts, classical shadows and a SampleMeasurement of your own"
        )
    if isinstance(measurement, _SHADOWS):
        return
    if _is_pauli_sum(measurement):
        parts_of(measurement.obs)
    else:
        reading(measurement)


# ---- what runs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """Tasks that give the results of a tape for one number of shots."""

    descriptions: list[TaskDescription]
    #: The measurements' values from the tasks' results: outcomes, or values of observables `(n_observables,)`.
    finish: Callable[[list[Any]], list[Any]]
    #: Values of each parameter; None: one.
    batch: int | None

    def result(self, results: list[Any]) -> Any:
        """As PennyLane wants it: a value for each measurement, a tuple of these for several."""
        given = [one.values if isinstance(one, Expectation) else one for one in results]
        if self.batch is None:
            values = self.finish(given)
        else:
            of_sets = [self.finish(list(one)) for one in zip(*given, strict=True)]
            values = [_stacked(list(sets)) for sets in zip(*of_sets, strict=True)]
        return tuple(values) if len(values) > 1 else values[0]


@dataclass
class _Tape:
    tape: QuantumScript
    fields: Mapping[str, Any]
    #: Measurements by number: those that are observables of one task, those read off shared circuits, and shadows.
    direct: list[int] = field(default_factory=list)
    read: dict[int, Reading] = field(default_factory=dict)
    shadows: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        sums = [_is_pauli_sum(one) for one in self.tape.measurements]
        for number, one in enumerate(self.tape.measurements):
            if isinstance(one, _SHADOWS):
                self.shadows.append(number)
            elif all(sums) or (sums[number] and not self.tape.shots):
                self.direct.append(number)
            else:
                self.read[number] = reading(one)
        if self.read or self.shadows:
            check_gives_shots(_NAME, self.fields)

    @cached_property
    def wires(self) -> list[Any]:
        """Wire number `i` is qubit `i` of the circuits."""
        return list(_all_wires(self.tape))

    @cached_property
    def gates(self) -> tuple[QuantumCircuit, dict[str, NDArray[np.float64]]]:
        """The circuit without measurements, and the sets of values of its parameters."""
        return circuit_on(self.tape, self.wires)

    def runs(self, seed: int) -> list[_Run]:
        """One for each number of shots: several with a shot vector."""
        counts: list[int | None] = list(self.tape.shots) or [None]
        return [self._run(shots, one) for shots, one in zip(counts, draw_seeds(seed, len(counts)), strict=True)]

    def _run(self, shots: int | None, seed: int) -> _Run:
        wanted: list[dict[str, Any]] = []
        if self.direct:
            observables = [_operator(self.tape.measurements[number].obs, self.wires) for number in self.direct]
            wanted.append({"circuit": self.gates[0], "observables": observables, "shots": shots})
        wanted += [{"circuit": circuit, "shots": shots} for circuit in self._circuits]
        drawn = [Shadow.draw(self.tape.measurements[number], shots or 0) for number in self.shadows]
        for shadow in drawn:
            circuit = shadow.circuit(self.gates[0], [self.wires.index(one) for one in shadow.measurement.wires])
            wanted += [{"circuit": circuit, "shots": each, "parameters": sets} for each, sets, _ in shadow.sets()]
        values = {"parameters": self.gates[1]} if self.gates[1] else {}
        seeds = draw_seeds(seed, len(wanted) + 1)
        rng = np.random.default_rng(seeds.pop())

        def finish(results: list[Any]) -> list[Any]:
            left = iter(results)
            found: dict[int, Any] = {}
            if self.direct:
                found.update(zip(self.direct, map(np.float64, next(left)), strict=True))
            found.update(self._off_circuits([next(left) for _ in self._circuits], rng))
            for number, shadow in zip(self.shadows, drawn, strict=True):
                found[number] = shadow.result([next(left) for _ in shadow.sets()], rng)
            return [found[number] for number in range(len(found))]

        descriptions = [
            TaskDescription(seed=each, **{**values, **one}, **self.fields)
            for each, one in zip(seeds, wanted, strict=True)
        ]
        return _Run(descriptions, finish, self.tape.batch_size)

    @cached_property
    def _units(self) -> list[Any]:
        return [unit for one in self.read.values() for unit in one.units]

    @cached_property
    def _groups(self) -> list[list[int]]:
        """The units that each circuit is read for."""
        return groups(self._units)

    @cached_property
    def _measured(self) -> list[list[Any]]:
        """The wires that each circuit measures, in their order."""
        return [
            list(dict.fromkeys(w for unit in group for turn in self._units[unit].turns for w in turn.wires))
            or self.wires[:1]
            for group in self._groups
        ]

    @cached_property
    def _circuits(self) -> list[QuantumCircuit]:
        made = []
        for group, wires in zip(self._groups, self._measured, strict=True):
            turns: list[Any] = []
            for unit in group:
                turns += [turn for turn in self._units[unit].turns if turn not in turns]
            script = QuantumScript([gate for turn in turns for gate in turn.gates])
            circuit = self.gates[0].compose(circuit_on(script, self.wires)[0])
            register = ClassicalRegister(len(wires), "wires")
            circuit.add_register(register)
            circuit.measure([self.wires.index(wire) for wire in wires], register)
            made.append(circuit)
        return made

    def _off_circuits(self, results: list[Any], rng: np.random.Generator) -> dict[int, Any]:
        """The measurements that are read off the shared circuits."""
        values: dict[int, Any] = {}
        for group, wires, outcomes in zip(self._groups, self._measured, results, strict=True):
            bits = outcomes.bits("wires").astype(np.int64)
            weights = outcomes.weights if outcomes.shots is None else None
            bits = bits if weights is not None else bits[shot_order(outcomes, rng)]
            values.update({unit: self._units[unit].read(bits, weights, wires) for unit in group})
        left = iter(range(len(self._units)))
        return {number: one.combine([values[next(left)] for _ in one.units]) for number, one in self.read.items()}


def _stacked(values: list[Any]) -> Any:
    """The values of one measurement for all sets; counts are a list."""
    return values if isinstance(values[0], dict) else np.stack(values)


def _is_pauli_sum(measurement: Any) -> bool:
    return type(measurement) is ExpectationMP and measurement.obs is not None and measurement.obs.pauli_rep is not None


def _operator(observable: Any, wires: list[Any]) -> SparsePauliOp:
    """A Pauli sum on the circuit's qubits."""
    terms = [
        ("".join(word.values()), [wires.index(wire) for wire in word], coefficient)
        for coefficient, sentence in parts_of(observable)
        for word in sentence
    ]
    return SparsePauliOp.from_sparse_list(terms, num_qubits=max(1, len(wires)))
