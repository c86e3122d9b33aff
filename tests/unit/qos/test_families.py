"""The nine families do what their definitions say, by Qiskit's `Statevector` and by theory."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector
from scipy.linalg import expm

from pilot.errors import DescriptionError
from pilot.qos.families import FAMILIES, circuit, hs


def probabilities(made: QuantumCircuit) -> NDArray[np.float64]:
    """Of the measured bits, the first the lowest digit."""
    places = [made.find_bit(entry.qubits[0]).index for entry in made.data if entry.name == "measure"]
    return np.asarray(Statevector(made.remove_final_measurements(inplace=False)).probabilities(places))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("qubits", [3, 4, 7, 24])
def test_each_width_is_used_and_the_seed_decides(family: str, qubits: int) -> None:
    made = circuit(family, qubits, seed=5)
    assert made.num_qubits == qubits
    assert made.num_nonlocal_gates() >= qubits - 1
    assert not set(made.qubits) - {qubit for entry in made.data for qubit in entry.qubits}
    assert made == circuit(family, qubits, seed=5)


@pytest.mark.parametrize("family", ["qsvm", "twolocal", "vqe", "qaoa-r", "qaoa-p"])
def test_other_seeds_give_other_circuits(family: str) -> None:
    assert len({str(circuit(family, 12, seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize("qubits", [3, 6])
def test_states(qubits: int) -> None:
    ghz, w, bv = (probabilities(circuit(family, qubits)) for family in ("ghz", "w", "bv"))
    assert ghz[[0, -1]] == pytest.approx([0.5, 0.5])
    assert w[1 << np.arange(qubits)] == pytest.approx(np.full(qubits, 1 / qubits))
    assert bv[-1] == pytest.approx(1) and len(bv) == 2 ** (qubits - 1)


def test_trotter_step() -> None:
    field = SparsePauliOp.from_sparse_list([("X", [one], 1) for one in range(4)], 4).to_matrix()
    bonds = SparsePauliOp.from_sparse_list([("ZZ", [one, one + 1], 1) for one in range(3)], 4).to_matrix()
    state = expm(-0.25j * field) @ expm(-0.25j * bonds) @ np.full(16, 0.25)
    assert probabilities(hs(4, np.random.default_rng(0))) == pytest.approx(abs(state) ** 2)


def test_kernel_of_the_feature_map() -> None:
    """Its value is the mean of the phases' difference over all bit strings."""
    qubits, seed = 5, 3
    one, other = np.random.default_rng([qubits, seed]).uniform(0, np.pi, (2, qubits))
    bits = np.arange(2**qubits)[:, np.newaxis] >> np.arange(qubits) & 1

    def phase(point: NDArray[np.float64]) -> NDArray[np.float64]:
        pairs = (np.pi - point[:-1]) * (np.pi - point[1:])
        return np.asarray(2 * bits @ point + 2 * (bits[:, :-1] ^ bits[:, 1:]) @ pairs)

    kernel = abs(np.exp(1j * (phase(one) - phase(other))).mean()) ** 2
    assert probabilities(circuit("qsvm", qubits, seed))[0] == pytest.approx(kernel)


def test_qaoa_cuts_what_theory_says() -> None:
    """Where each node has three edges and there is no triangle: 1/2 + 1/(3√3) of the edges (Wang et al.)."""
    for seed in range(40):
        made = circuit("qaoa-r", 10, seed)
        edges = {
            tuple(sorted(made.find_bit(qubit).index for qubit in entry.qubits))
            for entry in made.data
            if entry.name == "cx"
        }
        near = {node: {a + b - node for a, b in edges if node in (a, b)} for node in range(10)}
        if all(near[a].isdisjoint(near[b]) for a, b in edges):
            break
    else:
        pytest.fail("no graph without triangles")
    assert len(edges) == 15 and all(len(its) == 3 for its in near.values())
    outcomes = np.arange(2**10)
    cut = sum((outcomes >> a ^ outcomes >> b) & 1 for a, b in edges)
    assert probabilities(made) @ cut / 15 == pytest.approx(0.5 + 1 / np.sqrt(27), abs=1e-9)


def test_power_law_graph_is_a_tree() -> None:
    made = circuit("qaoa-p", 20, 1)
    edges = {tuple(made.find_bit(qubit).index for qubit in entry.qubits) for entry in made.data if entry.name == "cx"}
    assert sorted(high for _, high in edges) == list(range(1, 20)) and all(low < high for low, high in edges)


def test_what_is_refused() -> None:
    with pytest.raises(DescriptionError, match=r"'ghy'.*ghz"):
        circuit("ghy", 5)
    for qubits in (2, 25):
        with pytest.raises(DescriptionError, match="3 to 24"):
            circuit("ghz", qubits)
