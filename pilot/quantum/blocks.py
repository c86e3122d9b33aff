"""Blocks of control flow: empty ones, those on no qubit, and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qiskit import QuantumCircuit
from qiskit.circuit import (
    BoxOp,
    BreakLoopOp,
    CircuitInstruction,
    ContinueLoopOp,
    ControlFlowOp,
    IfElseOp,
    SwitchCaseOp,
)

from pilot.quantum.programs.definitions import Change, changed, expanded

if TYPE_CHECKING:
    from qiskit.circuit import Operation, Qubit


def with_qubits(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit, each block in it on at least one qubit.

    Aer 0.18 forgets the condition of a block that only sets bits: its jumps belong to qubits.

    Returns:
        The circuit itself where nothing has to change.
    """
    if not circuit.qubits or not circuit.has_control_flow_op():
        return circuit
    return _within(circuit, circuit.qubits[0])


def without_boxes(circuit: QuantumCircuit, *, barriers: bool = False) -> QuantumCircuit:
    """The circuit with what is in its boxes in their place.

    Args:
        circuit: returned itself where there are no boxes.
        barriers: one before each box and one behind it, so that a compiler keeps what is in it together. Then boxes
            that say how long they take stay.
    """
    if not circuit.has_control_flow_op():
        return circuit

    def contents(operation: Operation) -> QuantumCircuit | None:
        if not isinstance(operation, BoxOp) or (barriers and operation.duration is not None):
            return None
        body: QuantumCircuit = operation.body
        if not barriers or not body.qubits:
            return body
        held = body.copy_empty_like()
        held.barrier()
        held.compose(body, inplace=True)
        held.barrier()
        return held

    return changed(expanded(circuit, contents), _Unboxed(barriers))


class _Unboxed(Change):
    """Bodies of control flow without boxes."""

    def __init__(self, barriers: bool) -> None:
        self._barriers = barriers

    def __call__(self, operation: Operation) -> Operation:
        if not isinstance(operation, ControlFlowOp):
            return operation
        blocks = [without_boxes(block, barriers=self._barriers) for block in operation.blocks]
        if all(new is old for new, old in zip(blocks, operation.blocks, strict=True)):
            return operation
        return operation.replace_blocks(blocks)


def without_empty_branches(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit without branches that do nothing, for every value of their condition.

    Returns:
        The circuit itself where there are none.
    """
    if not circuit.has_control_flow_op():
        return circuit
    entries = []
    for entry in circuit.data:
        operation = entry.operation
        if isinstance(operation, ControlFlowOp):
            blocks = [without_empty_branches(block) for block in operation.blocks]
            if isinstance(operation, IfElseOp | SwitchCaseOp) and not any(block.data for block in blocks):
                continue
            if any(new is not old for new, old in zip(blocks, operation.blocks, strict=True)):
                entry = entry.replace(operation=operation.replace_blocks(blocks))
        entries.append(entry)
    return _of_entries(circuit, entries)


def _within(circuit: QuantumCircuit, qubit: Qubit) -> QuantumCircuit:
    entries = [_entry(entry, qubit) for entry in circuit.data]
    return _of_entries(circuit, entries)


def _of_entries(circuit: QuantumCircuit, entries: list[CircuitInstruction]) -> QuantumCircuit:
    """The circuit with these instructions; itself where they are its own."""
    if len(entries) == len(circuit.data) and all(new is old for new, old in zip(entries, circuit.data, strict=True)):
        return circuit
    rewritten = circuit.copy_empty_like()
    for entry in entries:
        rewritten.append(entry)
    return rewritten


def _entry(entry: CircuitInstruction, qubit: Qubit) -> CircuitInstruction:
    operation = entry.operation
    if isinstance(operation, BreakLoopOp | ContinueLoopOp) and not entry.qubits:
        return CircuitInstruction(type(operation)(1, operation.num_clbits), (qubit,), entry.clbits)
    if not isinstance(operation, ControlFlowOp):
        return entry
    blocks = [_on_qubit(block, qubit) if not entry.qubits else block for block in operation.blocks]
    blocks = [_within(block, block.qubits[0]) for block in blocks]
    if all(new is old for new, old in zip(blocks, operation.blocks, strict=True)):
        return entry
    return CircuitInstruction(operation.replace_blocks(blocks), entry.qubits or (qubit,), entry.clbits)


def _on_qubit(block: QuantumCircuit, qubit: Qubit) -> QuantumCircuit:
    """A block that has no qubit, with one."""
    wider = QuantumCircuit([qubit], block.clbits, *block.cregs, captures=block.iter_captured_vars())
    for variable in block.iter_declared_vars():
        wider.add_uninitialized_var(variable)
    for entry in block.data:
        wider.append(entry)
    return wider
