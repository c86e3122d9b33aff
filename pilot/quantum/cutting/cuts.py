"""Where a circuit is cut, and the pieces that are left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Qubit
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import PauliList
from qiskit_addon_cutting import find_cuts, partition_problem
from qiskit_addon_cutting.automated_cut_finding import DeviceConstraints, OptimizationParameters
from qiskit_addon_cutting.instructions import CutWire, Move
from qiskit_addon_cutting.qpd import TwoQubitQPDGate

from pilot.errors import DescriptionError
from pilot.quantum.deferral import without_final_measurements
from pilot.quantum.programs.definitions import append

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit_addon_cutting.qpd import QPDBasis

#: Steps back that the search for cuts may take, times gates between qubits: some hundredths of a second. A step takes
#: as long as there are such gates; for the 34-qubit circuit a hundred times as many steps find nothing better.
_EFFORT = 2000
_FEWEST_STEPS = 25
#: Gates that the search and the decompositions know, on two qubits at most.
_KNOWN_GATES = (  # noqa: SIM905 - forty strings in quotes are no better to read
    "x y z h s sdg t tdg sx sxdg p r rx ry rz u u1 u2 u3 id "
    "cx cy cz ch cp crx cry crz cs csdg csx dcx ecr iswap rxx ryy rzz swap"
).split()
_MARKED_CUTS = frozenset({"cut_wire", "qpd_2q"})


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One cut: of a gate between two qubits, or of a wire."""

    kind: Literal["gate", "wire"]
    #: The name of the cut gate; `wire` for a wire.
    name: str
    #: The qubits of the whole circuit that it is at.
    qubits: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """A circuit with its cuts made."""

    cuts: tuple[Cut, ...]
    #: Of each cut: how it is replaced by local operations.
    bases: tuple[QPDBasis, ...]
    #: The pieces, both ends of each cut marked by `SingleQubitQPDGate`s.
    circuits: tuple[QuantumCircuit, ...]
    #: Of each piece: its part of the observables.
    observables: tuple[PauliList, ...]
    #: The observables' part on qubits without any gate; None: there are no such qubits.
    idle_observables: PauliList | None
    #: Where each qubit of the whole circuit ends: the piece and its qubit; None: the qubit has no gate.
    places: tuple[tuple[int, int] | None, ...]

    @property
    def width(self) -> int:
        """Qubits of the widest piece."""
        return max(int(circuit.num_qubits) for circuit in self.circuits)


