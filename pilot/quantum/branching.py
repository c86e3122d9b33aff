"""Control flow whose conditions ask for the circuit's own bits, in operations that simulators know.

Blocks may have bits of their own, which stand for the circuit's by their place: those of a block that was written by
itself, and those outside every register of a circuit that has travelled. Aer 0.18 looks for them in the whole circuit,
and takes another bit, or none. It also knows no shifts, arithmetic and indices, no switch of an expression, and forgets
the high bits of a number that a register is compared with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit
from qiskit.circuit import (
    CASE_DEFAULT,
    CircuitInstruction,
    ClassicalRegister,
    Clbit,
    ControlFlowOp,
    IfElseOp,
    SwitchCaseOp,
    WhileLoopOp,
)
from qiskit.circuit.classical import expr

from pilot.quantum.programs.conditions import bits_of, truth, truth_of
from pilot.quantum.programs.definitions import append

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qiskit.circuit import Operation

#: A condition that has to be written anew asks for so many bits at most.
MAX_BITS = 10
#: Operations that simulators do not know.
_UNKNOWN = frozenset({"SHIFT_LEFT", "SHIFT_RIGHT", "ADD", "SUB", "MUL", "DIV"})


def with_plain_conditions(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit, each condition in it on its own bits and registers, and such as simulators know.

    Returns:
        The circuit itself where it has no control flow, or variables.
    """
    if not circuit.has_control_flow_op() or _has_variables(circuit):
        return circuit
    return _rewritten(circuit, circuit.copy_empty_like(), {bit: bit for bit in circuit.clbits})


def _has_variables(circuit: QuantumCircuit) -> bool:
    """In it or in its blocks; what they hold is not known here."""
    return circuit.num_identifiers > 0 or any(
        _has_variables(block)
        for entry in circuit.data
        if isinstance(entry.operation, ControlFlowOp)
        for block in entry.operation.blocks
    )


def _rewritten(given: QuantumCircuit, empty: QuantumCircuit, own: Mapping[Clbit, Clbit]) -> QuantumCircuit:
    """The instructions of a circuit or block, in one that has the whole circuit's bits.

    Args:
        given: what is rewritten.
        empty: where to; on the same qubits.
        own: for each bit of `given` the whole circuit's.
    """
    for entry in given.data:
        operation, clbits = entry.operation, [own[bit] for bit in entry.clbits]
        if isinstance(operation, ControlFlowOp):
            blocks = [_block(block, clbits, empty) for block in operation.blocks]
            operation = _plain(operation.replace_blocks(blocks), empty, own)
        append(empty, [CircuitInstruction(operation, entry.qubits, clbits)])
    return empty


def _block(block: QuantumCircuit, clbits: list[Clbit], within: QuantumCircuit) -> QuantumCircuit:
    """A block that is on these bits of the whole circuit."""
    registers = [register for register in within.cregs if set(register) <= set(clbits)]
    empty = QuantumCircuit(block.qubits, clbits, *registers, name=block.name, global_phase=block.global_phase)
    return _rewritten(block, empty, dict(zip(block.clbits, clbits, strict=True)))


def _plain(operation: Operation, within: QuantumCircuit, own: Mapping[Clbit, Clbit]) -> Operation:
    """The operation with a condition on the circuit's own bits."""
    if isinstance(operation, WhileLoopOp):
        return WhileLoopOp(_condition(operation.condition, within, own), *operation.blocks, label=operation.label)
    if isinstance(operation, IfElseOp):
        condition = _condition(operation.condition, within, own)
        true_body, false_body = operation.params
        return IfElseOp(condition, true_body, false_body, label=operation.label)
    if not isinstance(operation, SwitchCaseOp):
        return operation
    target = operation.target
    if not isinstance(target, expr.Expr) and _is_own(target, within, own):
        return operation
    return _chain(operation, within, own)


def _chain(switch: SwitchCaseOp, within: QuantumCircuit, own: Mapping[Clbit, Clbit]) -> IfElseOp:
    """A switch as conditions, each in what the one before does otherwise. No case may change what the next one asks."""
    target = expr.lift(switch.target)
    step = otherwise = None
    for labels, block in reversed(list(switch.cases_specifier())):
        if CASE_DEFAULT in labels:
            otherwise = block
            continue
        if step is not None:
            otherwise = QuantumCircuit(block.qubits, block.clbits, *block.cregs)
            append(otherwise, [CircuitInstruction(step, block.qubits, block.clbits)])
        asked = expr.equal(target, labels[0])
        for label in labels[1:]:
            asked = expr.logic_or(asked, expr.equal(target, label))
        step = IfElseOp(_condition(asked, within, own), block, otherwise, label=switch.label)
    return IfElseOp(expr.lift(True), otherwise, label=switch.label) if step is None else step


def _condition(condition: Any, within: QuantumCircuit, own: Mapping[Clbit, Clbit]) -> Any:
    if isinstance(condition, expr.Expr):
        if all(_is_own(one.var, within, own) for one in expr.iter_vars(condition)) and _is_known(condition):
            return condition
    else:
        target, value = condition
        if isinstance(target, Clbit):
            return own[target], value
        if int(value) >> len(target):
            return expr.lift(False)
        if _is_own(target, within, own):
            return condition
    asked = sorted(bits_of(condition), key=list(own).index)
    if len(asked) > MAX_BITS:
        return condition
    rows = [
        truth(condition, {bit: row >> place & 1 for place, bit in enumerate(asked)}) for row in range(1 << len(asked))
    ]
    return truth_of([own[bit] for bit in asked], rows)


def _is_own(target: Clbit | ClassicalRegister, within: QuantumCircuit, own: Mapping[Clbit, Clbit]) -> bool:
    """A bit or register of a block is the whole circuit's, too."""
    if isinstance(target, Clbit):
        return bool(own[target] == target)
    return target in within.cregs and all(own[bit] == bit for bit in target)


def _is_known(node: expr.Expr) -> bool:
    """Simulators know the operations of an expression."""
    match node:
        case expr.Value() | expr.Var():
            return True
        case expr.Cast():
            return _is_known(node.operand)
        case expr.Unary():
            return node.op is not expr.Unary.Op.NEGATE and _is_known(node.operand)
        case expr.Binary():
            return node.op.name not in _UNKNOWN and _is_known(node.left) and _is_known(node.right)
    return False
