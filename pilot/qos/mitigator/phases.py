"""Gates that multiply by phases, found in circuits; and what is left of a circuit when some spins are known.

A gate that multiplies by phases, such as CX RZ CX, is written as RZZ. With the spin s of one of its qubits known,
RZZ(a) is RZ(s a) on the other. All other gates of a frozen qubit, those that mix its two states, are left out. The
angles stay those of the user, in each layer.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit.circuit.library import RZGate, RZZGate, XGate
from qiskit.quantum_info import Operator

from pilot.errors import DescriptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from qiskit.circuit import CircuitInstruction

#: Gates on one qubit that multiply by a phase, and their angles as RZ; None: it is their parameter.
_PHASES: Mapping[str, float | None] = {
    **dict.fromkeys(("rz", "p", "u1"), None),
    "z": pi,
    "s": pi / 2,
    "sdg": -pi / 2,
    "t": pi / 4,
    "tdg": -pi / 4,
    "id": 0.0,
}
_CONTROLLED: Mapping[str, float | None] = {"cz": pi, "cp": None, "cu1": None, "cs": pi / 2, "csdg": -pi / 2}


_TURN = XGate().to_matrix()


class Step(NamedTuple):
    """An operation of a circuit, or a pair of phases that several of them make."""

    qubits: tuple[int, ...]
    #: As RZ on one qubit, RZZ on two; None: `entry` is another operation.
    angle: float | None
    entry: CircuitInstruction


def steps_of(circuit: QuantumCircuit) -> list[Step]:
    """The operations of a circuit in an order in which they can run, phases found."""
    entries = [_numbered(circuit, entry) for entry in circuit.data]
    done = [False] * len(entries)
    found: list[Step] = []
    for place, step in enumerate(entries):
        if done[place]:
            continue
        if step.entry.name == "cx" and (pair := _between(entries, done, place)) is not None:
            end, middle = pair
            angle = sum(entries[each].angle or 0.0 for each in middle)
            found.append(Step((min(step.qubits), max(step.qubits)), angle, step.entry))
            for each in (*middle, end):
                done[each] = True
        elif step.entry.name in _CONTROLLED:
            fixed = _CONTROLLED[step.entry.name]
            angle = float(step.entry.params[0]) if fixed is None else fixed
            found += [Step((qubit,), angle / 2, step.entry) for qubit in step.qubits]
            found.append(Step((min(step.qubits), max(step.qubits)), -angle / 2, step.entry))
        else:
            found.append(step)
    return found


def in_phases(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with RZZ in the place of CX RZ CX, and the like: the same up to a global phase."""
    return frozen(circuit, steps_of(circuit), {})


def couplings_of(circuit: QuantumCircuit) -> dict[tuple[int, int], float]:
    """By pair of qubits, the angles of its RZZ gates in all layers together."""
    found: dict[tuple[int, int], float] = {}
    for step in steps_of(circuit):
        if step.angle is not None and len(step.qubits) == 2:
            found[step.qubits[0], step.qubits[1]] = found.get((step.qubits[0], step.qubits[1]), 0.0) + step.angle
    return found


def is_mirrored(steps: Sequence[Step]) -> bool:
    """True where an outcome and the one with all bits turned are equally probable: each qubit begins in an equal sum of
    both states, pairs have phases alone, and what mixes the states of a qubit treats both alike. False also where that
    cannot be seen gate by gate.

    Args:
        steps: from `steps_of`, each qubit measured at its end.
    """
    gates: dict[int, NDArray[np.complex128]] = {}
    begun: set[int] = set()
    measured: set[int] = set()

    def is_even(qubit: int) -> bool:
        its = gates.pop(qubit, np.eye(2))
        mirror = its.conj().T @ _TURN @ its @ (_TURN if qubit in begun else np.eye(2))
        size = abs(mirror[0, 0] + mirror[1, 1]) / 2 if qubit in begun else abs(mirror[0, 0])
        begun.add(qubit)
        return bool(np.isclose(size, 1.0, atol=1e-9))

    for step in steps:
        if step.entry.name in ("barrier", "delay"):
            continue
        is_phase, is_measured = step.angle is not None and len(step.qubits) == 2, step.entry.name == "measure"
        if measured.intersection(step.qubits):
            return False
        if is_phase or is_measured:
            if not all(map(is_even, step.qubits)):
                return False
            measured.update(step.qubits if is_measured else ())
        elif len(step.qubits) == 1 and isinstance(step.entry.operation, Gate):
            gate = step.entry.operation if step.angle is None else RZGate(step.angle)
            gates[step.qubits[0]] = Operator(gate).data @ gates.get(step.qubits[0], np.eye(2))
        else:
            return False
    return True


