"""What a gate is made of, and which gates are Qiskit's own: what readers and writers share."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import (
    AnnotatedOperation,
    ControlFlowOp,
    ControlledGate,
    Gate,
    Instruction,
    Parameter,
    ParameterExpression,
    QuantumCircuit,
)
from qiskit.circuit.library import UnitaryGate, get_standard_gate_name_mapping
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Operator
from qiskit.synthesis import OneQubitEulerDecomposer
from qiskit.transpiler.passes import HighLevelSynthesis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qiskit.circuit import CircuitInstruction, Operation

#: Gates up to this width are compared by their matrices.
_MAX_COMPARED = 4
#: Names that simulators and compilers give a meaning of their own.
_TAKEN = {
    "barrier",
    "break_loop",
    "continue_loop",
    "delay",
    "diagonal",
    "for_loop",
    "if_else",
    "initialize",
    "jump",
    "kraus",
    "mark",
    "mcp",
    "mcphase",
    "mcr",
    "mcrx",
    "mcry",
    "mcrz",
    "mcsx",
    "mcswap",
    "mcu",
    "mcu1",
    "mcu2",
    "mcu3",
    "mcx",
    "mcx_gray",
    "mcy",
    "mcz",
    "measure",
    "multiplexer",
    "pauli",
    "qerror_loc",
    "quantum_channel",
    "reset",
    "roerror",
    "snapshot",
    "store",
    "superop",
    "switch_case",
    "unitary",
    "while_loop",
}


@lru_cache(maxsize=1)
def standard_gates() -> dict[str, Gate]:
    """Qiskit's gates by name, with parameters to be replaced."""
    return {name: gate for name, gate in get_standard_gate_name_mapping().items() if isinstance(gate, Gate)}


def is_library(operation: Operation) -> bool:
    """The operation is of a class of Qiskit's library, not merely of the same name."""
    base = getattr(operation, "base_class", type(operation))
    return str(base.__module__).startswith("qiskit.circuit.library")


def opened(operation: Operation) -> QuantumCircuit | None:
    """The circuit that an operation stands for; None if it has none."""
    definition = getattr(operation, "definition", None)
    if isinstance(definition, QuantumCircuit):
        return definition
    if isinstance(operation, Instruction) and not isinstance(operation, Gate):
        return None
    if type(operation) is Gate:  # opaque
        return None
    circuit = QuantumCircuit(operation.num_qubits, operation.num_clbits)
    circuit.append(operation, circuit.qubits, circuit.clbits)
    try:
        synthesised: QuantumCircuit = HighLevelSynthesis(basis_gates=["u", "cx"])(circuit)
    except QiskitError:
        return None
    if any(each.operation.name == operation.name for each in synthesised.data):
        return None
    return synthesised


def one_qubit_angles(operation: Operation) -> tuple[float, float, float, float] | None:
    """(a, b, g, d) with the operation = e^(i a) RZ(b) RY(g) RZ(d), its exact phase; None if it is no fixed gate."""
    if not isinstance(operation, Gate) or any(
        isinstance(each, ParameterExpression) and each.parameters for each in operation.params
    ):
        return None
    try:
        theta, phi, lam, phase = OneQubitEulerDecomposer("ZYZ").angles_and_phase(Operator(operation).data)
    except (QiskitError, TypeError, ValueError):
        return None
    return float(phase), float(phi), float(theta), float(lam)


def inverse_of(gate: Gate) -> Gate:
    """The inverse; Qiskit's own of a controlled `CUGate` forgets that gate's fourth angle."""
    if type(gate) is ControlledGate and gate.base_gate.name == "u":
        inverse: Gate = gate.definition.inverse().to_gate()
        return inverse
    return gate.inverse()


def steps_of(loop: Any) -> Iterator[QuantumCircuit]:
    """The bodies of a for loop, one a round, with its variable's value put in."""
    indices, parameter, body = loop.params
    for value in indices:
        if isinstance(parameter, Parameter) and parameter in body.parameters:
            yield body.assign_parameters({parameter: value})
        else:
            yield body


