"""What a gate is made of, its inverse, and how the operations of a circuit are replaced."""

from __future__ import annotations

import warnings
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
from qiskit.circuit.library import (
    HamiltonianGate,
    IGate,
    PauliEvolutionGate,
    UnitaryGate,
    get_standard_gate_name_mapping,
)
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Operator, SparsePauliOp
from qiskit.synthesis import OneQubitEulerDecomposer
from qiskit.transpiler.passes import HighLevelSynthesis

from pilot.errors import DescriptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qiskit.circuit import CircuitInstruction, Operation


@lru_cache(maxsize=1)
def standard_gates() -> dict[str, Gate]:
    """Qiskit's gates by name, with parameters to be replaced."""
    return {name: gate for name, gate in get_standard_gate_name_mapping().items() if isinstance(gate, Gate)}


def is_library(operation: Operation) -> bool:
    """The operation is of a class of Qiskit's library, not merely of the same name."""
    base = getattr(operation, "base_class", type(operation))
    return str(base.__module__).startswith("qiskit.circuit.library")


def is_standard(operation: Operation) -> bool:
    base = getattr(operation, "base_class", type(operation))
    return str(base.__module__).startswith("qiskit.circuit.library.standard_gates.")


def opened(operation: Operation) -> QuantumCircuit | None:
    """The circuit that an operation stands for; None if it has none."""
    if isinstance(operation, AnnotatedOperation) and isinstance(operation.base_op, IGate):
        return QuantumCircuit(operation.num_qubits)
    if isinstance(operation, AnnotatedOperation) and _has_free_time(operation.base_op):
        return _synthesised(AnnotatedOperation(_evolution(operation.base_op).to_gate(), operation.modifiers))
    if _has_free_time(operation):
        return _evolution(operation)
    definition = getattr(operation, "definition", None)
    if isinstance(definition, QuantumCircuit):
        return definition
    if isinstance(operation, Instruction) and not isinstance(operation, Gate):
        return None
    if type(operation) is Gate:  # opaque
        return None
    if isinstance(operation, Gate) and (matrix := _matrix_of(operation)) is not None:
        circuit = QuantumCircuit(operation.num_qubits)
        circuit.append(matrix, circuit.qubits)
        return circuit
    return _synthesised(operation)


def is_approximate(operation: Operation) -> bool:
    """Qiskit's matrix of it is not that of the gates that it is made of.

    The matrix of a ``PauliEvolutionGate`` is the exact evolution; its gates are the product formula that its
    ``synthesis`` asks for, and what a device runs.
    """
    if isinstance(operation, PauliEvolutionGate):
        return True
    made_of = None if is_library(operation) else getattr(operation, "definition", None)
    return made_of is not None and any(
        is_approximate(entry.operation) for entry in made_of.data if not entry.is_standard_gate()
    )


def _has_free_time(operation: Operation) -> bool:
    return isinstance(operation, HamiltonianGate) and isinstance(operation.params[1], ParameterExpression)


def _matrix_of(gate: Gate) -> UnitaryGate | None:
    """The matrix of a class that has nothing but a matrix; None: it has none, or needs values for it."""
    try:
        return UnitaryGate(np.array(gate.to_matrix()))
    except Exception:  # of a class of the user's
        return None


