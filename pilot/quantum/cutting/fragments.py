"""The pieces of a cut circuit, and the distinct subexperiments each of them takes part in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from qiskit.quantum_info import PauliList
from qiskit_addon_cutting.qpd import SingleQubitQPDGate
from qiskit_addon_cutting.utils.observable_grouping import CommutingObservableGroup, ObservableCollection
from scipy.sparse import csr_array

from pilot.quantum.cutting.samples import Sample, Samples
from pilot.quantum.cutting.subexperiments import CUT_REGISTER, OBSERVABLE_REGISTER, Template

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray
    from qiskit import QuantumCircuit
    from qiskit.circuit import Instruction

    from pilot.quantum.outcomes import Outcomes


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """A piece of the cut circuit and its distinct subexperiments.

    A subexperiment is a *choice*, one local operation for each cut at this fragment, and a *group* of
    observables that are measured together. Terms of the decomposition often agree in their choice at one
    fragment (the six terms of a cut controlled NOT need five operations at each end), so there are fewer
    distinct choices than terms.
    """

    #: The piece, its cuts marked by `SingleQubitQPDGate`s.
    circuit: QuantumCircuit
    #: `(n_choices, n_cuts_here)`: which map of each cut's basis stands for the choice.
    choices: NDArray[np.intp]
    #: `(n_terms,)`: the choice that each term of the decomposition makes here.
    choice_of_term: NDArray[np.intp]
    #: Sets of this fragment's parts of the observables that one subexperiment measures together.
    groups: tuple[CommutingObservableGroup, ...]
    #: What makes the subexperiments.
    template: Template
    #: Where each observable's part is: `(group, position in the group)`, one a observable.
    located: tuple[tuple[int, int], ...]
    #: Where the product of Z on all measured qubits is; None: no distribution is wanted.
    readout: tuple[int, int] | None = None

    @classmethod
    def build(
        cls, circuit: QuantumCircuit, observables: PauliList, terms: NDArray[np.intp], *, distribution: bool = False
    ) -> Fragment:
        """Fragment `circuit` with its part of `observables`; `terms`, `(n_terms, n_cuts)`, name all maps.

        With `distribution`, the last of the observables is Z on the qubits whose distribution is wanted.
        """
        cuts = [(_cut_number(gate), gate) for gate in _cut_gates(circuit)]
        columns = [_first_equal(gate)[terms[:, number]] for number, gate in cuts]
        local_terms = np.stack(columns, axis=1) if columns else np.zeros((len(terms), 0), dtype=np.intp)
        choices, choice_of_term = np.unique(local_terms, axis=0, return_inverse=True)
        collection = ObservableCollection(observables)
        located = [collection.lookup[observable][0] for observable in observables]
        readout = located.pop() if distribution else None
        return cls(
            circuit=circuit,
            choices=choices,
            choice_of_term=choice_of_term.reshape(-1),
            groups=tuple(collection.groups),
            template=Template.of(circuit, collection.groups),
            located=tuple(located),
            readout=readout,
        )

    @property
    def num_experiments(self) -> int:
        """How many distinct subexperiments there are."""
        return len(self.choices) * len(self.groups)

    def experiments(self) -> Iterator[QuantumCircuit]:
        """The distinct subexperiments: for each choice, one for each group."""
        for choice in range(len(self.choices)):
            for group in range(len(self.groups)):
                yield self.experiment(choice, group)

    def experiment(self, choice: int, group: int) -> QuantumCircuit:
        """One of them, by the numbers of its choice and its group."""
        return self.template.circuit(self.choices[choice].tolist(), group)

    def samples(self, outcomes: Sequence[Outcomes]) -> Samples:
        """Signed means of this fragment's subexperiments, and how they scatter.

        The sign of an outcome is the parity of the bits measured at the cuts and of those in the observable's
        support: each is a factor +1 or -1.

        Args:
            outcomes: one for each of `experiments()`, in its order.
        """
        samples = []
        for number, outcome in enumerate(outcomes):
            choice, group = divmod(number, len(self.groups))
            here = [k for k, (its_group, _) in enumerate(self.located) if its_group == group]
            if not here:
                continue
            bitmasks = [self.groups[group].pauli_bitmasks[self.located[k][1]] for k in here]
            samples.append(
                Sample(
                    choice=choice,
                    strings=np.array(here, dtype=np.intp),
                    outcomes=outcome,
                    masks=_masks(outcome, bitmasks),
                )
            )
        return Samples(
            outcomes=tuple(outcomes),
            each=tuple(samples),
            n_choices=len(self.choices),
            n_strings=len(self.located),
        )

    def readouts(self, outcomes: Sequence[Outcomes]) -> Readouts:
        """What the measured qubits of this fragment gave with each choice.

        Args:
            outcomes: one for each of `experiments()`, in its order.

        Raises:
            ValueError: the fragment was built without a distribution.
        """
        if self.readout is None:
            raise ValueError("no distribution was asked for when this fragment was built")
        group, position = self.readout
        mask = self.groups[group].pauli_bitmasks[position]
        return Readouts.build(list(outcomes[group :: len(self.groups)]), mask)

    def measures(self) -> NDArray[np.intp]:
        """`(n_choices,)`: measurements at the cuts that each choice has before the end of the qubit's gates.

        The simulator needs a further qubit for each of them.
        """
        last = {qubit: place for place, entry in enumerate(self.circuit.data) for qubit in entry.qubits}
        total = np.zeros(len(self.choices), dtype=np.intp)
        column = 0
        for place, entry in enumerate(self.circuit.data):
            if isinstance(entry.operation, SingleQubitQPDGate):
                if last[entry.qubits[0]] > place:
                    measured = [_is_measured(entry.operation, number) for number in self.choices[:, column].tolist()]
                    total += np.array(measured, dtype=np.intp)
                column += 1
        return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Readouts:
    """The quasi-distributions of a fragment's measured qubits, one for each choice.

    In a quasi-distribution an outcome's weight has the sign of the parity of the bits measured at the cuts.
    """

    #: `(n_outcomes, n_bits)`: the distinct outcomes of all choices, in ascending order of their bytes.
    bits: NDArray[np.uint8]
    #: `(n_choices, n_outcomes)`, sparse: the quasi-probabilities.
    quasi: csr_array
    #: The same shape: the mean square of what one shot adds to each; with counts, how probable the outcome is.
    squares: csr_array
    #: `(n_choices,)`: the shots of each; infinite: the weights are exact.
    shots: NDArray[np.float64]

    @classmethod
    def build(cls, outcomes: Sequence[Outcomes], mask: int) -> Readouts:
        """Of one outcome a choice; bit `j` of `mask`: does bit `j` of the observables' register belong to it."""
        parts, signed, plain = [], [], []
        for outcome in outcomes:
            bits = outcome.bits(OBSERVABLE_REGISTER)
            parts.append(bits[:, [j for j in range(bits.shape[1]) if mask >> j & 1]])
            weights = outcome.weights / outcome.weights.sum()
            signed.append(weights * (1.0 - 2.0 * (outcome.bits(CUT_REGISTER).sum(axis=1) & 1)))
            plain.append(np.abs(weights) * np.abs(weights).sum())  # as `contributions`: 1 but for quasi-weights
        rows = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        width = parts[0].shape[1]
        distinct, column = np.unique(np.packbits(np.concatenate(parts), axis=1), axis=0, return_inverse=True)
        if not width:  # nothing is measured here: one outcome without bits
            distinct, column = np.zeros((1, 0), dtype=np.uint8), np.zeros(len(rows), dtype=np.intp)
        places, shape = (rows, column.reshape(-1)), (len(parts), len(distinct))
        return cls(
            bits=np.unpackbits(distinct, axis=1, count=width),
            quasi=csr_array((np.concatenate(signed), places), shape=shape),
            squares=csr_array((np.concatenate(plain), places), shape=shape),
            shots=np.array([math.inf if outcome.shots is None else outcome.shots for outcome in outcomes]),
        )

    @property
    def masses(self) -> NDArray[np.float64]:
        """`(n_choices,)`: the sum of each quasi-distribution."""
        return np.asarray(self.quasi.sum(axis=1), dtype=np.float64).reshape(-1)

    def only(self, columns: NDArray[np.intp]) -> Readouts:
        """Some of the outcomes."""
        return replace(
            self,
            bits=self.bits[columns],
            quasi=self.quasi[:, columns],
            squares=self.squares[:, columns],
        )

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Quasi-probabilities and their variances, each `(n_choices, n_outcomes)`.

        A shot adds +1, -1 or 0 to an outcome, so the variance is `(p - q**2) / (shots - 1)`, with `p` the
        outcome's probability and `q` its quasi-probability.
        """
        quasi = self.quasi.toarray()
        return quasi, (self.squares.toarray() - quasi**2).clip(min=0) / (self.shots - 1)[:, None]


def _masks(outcomes: Outcomes, bitmasks: Sequence[int]) -> NDArray[np.bool_]:
    """Which classical bits belong to each observable's sign, `(n_observables, num_bits)`.

    Bit `j` of an observable's mask: does bit `j` of the observables' register belong to it. All bits measured at
    the cuts do.
    """
    places = {register.name: register.places for register in outcomes.registers}
    masks = np.zeros((len(bitmasks), outcomes.num_bits), dtype=bool)
    masks[:, list(places[CUT_REGISTER])] = True
    for j, place in enumerate(places[OBSERVABLE_REGISTER]):
        masks[:, place] = [mask >> j & 1 for mask in bitmasks]
    return masks


def _cut_gates(circuit: QuantumCircuit) -> list[SingleQubitQPDGate]:
    return [entry.operation for entry in circuit.data if isinstance(entry.operation, SingleQubitQPDGate)]


def _cut_number(gate: SingleQubitQPDGate) -> int:
    """Which cut of the whole circuit the gate is an end of: the add-on writes it at the end of the label."""
    return int(gate.label.rsplit("_", 1)[1])


def _local(gate: SingleQubitQPDGate, map_number: int) -> Sequence[Instruction]:
    """The operations that map `map_number` of the cut's basis puts at this end of the cut."""
    operations: Sequence[Instruction] = gate.basis.maps[map_number][gate.qubit_id]
    return operations


def _is_measured(gate: SingleQubitQPDGate, map_number: int) -> bool:
    return any(operation.name == "qpd_measure" for operation in _local(gate, map_number))


def _first_equal(gate: SingleQubitQPDGate) -> NDArray[np.intp]:
    """For each map of the cut's basis, the first one with the same operations at this end of the cut."""
    first: dict[Hashable, int] = {}
    for number in range(len(gate.basis.maps)):
        first.setdefault(_content(_local(gate, number)), number)
    return np.array([first[_content(_local(gate, number))] for number in range(len(gate.basis.maps))])


def _content(operations: Sequence[Instruction]) -> Hashable:
    """What two sequences of operations must share to be the same."""
    return tuple(
        (operation.name, *(np.asarray(parameter).tobytes() for parameter in operation.params))
        for operation in operations
    )
