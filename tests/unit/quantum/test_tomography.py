"""Tomography finds the state that was prepared, and always a state."""

from dataclasses import replace

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import HGate, IGate, SXGate
from qiskit.quantum_info import DensityMatrix, Statevector, partial_trace, random_density_matrix, random_statevector

from pilot.errors import DescriptionError
from pilot.quantum.aer import run_circuit
from pilot.quantum.observables import operators
from pilot.quantum.tomography import plan, project


def preparing(state):
    circuit = QuantumCircuit(state.num_qubits)
    circuit.prepare_state(state)
    return circuit


def run(planned, shots, seed=0):
    return [run_circuit(circuit, shots, seed + k) for k, circuit in enumerate(planned.circuits)]


@pytest.mark.parametrize("n", [2, 3])
def test_random_states(n):
    """20 states at 4,096 shots a setting: a mean fidelity of at least 0.99."""
    fidelities = []
    for seed in range(20):
        state = random_statevector(2**n, seed=seed)
        planned = plan(preparing(state))
        assert len(planned.circuits) == 3**n
        found = planned.combine(run(planned, 4096, seed=100 * seed))
        eigenvalues = np.linalg.eigvalsh(found.density_matrix)
        assert eigenvalues.min() > -1e-12
        assert eigenvalues.sum() == pytest.approx(1.0)
        assert np.linalg.eigvalsh(found.linear).min() < 0
        fidelities.append(found.fidelity(state))
    assert np.mean(fidelities) >= 0.99


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_exact_outcomes_give_the_state_itself(rank):
    """A mixed state is that of two qubits of a pure one of four; bits are in Qiskit's order."""
    mixed = random_density_matrix(4, rank=rank, seed=rank)
    values, vectors = np.linalg.eigh(mixed.data)
    pure = sum(np.sqrt(max(v, 0)) * np.kron(np.eye(4)[k], vectors[:, k]) for k, v in enumerate(values))
    planned = plan(preparing(Statevector(pure)), [0, 1])
    outcomes = run(planned, None)
    for method in ("mle", "projected"):
        found = planned.combine(outcomes, method)
        assert np.abs(found.linear - mixed.data).max() < 1e-12
        assert np.abs(found.density_matrix - mixed.data).max() < 1e-6
        assert found.fidelity(mixed) == pytest.approx(1, abs=1e-6)
        assert found.purity == pytest.approx(mixed.purity().real, abs=1e-6)


def test_values_are_those_of_the_inversion_and_their_errors_their_scatter():
    state = random_statevector(4, seed=3)
    observables = ["ZZ", {"XI": 0.5, "IZ": -1.0, "II": 2.0}, "IY"]
    truth = [state.expectation_value(each).real for each in operators(observables, 2)]
    planned = plan(preparing(state))
    found = planned.combine(run(planned, None)).expectation(observables)
    assert found.values == pytest.approx(truth, abs=1e-6)
    assert found.standard_errors.tolist() == [0.0] * 3
    deviations = []
    for seed in range(40):
        sampled = planned.combine(run(planned, 200, seed=100 * seed), "projected")
        result = sampled.expectation(observables)
        inverted = [np.trace(sampled.linear @ each.to_matrix()).real for each in operators(observables, 2)]
        assert result.values == pytest.approx(inverted)
        deviations.append((result.values - truth) / result.standard_errors)
    assert np.std(deviations) == pytest.approx(1, abs=0.2)


def clifford_and_ry(seed):
    """Gates that leave many outcomes impossible."""
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(1 + seed % 4)
    for _ in range(8):
        qubit, gate = int(rng.integers(circuit.num_qubits)), rng.integers(5)
        if gate == 0:
            circuit.h(qubit)
        elif gate == 1:
            circuit.s(qubit)
        elif gate == 2:
            circuit.ry(rng.uniform(0, 3), qubit)
        elif circuit.num_qubits > 1:
            other = (qubit + 1 + int(rng.integers(circuit.num_qubits - 1))) % circuit.num_qubits
            (circuit.cx if gate == 3 else circuit.cz)(qubit, other)
    return circuit