def _synthesised(operation: Operation) -> QuantumCircuit | None:
    circuit = QuantumCircuit(operation.num_qubits, operation.num_clbits)
    circuit.append(operation, circuit.qubits, circuit.clbits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of missing auxiliary qubits: an error follows
            synthesised: QuantumCircuit = HighLevelSynthesis(
                basis_gates=["u", "cx", "id"],
                qubits_initially_zero=False,  # its own qubits hold a state
            )(circuit)
    except Exception:  # of many kinds: it calls classes of the user's, and asks barriers for their control
        return None
    if any(each.operation.name == operation.name for each in synthesised.data):
        return None
    return synthesised


def _evolution(gate: HamiltonianGate) -> QuantumCircuit:
    """exp(-i H t) with a free t, which Qiskit has no definition for: H = V D V†, and the terms of D commute."""
    matrix, time = gate.params
    energies, vectors = np.linalg.eigh(np.asarray(matrix))
    circuit = QuantumCircuit(gate.num_qubits)
    circuit.append(UnitaryGate(vectors.conj().T), circuit.qubits)
    circuit.append(PauliEvolutionGate(SparsePauliOp.from_operator(np.diag(energies)), time), circuit.qubits)
    circuit.append(UnitaryGate(vectors), circuit.qubits)
    return circuit


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
    """The inverse of a gate, or of a directive, which stays.

    Qiskit's own of a controlled `CUGate` forgets that gate's fourth angle. That of a controlled gate whose angles got
    their values in a circuit has its angles free again: Qiskit gives the values to what the controlled gate is made of,
    but not to what its base gate is made of.

    Raises:
        DescriptionError: the gate has no definition.
    """
    if not _controls_cu(gate):
        try:
            inverse: Gate = gate.inverse()
        except Exception:  # its class, or that of a gate in it, has none, or does not take its own arguments
            pass
        else:
            if is_standard(gate) or free_parameters(inverse) <= free_parameters(gate):
                return inverse
    made_of = opened(gate)
    if made_of is None:
        raise DescriptionError(
            f"gate {gate.name!r} has no inverse: its class gives none, and it has no definition", given=gate
        )
    return _inverted(gate.name, made_of)


def _inverted(name: str, made_of: QuantumCircuit) -> Gate:
    """A gate of the inverses of all that another one is made of."""
    result = made_of.copy_empty_like()
    result.global_phase = -made_of.global_phase
    for entry in reversed(made_of.data):
        result.append(inverse_of(entry.operation), entry.qubits)
    gate = Gate(f"{name}_dg", result.num_qubits, list(result.parameters))
    gate.definition = result
    return gate


def free_parameters(operation: Operation) -> set[Parameter]:
    """The free parameters of an operation, and of all that it is made of."""
    found = {one for each in getattr(operation, "params", ()) for one in getattr(each, "parameters", ())}
    made_of = getattr(operation, "definition", None)
    if made_of is not None:
        found.update(made_of.parameters)
        for entry in made_of.data:
            if not entry.is_standard_gate():
                found |= free_parameters(entry.operation)
    return found


def _controls_cu(operation: Operation) -> bool:
    return type(operation) is ControlledGate and operation.base_gate.name == "u"


def append(circuit: QuantumCircuit, entries: Iterable[CircuitInstruction]) -> QuantumCircuit:
    """The circuit with these entries at its end, whose bits are its own.

    They are not checked: Qiskit's public `append` checks each, and takes tens of times longer.
    """
    for entry in entries:
        circuit._append(entry)
    return circuit


def expanded(circuit: QuantumCircuit, contents: Callable[[Operation], QuantumCircuit | None]) -> QuantumCircuit:
    """The circuit with operations replaced by what they are made of, again and again.

    Args:
        circuit: returned itself where nothing is replaced.
        contents: what an operation is replaced by; None: it stays.
    """
    found = {}
    for place, entry in enumerate(circuit.data):
        inner = contents(entry.operation)
        if inner is not None:
            found[place] = expanded(inner, contents)
    if not found:
        return circuit
    result: QuantumCircuit = circuit.copy_empty_like()
    for place, entry in enumerate(circuit.data):
        inner = found.get(place)
        if inner is None:
            append(result, [entry])
            continue
        result.global_phase += inner.global_phase
        for part in inner.data:
            qubits = [entry.qubits[inner.find_bit(qubit).index] for qubit in part.qubits]
            clbits = [entry.clbits[inner.find_bit(clbit).index] for clbit in part.clbits]
            append(result, [part.replace(qubits=qubits, clbits=clbits)])
    return result


def steps_of(loop: Any) -> Iterator[QuantumCircuit]:
    """The bodies of a for loop, one a round, with its variable's value put in."""
    indices, parameter, body = loop.params
    for value in indices:
        if isinstance(parameter, Parameter) and parameter in body.parameters:
            yield body.assign_parameters({parameter: value})
        else:
            yield body


def changed(circuit: QuantumCircuit, change: Any) -> QuantumCircuit:
    """A circuit whose operations are changed one by one; the circuit itself where none is."""
    differs = False
    data: list[CircuitInstruction] = []
    for instruction in circuit.data:
        if not instruction.is_standard_gate():
            operation = instruction.operation
            new = change(operation)
            if new is not operation:
                differs = True
                instruction = instruction.replace(operation=new)
        data.append(instruction)
    if not differs:
        return circuit
    return append(circuit.copy_empty_like(), data)


class Change:
    """A change of operations, in blocks and definitions as well."""

    def __call__(self, operation: Operation) -> Operation:
        if isinstance(operation, ControlFlowOp):
            blocks = [changed(block, self) for block in operation.blocks]
            if all(new is old for new, old in zip(blocks, operation.blocks, strict=True)):
                return operation
            return operation.replace_blocks(blocks)
        return self.change(operation)

    def change(self, operation: Operation) -> Operation:
        raise NotImplementedError