def plain(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with all that no text can name (matrices, annotations, Cliffords) replaced by definitions."""
    return _mapped(circuit, _Plain())


def standardised(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with gates that a text defines replaced by Qiskit's own, where their matrices agree.

    A gate that has the name of one of Qiskit's or of a simulator's and is another one gets another name: a
    compiler knows gates by their names alone.
    """
    return _mapped(circuit, _Standard(exact=False))


def _mapped(circuit: QuantumCircuit, change: Any) -> QuantumCircuit:
    """A circuit whose operations are changed one by one; the circuit itself where none is."""
    changed = False
    data: list[CircuitInstruction] = []
    for instruction in circuit.data:
        operation = instruction.operation
        new = change(operation)
        if new is not operation:
            changed = True
            instruction = instruction.replace(operation=new)
        data.append(instruction)
    if not changed:
        return circuit
    result: QuantumCircuit = circuit.copy_empty_like()
    for instruction in data:
        result._append(instruction)
    return result


class _Change:
    """A change of operations, in blocks and definitions as well."""

    def __call__(self, operation: Operation) -> Operation:
        if isinstance(operation, ControlFlowOp):
            blocks = [_mapped(block, self) for block in operation.blocks]
            if all(new is old for new, old in zip(blocks, operation.blocks, strict=True)):
                return operation
            return operation.replace_blocks(blocks)
        return self.change(operation)

    def change(self, operation: Operation) -> Operation:
        raise NotImplementedError


class _Plain(_Change):
    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._done: dict[int, tuple[Operation, Operation]] = {}

    def change(self, operation: Operation) -> Operation:
        if is_library(operation) and _is_scalar(operation) and isinstance(operation, Gate):
            return operation
        if isinstance(operation, Instruction) and not isinstance(operation, Gate):
            return operation if _is_scalar(operation) else self._rewritten(operation)
        return self._rewritten(operation)

    def _rewritten(self, operation: Operation) -> Operation:
        if id(operation) in self._done:
            return self._done[id(operation)][1]
        if isinstance(operation, ControlledGate) and _is_scalar(operation):
            new: Operation = operation
        else:
            new = self._opened(operation)
        self._done[id(operation)] = (operation, new)
        return new

    def _opened(self, operation: Operation) -> Operation:
        definition = opened(operation)
        if definition is None:
            return operation
        inner = _mapped(definition, self)
        if inner is definition and _is_scalar(operation) and isinstance(operation, Instruction):
            return operation
        number = self._names[operation.name] = self._names.get(operation.name, -1) + 1
        name = f"{operation.name}_{number}" if number else operation.name
        if isinstance(operation, Instruction) and not isinstance(operation, Gate):
            new = Instruction(name, operation.num_qubits, operation.num_clbits, [])
        else:
            new = Gate(name, operation.num_qubits, [])
        new.definition = inner
        return new


class _Standard(_Change):
    """In a circuit, gates that differ by a global phase are one; in a definition, which may be controlled, not."""

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._inner = self if exact else _Standard(exact=True)
        self._done: dict[tuple[str, tuple[Any, ...]], tuple[Operation, Operation]] = {}

    def change(self, operation: Operation) -> Operation:
        if is_library(operation) or not isinstance(operation, Gate) or isinstance(operation, ControlledGate):
            return operation
        key = (operation.name, tuple(operation.params))
        if key not in self._done:
            self._done[key] = (operation, self._changed(operation))
        return self._done[key][1]

    def _changed(self, operation: Gate) -> Operation:
        same = _same_name(operation)
        if same is not None and _agree(operation, same, self._exact):
            return same
        definition = operation.definition
        inner = _mapped(definition, self._inner) if definition is not None else None
        taken = operation.name in standard_gates() or operation.name in _TAKEN
        if not taken and inner is definition and type(operation) is Gate:
            return operation
        new = Gate(f"{operation.name}_defined" if taken else operation.name, operation.num_qubits, operation.params)
        new.definition = inner
        return new


def _is_scalar(operation: Operation) -> bool:
    """All parameters are numbers that a text can hold."""
    if isinstance(operation, AnnotatedOperation | UnitaryGate):
        return False
    parameters = getattr(operation, "params", None)
    return parameters is not None and all(
        isinstance(each, int | float | np.number | ParameterExpression) and not isinstance(each, complex)
        for each in parameters
    )


def _same_name(operation: Gate) -> Gate | None:
    """Qiskit's gate of the same name and shape, with the same parameters."""
    gate = standard_gates().get(operation.name)
    if gate is None or gate.num_qubits != operation.num_qubits or len(gate.params) != len(operation.params):
        return None
    same: Gate = type(gate)(*operation.params) if type(gate).__name__ != "_SingletonGate" else gate
    return same


def _agree(first: Gate, second: Gate, exact: bool) -> bool:
    """One matrix; gates with free parameters are compared for one choice of values, which has no symmetry."""
    if first.num_qubits > _MAX_COMPARED or first.definition is None:
        return False
    circuits = []
    for gate in (first, second):
        circuit = QuantumCircuit(gate.num_qubits)
        circuit.append(gate, circuit.qubits)
        circuits.append(circuit)
    parameters = sorted({*circuits[0].parameters}, key=lambda each: str(each.name))
    values = {each: 0.3 + 0.71 * place for place, each in enumerate(parameters)}
    one, other = (Operator(circuit.assign_parameters(values, strict=False)) for circuit in circuits)
    return bool(np.allclose(one.data, other.data, atol=1e-10)) if exact else bool(one.equiv(other, atol=1e-10))