@pytest.mark.parametrize("first", [0, 25, 50, 75])
def test_exact_outcomes_of_states_with_impossible_outcomes(first):
    for seed in range(first, first + 25, 1 if first == 0 else 3):
        circuit = clifford_and_ry(seed)
        found = plan(circuit).combine(run(plan(circuit), None))
        assert found.fidelity(Statevector(circuit)) > 1 - 1e-9, seed
        assert found.gap == 0


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("kind", ["w", "product", "graph", "zero"])
def test_exact_outcomes_of_symmetric_and_product_states(n, kind):
    circuit = QuantumCircuit(n)
    if kind == "w":
        vector = np.zeros(2**n)
        vector[[1 << qubit for qubit in range(n)]] = n**-0.5
        circuit.prepare_state(vector)
    elif kind == "product":
        circuit.h(0)
        circuit.sx(1)
    elif kind == "graph":
        circuit.h(range(n))
        for qubit in range(n - 1):
            circuit.cz(qubit, qubit + 1)
        circuit.rx(0.3, 0)
    state = Statevector(circuit)
    found = plan(circuit).combine(run(plan(circuit), None))
    assert found.fidelity(state) > 1 - 1e-9
    part = plan(circuit, [n - 1, 0]).combine(run(plan(circuit, [n - 1, 0]), None))
    rest = partial_trace(state, list(range(1, n - 1))).reverse_qargs()
    assert part.fidelity(rest) > 1 - 1e-6  # the square root in the fidelity of mixed states doubles the rounding
    assert np.abs(part.density_matrix - rest.data).max() < 1e-9


def test_exact_outcomes_with_the_rounding_of_single_precision():
    circuit = clifford_and_ry(6)
    outcomes = run(plan(circuit), None)
    rng = np.random.default_rng(2)
    noisy = [replace(each, weights=each.weights + rng.normal(0, 1e-8, len(each.weights))) for each in outcomes]
    assert plan(circuit).combine(noisy).fidelity(Statevector(circuit)) > 1 - 1e-6


def test_order_of_qubits():
    state = random_statevector(8, seed=2)
    planned = plan(preparing(state), [2, 0])
    found = planned.combine(run(planned, None), "projected")
    assert np.allclose(found.to_qiskit().data, partial_trace(state, [1]).reverse_qargs().data)
    assert planned.settings[:4] == ("XX", "XY", "XZ", "YX")


def test_the_most_likely_state_is_more_likely_than_its_neighbours():
    state = random_statevector(4, seed=5)
    planned = plan(preparing(state))
    outcomes = run(planned, 50)
    found = planned.combine(outcomes)
    assert found.gap * 9 * 50 <= 1e-2

    def likelihood(matrix):
        total = 0.0
        for setting, row in zip(found.settings, found.frequencies, strict=True):
            turned = DensityMatrix(matrix)
            for qubit, letter in enumerate(reversed(setting)):
                turned = turned.evolve({"X": HGate(), "Y": SXGate(), "Z": IGate()}[letter], [qubit])
            total += row[row > 0] @ np.log(turned.probabilities()[row > 0])
        return total * 50

    best = likelihood(found.density_matrix)
    rng = np.random.default_rng(1)
    for _ in range(20):
        shift = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
        other = project(found.density_matrix + 0.01 * (shift + shift.conj().T - np.trace(shift).real / 2 * np.eye(4)))
        assert likelihood(other) <= best + 1e-2
    assert likelihood(planned.combine(outcomes, "projected").density_matrix) <= best + 1e-2


def test_targets():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    planned = plan(circuit)
    found = planned.combine(run(planned, None))
    measured = circuit.copy()
    measured.measure_all()
    state = Statevector(circuit)
    for target in (circuit, measured, state, DensityMatrix(state), state.data, state.data.tolist()):
        assert found.fidelity(target) == pytest.approx(1, abs=1e-6)
    assert found.fidelity([1, 0, 0, 0]) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ([1, 0], "1 qubits, tomography was of 2"),
        ([1, 0, 0], "not a power of 2|not a state"),
        ([1, 1, 1, 1], "norm or trace 1"),
        ("bell", "not a state"),
    ],
)
def test_what_is_no_target_is_refused(target, words):
    planned = plan(QuantumCircuit(2))
    found = planned.combine(run(planned, None), "projected")
    with pytest.raises(DescriptionError, match=words):
        found.fidelity(target)


def test_parameters_stay_free():
    angle = Parameter("a")
    circuit = QuantumCircuit(1)
    circuit.ry(angle, 0)
    planned = plan(circuit)
    outcomes = [run_circuit(setting.assign_parameters([np.pi]), None, 0) for setting in planned.circuits]
    assert planned.combine(outcomes).fidelity([0, 1]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("qubits", "words"), [([0, 0], "different qubits"), ([3], "0 to 2"), ([], "0 qubits take")])
def test_wrong_qubits_are_refused(qubits, words):
    with pytest.raises(DescriptionError, match=words):
        plan(QuantumCircuit(3), qubits)


def test_too_many_qubits_are_refused():
    with pytest.raises(DescriptionError, match=r"9 qubits take 3\*\*9 circuits; expected 1 to 8"):
        plan(QuantumCircuit(9))


def test_unknown_methods_are_refused():
    planned = plan(QuantumCircuit(1))
    with pytest.raises(DescriptionError, match="expected 'mle' or 'projected'"):
        planned.combine(run(planned, None), "linear")
