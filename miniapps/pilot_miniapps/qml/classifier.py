"""The variational classifier: a PennyLane circuit whose Z expectation values are the logits of the classes.

The circuit is that of the Pilot-Quantum paper, after Schuld's demonstration "Variational classifier"
(https://pennylane.ai/qml/demos/tutorial_variational_classifier): it starts in the state of the image (`encoding`), each
layer is one arbitrary rotation of each qubit, Rot(φ, θ, ω) = RZ(ω) RY(θ) RZ(φ), and a ring of CNOTs from each qubit to
the next one. The expectation values of Z on the first qubits are the logits; the loss is the cross-entropy of their
softmax. The paper has one layer and no factor; values between -1 and 1 cannot make a softmax sure of ten classes, so
that training multiplies them by `SCALE`.

Rotations of up to five neighbours are given to PennyLane as one unitary matrix, their Kronecker product, and the
expectation values are taken from the probabilities of the basis states: the same circuit, in fewer operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

#: Factor of the expectation values before the softmax.
SCALE = 20.0
#: Qubits of one unitary matrix at most.
GROUP = 5

Function = Callable[..., Any]


def logits(qubits: int, classes: int) -> Function:
    """A function of weights, shape ``(layers, qubits, 3)``, and a state, shape ``(2**qubits,)``: `SCALE` times the
    expectation values of Z on the first `classes` qubits. Qubit 0 is the most significant bit of the index."""
    import jax.numpy as jnp
    import pennylane as qml

    groups = [part.tolist() for part in np.array_split(np.arange(qubits), -(-qubits // GROUP))]
    bits = np.arange(2**qubits)[:, None] >> np.arange(qubits - 1, qubits - 1 - classes, -1) & 1
    signs = jnp.asarray(SCALE * (1 - 2 * bits), dtype=float)

    @qml.qnode(qml.device("default.qubit", wires=qubits), interface="jax", diff_method="backprop")
    def probabilities(weights: Any, state: Any) -> Any:
        qml.StatePrep(state, wires=range(qubits), validate_norm=False)
        for layer in weights:
            rotations = qml.Rot.compute_matrix(*layer.T)
            for group in groups:
                product = rotations[group[0]]
                for qubit in group[1:]:
                    product = jnp.kron(product, rotations[qubit])
                qml.QubitUnitary(product, wires=group)
            for qubit in range(qubits):
                qml.CNOT([qubit, (qubit + 1) % qubits])
        return qml.probs(wires=range(qubits))

    return lambda weights, state: probabilities(weights, state) @ signs


def loss(qubits: int, classes: int) -> Function:
    """A function of weights, a state and its label: the cross-entropy."""
    import optax

    values = logits(qubits, classes)
    return lambda weights, state, label: optax.softmax_cross_entropy_with_integer_labels(values(weights, state), label)


#: The four ways of figure 7 of the Pilot-Quantum paper.
WAYS = ("sequential", "vmap", "jit", "both")
#: Those that take a batch at once.
AT_ONCE = ("vmap", "both")


def gradient(way: str, qubits: int, classes: int) -> Function:
    """A function of weights, states and labels: the mean loss of a batch and its gradient.

    Args:
        way: "sequential": one sample after another, each operation by itself; "vmap": the batch at once, each operation
            by itself; "jit": one sample after another, compiled; "both": the batch at once, compiled.
        qubits: of the circuit.
        classes: at most the number of qubits.
    """
    import jax

    one = loss(qubits, classes)
    if way in AT_ONCE:
        each = jax.vmap(one, (None, 0, 0))
        batch = jax.value_and_grad(lambda weights, states, labels: each(weights, states, labels).mean())
        return jax.jit(batch) if way == "both" else batch
    sample = jax.value_and_grad(one)
    if way == "jit":
        sample = jax.jit(sample)

    def in_turn(weights: Any, states: Any, labels: Any) -> tuple[Any, Any]:
        found = [sample(weights, state, label) for state, label in zip(states, labels, strict=True)]
        return sum(value for value, _ in found) / len(found), sum(its for _, its in found) / len(found)

    return in_turn


def initial_weights(layers: int, qubits: int, seed: int) -> Any:
    """Angles between 0 and 1, shape ``(layers, qubits, 3)``."""
    return np.random.default_rng(seed).uniform(size=(layers, qubits, 3)).astype(np.float32)
