"""Distributions of cut circuits: errors as large as they say, probabilities that are nearest, wide ones sparse."""

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.quantum_info import Statevector
from scipy.optimize import minimize

from pilot.quantum.aer import run_circuit
from pilot.quantum.cutting import distributions, nearest, plan


def chain(num_qubits, seed=7, layers=1):
    """Random rotations and controlled NOTs along a line: two halves share one gate a layer."""
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(num_qubits)
    for _ in range(layers):
        for qubit in range(num_qubits):
            circuit.u(*rng.uniform(0, 2 * np.pi, 3), qubit)
        for qubit in range(num_qubits - 1):
            circuit.cx(qubit, qubit + 1)
    return circuit


def ghz(num_qubits):
    circuit = QuantumCircuit(num_qubits)
    circuit.h(0)
    for qubit in range(num_qubits - 1):
        circuit.cx(qubit, qubit + 1)
    return circuit


def exact(circuit):
    return {str(bits): float(each) for bits, each in Statevector(circuit).probabilities_dict().items()}


def distance(one, other):
    """The largest difference between two distributions."""
    return max(abs(one.get(bits, 0) - other.get(bits, 0)) for bits in one | other)


def outcomes_of(planned, shots, seed=0):
    return [run_circuit(each, shots, seed + number) for number, each in enumerate(planned.experiments())]


# ---- what is measured where -------------------------------------------------------------------------------------


def test_bits_are_the_users_own(here):
    """Two registers, one qubit in two bits, one qubit not measured, one without gates, one bit to spare."""
    qubits, first, second = QuantumRegister(5), ClassicalRegister(3, "first"), ClassicalRegister(2, "second")
    circuit = QuantumCircuit(qubits, first, second)
    circuit.compose(chain(4), range(4), inplace=True)
    state = Statevector(circuit.remove_final_measurements(inplace=False))
    circuit.measure([3, 0, 4], first)
    circuit.measure([0], [second[1]])
    distribution = plan(circuit, max_qubits=2).run(here, shots=None).distribution
    expected = {}
    for bits, probability in state.probabilities_dict([3, 0, 4]).items():
        four, zero, three = bits
        expected[f"{zero}0 {four}{zero}{three}"] = float(probability)
    assert distance(distribution.get_counts(), expected) < 1e-12
    marginal = distribution.get_counts("second")
    assert set(marginal) == {"00", "10"}
    assert sum(marginal.values()) == pytest.approx(1)
    assert distribution.shots is None
    assert distribution.missing == 0


def test_qubits_that_share_a_piece_with_measured_ones_are_summed_over(here):
    circuit = chain(5, layers=2)
    expected = {str(bits): float(each) for bits, each in Statevector(circuit).probabilities_dict([1]).items()}
    circuit.add_register(ClassicalRegister(1, "c"))
    circuit.measure(1, 0)  # no other piece has a measured qubit
    distribution = plan(circuit, "XZIIY", [3], distribution=True).run(here, shots=None).distribution
    assert distance(distribution.get_counts(), expected) < 1e-12


def test_pieces_in_a_row_and_wires_that_end_elsewhere(here):
    circuit = chain(6, layers=2)
    planned = plan(circuit, max_qubits=2, wires=False)
    assert len(planned.fragments) == 3
    assert distance(planned.run(here, shots=None).distribution.get_counts(), exact(circuit)) < 1e-12
    narrow = QuantumCircuit(3)
    for layer in range(3):
        narrow.ry(0.3 + layer, [0, 1])
        narrow.cx(0, 1)
    for layer in range(3):
        narrow.ry(0.4 + layer, [1, 2])
        narrow.cx(1, 2)
    planned = plan(narrow, max_qubits=2)
    assert [cut.kind for cut in planned.cuts] == ["wire"]
    assert distance(planned.run(here, shots=None).distribution.get_counts(), exact(narrow)) < 1e-12


