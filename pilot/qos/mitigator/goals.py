"""What a result is for, and how far a predicted one is from it: `Goal`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.quantum_info import Statevector

from pilot.errors import DescriptionError
from pilot.qos.mitigator.ising import Ising
from pilot.qos.mitigator.variants import Variant, as_it_is
from pilot.quantum import expectation
from pilot.quantum.deferral import without_final_measurements
from pilot.quantum.expectation import Expectation, ExpectationPlan
from pilot.quantum.fidelities import MAX_QUBITS, Ideal, hellinger, ideal_of
from pilot.quantum.observables import are_given, operators

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import SparsePauliOp

    from pilot.descriptions.qos import QosOptions
    from pilot.quantum.outcomes import Outcomes
    from pilot.quantum.runner import Runner


@dataclass(frozen=True, kw_only=True, eq=False)
class Goal:
    """A circuit, and what is wanted of it: its distribution, values of observables, or good solutions of a problem."""

    circuit: QuantumCircuit
    #: None: no values are wanted.
    observables: tuple[SparsePauliOp, ...] | None
    problem: Ising | None
    #: The classical bit of each qubit of a problem.
    bits: tuple[int, ...]
    #: Of a distribution without noise; None: it takes too much to know.
    ideal: Ideal | None
    #: `(n_observables,)`: values without noise; None: they take too much to know, or are not wanted.
    values: NDArray[np.float64] | None

    @classmethod
    def of(cls, circuit: QuantumCircuit, observables: Any, options: QosOptions) -> Goal:
        """What a task asks for.

        Raises:
            DescriptionError: an objective for a circuit that does not measure each qubit once, or with observables.
        """
        wanted = tuple(operators(observables, circuit.num_qubits)) if are_given(observables) else None
        problem: Ising | None = None
        bits: tuple[int, ...] = ()
        if options.objective is not None:
            problem = Ising.of(options.objective, circuit.num_qubits)
            bits = _bits_of_qubits(circuit)
            if wanted is not None:
                raise DescriptionError(
                    "QosOptions.objective: given together with observables; give one of them: an objective's energy is "
                    "in the result",
                    field="objective",
                )
        ideal = ideal_of(circuit) if wanted is None else None
        values = _values(circuit, wanted) if wanted is not None else None
        return cls(circuit=circuit, observables=wanted, problem=problem, bits=bits, ideal=ideal, values=values)

    @property
    def is_known(self) -> bool:
        """True where the result without noise is known, so that results can be predicted."""
        return self.ideal is not None or self.values is not None

    @property
    def mean_weight(self) -> float:
        """Qubits that a Pauli string of the observables acts on, on average."""
        return float(np.mean([(one.paulis.x | one.paulis.z).sum(axis=1).mean() for one in self.observables or ()]))

    def base(self) -> Variant:
        """The circuit as it is."""
        if self.observables is None:
            return as_it_is(self.circuit)
        planned = self.plan()
        number = len(planned.circuits)
        return Variant(
            circuits=planned.circuits,
            shares=(1 / number,) * number,
            groups=tuple(range(number)),
            merge=partial(_values_of, planned),
        )

    def plan(self) -> ExpectationPlan:
        """Which circuits measure the observables."""
        planned = expectation.plan(self.circuit, self.observables)
        if not planned.circuits:
            raise DescriptionError(
                "TaskDescription.observables: multiples of the identity have known values, there is nothing to "
                "mitigate: leave qos out",
                field="observables",
            )
        return planned

    def loss(self, result: Any) -> float:
        """How far a result is from the one without noise, 0 at best.

        Of a distribution 1 less the Hellinger fidelity; of values the mean square of their errors; of solutions 1 less
        the approximation ratio of their mean energy.
        """
        if self.values is not None:
            return float(np.mean((result.values - self.values) ** 2))
        if self.problem is not None:
            return 1 - self.problem.quality(self.energy(result))
        assert self.ideal is not None
        return 1 - hellinger(self.ideal.probabilities, probabilities(result, self.ideal.bits))

    def energies(self, result: Outcomes) -> NDArray[np.float64]:
        """`(n_outcomes,)`: of each outcome in the problem."""
        assert self.problem is not None
        return self.problem.energies(result.bits()[:, list(self.bits)])

    def energy(self, result: Outcomes) -> float:
        """The mean over all outcomes."""
        return float(self.energies(result) @ result.weights / result.weights.sum())


def probabilities(outcomes: Outcomes, bits: Sequence[int]) -> NDArray[np.float64]:
    """`(2**n_bits,)`: how probable each value of these bits was; the first bit is the lowest digit."""
    index = outcomes.bits()[:, list(bits)].astype(np.int64) @ (1 << np.arange(len(bits)))
    found = np.bincount(index, outcomes.weights, 1 << len(bits))
    return np.asarray(found / found.sum(), dtype=np.float64)


def _values_of(planned: ExpectationPlan, outcomes: Sequence[Outcomes], manager: Runner | None = None) -> Expectation:
    return planned.combine(outcomes)


def _bits_of_qubits(circuit: QuantumCircuit) -> tuple[int, ...]:
    bit = {
        circuit.find_bit(entry.qubits[0]).index: circuit.find_bit(entry.clbits[0]).index
        for entry in circuit.data
        if entry.name == "measure"
    }
    if sorted(bit) != list(range(circuit.num_qubits)) or len(set(bit.values())) < len(bit):
        raise DescriptionError(
            f"QosOptions.objective: circuit {circuit.name!r} does not measure each of its {circuit.num_qubits} qubits "
            "into a bit of its own, so the energies of its outcomes are not known: add circuit.measure_all()",
            field="objective",
        )
    return tuple(bit[qubit] for qubit in range(circuit.num_qubits))


def _values(circuit: QuantumCircuit, wanted: Sequence[SparsePauliOp]) -> NDArray[np.float64] | None:
    """None: the circuit is too wide, or does something else than gates before its measurements."""
    gates = without_final_measurements(circuit)
    if gates.num_qubits > MAX_QUBITS or any(entry.clbits or entry.name == "reset" for entry in gates.data):
        return None
    state = Statevector(gates)
    return np.array([state.expectation_value(one).real for one in wanted])
