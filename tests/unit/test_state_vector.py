"""The parts of the mini-app state-vector that need no ranks: amplitudes, layouts, the model, what is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from pilot_miniapps.state_vector import amplitudes, devices, memory
from pilot_miniapps.state_vector.app import Settings, StateVector
from pilot_miniapps.state_vector.kernel import Ranks, Simulation, check_ranks
from pilot_miniapps.state_vector.layers import Layer, random_weights, strongly_entangling
from pilot_miniapps.state_vector.layout import Exchange, Layout, inverse, pivots
from threadpoolctl import threadpool_limits

from pilot import DescriptionError

BITS = 7


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a worker with one core."""
    with threadpool_limits(1):
        yield


@pytest.fixture(params=["whole", "pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Amplitudes in one piece, and in pieces that are smaller than the state."""
    if request.param == "pieces":
        monkeypatch.setattr(amplitudes, "PIECE_BITS", 4)
        monkeypatch.setattr(amplitudes, "BLOCK_BITS", 2)
    yield


def random_state(rng: np.random.Generator, bits: int = BITS) -> Any:
    return rng.normal(size=1 << bits) + 1j * rng.normal(size=1 << bits)


def on_bit(matrix: Any, bit: int, bits: int = BITS) -> Any:
    return np.kron(np.kron(np.eye(1 << bit), matrix), np.eye(1 << (bits - bit - 1)))


@pytest.mark.parametrize("chosen", [range(BITS), [0], [6], [2, 5], [1, 2, 3]], ids=str)
def test_rotate(rng: np.random.Generator, pieces: None, chosen: Any) -> None:
    matrices = {bit: rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2)) for bit in chosen}
    state = random_state(rng)
    expected = state
    for bit, matrix in matrices.items():
        expected = on_bit(matrix, bit) @ expected
    amplitudes.rotate(state, matrices)
    np.testing.assert_allclose(state, expected, rtol=1e-12)


def test_overlaps(rng: np.random.Generator, pieces: None) -> None:
    left, right = random_state(rng), random_state(rng)
    found = amplitudes.overlaps(left, right, [0, 2, 3, 6])
    assert sorted(found) == [0, 2, 3, 6]
    for bit, overlap in found.items():
        for a in range(2):
            for b in range(2):
                unit = np.zeros((2, 2))
                unit[a, b] = 1
                assert overlap[a, b] == pytest.approx(left @ on_bit(unit, bit) @ right)


def test_gather(rng: np.random.Generator, pieces: None) -> None:
    while True:
        linear = rng.integers(0, 2, (BITS, BITS)).astype(np.uint8)
        if round(np.linalg.det(linear)) % 2:
            break
    state = random_state(rng)
    out = np.empty_like(state)
    amplitudes.gather(state, linear, 0b1010011, out)
    for place in range(1 << BITS):
        bits = linear @ [place >> shift & 1 for shift in reversed(range(BITS))] % 2
        source = int("".join(map(str, bits)), 2) ^ 0b1010011
        assert out[place] == state[source]


def test_product_state_and_contraction(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(BITS, 2)) + 1j * rng.normal(size=(BITS, 2))
    product = amplitudes.product_state(vectors, 0.5j)
    expected = np.array([0.5j])
    for vector in vectors:
        expected = np.kron(expected, vector)
    np.testing.assert_allclose(product, expected, rtol=1e-12)
    state = random_state(rng)
    found = amplitudes.contract(state, vectors)
    for qubit in range(BITS):
        others = np.moveaxis(state.reshape((2,) * BITS), qubit, 0)
        for other in reversed([*vectors[:qubit], *vectors[qubit + 1 :]]):
            others = others @ other
        np.testing.assert_allclose(found[qubit], others, rtol=1e-12)


def test_parities(rng: np.random.Generator, pieces: None) -> None:
    state, masks = random_state(rng), rng.integers(0, 2, (5, BITS)).astype(np.uint8)
    numbers = [int("".join(map(str, mask)), 2) for mask in masks]
    signs = np.array([[(-1) ** (place & number).bit_count() for place in range(1 << BITS)] for number in numbers])
    np.testing.assert_allclose(amplitudes.parities(state, masks), signs @ abs(state) ** 2, rtol=1e-12)
    np.testing.assert_allclose(amplitudes.signed_conjugate(state, masks[0], -2.0), -2 * signs[0] * state.conj())


def test_inverse_and_pivots_modulo_2(rng: np.random.Generator) -> None:
    found = 0
    while found < 20:
        matrix = rng.integers(0, 2, (6, 6)).astype(np.uint8)
        if round(np.linalg.det(matrix)) % 2:
            found += 1
            assert (matrix @ inverse(matrix) % 2 == np.eye(6)).all()
            columns = pivots(matrix[:3])
            assert round(np.linalg.det(matrix[:3, columns])) % 2, "not independent"


@pytest.mark.parametrize("rank_bits", [0, 1, 2, 3, 8])
def test_strongly_entangling_layers_take_one_exchange_each(rank_bits: int) -> None:
    """And every rotation acts once, on a bit of the place that is its qubit then."""
    for qubits in (2 * rank_bits + 6, 41):
        layout = Layout(qubits, rank_bits)
        for number, layer in enumerate(strongly_entangling(random_weights(5, qubits, 1))):
            if number:
                steps = layout.layer_steps(number)
                assert sum(isinstance(step, Exchange) for step in steps) == (1 if rank_bits else 0)
                rotated = [qubit for step in steps for qubit in getattr(step, "qubits", {}).values()]
                assert sorted(rotated) == list(range(qubits))
            layout.cnots(layer.cnots)


