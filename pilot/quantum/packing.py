"""How circuits travel: as QPY, many in one payload, with what QPY (Qiskit 2.6) loses written in another way."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit, qpy
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    BreakLoopOp,
    ContinueLoopOp,
    ControlledGate,
    Delay,
    Gate,
    Instruction,
    Measure,
    ParameterExpression,
    Reset,
    Store,
    library,
)
from qiskit.quantum_info import Clifford
from qiskit.synthesis import ProductFormula

from pilot.errors import DescriptionError
from pilot.quantum.blocks import with_qubits
from pilot.quantum.branching import with_plain_conditions
from pilot.quantum.programs.definitions import Change, changed, opened
from pilot.quantum.programs.gate_names import defined, truly_named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qiskit.circuit import Operation

#: Of Qiskit's library, beside the standard gates, these come back from QPY as they were. All others are written as
#: definitions: of some it loses arguments, others it cannot read again.
_KEPT = (
    *(Barrier, BreakLoopOp, ContinueLoopOp, Measure, Reset, Store),
    *(
        Clifford,
        library.DiagonalGate,
        library.Initialize,
        library.LinearFunction,
        library.PauliGate,
        library.PauliProductMeasurement,
    ),
    *(library.PauliProductRotationGate, library.PermutationGate, library.QFTGate, library.UnitaryGate),
)
#: QPY keeps no unit of a delay: one in another unit than "dt" travels as an instruction whose name has the unit.
_DELAY = "delay in "


@dataclass(frozen=True)
class Packed:
    """A circuit with the form in which it travels, by which it is compared: what is kept for it in a cache is not found
    any more when the circuit has changed."""

    payload: bytes
    circuit: QuantumCircuit = field(compare=False)

    @classmethod
    def of(cls, circuit: QuantumCircuit) -> Packed:
        """Raises as `pack`."""
        return cls(pack(circuit), circuit)


def pack(circuits: QuantumCircuit | Iterable[QuantumCircuit]) -> bytes:
    """One circuit or many as QPY, the form in which they travel.

    Raises:
        DescriptionError: a circuit has something that cannot travel.
    """
    given = [circuits] if isinstance(circuits, QuantumCircuit) else list(circuits)
    buffer = io.BytesIO()
    try:
        travelling = [changed(with_qubits(circuit), _Travelling()) for circuit in given]
        qpy.dump(travelling, buffer, metadata_serializer=_Metadata)
    except DescriptionError:
        raise
    except Exception as error:  # of many kinds, by what it is that QPY does not know
        names = ", ".join(repr(circuit.name) for circuit in given[:5])
        raise DescriptionError(
            f"circuit {names} cannot travel to a worker: {error}; write what is special in it as gates "
            "(circuit.decompose())",
            field="circuit",
        ) from error
    return buffer.getvalue()


def unpack(payload: bytes) -> list[QuantumCircuit]:
    """The circuits that `pack` made `payload` from, in their order."""
    circuits = [with_plain_conditions(circuit) for circuit in qpy.load(io.BytesIO(payload))]
    if _DELAY.encode() in payload:
        return [changed(circuit, _Arrived()) for circuit in circuits]
    return circuits


class _Metadata(json.JSONEncoder):
    """What JSON cannot write of a circuit's metadata does not travel: workers do nothing with it."""

    def encode(self, o: Any) -> str:
        try:
            return super().encode(o)
        except (TypeError, ValueError, RecursionError):
            return "{}"


class _Travelling(Change):
    """Operations as QPY can write and read them."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Operation, Operation]] = {}

    def change(self, operation: Operation) -> Operation:
        if isinstance(operation, AnnotatedOperation):
            if any(isinstance(value, ParameterExpression) for value in operation.params):
                return self._written(operation)  # QPY forgets that they are the circuit's
            base = self(operation.base_op)
            return operation if base is operation.base_op else AnnotatedOperation(base, operation.modifiers)
        if isinstance(operation, Delay):
            free = isinstance(operation.duration, ParameterExpression)  # it comes back with a unit that no delay has
            if operation.unit == "expr" or (operation.unit == "dt" and not free):
                return operation
            return Instruction(_DELAY + operation.unit, 1, 0, [operation.duration], label=operation.label)
        if _comes_back(operation):
            return operation
        if id(operation) not in self._done:
            self._done[id(operation)] = (operation, self._written(operation))
        return self._done[id(operation)][1]

    def _written(self, operation: Operation) -> Operation:
        own = type(operation) in (Gate, Instruction, ControlledGate)
        definition = operation.definition if own else opened(operation)
        if definition is None:
            if own or str(type(operation).__module__).startswith("qiskit_aer."):
                return operation
            raise DescriptionError(
                f"the operation {operation.name!r} cannot travel to a worker: it has no definition in gates with its "
                "parameters as they are; give them values, or write it as gates before",
                field="circuit",
            )
        inner = changed(truly_named(definition), self)
        if inner is definition and own and _base_comes_back(operation):
            return operation
        return defined(operation, inner)


def _comes_back(operation: Operation) -> bool:
    kind = getattr(operation, "base_class", type(operation))
    if kind is library.PauliEvolutionGate:
        return isinstance(operation.synthesis, ProductFormula)  # QPY knows no other
    return kind in _KEPT or str(kind.__module__).startswith("qiskit.circuit.library.standard_gates.")


def _base_comes_back(operation: Operation) -> bool:
    """Of a controlled gate, what is controlled; QPY mistakes the arguments of a `CUGate` for those of its base."""
    base = getattr(operation, "base_gate", None)
    return base is None or (_comes_back(base) and not isinstance(base, library.UGate))


class _Arrived(Change):
    """Operations as they were before they travelled."""

    def change(self, operation: Operation) -> Operation:
        if operation.name.startswith(_DELAY):
            return Delay(operation.params[0], unit=operation.name.removeprefix(_DELAY))
        definition: Any = getattr(operation, "definition", None) if type(operation) in (Gate, Instruction) else None
        if definition is None:
            return operation
        inner = changed(definition, self)
        return operation if inner is definition else defined(operation, inner)