# ---- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_samples", "shots"), [(None, 200), (20, 200)])
def test_standard_errors_are_as_large_as_the_spread(here, num_samples, shots):
    """Over runs with other seeds, the mean of (deviation / error)² is 1, give or take."""
    circuit = chain(4, layers=2)
    expected = exact(circuit)
    squares, deviations = [], []
    for seed in range(25):
        planned = plan(circuit, max_qubits=2, num_samples=num_samples, wires=False, seed=seed)
        distribution = planned.run(here, shots=shots, seed=seed).distribution
        quasi = distribution.get_quasi()
        each = np.array([quasi[bits] - expected.get(bits, 0) for bits in quasi]) / distribution.standard_errors
        squares.append(np.mean(each**2))
        deviations.append(np.mean(each))
    assert 0.6 < np.mean(squares) < 1.4
    assert abs(np.mean(deviations)) < 0.2


def test_every_way_to_add_up_gives_the_same_values_and_errors():
    """The grid as products of matrices, and the outcomes one by one as for expectation values."""
    planned = plan(chain(6, layers=2), max_qubits=2, num_samples=150, wires=False)
    start, readouts = 0, []
    results = outcomes_of(planned, 300)
    for fragment in planned.fragments:
        readouts.append(fragment.readouts(results[start : start + fragment.num_experiments]))
        start += fragment.num_experiments
    quasi, variances = ([pair[k] for pair in (each.arrays() for each in readouts)] for k in (0, 1))
    shape = tuple(each.shape[1] for each in quasi)
    index = np.unravel_index(np.arange(np.prod(shape)), shape)
    grid = distributions._whole_grid(planned.decomposition, quasi, variances, None)
    listed = distributions._listed(planned.decomposition, quasi, variances, index, None)
    assert np.allclose(grid.values, listed.values, rtol=0, atol=1e-13)
    assert np.allclose(grid.variances, listed.variances, rtol=1e-9, atol=1e-13)
    assert planned.decomposition.draws.any()


# ---- the nearest probabilities ----------------------------------------------------------------------------------


def test_nearest_is_the_projection_on_the_simplex():
    quasi = np.random.default_rng(3).normal(0.1, 0.2, size=8)
    quasi /= quasi.sum()
    found = nearest(quasi)
    solved = minimize(
        lambda p: np.sum((p - quasi) ** 2),
        np.full(8, 1 / 8),
        bounds=[(0, 1)] * 8,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-14},
    ).x
    assert np.allclose(found, solved, atol=1e-5)
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("quasi", "total", "expected"),
    [
        ([0.5, 0.5, 0.0], 1.0, [0.5, 0.5, 0.0]),
        ([0.7, 0.4, -0.1], 1.0, [0.65, 0.35, 0.0]),  # 0.1 over two
        ([0.9, 0.25, 0.05, -0.2], 1.0, [0.825, 0.175, 0.0, 0.0]),  # 0.2 over three is more than 0.05 has
        ([0.6, 0.2], 1.0, [0.75, 0.25]),  # scaled
        ([0.6, 0.2], 0.8, [0.6, 0.2]),  # others are not listed
        ([2.0], 1.0, [1.0]),
        ([-0.1, -0.3], 1.0, [0.6, 0.4]),
    ],
)
def test_nearest_by_hand(quasi, total, expected):
    assert nearest(np.array(quasi), total) == pytest.approx(expected)


def test_the_projection_is_an_option(here):
    planned = plan(chain(4), max_qubits=2)
    projected = planned.run(here, shots=50, seed=1).distribution
    raw = planned.run(here, shots=50, seed=1, project=False).distribution
    assert raw.quasi.min() < 0
    assert np.array_equal(raw.weights, raw.quasi)
    assert np.array_equal(raw.quasi, projected.quasi)
    assert projected.weights.min() == 0
    assert sum(projected.get_counts().values()) == pytest.approx(1)
    expected = exact(chain(4))
    assert sum(expected[bits] - projected.get_counts().get(bits, 0) for bits in expected) == pytest.approx(0, abs=1e-9)


