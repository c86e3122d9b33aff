"""What a circuit costs to simulate: facts, the bound on entanglement, and which method is chosen."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector, random_unitary

from pilot.quantum.aer import run_circuit
from pilot.quantum.aer_simulators import Simulator
from pilot.quantum.costs import Estimate, choose, estimate, facts

METHODS = ("statevector", "matrix_product_state", "density_matrix", "stabilizer")


def ghz(qubits: int, *, star: bool = False) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    circuit.h(0)
    for qubit in range(1, qubits):
        circuit.cx(0 if star else qubit - 1, qubit)
    circuit.measure_all()
    return circuit


def bricks(qubits: int, layers: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for layer in range(layers):
        for qubit in range(qubits):
            circuit.ry(0.1 + layer + qubit, qubit)
        for qubit in range(layer % 2, qubits - 1, 2):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    return circuit


@pytest.mark.parametrize(("qubits", "measured", "method"), [(20, 20, "statevector"), (60, 8, "stabilizer")])
def test_probabilities_of_many_outcomes_take_a_tableau_long(qubits: int, measured: int, method: str) -> None:
    circuit = QuantumCircuit(qubits, measured)
    circuit.h(range(qubits))
    for qubit in range(qubits - 1):
        circuit.cz(qubit, qubit + 1)
    for qubit in range(qubits // 2):
        circuit.cz(qubit, qubits - qubit - 1)
    circuit.measure(range(measured), range(measured))
    best = choose(estimate(facts(circuit), None), 2**36)
    assert best is not None
    assert best.method == method


def test_facts_of_a_circuit() -> None:
    circuit = QuantumCircuit(6, 3)
    circuit.h(0)
    circuit.barrier()
    circuit.cx(0, 4)
    circuit.measure(0, 0)
    circuit.reset(0)  # after a measurement: one fresh qubit, as the reset follows
    circuit.x(0)  # another one for the reset
    circuit.delay(100, 2)
    circuit.measure(4, 1)
    found = facts(circuit)
    assert (found.qubits, found.gates, found.entangling, found.measured) == (2, 3, 1, 2)
    assert found.midway == 2
    assert found.clifford and not found.dynamic
    assert found.bonds == (1,)


@pytest.mark.parametrize(
    ("gate", "clifford"), [("h", True), ("s", True), ("sx", True), ("t", False), ("ecr", True), ("cs", False)]
)
def test_clifford_circuits(gate: str, clifford: bool) -> None:
    circuit = QuantumCircuit(2)
    getattr(circuit, gate)(*range(2 if gate in ("ecr", "cs") else 1))
    circuit.measure_all()
    assert facts(circuit).clifford is clifford
    assert ("stabilizer" in {one.method for one in estimate(facts(circuit), 10)}) is clifford


def test_circuits_that_act_on_outcomes_have_no_exact_probabilities() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    assert facts(circuit).dynamic
    assert all(one.seconds == inf for one in estimate(facts(circuit), None))
    assert choose(estimate(facts(circuit), None)) is None
    assert choose(estimate(facts(circuit), 10)) is not None


def test_no_state_has_more_entanglement_than_its_bound() -> None:
    """30 random circuits over gates of rank 2 and 4, against the exact Schmidt ranks of their states."""
    generator = np.random.default_rng(1)
    tight = 0
    for trial in range(30):
        circuit = QuantumCircuit(12)
        circuit.ry(0.7, range(12))
        for number in range(int(generator.integers(4, 18))):
            one, other, third = (int(qubit) for qubit in generator.choice(12, 3, replace=False))
            kind = ("cx", "swap", "rzz", "unitary", "cswap", "ccx")[int(generator.integers(6))]
            if kind == "unitary":
                circuit.unitary(random_unitary(4, seed=100 * trial + number), [one, other])
            elif kind == "rzz":
                circuit.rzz(0.8, one, other)
            else:
                getattr(circuit, kind)(*((one, other, third) if kind[0] == "c" and len(kind) > 2 else (one, other)))
            circuit.rx(0.3 + number, one)
            circuit.ry(0.9 + number, other)
        state = Statevector(circuit).data
        for bond, log in enumerate(facts(circuit).bonds):
            rank = np.linalg.matrix_rank(state.reshape(2 ** (11 - bond), 2 ** (bond + 1)), tol=1e-9)
            assert rank <= 2**log, (trial, bond)
            tight += rank > 2 ** (log - 1)
    assert tight > 100  # of 330: the bound says something


def test_a_qubit_that_meets_all_others_in_turn_entangles_little() -> None:
    """Each bond counts up to 14 gates across it; the minimum cut is through two wires."""
    assert facts(ghz(28, star=True)).bond == 2
    assert facts(ghz(28)).bond == 1
    assert facts(bricks(28, 28)).bond == 14


def test_wide_circuits_are_looked_at_in_reasonable_time() -> None:
    import time

    begin = time.process_time()
    facts(bricks(100, 20))
    assert time.process_time() - begin < 2  # 0.07 s


@pytest.mark.parametrize(
    ("circuit", "method"),
    [
        (bricks(10, 10), "statevector"),
        (bricks(20, 20), "statevector"),
        (bricks(24, 4), "matrix_product_state"),
        (bricks(50, 6), "matrix_product_state"),
        (ghz(30), "stabilizer"),
        (ghz(120), "stabilizer"),
    ],
    ids=["10 wide, deep", "20 wide, deep", "24 wide, shallow", "50 wide, shallow", "GHZ 30", "GHZ 120"],
)
def test_the_method_follows_the_circuit(circuit: QuantumCircuit, method: str) -> None:
    best = choose(estimate(facts(circuit), 1000), memory=2**34)
    assert best is not None and best.method == method


def test_nothing_is_chosen_that_does_not_fit() -> None:
    estimates = estimate(facts(bricks(40, 40)), 100)
    by_method = {one.method: one for one in estimates}
    assert by_method["statevector"].bytes == 16 * 2.0**40
    assert choose(estimates, memory=2**30) is None
    assert choose([Estimate("a", "CPU", 1.0, 8), Estimate("b", "CPU", 9.0, 2)], memory=4) == Estimate(
        "b", "CPU", 9.0, 2
    )


def test_a_gpu_pays_for_wide_circuits_alone() -> None:
    small, wide = (choose(estimate(facts(bricks(qubits, 30)), 1000, gpus=1)) for qubits in (12, 26))
    assert small is not None and small.device == "CPU"
    assert wide is not None and wide.device == "GPU"


def test_noise_is_followed_by_a_density_matrix_when_shots_are_many() -> None:
    few, many = (choose(estimate(facts(bricks(8, 8)), shots, noisy=True)) for shots in (10, 10_000))
    assert few is not None and few.method == "statevector"
    assert many is not None and many.method == "density_matrix"
    assert choose(estimate(facts(bricks(20, 4)), 1000, noisy=True)).method == "statevector"  # type: ignore[union-attr]
    exact = choose(estimate(facts(bricks(4, 4)), None, noisy=True))
    assert exact is not None and exact.method == "density_matrix"


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_agree(method: str) -> None:
    """A Clifford circuit with a measurement in the middle and a qubit that is used again."""
    circuit = QuantumCircuit(3, 4)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure(0, 0)
    circuit.reset(0)
    circuit.sx(0)
    circuit.cz(0, 2)
    circuit.x(2)
    circuit.measure([0, 1, 2], [1, 2, 3])
    exact = run_circuit(circuit, None, 1).get_counts()
    assert run_circuit(circuit, None, 1, Simulator(method)).get_counts() == pytest.approx(exact, abs=1e-12)
    counts = run_circuit(circuit, 4000, 1, Simulator(method)).get_counts()
    assert counts.keys() == exact.keys()
    for outcome, probability in exact.items():
        assert counts[outcome] / 4000 == pytest.approx(probability, abs=0.035)  # five standard errors
