"""The classifier of `qml-classifier`: Qiskit is the oracle of its logits, finite differences of its gradient."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from pilot_miniapps.qml.classification import Settings
from pilot_miniapps.qml.classifier import SCALE, gradient, initial_weights, logits
from pilot_miniapps.qml.expectation import expectation_values
from pilot_miniapps.qml.training import on

from pilot import DescriptionError

pytestmark = pytest.mark.filterwarnings("ignore:jax.core.is_concrete is deprecated")  # in PennyLane 0.45

RANDOM = np.random.default_rng(3)
QUBITS, CLASSES = 6, 3  # in two groups of rotations


def _states(count: int) -> np.ndarray:
    states = RANDOM.normal(size=(count, 2**QUBITS)).astype(np.float32)
    return states / np.linalg.norm(states, axis=1, keepdims=True)


def test_logits_are_those_of_qiskit() -> None:
    weights, (state,) = initial_weights(2, QUBITS, seed=1), _states(1)
    ours = np.asarray(jax.jit(logits(QUBITS, CLASSES))(weights, state))
    assert np.abs(ours - SCALE * expectation_values(weights, state, CLASSES)).max() < 1e-4
    weights[0, 2, 1] += 0.5
    assert np.abs(ours - SCALE * expectation_values(weights, state, CLASSES)).max() > 1e-2


def test_the_gradient_of_a_batch_is_that_of_finite_differences() -> None:
    weights, states, labels = initial_weights(1, QUBITS, seed=2), _states(3), np.array([0, 2, 1])
    value, slope = gradient("both", QUBITS, CLASSES)(weights, states, labels)
    in_turn = gradient("jit", QUBITS, CLASSES)
    other, its = in_turn(weights, states, labels)
    assert float(other) == pytest.approx(float(value), abs=1e-4)
    assert np.abs(np.asarray(its) - np.asarray(slope)).max() < 1e-4
    for index in ((0, 0, 0), (0, 3, 1), (0, 5, 1)):
        moved = np.zeros_like(weights)
        moved[index] = 1e-2
        difference = in_turn(weights + moved, states, labels)[0] - in_turn(weights - moved, states, labels)[0]
        assert float(slope[index]) == pytest.approx(float(difference) / 2e-2, abs=5e-3)


def test_a_platform_that_is_not_there_is_refused() -> None:
    with pytest.raises(DescriptionError, match=r"platform: JAX finds no tpu on .*; choose cpu"), on("tpu"):
        pass


def test_more_images_than_there_are_are_refused() -> None:
    with pytest.raises(DescriptionError, match=r"1000 in all; expected at most 520"):
        Settings(training_images=800, test_images=200)
