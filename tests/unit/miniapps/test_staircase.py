"""The circuit of `qml-compression`: Qiskit is the oracle of its states, finite differences are that of its gradient."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from pilot_miniapps.qml.compressing import compress
from pilot_miniapps.qml.encoding import encode
from pilot_miniapps.qml.fidelity import fidelity, qiskit_circuit
from pilot_miniapps.qml.staircase import Staircase, number_of_parameters
from pilot_miniapps.qml.sweeping import disentangled, swept
from qiskit.quantum_info import Statevector

RANDOM = np.random.default_rng(7)


def _unit(size: int) -> np.ndarray:
    vector = RANDOM.normal(size=size)
    return vector / np.linalg.norm(vector)


def _rotation() -> np.ndarray:
    matrix = np.linalg.qr(RANDOM.normal(size=(4, 4)))[0]
    matrix[:, 0] *= np.linalg.det(matrix)
    return matrix


@pytest.mark.parametrize(("qubits", "layers"), [(3, 1), (5, 3), (13, 4)])
def test_the_number_of_parameters_is_that_of_the_circuit(qubits: int, layers: int) -> None:
    count = number_of_parameters(qubits, layers)
    circuit = qiskit_circuit(np.zeros(count), qubits, layers)
    assert circuit.count_ops()["ry"] == count
    assert circuit.count_ops()["cx"] == 2 * (qubits - 1) * layers
    assert number_of_parameters(13, 4) == 205


@pytest.mark.parametrize(("qubits", "layers"), [(3, 1), (4, 2), (6, 3)])
def test_states_are_those_of_qiskit(qubits: int, layers: int) -> None:
    circuit = Staircase(qubits, layers)
    angles = RANDOM.uniform(-4, 4, circuit.number_of_parameters)
    expected = Statevector(qiskit_circuit(angles, qubits, layers).reverse_bits()).data
    assert np.abs(circuit.state(angles) - expected).max() < 1e-13


@pytest.mark.parametrize(("qubits", "layers"), [(3, 2), (5, 2)])
def test_the_gradient_is_that_of_finite_differences(qubits: int, layers: int) -> None:
    circuit, target, step = Staircase(qubits, layers), _unit(2**qubits), 1e-6
    angles = RANDOM.uniform(-4, 4, circuit.number_of_parameters)
    overlap, gradient = circuit.overlap_and_gradient(angles, target)
    assert overlap == pytest.approx(target @ circuit.state(angles), abs=1e-14)
    for number, moved in enumerate(step * np.eye(len(angles))):
        difference = target @ (circuit.state(angles + moved) - circuit.state(angles - moved)) / (2 * step)
        assert gradient[number] == pytest.approx(difference, abs=1e-8)


def test_every_rotation_has_angles() -> None:
    circuit = Staircase(5, 3)
    gates = np.stack([_rotation() for _ in range(circuit.number_of_gates)])
    gates[0], gates[1] = np.eye(4), -np.eye(4)
    state = circuit.zero()
    for number, gate in enumerate(gates):
        state = circuit.turned(gate @ state, number)
    assert np.abs(circuit.state(circuit.parameters(gates)) - state.ravel()).max() < 1e-13


def test_one_layer_is_exact_for_its_matrix_product_states_and_sweeps_never_lose() -> None:
    circuit = Staircase(6, 1)
    target = circuit.state(RANDOM.uniform(-3, 3, circuit.number_of_parameters))
    gates = disentangled(circuit, target)
    assert np.abs(np.linalg.det(gates) - 1).max() < 1e-12
    assert abs(target @ circuit.state(circuit.parameters(gates))) == pytest.approx(1, abs=1e-12)

    circuit, target = Staircase(6, 2), _unit(64)
    gates = disentangled(circuit, target)
    overlaps = [target @ circuit.state(circuit.parameters(swept(circuit, gates, target, count))) for count in range(9)]
    assert all(after >= before - 1e-12 for before, after in pairwise(overlaps))
    assert overlaps[-1] > abs(overlaps[0]) + 0.01


def test_an_image_becomes_the_same_circuit_each_time() -> None:
    smooth = np.add.outer(np.arange(32), np.arange(32)) * 4
    image = np.stack([smooth, 255 - smooth, np.full((32, 32), 90)], -1).astype(np.uint8)
    found, again = (compress(image, layers=2, sweeps=4, iterations=5) for _ in range(2))
    assert np.array_equal(found.parameters, again.parameters)
    assert found.fidelities[0] <= found.fidelities[1] <= found.fidelities[2] <= 1
    assert found.fidelities[2] > 0.95
    assert found.threads == 1
    assert fidelity(found.parameters, encode(image / 255), 13, 2) == pytest.approx(found.fidelities[2], abs=1e-12)
    found.parameters[40] += 0.3
    assert abs(fidelity(found.parameters, encode(image / 255), 13, 2) - found.fidelities[2]) > 1e-6
