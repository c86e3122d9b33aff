"""Blocks of control flow: empty ones, those on no qubit, and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qiskit import QuantumCircuit
from qiskit.circuit import (
    Barrier,
    BoxOp,
    BreakLoopOp,
    CircuitInstruction,
    ContinueLoopOp,
    ControlFlowOp,
    IfElseOp,
    SwitchCaseOp,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qiskit.circuit import Qubit


def with_qubits(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit, each block in it on at least one qubit.

    Aer 0.18 forgets the condition of a block that only sets bits: its jumps belong to qubits.

    Returns:
        The circuit itself where nothing has to change.
    """
    if not circuit.qubits or not circuit.has_control_flow_op():
        return circuit
    return _within(circuit, circuit.qubits[0])


def without_boxes(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with the contents of each box between two barriers, since few devices and simulators take boxes.

    Boxes that say how long they take, or have variables of their own, stay.

    Returns:
        The circuit itself where there are none.
    """
    if not circuit.has_control_flow_op():
        return circuit
    entries: list[CircuitInstruction] = []
    phase = circuit.global_phase
    for entry in circuit.data:
        operation = entry.operation
        if not isinstance(operation, ControlFlowOp):
            entries.append(entry)
            continue
        blocks = [without_boxes(block) for block in operation.blocks]
        if isinstance(operation, BoxOp) and operation.duration is None and not blocks[0].num_vars:
            barrier = CircuitInstruction(Barrier(len(entry.qubits)), entry.qubits)
            entries += [barrier, *_contents(entry, blocks[0]), barrier]
            phase += blocks[0].global_phase
        elif any(new is not old for new, old in zip(blocks, operation.blocks, strict=True)):
            entries.append(entry.replace(operation=operation.replace_blocks(blocks)))
        else:
            entries.append(entry)
    rewritten = _rewritten(circuit, entries)
    if rewritten is not circuit:
        rewritten.global_phase = phase
    return rewritten


def _contents(box: CircuitInstruction, body: QuantumCircuit) -> Iterator[CircuitInstruction]:
    """What a box does, on the bits of the circuit around it."""
    for entry in body.data:
        qubits = [box.qubits[body.find_bit(qubit).index] for qubit in entry.qubits]
        clbits = [box.clbits[body.find_bit(clbit).index] for clbit in entry.clbits]
        yield entry.replace(qubits=qubits, clbits=clbits)


def without_empty_branches(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit without branches that do nothing, whatever their condition says.

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
    return _rewritten(circuit, entries)


def _within(circuit: QuantumCircuit, qubit: Qubit) -> QuantumCircuit:
    return _rewritten(circuit, [_entry(entry, qubit) for entry in circuit.data])


def _rewritten(circuit: QuantumCircuit, entries: Sequence[CircuitInstruction]) -> QuantumCircuit:
    """The circuit with these entries; the circuit itself where they are its own."""
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
