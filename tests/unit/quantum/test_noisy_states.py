"""States of noisy qubits and measured bits, beside Qiskit's density matrices. Without pilots."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit.quantum_info import PTM, DensityMatrix, Operator, SuperOp, random_quantum_channel, random_unitary
from qiskit_aer.noise import thermal_relaxation_error

from pilot.quantum.noisy_states import RESET, NoisyState, relaxation, transfer_of


@pytest.mark.parametrize("qubits", [1, 2, 3])
def test_the_transfer_matrix_of_a_gate_is_qiskits(qubits: int) -> None:
    unitary = random_unitary(2**qubits, seed=qubits)
    assert np.allclose(transfer_of(unitary.data), PTM(unitary).data, atol=1e-12)


@pytest.mark.parametrize(("t1", "t2"), [(1e-4, 1.7e-4), (1e-4, 0.3e-4), (1e-4, 2e-4)])
def test_relaxation_is_that_of_aer(t1: float, t2: float) -> None:
    theirs = PTM(SuperOp(thermal_relaxation_error(t1, t2, 3e-5))).data
    assert np.allclose(relaxation(3e-5, t1, t2), theirs, atol=1e-12)
    assert np.allclose(relaxation(1.0, np.inf, np.inf), np.eye(4))


@pytest.mark.parametrize("seed", range(4))
def test_channels_on_any_qubits_in_any_order(seed: int) -> None:
    """Random channels on one to three of four qubits, resets among them; then all are measured."""
    random = np.random.default_rng(seed)
    state, density = NoisyState(), DensityMatrix.from_label("0000")
    for step in range(14):
        qubits = random.permutation(4)[: random.integers(1, 4)].tolist()
        if step % 5 == 4:
            state.apply(RESET, qubits[:1])
            density = density.reset(qubits[:1])
            continue
        size = 2 ** len(qubits)
        channel = SuperOp(random_unitary(size, seed=int(random.integers(1000))))
        if len(qubits) < 3:
            channel = SuperOp(random_quantum_channel(size, size, 2, seed=int(random.integers(1000)))) @ channel
        state.apply(PTM(channel).data.real, qubits)
        density = density.evolve(channel, qubits)
    order = random.permutation(4).tolist()
    for qubit in order:
        state.measure(qubit, f"bit {qubit}", np.eye(2), keep=bool(random.integers(2)))
    wanted = density.probabilities(order)
    assert np.allclose(state.probabilities([f"bit {qubit}" for qubit in order]), wanted, atol=1e-12)


def test_a_measurement_in_the_middle_and_its_readout_errors() -> None:
    """A qubit in a superposition is measured, turned and measured again; each outcome is read with errors."""
    confusion = np.array([[0.9, 0.3], [0.1, 0.7]])
    hadamard = Operator.from_label("H").data
    rotation = random_unitary(2, seed=5).data
    state = NoisyState()
    state.apply(transfer_of(hadamard), ["q"])
    state.measure("q", "first", confusion)
    state.apply(transfer_of(rotation), ["q"])
    state.measure("q", "second", confusion, keep=False)
    turned = abs(rotation) ** 2  # [second, first]
    wanted = np.einsum("ax,by,xy->ab", confusion, confusion, turned / 2)
    assert np.allclose(state.probabilities(["first", "second"]).reshape(2, 2), wanted, atol=1e-12)


def test_a_bit_has_the_outcome_and_the_error_of_its_last_measurement() -> None:
    state = NoisyState()
    state.apply(transfer_of(Operator.from_label("X").data), ["a"])
    state.measure("a", "bit", np.array([[0.5, 0.5], [0.5, 0.5]]), keep=False)
    state.measure("b", "bit", np.array([[0.9, 0.3], [0.1, 0.7]]))
    state.measure("b", "bit", np.array([[0.8, 0.2], [0.2, 0.8]]), keep=False)
    assert np.allclose(state.probabilities(["bit"]), [0.8, 0.2])