def frozen(circuit: QuantumCircuit, steps: Sequence[Step], spins: Mapping[int, int]) -> QuantumCircuit:
    """The circuit on the qubits that are not frozen, in their order, with all classical bits; those of frozen qubits
    stay 0.

    Args:
        circuit: of the steps.
        steps: from `steps_of`.
        spins: of the frozen qubits: 1 (their bit is 0) or -1.

    Raises:
        DescriptionError: a gate between a frozen qubit and another one is no phase.
    """
    kept = [qubit for number, qubit in enumerate(circuit.qubits) if number not in spins]
    wire = {number: circuit.qubits[number] for number in range(circuit.num_qubits) if number not in spins}
    made = QuantumCircuit(kept, circuit.clbits, *circuit.cregs, name=circuit.name)
    for step in steps:
        free = [wire[qubit] for qubit in step.qubits if qubit in wire]
        fixed = [spins[qubit] for qubit in step.qubits if qubit in spins]
        if step.angle is not None and len(step.qubits) == 2:
            if not fixed:
                made.append(RZZGate(step.angle), free)
            elif free:
                made.append(RZGate(step.angle * fixed[0]), free)
        elif step.entry.name == "barrier":
            if free:
                made.barrier(free)
        elif not fixed:
            if step.angle is not None:
                made.append(RZGate(step.angle), free)
            else:
                made.append(step.entry.operation, free, step.entry.clbits)
        elif free:
            raise DescriptionError(
                f"objective: the gate {step.entry.name!r} on qubits {list(step.qubits)} of circuit {circuit.name!r} is "
                "no phase of the objective, so none of them can be frozen: write the objective's terms as RZZ, or as "
                "CX RZ CX; or leave the stage 'freezing' out"
            )
    return made


def _numbered(circuit: QuantumCircuit, entry: CircuitInstruction) -> Step:
    qubits = tuple(circuit.find_bit(qubit).index for qubit in entry.qubits)
    if entry.name in _PHASES:
        fixed = _PHASES[entry.name]
        return Step(qubits, float(entry.params[0]) if fixed is None else fixed, entry)
    if entry.name == "rzz":
        return Step((min(qubits), max(qubits)), float(entry.params[0]), entry)
    return Step(qubits, None, entry)


def _between(entries: Sequence[Step], done: Sequence[bool], place: int) -> tuple[int, list[int]] | None:
    """The CX that undoes one, and the phases between them on its target; None: there is something else."""
    control, target = entries[place].qubits
    middle: list[int] = []
    for number in range(place + 1, len(entries)):
        step = entries[number]
        if done[number] or not {control, target}.intersection(step.qubits):
            continue
        if step.entry.name == "cx" and step.qubits == (control, target):
            return number, middle
        if step.qubits == (target,) and step.angle is not None:
            middle.append(number)
        elif target in step.qubits or (step.angle is None and not _is_controlled_by(step, control)):
            return None
    return None


def _is_controlled_by(step: Step, qubit: int) -> bool:
    """True for a CX whose control the qubit is: phases of the control commute with it."""
    return step.entry.name == "cx" and step.qubits[0] == qubit
