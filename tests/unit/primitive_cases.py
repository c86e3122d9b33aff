"""What the tests of the primitives share: a manager that runs tasks where they are submitted, and 50 pubs."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, generate_preset_pass_manager
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import Pauli, SparsePauliOp
from qiskit.transpiler import CouplingMap

from pilot.descriptions import TaskDescription


class Later:
    """A manager whose tasks stay as they are: the test ends them."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit_tasks(self, descriptions: Iterable[TaskDescription]) -> list[Future[Any]]:
        self.futures += [Future() for _ in descriptions]
        return list(self.futures)


# ---- pubs -----------------------------------------------------------------------------------------------------


def ansatz(qubits: int, parameters: int) -> QuantumCircuit:
    """Layers of rotations by so many parameters, entangled by a ring."""
    circuit = QuantumCircuit(qubits, metadata={"of": "ansatz"})
    angles = ParameterVector("angle", parameters)
    circuit.h(0)
    for number, angle in enumerate(angles):
        qubit = number % qubits
        (circuit.ry, circuit.rx, circuit.rz)[number % 3](angle * (1 + number), qubit)
        circuit.cx(qubit, (qubit + 1) % qubits)
    for qubit in range(qubits):
        circuit.ry(0.3 + qubit, qubit)
    return circuit


def paulis(rng: np.random.Generator, qubits: int, shape: tuple[int, ...]) -> Any:
    """An array of sums of Pauli strings."""
    if not shape:
        labels = ["".join(rng.choice(list("IXYZ"), size=qubits)) for _ in range(3)]
        labels[0] = "Z" * qubits
        return SparsePauliOp(labels, rng.normal(size=3)).simplify()
    return [paulis(rng, qubits, shape[1:]) for _ in range(shape[0])]


#: Shapes of observables and of parameter values.
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((3,), ()),
    ((), (4,)),
    ((3, 1), (4,)),
    ((4,), (4,)),
    ((2, 1, 3), (4, 1)),
    ((1,), (5,)),
    ((2, 3), (2, 3)),
    ((3,), (2, 1)),
]


def estimator_pubs() -> list[tuple[Any, ...]]:
    """25 pubs without a precision."""
    rng = np.random.default_rng(11)
    pubs: list[tuple[Any, ...]] = []
    for number, (observables, values) in enumerate(SHAPES):
        for parameters in (3, 5):
            qubits = 2 + number % 3
            circuit = ansatz(qubits, parameters)
            pubs.append((circuit, paulis(rng, qubits, observables), rng.uniform(-3, 3, (*values, parameters))))
    plain = QuantumCircuit(2)
    plain.h(0)
    plain.cx(0, 1)
    pubs.append((plain, ["ZZ", "XX", "YY", "II"]))
    pubs.append((plain, [[Pauli("ZI")], [Pauli("-XX")]]))
    pubs.append((plain, {"ZZ": 0.5, "XX": -1.5, "II": 2.0}))
    three = ansatz(3, 3)
    named = {tuple(three.parameters): rng.uniform(-3, 3, (2, 3))}
    pubs.append((three, [["ZZZ"], ["XIX"]], named))
    split = {("angle[0]", "angle[1]"): rng.uniform(-3, 3, (4, 2)), "angle[2]": rng.uniform(-3, 3, 4)}
    pubs.append((three, "ZIZ", split))
    for seed in (1, 2):
        line = generate_preset_pass_manager(
            1, coupling_map=CouplingMap.from_line(5), basis_gates=["rz", "sx", "cx"], seed_transpiler=seed
        )
        physical = line.run(three)
        observables = [one.apply_layout(physical.layout) for one in paulis(rng, 3, (4,))]
        pubs.append((physical, observables, rng.uniform(-3, 3, (4, 3))))
    return pubs


def sampler_pubs() -> list[tuple[Any, ...]]:
    """25 pubs without shots."""
    rng = np.random.default_rng(12)
    pubs: list[tuple[Any, ...]] = []
    for shape in ((), (1,), (3,), (2, 3), (2, 1, 2)):
        for qubits in (2, 3, 4):
            circuit = ansatz(qubits, 3)
            circuit.measure_all()
            pubs.append((circuit, rng.uniform(-3, 3, (*shape, 3))))
    for width in (1, 2, 3, 7, 8, 9):
        qubits = QuantumRegister(width + 2)
        alpha, beta = ClassicalRegister(width, "alpha"), ClassicalRegister(3, "beta")
        circuit = QuantumCircuit(qubits, alpha, beta)
        circuit.ry(0.7, qubits[0])
        for number in range(width + 1):
            circuit.cx(number, number + 1)
            circuit.ry(0.4 * number, number)
        circuit.measure(qubits[:width], alpha)
        circuit.measure(qubits[width:], [beta[2], beta[0]])  # beta[1] stays 0
        pubs.append((circuit,))
    twice = QuantumCircuit(ClassicalRegister(2, "one"), ClassicalRegister(2, "two"))
    twice.add_bits(QuantumCircuit(3).qubits)
    twice.h(0)
    twice.cx(0, 1)
    twice.cx(1, 2)
    twice.measure([0, 1, 2], [3, 0, 1])
    pubs.append((twice,))
    silent = QuantumCircuit(2, 2)
    silent.h(0)
    pubs.append((silent,))
    some = ansatz(3, 3)
    some.add_register(ClassicalRegister(2, "c"))
    some.measure([2, 0], [0, 1])
    pubs.append((some, {tuple(some.parameters): rng.uniform(-3, 3, (2, 3))}))
    pubs.append((some, {("angle[2]", "angle[0]"): rng.uniform(-3, 3, (3, 2)), "angle[1]": rng.uniform(-3, 3, 3)}))
    return pubs


# ---- comparisons ----------------------------------------------------------------------------------------------


def same_distribution(one: Any, other: Any) -> None:
    """Counts of all registers together could come from the same distribution, for each set of values: chi-square test
    of homogeneity at 1e-6."""
    from scipy.stats import chi2_contingency

    assert list(one.data) == list(other.data)
    for name in one.data:
        assert one.data[name].array.shape == other.data[name].array.shape
        assert one.data[name].num_bits == other.data[name].num_bits
    joint = [_joined(result) for result in (one, other)]
    for index in np.ndindex(one.data.shape):
        counts = [bits.get_counts(index) if index else bits.get_counts() for bits in joint]
        seen = sorted({*counts[0], *counts[1]})
        often = [key for key in seen if counts[0].get(key, 0) + counts[1].get(key, 0) >= 10]
        rare = [key for key in seen if key not in often]
        table = np.array([[c.get(key, 0) for key in often] + [sum(c.get(key, 0) for key in rare)] for c in counts])
        table = table[:, table.any(axis=0)]
        assert table.shape[1] == 1 or chi2_contingency(table).pvalue > 1e-6, (counts, index)


def _joined(result: Any) -> Any:
    from qiskit.primitives import BitArray

    return BitArray.concatenate_bits(list(result.data.values()))
