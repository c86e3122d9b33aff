"""Measurements in the middle of a circuit, moved to its end.

A simulator has to follow every branch of a measurement, or every shot, when gates come after it. By the
principle of deferred measurement (Nielsen & Chuang, section 4.4) a controlled NOT onto a fresh qubit,
measured at the end, has the same statistics, and a reset is a fresh qubit in the old one's place. One run
then gives the exact joint distribution of all outcomes. It costs one qubit a measurement, so a factor of two
in time; following the branches of the 17-qubit pieces of a cut 34-qubit circuit took Aer 1.5 to 3 times as
long, those of 12 qubits 15 times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qiskit import QuantumCircuit
from qiskit.circuit import BoxOp, CircuitInstruction, ControlFlowOp, Delay, ForLoopOp, Gate, Instruction, Qubit
from qiskit.circuit.library import CXGate

from pilot.quantum.programs.definitions import append, expanded, opened, steps_of

if TYPE_CHECKING:
    from qiskit.circuit import Clbit, Operation

#: Instructions that change no outcome.
WITHOUT_EFFECT = frozenset({"barrier", "delay", "id"})
#: Instructions that are not opened.
STEPS = WITHOUT_EFFECT | {"measure", "reset"}
#: Instructions of all rounds of a loop.
MAX_UNROLLED = 100_000
_CX = CXGate()


class Deferred(NamedTuple):
    """A circuit of gates alone that stands for one with measurements and resets."""

    #: On the circuit's qubits and then the fresh ones, without classical bits.
    gates: QuantumCircuit
    #: The qubit to read each classical bit from at the end; bits that are never measured are missing.
    holder: dict[Clbit, Qubit]
    #: For each qubit of the circuit the one that holds its state at the end.
    wires: dict[Qubit, Qubit]


def defer_measurements(circuit: QuantumCircuit, *, keep_qubits: bool = False) -> Deferred | None:
    """A circuit of gates alone, and the qubit that holds each measured bit at its end.

    Args:
        circuit: nested instructions are opened.
        keep_qubits: the qubits' states at the end are needed, not only the measured bits.

    Returns:
        None if the circuit acts on an outcome or does anything else than gates, measurements and resets: then only a
        simulator of branches can run it.
    """
    circuit = inlined(circuit)
    last_use = dict.fromkeys(circuit.qubits, len(circuit.data)) if keep_qubits else _last_uses(circuit)
    deferred = QuantumCircuit(circuit.qubits, global_phase=circuit.global_phase)
    wire = {qubit: qubit for qubit in circuit.qubits}
    untouched = set(circuit.qubits)
    holder: dict[Clbit, Qubit] = {}

    def fresh() -> Qubit:
        qubit = Qubit()
        deferred.add_bits([qubit])
        return qubit

    for position, instruction in enumerate(circuit.data):
        operation, qubits = instruction.operation, instruction.qubits
        if operation.name in WITHOUT_EFFECT:
            continue
        if operation.name == "measure":
            (qubit,), (clbit,) = qubits, instruction.clbits
            holder[clbit] = wire[qubit]
            if last_use[qubit] > position:
                holder[clbit] = fresh()
                append(deferred, [CircuitInstruction(_CX, (wire[qubit], holder[clbit]))])
        elif operation.name == "reset":
            (qubit,) = qubits
            if qubit not in untouched and last_use[qubit] > position:
                wire[qubit] = fresh()
                untouched.add(qubit)
            continue
        elif isinstance(operation, Gate):
            append(deferred, [CircuitInstruction(operation, [wire[qubit] for qubit in qubits])])
        else:
            return None
        untouched.difference_update(qubits)
    return Deferred(deferred, holder, wire)


def inlined(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with instructions that are no gates (``circuit.append(other_circuit, …)``, ``initialize``) and
    annotated operations replaced by what they are made of; the circuit itself where there are none."""
    return expanded(circuit, _contents)


def _contents(operation: Operation) -> QuantumCircuit | None:
    """What an operation that is no gate is made of; None where it is a step of its own."""
    if not isinstance(operation, Instruction):  # annotated, or a Clifford
        return opened(operation)
    if isinstance(operation, BoxOp):
        return operation.body
    if isinstance(operation, ForLoopOp):
        return _unrolled(operation)
    if isinstance(operation, Gate | ControlFlowOp | Delay) or operation.name in STEPS:
        return None
    definition: QuantumCircuit | None = getattr(operation, "definition", None)
    return definition


def _unrolled(loop: ForLoopOp) -> QuantumCircuit | None:
    """The rounds of a loop one after another; None where one leaves it, or they are very many."""
    indices, _, body = loop.params
    if len(indices) * len(body.data) > MAX_UNROLLED or {"break_loop", "continue_loop"}.intersection(body.count_ops()):
        return None
    rounds = body.copy_empty_like()
    rounds.global_phase = 0
    for step in steps_of(loop):
        rounds.global_phase += step.global_phase
        append(rounds, step.data)
    return rounds


def _last_uses(circuit: QuantumCircuit) -> dict[Qubit, int]:
    """Where in the circuit's data each qubit is touched for the last time."""
    return {
        qubit: position
        for position, instruction in enumerate(circuit.data)
        if instruction.operation.name not in WITHOUT_EFFECT
        for qubit in instruction.qubits
    }


def without_final_measurements(circuit: QuantumCircuit) -> QuantumCircuit:
    """`circuit` without measurements and barriers at its qubits' ends, and without classical bits if none is used.

    Qiskit's `remove_final_measurements` (2.6) also takes measurements away that a later instruction depends on.
    """
    acted_on: set[Qubit] = set()
    read: set[Clbit] = set()
    kept: list[CircuitInstruction] = []
    for instruction in reversed(circuit.data):
        is_last = acted_on.isdisjoint(instruction.qubits)
        if instruction.name == "barrier" and is_last:
            continue
        if instruction.name == "measure" and is_last and read.isdisjoint(instruction.clbits):
            continue
        acted_on.update(instruction.qubits)
        read.update(instruction.clbits)
        kept.append(instruction)
    bare = circuit.copy_empty_like(vars_mode="alike")
    if not read and not any(True for _ in circuit.iter_vars()):
        bare = QuantumCircuit(circuit.qubits, name=circuit.name, global_phase=circuit.global_phase)
        for register in circuit.qregs:
            bare.add_register(register)
    return append(bare, reversed(kept))