def test_bytes_by_hand() -> None:
    """Two layers of 20 qubits on 4 ranks: each sends 3 of the 4 blocks of its 2^18 amplitudes once, and 20 sums. The
    gradient: 20 vectors, and 5 times the state, go back; and 20 * 2 * 20 * 3 sums."""
    values = 4 * (3 * 2**16 * 16 + 20 * 8)
    assert memory.bytes_predicted(2, 20, 4) == values
    assert memory.bytes_predicted(2, 20, 4, batch=4) == values + 4 * (25 * 3 * 2**16 * 16 + 2400 * 8)
    assert memory.bytes_predicted(2, 20, 1, batch=4) == 0


def test_the_model_holds_the_papers_point() -> None:
    """41 qubits on 256 GPUs of 80 GB: one vector in single precision fits there, and two in double precision do not."""
    rows = {row["qubits"]: row for row in memory.model(range(34, 45), 2, 4)}
    assert rows[41]["ranks_one_single_state"] == 256
    assert rows[42]["ranks_one_single_state"] == 512
    assert rows[41]["ranks_values"] == 1024
    assert rows[41]["state_bytes"] == 2**41 * 16


def test_the_kernel_holds_as_many_vectors_as_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amplitudes, "PIECE_BITS", 10)  # so that pieces are small beside the state
    qubits, batch = 16, 3
    layers = strongly_entangling(random_weights(2, qubits, 3))
    Simulation(layers[:1], Ranks()).jacobian()  # what is allocated once
    tracemalloc.start()
    simulation = Simulation(layers, Ranks())
    simulation.values()
    of_values = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    simulation.jacobian(batch)
    of_gradient = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    state = memory.state_bytes(qubits)
    for peak, states in ((of_values, memory.states(None)), (of_gradient, memory.states(batch))):
        assert states * state <= peak <= (states + 0.5) * state


@pytest.mark.parametrize(
    "angles, message",
    [
        (np.full((3, 3), np.nan), "finite numbers are needed, got nan on qubit 0"),
        ([[0, 0, 0], [0, np.inf, 0]], "got inf on qubit 1"),
        (np.zeros((3, 2)), r"shape \(qubits, 3\) is needed, got \(3, 2\)"),
    ],
)
def test_angles_that_are_refused(angles: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layer(np.array(angles))


def test_circuits_and_ranks_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two different qubits below 2 are needed, got \(0, 2\)"):
        Layer(np.zeros((2, 3)), ((0, 2),))
    with pytest.raises(ValueError, match=r"same number of qubits are needed, got \[2, 3\]"):
        Simulation([Layer(np.zeros((2, 3))), Layer(np.zeros((3, 3)))], Ranks())
    with pytest.raises(ValueError, match=r"got \[\] qubits"):
        Simulation([], Ranks())
    with pytest.raises(ValueError, match="ranks: a power of two is needed, got 3"):
        check_ranks(10, 3)
    with pytest.raises(ValueError, match="8 hold too few local qubits of 2; at most 2 ranks, or at least 6 qubits"):
        check_ranks(2, 8)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"ranks": 3}, "ranks: 3 is not valid; expected a power of two"),
        ({"ranks": 4, "qubits": (8, 20)}, "qubits: 8 is not valid; 4 ranks leave too few local qubits.*at least 10"),
        ({"oracle_qubits": 10}, "oracle_qubits: 10 is not valid; expected at least the smallest of qubits, 16"),
        ({"device": ("lightning.tpu",)}, "device: 'lightning.tpu' is not valid; expected one of lightning.kokkos"),
        ({"mpi_device": ("lightning.qubit",)}, "mpi_device: 'lightning.qubit' is not valid; expected one of"),
    ],
)
def test_settings_that_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        Settings(**given)


def test_a_device_that_is_not_installed_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(devices.PACKAGES, "lightning.gpu", ("pennylane-lightning-gpu", "no.such.module"))
    with pytest.raises(DescriptionError, match="not installed: pip install pennylane-lightning-gpu"):
        Settings(device=("lightning.gpu",))


def test_a_device_without_mpi_is_refused_and_one_with_it_is_not(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is whether the compiled module calls MPI; mpi4py's own does."""
    pytest.importorskip("qiskit_aer")
    with pytest.raises(DescriptionError, match="the installed qiskit-aer is built without MPI"):
        Settings(mpi_device=("aer",))
    pytest.importorskip("mpi4py")
    monkeypatch.setitem(devices.PACKAGES, "aer", ("qiskit-aer", "mpi4py.MPI"))
    with_mpi = Settings(mpi_device=("aer",))
    assert "aer, 2 ranks" in StateVector(with_mpi).plan()["devices"]


def test_sizes_above_the_oracles_run_without_it() -> None:
    settings = msgspec.structs.replace(Settings(), qubits=(26, 16, 18), oracle_qubits=18)
    assert settings.circuits(distributed=False).qubits == (16, 18)
    assert settings.circuits(distributed=True).qubits == (16, 18, 26)