def gates_alone(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit as gates on one or two qubits, without barriers and the measurements at its end.

    Raises:
        DescriptionError: it has free parameters, or does anything else than that.
    """
    if circuit.parameters:
        names = sorted(parameter.name for parameter in circuit.parameters)
        raise DescriptionError(f"circuit: parameters {names} have no values; assign them first, `assign_parameters`")
    gates = without_final_measurements(circuit)
    unsuitable = {entry.operation.name for entry in gates.data if entry.clbits or entry.operation.name == "reset"}
    if unsuitable:
        raise DescriptionError(
            f"circuit: {sorted(unsuitable)} in the middle of it cannot be cut; "
            "give a circuit of gates, measured at its end"
        )
    bare = append(QuantumCircuit(gates.qubits), (entry for entry in gates.data if entry.operation.name != "barrier"))
    if not bare.data:
        raise DescriptionError("circuit: it has no gates")
    if set(bare.count_ops()) - {*_KNOWN_GATES, *_MARKED_CUTS}:
        bare = _in_known_gates(bare)
    return bare


def _in_known_gates(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit in gates that can be cut; marked cuts stay where they are."""
    rewrite = generate_preset_pass_manager(optimization_level=0, basis_gates=_KNOWN_GATES)
    rewritten = QuantumCircuit(circuit.qubits)

    def add(gates: QuantumCircuit) -> None:
        try:
            rewritten.compose(rewrite.run(gates), inplace=True)
        except QiskitError as error:
            raise DescriptionError(f"circuit: it cannot be written in gates on one or two qubits: {error}") from error

    between_cuts = QuantumCircuit(circuit.qubits)
    for entry in circuit.data:
        if entry.operation.name in _MARKED_CUTS:
            add(between_cuts)
            append(rewritten, [entry])
            between_cuts = QuantumCircuit(circuit.qubits)
        else:
            append(between_cuts, [entry])
    add(between_cuts)
    return rewritten


def is_marked(circuit: QuantumCircuit) -> bool:
    """Does it hold cuts of the add-on, `CutWire` or `TwoQubitQPDGate`."""
    return not _MARKED_CUTS.isdisjoint(circuit.count_ops())


def with_cuts(circuit: QuantumCircuit, max_qubits: int, *, wires: bool, seed: int) -> QuantumCircuit:
    """The circuit with the cheapest cuts marked that the search finds for pieces of at most `max_qubits`."""
    found = []
    gates = sum(len(entry.qubits) > 1 for entry in circuit.data)
    steps = max(_FEWEST_STEPS, _EFFORT // max(1, gates))
    for wire_cuts in (False, True) if wires else (False,):
        search = OptimizationParameters(seed=seed, wire_lo=wire_cuts, max_gamma=math.inf, max_backjumps=steps)
        found.append(find_cuts(circuit, search, DeviceConstraints(max_qubits)))
    cheapest: QuantumCircuit = min(found, key=lambda result: float(result[1]["sampling_overhead"]))[0]
    return cheapest


def take_apart(marked: QuantumCircuit, paulis: PauliList) -> Pieces:
    """The pieces that the marked cuts leave, with their parts of the observables `paulis` (at least one)."""
    moved, final_wires, cuts = _with_wires_moved(marked)
    labels = _labels(moved)
    problem = partition_problem(moved, labels, _on_wires(paulis, final_wires, moved.num_qubits))
    numbers = range(len(problem.subcircuits))
    position = {}
    taken = dict.fromkeys(numbers, 0)
    for qubit, label in enumerate(labels):
        if label is not None:
            position[qubit] = (label, taken[label])
            taken[label] += 1
    return Pieces(
        cuts=cuts,
        bases=tuple(problem.bases),
        circuits=tuple(problem.subcircuits[label] for label in numbers),
        observables=tuple(problem.subobservables[label] for label in numbers),
        idle_observables=problem.subobservables.get(None),
        places=tuple(position.get(wire) for wire in final_wires),
    )


def _with_wires_moved(circuit: QuantumCircuit) -> tuple[QuantumCircuit, list[int], tuple[Cut, ...]]:
    """Each cut of a wire as a move onto a qubit of its own.

    The add-on's `cut_wires` is not used: it loses count when the cuts of one wire alternate with those of
    another.

    Returns:
        The circuit on more qubits; the qubit on which each wire ends; all cuts in order.
    """
    moved = QuantumCircuit(circuit.qubits)
    wire = list(range(circuit.num_qubits))
    cuts = []
    for entry in circuit.data:
        places = tuple(circuit.find_bit(qubit).index for qubit in entry.qubits)
        if isinstance(entry.operation, CutWire):
            (place,) = places
            moved.add_bits([Qubit()])
            target = moved.num_qubits - 1
            moved.append(TwoQubitQPDGate.from_instruction(Move()), [wire[place], target])
            wire[place] = target
            cuts.append(Cut(kind="wire", name="wire", qubits=places))
            continue
        gate = entry.operation
        if isinstance(gate, TwoQubitQPDGate):
            cuts.append(Cut(kind="gate", name=gate.label.removeprefix("cut_"), qubits=places))
            gate = TwoQubitQPDGate(gate.basis, label=gate.label)  # one whose definition was looked at keeps that
        moved.append(gate, [wire[place] for place in places])
    return moved, wire, tuple(cuts)


def _labels(circuit: QuantumCircuit) -> list[int | None]:
    """The number of the piece that each qubit is in, by its lowest qubit; None for a qubit without gates."""
    root = list(range(circuit.num_qubits))

    def find(qubit: int) -> int:
        while root[qubit] != qubit:
            root[qubit] = qubit = root[root[qubit]]
        return qubit

    used = set()
    for entry in circuit.data:
        places = [circuit.find_bit(qubit).index for qubit in entry.qubits]
        used.update(places)
        if not isinstance(entry.operation, TwoQubitQPDGate):
            first, *others = (find(place) for place in places)
            for other in others:
                first, other = find(first), find(other)
                root[max(first, other)] = min(first, other)
    number: dict[int, int] = {}
    return [
        number.setdefault(find(qubit), len(number)) if qubit in used else None for qubit in range(circuit.num_qubits)
    ]


def _on_wires(paulis: PauliList, final_wires: list[int], num_qubits: int) -> PauliList:
    """The observables on the qubits where their wires end."""
    z: NDArray[np.bool_]
    z, x = (np.zeros((len(paulis), num_qubits), dtype=bool) for _ in "zx")
    z[:, final_wires], x[:, final_wires] = paulis.z, paulis.x
    return PauliList.from_symplectic(z, x)
