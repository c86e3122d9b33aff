"""The subexperiments of a fragment, as workers make and run them: what they share travels once, not in each task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cloudpickle
from qiskit.circuit import CircuitInstruction, ClassicalRegister, Measure, QuantumCircuit, QuantumRegister, Reset
from qiskit.circuit.library import HGate, SXGate
from qiskit_addon_cutting.qpd import SingleQubitQPDGate

from pilot.interfaces import WorkFunction
from pilot.quantum.aer import run_circuit
from pilot.quantum.programs.definitions import append

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit.circuit import Instruction
    from qiskit_addon_cutting.utils.observable_grouping import CommutingObservableGroup

    from pilot.quantum.outcomes import Outcomes

#: Names of the two registers of a subexperiment, as in qiskit-addon-cutting and in this order.
OBSERVABLE_REGISTER = "observable_measurements"
CUT_REGISTER = "qpd_measurements"

_MEASURE = Measure()
_RESET = Reset()


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What is between two cuts of a fragment, or before the first one, or behind the last one."""

    entries: tuple[CircuitInstruction, ...]
    #: The qubits that they act on, by number.
    qubits: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Template:
    """What all subexperiments of a fragment have in common, and the local operations to choose from at each cut."""

    #: The fragment's qubits, without gates.
    empty: QuantumCircuit
    #: One more than there are cuts.
    segments: tuple[Segment, ...]
    #: For each cut: its qubit, and for each map of its basis the operations at this end of it.
    cuts: tuple[tuple[int, tuple[tuple[Instruction, ...], ...]], ...]
    #: For each group of observables that are measured together: the qubits to measure, and the gates before each.
    readings: tuple[tuple[tuple[int, tuple[Instruction, ...]], ...], ...]

    @classmethod
    def of(cls, circuit: QuantumCircuit, groups: Sequence[CommutingObservableGroup]) -> Template:
        """Of a piece, its cuts marked by `SingleQubitQPDGate`s.

        Names are the same in every process, so that equal templates have equal bytes.
        """
        qubits = QuantumRegister(circuit.num_qubits, "q")
        empty = QuantumCircuit(qubits, name="subexperiment", global_phase=circuit.global_phase)
        segments: list[Segment] = []
        cuts = []
        entries: list[CircuitInstruction] = []
        touched: set[int] = set()
        for entry in circuit.data:
            places = [circuit.find_bit(qubit).index for qubit in entry.qubits]
            gate = entry.operation
            if isinstance(gate, SingleQubitQPDGate):
                cuts.append((places[0], tuple(tuple(of_map[gate.qubit_id]) for of_map in gate.basis.maps)))
                segments.append(Segment(entries=tuple(entries), qubits=tuple(sorted(touched))))
                entries, touched = [], set()
            else:
                entries.append(CircuitInstruction(gate, [qubits[place] for place in places]))
                touched.update(places)
        segments.append(Segment(entries=tuple(entries), qubits=tuple(sorted(touched))))
        readings = tuple(tuple((index, _to_z_basis(group, index)) for index in _measured(group)) for group in groups)
        return cls(empty=empty, segments=tuple(segments), cuts=tuple(cuts), readings=readings)

    def circuit(self, choice: Sequence[int], group: int) -> QuantumCircuit:
        """The subexperiment with these maps at the cuts, which measures this group at its end.

        Equal to what `generate_cutting_experiments` makes: resets of a qubit still in its first state, of one
        that is used no more, and right after a reset are left out.

        Args:
            choice: `(n_cuts,)`, the number of the map at each cut.
            group: its number.
        """
        chosen = [(qubit, maps[number]) for (qubit, maps), number in zip(self.cuts, choice, strict=True)]
        reading = self.readings[group]
        at_cuts = sum(operation.name == "qpd_measure" for _, operations in chosen for operation in operations)
        made = self.empty.copy()
        observable_bits = ClassicalRegister(len(reading), OBSERVABLE_REGISTER)
        cut_bits = ClassicalRegister(max(1, at_cuts), CUT_REGISTER)
        made.add_register(observable_bits, cut_bits)
        free_bits = iter(cut_bits)
        to_reset: set[int] = set()
        touched: set[int] = set()

        def add(entries: Sequence[CircuitInstruction], places: Sequence[int]) -> None:
            for place in sorted(to_reset.intersection(places)):
                made._append(CircuitInstruction(_RESET, (made.qubits[place],)))
            to_reset.difference_update(places)
            touched.update(places)
            append(made, entries)

        add(self.segments[0].entries, self.segments[0].qubits)
        for (place, operations), segment in zip(chosen, self.segments[1:], strict=True):
            qubit = (made.qubits[place],)
            for operation in operations:
                if operation.name == "qpd_measure":
                    add([CircuitInstruction(_MEASURE, qubit, (next(free_bits),))], (place,))
                elif operation.name != "reset":
                    add([CircuitInstruction(operation, qubit)], (place,))
                elif place in touched:
                    to_reset.add(place)
            add(segment.entries, segment.qubits)
        for bit, (place, rotations) in zip(observable_bits, reading, strict=True):
            qubit = (made.qubits[place],)
            add([CircuitInstruction(rotation, qubit) for rotation in rotations], (place,))
            add([CircuitInstruction(_MEASURE, qubit, (bit,))], (place,))
        return made


@dataclass(frozen=True)
class Subexperiments(WorkFunction):
    """Makes subexperiments of a plan and simulates them on this process's Aer simulator. This is what a worker runs."""

    #: The templates of all fragments, pickled: equal plans are the same function.
    pickled: bytes

    @classmethod
    def of(cls, templates: Sequence[Template]) -> Subexperiments:
        """One template a fragment."""
        return cls(cloudpickle.dumps(tuple(templates)))

    @property
    def __name__(self) -> str:
        return "subexperiment"

    def __call__(self, fragment: int, choice: Sequence[int], group: int, shots: int | None, seed: int) -> Outcomes:
        """Run one.

        Args:
            fragment: its number.
            choice: `(n_cuts,)`, the number of the map at each of its cuts.
            group: the number of the observables that are measured together.
            shots: samples; None for the exact probabilities.
            seed: the same seed gives the same counts on every worker.
        """
        return run_circuit(_templates(self.pickled)[fragment].circuit(choice, group), shots, seed)


@lru_cache(maxsize=4)
def _templates(pickled: bytes) -> tuple[Template, ...]:
    templates: tuple[Template, ...] = cloudpickle.loads(pickled)
    return templates


def _measured(group: CommutingObservableGroup) -> Sequence[int]:
    """The qubits to measure; an observable without support still needs a register that is not empty."""
    indices: Sequence[int] = group.pauli_indices or [0]
    return indices


def _to_z_basis(group: CommutingObservableGroup, index: int) -> tuple[Instruction, ...]:
    """The gates after which measuring Z on qubit `index` measures the group's Pauli operator on it."""
    pauli = group.general_observable
    if not pauli.x[index]:
        return ()
    return (SXGate(),) if pauli.z[index] else (HGate(),)