# ---- wide -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [3, 10, 40])
def test_the_most_probable_outcomes_are_found_without_listing_all(here, limit):
    circuit = chain(6, seed=3, layers=2)
    distribution = plan(circuit, max_qubits=2, wires=False).run(here, shots=None, max_outcomes=limit).distribution
    expected = exact(circuit)
    got = distribution.get_counts()
    assert len(got) <= limit
    assert all(abs(expected[bits] - each) < 1e-12 for bits, each in got.items())
    assert {bits for bits, each in expected.items() if each > 1 / limit} <= set(got)
    assert distribution.missing == pytest.approx(1 - sum(got.values()))
    assert distribution.missing > 0


def test_forty_qubits(here):
    circuit = ghz(40)
    circuit.measure_all()
    distribution = plan(circuit, max_qubits=20, wires=False).run(here, shots=400, seed=3, max_outcomes=64).distribution
    quasi = distribution.get_quasi()
    errors = dict(zip(quasi, distribution.standard_errors, strict=True))
    for bits in ("0" * 40, "1" * 40):
        assert 0 < errors[bits] < 0.1
        assert abs(quasi[bits] - 0.5) < 4 * errors[bits]
    assert len(quasi) <= 64
    assert sum(distribution.get_counts().values()) <= 1 + 1e-9


def test_outcomes_of_a_piece_that_are_too_many_are_thinned_out_first(here):
    """A product state next to a narrow piece: the wide piece alone has more outcomes than may be listed."""
    circuit = QuantumCircuit(6)
    for qubit in range(6):
        circuit.ry(0.3 + 0.1 * qubit, qubit)
    for qubit in range(5):
        circuit.cz(qubit, qubit + 1)
    planned = plan(circuit, max_qubits=5, wires=False)
    distribution = planned.run(here, shots=None, max_outcomes=12).distribution
    expected = exact(circuit)
    assert all(abs(expected[bits] - each) < 1e-12 for bits, each in distribution.get_counts().items())
    assert {bits for bits, each in expected.items() if each > 1 / 12} <= set(distribution.get_counts())


@pytest.mark.parametrize("max_outcomes", [1 << 20, 20])
def test_much_work_is_done_in_tasks(here, monkeypatch, max_outcomes):
    planned = plan(chain(6, layers=2), max_qubits=2, wires=False)
    results = outcomes_of(planned, 100)
    local = planned.combine(results, max_outcomes=max_outcomes).distribution
    monkeypatch.setattr(distributions, "PARALLEL_PRODUCTS", 500)
    calls = []

    class Counting(type(here)):
        def call(self, fn, arguments):
            calls.append(fn.__name__)
            return super().call(self._fail if failing and len(calls) == 3 else fn, arguments)

        def _fail(self, *_):
            raise RuntimeError("the third block broke")

    failing = False
    there = planned.combine(results, manager=Counting(), max_outcomes=max_outcomes).distribution
    assert len(calls) >= 4
    assert set(calls) == {"block_on_grid" if max_outcomes > 64 else "block_of_list"}
    assert np.allclose(local.quasi, there.quasi, rtol=0, atol=1e-13)
    assert np.allclose(local.standard_errors, there.standard_errors, rtol=1e-9, atol=1e-13)
    assert local.get_counts().keys() == there.get_counts().keys()
    failing, calls[:] = True, []
    with pytest.raises(RuntimeError, match="the third block broke"):
        planned.combine(results, manager=Counting(), max_outcomes=max_outcomes)


def test_a_grid_that_does_not_fit_is_done_in_blocks(monkeypatch):
    planned = plan(chain(6, layers=2), max_qubits=3, wires=False)
    results = outcomes_of(planned, 100)
    whole = planned.combine(results).distribution
    monkeypatch.setattr(distributions, "_BLOCK_NUMBERS", 400)
    blocks = planned.combine(results).distribution
    assert np.allclose(whole.quasi, blocks.quasi, rtol=0, atol=1e-14)
    assert whole.get_counts().keys() == blocks.get_counts().keys()
