"""PennyLane's tapes and QNodes as circuits.

Wire `i` of the tape becomes qubit `i`; wires with other labels take the numbers that are left, as they appear. What is
sampled, counted or asked for its probabilities is measured at the end, in the order of the measurement's wires:
PennyLane writes the first wire leftmost, Qiskit the first bit rightmost. Expectation values measure nothing.
Measurements in the middle get a classical bit each, first.

This module never imports PennyLane: who hands one of its objects over has done so.
"""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import ClassicalRegister, Clbit, Parameter, QuantumCircuit, QuantumRegister, library

from pilot.errors import DescriptionError, invalid
from pilot.quantum.programs.conditions import condition_of
from pilot.quantum.programs.pennylane_gates import GATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from qiskit.circuit import Gate

#: Gates without a decomposition are taken by their matrices up to this width.
_MAX_MATRIX_QUBITS = 8
_MAX_DEPTH = 64


def is_pennylane(given: Any) -> bool:
    """It is an object of PennyLane's."""
    return type(given).__module__.partition(".")[0] == "pennylane"


def loads(given: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> QuantumCircuit:
    """The circuit of a tape, or of a QNode called with these arguments, whose device says which wires there are.

    Raises:
        DescriptionError: it is neither, a QNode's arguments are missing, an operation has no counterpart, or its
            measurements cannot be read off one circuit.
    """
    qml: Any = sys.modules["pennylane"]
    wires: Sequence[Any] = ()
    if isinstance(given, qml.QNode):
        wires = given.device.wires or ()
        given = _tape(qml, given, args, kwargs or {})
    return _reader(qml, given, wires).circuit()


def state_circuit(given: Any) -> QuantumCircuit:
    """The circuit of a tape without what is measured at its end, nor the gates that turn that into another basis.

    Raises:
        DescriptionError: as `loads`.
    """
    return _reader(sys.modules["pennylane"], given, ()).gates()


def _reader(qml: Any, tape: Any, wires: Sequence[Any]) -> _Reader:
    if not isinstance(tape, qml.tape.QuantumScript):
        raise invalid("circuit", tape, "a tape or QNode of PennyLane", shown=type(tape).__name__)
    if tape.batch_size is not None:
        raise DescriptionError(
            f"PennyLane: the tape has {tape.batch_size} values for one parameter; give one tape for each value"
        )
    return _Reader(qml, tape, _qubits_of(qml.wires.Wires.all_wires([wires, tape.wires])))


def circuit_on(tape: Any, wires: Sequence[Any]) -> tuple[QuantumCircuit, dict[str, NDArray[np.float64]]]:
    """The circuit of a tape's operations, where ``wires[i]`` is qubit `i`, and the values of its free parameters.

    A tape with several values for a parameter gives a circuit with a free parameter there: name → `(batch_size,)`.

    Raises:
        DescriptionError: an operation has no counterpart.
    """
    reader = _Reader(sys.modules["pennylane"], tape, {wire: number for number, wire in enumerate(wires)})
    return reader.gates(), reader.values


def _tape(qml: Any, qnode: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    try:
        return qml.workflow.construct_tape(qnode)(*args, **kwargs)
    except TypeError as error:
        if args or kwargs:
            raise
        raise DescriptionError(
            f"PennyLane: the QNode takes arguments: give them as `args=(...)`, or its tape: {error}", given=qnode
        ) from error


class _Reader:
    def __init__(self, qml: Any, tape: Any, qubits: Mapping[Any, int]) -> None:
        self._qml = qml
        self._tape = tape
        self._wires = qubits
        self._middle: dict[Any, Clbit] = {}
        #: Of free parameters, by their names.
        self.values: dict[str, NDArray[np.float64]] = {}
        self._circuit = QuantumCircuit(QuantumRegister(1 + max(self._wires.values(), default=0), "q"))

    def circuit(self) -> QuantumCircuit:
        """With what is measured at its end."""
        self.gates()
        self._final()
        return self._circuit

    def gates(self) -> QuantumCircuit:
        """Without it."""
        middle = sum(_is_measurement(each) for each in self._tape.operations)
        if middle:
            self._circuit.add_register(ClassicalRegister(middle, "mid"))
        for operation in self._tape.operations:
            self._operation(operation, 0)
        return self._circuit

    def _qubits(self, operation: Any) -> list[int]:
        return [self._wires[wire] for wire in operation.wires]

    def _operation(self, operation: Any, depth: int) -> None:
        name = operation.name
        if depth > _MAX_DEPTH:
            raise DescriptionError(f"PennyLane: the decomposition of {name} is nested deeper than {_MAX_DEPTH}")
        if not is_pennylane(operation):  # the user's own, also under a known name
            self._gate(operation, depth)
        elif _is_measurement(operation):
            self._measure(operation)
        elif name == "Barrier":
            self._circuit.barrier(self._qubits(operation))
        elif name in ("Snapshot", "WireCut"):
            return
        elif name == "GlobalPhase":
            self._circuit.global_phase -= self._number(operation.data[0])
        elif name.startswith("Conditional(") and hasattr(operation, "meas_val"):
            condition = self._condition(operation.meas_val)
            with self._circuit.if_test(condition):
                self._operation(operation.base, depth + 1)
        else:
            self._gate(operation, depth)

    def _gate(self, operation: Any, depth: int) -> None:
        gate = self._known(operation)
        if gate is not None:
            self._circuit.append(gate, self._qubits(operation))
            return
        if operation.has_decomposition:
            with self._qml.queuing.QueuingManager.stop_recording():
                parts = operation.decomposition()
            for part in parts:
                self._operation(part, depth + 1)
        elif operation.has_matrix and len(operation.wires) <= _MAX_MATRIX_QUBITS:
            matrix = np.asarray(self._qml.matrix(operation, wire_order=list(operation.wires)[::-1]))
            self._circuit.append(library.UnitaryGate(matrix, check_input=True), self._qubits(operation))
        else:
            raise DescriptionError(f"PennyLane: the operation {operation.name} has no decomposition and no matrix")

    def _known(self, operation: Any) -> Gate | None:
        """Qiskit's gate, also for the adjoint and the controlled of a known one."""
        ops = self._qml.ops.op_math
        if operation.name in GATES and is_pennylane(operation):
            return GATES[operation.name](*map(self._number, operation.data))
        if isinstance(operation, ops.Adjoint):
            base = self._known(operation.base)
            return None if base is None else base.inverse()
        if isinstance(operation, ops.Controlled) and not operation.work_wires:
            base = self._known(operation.base)
            if base is None:
                return None
            state = "".join("1" if value else "0" for value in reversed(operation.control_values))
            gate: Gate = base.control(len(state), ctrl_state=state, annotated=False)
            return gate
        return None

    def _number(self, value: Any) -> float | Parameter:
        """A gate's angle; a free parameter for one with several values."""
        numbers = np.asarray(value)
        if np.iscomplexobj(numbers) and np.abs(numbers.imag).max(initial=0.0) > 1e-12:
            raise DescriptionError(f"PennyLane: the angle {value} is not valid; expected a real number")
        if numbers.ndim == 0:
            return float(numbers.real)
        parameter = Parameter(f"value{len(self.values)}")
        self.values[parameter.name] = numbers.real.astype(np.float64)
        return parameter

    def _measure(self, operation: Any) -> None:
        if operation.postselect is not None:
            raise DescriptionError("PennyLane: postselection cannot be expressed: select among the outcomes instead")
        (qubit,) = self._qubits(operation)
        clbit = self._circuit.cregs[0][len(self._middle)]
        self._middle[_identity(operation)] = clbit
        self._circuit.measure(qubit, clbit)
        if operation.reset:
            self._circuit.reset(qubit)

    def _condition(self, value: Any) -> Any:
        """The outcomes for which it is true, as one condition."""
        bits = [self._middle[_identity(each)] for each in value.measurements]
        rows = [False] * 2 ** len(bits)
        for outcome, result in value.items():
            rows[sum(int(digit) << place for place, digit in enumerate(outcome))] = bool(result)
        return condition_of(bits, rows)

    def _final(self) -> None:
        kinds = self._qml.measurements
        wires: list[Any] = []
        bases: dict[Any, list[Any]] = {}
        for measurement in self._tape.measurements:
            averaged = isinstance(measurement, kinds.ExpectationMP | kinds.VarianceMP)
            if averaged or not isinstance(measurement, kinds.SampleMeasurement) or measurement.mv is not None:
                continue
            its_wires = measurement.wires or sorted(self._wires, key=self._wires.__getitem__)
            try:
                rotations = measurement.diagonalizing_gates()
            except self._qml.exceptions.OperatorPropertyUndefined as error:
                raise DescriptionError(
                    f"PennyLane: {type(measurement.obs).__name__} has no gates that turn it into the computational "
                    "basis; give its terms, or its expectation value as `observables`"
                ) from error
            self._rotate(bases, its_wires, rotations)
            wires += [wire for wire in its_wires if wire not in wires]
        if wires:
            register = ClassicalRegister(len(wires), "c")
            self._circuit.add_register(register)
            self._circuit.measure([self._wires[wire] for wire in wires], register)

    def _rotate(self, bases: dict[Any, list[Any]], wires: Any, rotations: Sequence[Any]) -> None:
        """Turn wires into a measurement's basis, each wire once; `bases` has those that are turned already."""
        new = []
        for wire in wires:
            touching = [gate for gate in rotations if wire in gate.wires]
            if wire not in bases:
                bases[wire] = touching
                new += [gate for gate in touching if gate not in new]
            elif not _are_equal(self._qml, bases[wire], touching):
                raise DescriptionError(
                    f"PennyLane: two measurements of the tape are in different bases on wire {wire!r}, and a circuit "
                    "measures a wire once: give a tape for each (qml.transforms.split_non_commuting makes them)"
                )
        if any(wire in bases and gate not in bases[wire] for gate in new for wire in gate.wires):
            raise DescriptionError("PennyLane: two measurements of the tape overlap on some wires only in one basis")
        for gate in rotations:
            if gate in new:
                self._operation(gate, 0)


#: A tape's integer wires may be so large.
_MAX_QUBITS = 10_000


def _qubits_of(wires: Any) -> dict[Any, int]:
    """Integer wires are qubits of that number; others take the numbers that are left, as they appear.

    Raises:
        DescriptionError: an integer is negative or too large for a qubit's number.
    """
    numbers = {wire: int(wire) for wire in wires if isinstance(wire, int | np.integer) and not isinstance(wire, bool)}
    wrong = [wire for wire in numbers if not 0 <= wire < _MAX_QUBITS]
    if wrong:
        raise DescriptionError(
            f"PennyLane: wire {wrong[0]} is not valid; expected 0 to {_MAX_QUBITS - 1}: qml.map_wires renames wires"
        )
    taken = set(numbers.values())
    free = (number for number in count() if number not in taken)
    return {wire: numbers[wire] if wire in numbers else next(free) for wire in wires}


def _are_equal(qml: Any, first: Sequence[Any], second: Sequence[Any]) -> bool:
    return len(first) == len(second) and all(qml.equal(one, other) for one, other in zip(first, second, strict=True))


def _is_measurement(operation: Any) -> bool:
    return bool(operation.name == "MidMeasureMP" and is_pennylane(operation))


def _identity(measurement: Any) -> Any:
    hyperparameters = getattr(measurement, "hyperparameters", {})
    return hyperparameters.get("meas_uid") or getattr(measurement, "id", None) or id(measurement)
