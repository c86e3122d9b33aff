"""How circuits travel to a worker: as QPY, with what QPY (Qiskit 2.6) loses or cannot carry written another way.

QPY forgets the unit of a delay and that a state preparation is an inverse, and it cannot read back many gates of
Qiskit's library. Delays travel under names that have the unit; other operations that do not come back as they were
travel as their definitions.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import AnnotatedOperation, Barrier, ControlFlowOp, ControlledGate, Delay, Gate, Instruction, Measure
from qiskit.circuit.library import PauliGate, UnitaryGate
from qiskit.exceptions import QiskitError

from pilot.errors import DescriptionError
from pilot.quantum.programs.definitions import is_library, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qiskit.circuit import Operation

#: Before the unit, in the name under which a delay travels.
_DELAY = "travelling_delay_"
_UNITS = frozenset({"s", "ms", "us", "ns", "ps"})
#: Operations that come back from QPY as they were, whatever their parameters.
_SAFE = (Measure, Barrier, UnitaryGate, PauliGate)


def pack(circuits: QuantumCircuit | Iterable[QuantumCircuit]) -> bytes:
    """One circuit or many as QPY, the form in which they travel.

    Raises:
        DescriptionError: an operation cannot travel: QPY does not carry it, and it has no definition.
    """
    many = [circuits] if isinstance(circuits, QuantumCircuit) else circuits
    return _dumped([_mapped(circuit, _departing) for circuit in many])


def unpack(payload: bytes) -> list[QuantumCircuit]:
    """The circuits that `pack` made `payload` from, in their order."""
    circuits = _loaded(payload)
    if _DELAY.encode() not in payload:
        return circuits
    return [_mapped(circuit, _arriving) for circuit in circuits]


def _dumped(circuits: list[QuantumCircuit]) -> bytes:
    buffer = io.BytesIO()
    qpy.dump(circuits, buffer)
    return buffer.getvalue()


def _loaded(payload: bytes) -> list[QuantumCircuit]:
    circuits: list[QuantumCircuit] = qpy.load(io.BytesIO(payload))
    return circuits


def _mapped(circuit: QuantumCircuit, change: Callable[[Operation], Operation]) -> QuantumCircuit:
    """The circuit with operations changed, also in blocks and in definitions; itself where none is."""
    changes = {}
    for place, entry in enumerate(circuit.data):
        if entry.is_standard_gate():
            continue
        operation = entry.operation
        new = _changed(operation, change)
        if new is not operation:
            changes[place] = entry.replace(operation=new)
    if not changes:
        return circuit
    result: QuantumCircuit = circuit.copy_empty_like()
    for place, entry in enumerate(circuit.data):
        result._append(changes.get(place, entry))
    return result


def _changed(operation: Operation, change: Callable[[Operation], Operation]) -> Operation:
    if isinstance(operation, ControlFlowOp):
        blocks = [_mapped(block, change) for block in operation.blocks]
        same = all(new is old for new, old in zip(blocks, operation.blocks, strict=True))
        return operation if same else operation.replace_blocks(blocks)
    new = change(operation)
    if new is not operation or not _is_own(operation):
        return new
    inner = _mapped(operation.definition, change)
    return operation if inner is operation.definition else _with_definition(operation, inner)


def _is_own(operation: Operation) -> bool:
    """QPY writes its definition, not its class."""
    return (
        isinstance(operation, Instruction)
        and not isinstance(operation, ControlledGate)
        and not is_library(operation)
        and operation.definition is not None
    )


def _with_definition(operation: Any, definition: QuantumCircuit, name: str | None = None) -> Instruction:
    name = name or operation.name
    if any(entry.clbits or not isinstance(entry.operation, Gate) for entry in definition.data):
        new = Instruction(name, definition.num_qubits, definition.num_clbits, [])
    else:
        new = Gate(name, definition.num_qubits, [])
    new.definition = definition
    return new


def _departing(operation: Operation) -> Operation:
    if isinstance(operation, Delay):
        if operation.unit in _UNITS:
            return Instruction(f"{_DELAY}{operation.unit}", 1, 0, [operation.duration])
        return operation
    if isinstance(operation, _SAFE) or not _by_class(operation) or _comes_back(operation):
        return operation
    try:
        definition = opened(operation)
    except (QiskitError, TypeError, ValueError):
        definition = None
    if definition is None:
        raise DescriptionError(
            f"TaskDescription.circuit: the operation {operation.name!r} cannot be sent to a worker: it has no "
            "definition with its parameters as they are; give its parameters values, or write it as gates before",
            field="circuit",
        )
    return _with_definition(operation, _mapped(definition, _departing), f"{operation.name}_defined")


def _by_class(operation: Operation) -> bool:
    """QPY makes it again from its class and its parameters."""
    return is_library(operation) or isinstance(operation, AnnotatedOperation | ControlledGate)


def _comes_back(operation: Operation) -> bool:
    """QPY gives the operation as it was."""
    circuit = QuantumCircuit(operation.num_qubits, operation.num_clbits)
    circuit.append(operation, circuit.qubits, circuit.clbits)
    try:
        back = _loaded(_dumped([circuit]))[0].data[0].operation
    except (QiskitError, TypeError, ValueError, AttributeError, LookupError):
        return False
    return _is_same(operation, back)


def _is_same(first: Any, second: Any) -> bool:
    if getattr(first, "base_class", type(first)) is not getattr(second, "base_class", type(second)):
        return False
    if first.name != second.name or first.num_qubits != second.num_qubits:
        return False
    if isinstance(first, AnnotatedOperation):
        return bool(first.modifiers == second.modifiers) and _is_same(first.base_op, second.base_op)
    if isinstance(first, ControlledGate):
        return bool(first.ctrl_state == second.ctrl_state) and _is_same(first.base_gate, second.base_gate)
    if len(first.params) != len(second.params):
        return False
    return all(
        isinstance(one, int) is isinstance(other, int) and np.array_equal(one, other)
        for one, other in zip(first.params, second.params, strict=True)
    )


def _arriving(operation: Operation) -> Operation:
    if operation.name.startswith(_DELAY):
        return Delay(operation.params[0], unit=operation.name.removeprefix(_DELAY))
    return operation
