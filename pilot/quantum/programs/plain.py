"""Circuits in the form that a text can hold: gates, their definitions and control flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qiskit.circuit import (
    AnnotatedOperation,
    ControlFlowOp,
    ControlledGate,
    Gate,
    Instruction,
    ParameterExpression,
    QuantumCircuit,
)
from qiskit.circuit.library import (
    UnitaryGate,
)

from pilot.errors import DescriptionError
from pilot.quantum.programs.definitions import (
    Change,
    changed,
    expanded,
    is_library,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Container

    from qiskit.circuit import Operation

#: Names for which Qiskit always makes its own class: no gate of a text may have them.
_BUILT_BY_NAME = frozenset({"pauli_product_rotation", "pauli_product_measurement"})


def plain(circuit: QuantumCircuit, *, reserved: Container[str] = ()) -> QuantumCircuit:
    """The circuit with all that no text can name (matrices, annotations, Cliffords) replaced by definitions.

    Instructions that are no gates are replaced by what they are made of: a text has gates alone.

    Args:
        reserved: names that no gate may have in the text.
    """
    return changed(_flat(circuit), _Plain(reserved))


def check_defined(circuit: QuantumCircuit, language: str, known: Container[str]) -> None:
    """Refuse an operation that a text would have to call without a definition.

    Args:
        language: what people call the format.
        known: names that need no definition.

    Raises:
        DescriptionError: there is one; the message names it.
    """
    for entry in circuit.data:
        operation = entry.operation
        if isinstance(operation, ControlFlowOp):
            for block in operation.blocks:
                check_defined(block, language, known)
        elif operation.name not in known:
            definition = getattr(operation, "definition", None)
            if definition is None:
                raise DescriptionError(
                    f"{language} cannot express {operation.name!r}: it has no such instruction, and it has no "
                    "definition",
                    instruction=operation.name,
                )
            check_defined(definition, language, known)


def _flat(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit, and the blocks of its control flow, without instructions that are no gates but made of such."""

    def contents(operation: Operation) -> QuantumCircuit | None:
        nested = isinstance(operation, Instruction) and not isinstance(operation, Gate | ControlFlowOp)
        return operation.definition if nested else None

    return changed(expanded(circuit, contents), _Blocks())


class _Blocks(Change):
    """Changes blocks of control flow alone."""

    def __call__(self, operation: Operation) -> Operation:
        if not isinstance(operation, ControlFlowOp):
            return operation
        blocks = [_flat(block) for block in operation.blocks]
        if all(new is old for new, old in zip(blocks, operation.blocks, strict=True)):
            return operation
        return operation.replace_blocks(blocks)


class _Plain(Change):
    def __init__(self, reserved: Container[str]) -> None:
        self._reserved = reserved
        self._names: dict[str, int] = {}
        self._done: dict[int, tuple[Operation, Operation]] = {}

    def change(self, operation: Operation) -> Operation:
        named = is_library(operation) and _is_scalar(operation) and operation.name not in _BUILT_BY_NAME
        if isinstance(operation, Gate) and named:
            return operation
        if isinstance(operation, Instruction) and not isinstance(operation, Gate):
            return operation
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
        inner = changed(_flat(definition), self)
        renamed = operation.name in self._reserved or operation.name in _BUILT_BY_NAME
        if inner is definition and _is_scalar(operation) and isinstance(operation, Instruction) and not renamed:
            return operation
        name = f"{operation.name}_defined" if renamed else operation.name
        number = self._names[name] = self._names.get(name, -1) + 1
        name = f"{name}_{number}" if number else name
        new = Gate(name, operation.num_qubits, list(inner.parameters))
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
