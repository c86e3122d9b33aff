"""Circuits of layers: a rotation on every qubit, then CNOTs. Strongly entangling layers are one kind of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

_Z = np.diag([1.0, -1.0])
_Y = np.array([[0, -1j], [1j, 0]])


class Layer(msgspec.Struct, frozen=True):
    """One layer.

    Attributes:
        angles: of shape ``(qubits, 3)``, in radians: phi, theta, omega of RZ(omega) RY(theta) RZ(phi), which is
            PennyLane's ``Rot``, on each qubit.
        cnots: pairs of control and target, in the order in which they act, after the rotations.
    """

    angles: NDArray[np.float64]
    cnots: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        qubits = len(self.angles)
        if np.shape(self.angles) != (qubits, 3):
            raise ValueError(f"angles: shape (qubits, 3) is needed, got {np.shape(self.angles)}")
        if not np.isfinite(self.angles).all():
            raise ValueError(f"angles: finite numbers are needed, got {_first_not_finite(self.angles)}")
        for control, target in self.cnots:
            if control == target or not (0 <= control < qubits and 0 <= target < qubits):
                raise ValueError(f"cnots: two different qubits below {qubits} are needed, got ({control}, {target})")

    def matrices(self) -> NDArray[np.complex128]:
        """The rotations, of shape ``(qubits, 2, 2)``."""
        phi, theta, omega = np.asarray(self.angles).T
        cosine, sine = np.cos(theta / 2), np.sin(theta / 2)
        plus, minus = np.exp(0.5j * (phi + omega)), np.exp(0.5j * (phi - omega))
        return np.array(
            [[cosine / plus, -sine * minus], [sine / minus, cosine * plus]],
        ).transpose(2, 0, 1)

    def generators(self) -> NDArray[np.complex128]:
        """For each angle the matrix G with dU/dangle = G U, of shape ``(qubits, 3, 2, 2)``; U is the rotation."""
        whole = self.matrices()
        phases = np.exp(-0.5j * np.outer(self.angles[:, 2], [1, -1]))
        of_theta = phases[:, :, None] * _Y * phases.conj()[:, None, :]
        of_phi = whole @ _Z @ whole.conj().transpose(0, 2, 1)
        return -0.5j * np.stack([of_phi, of_theta, np.broadcast_to(_Z, of_phi.shape)], axis=1)


def strongly_entangling(weights: NDArray[np.float64]) -> list[Layer]:
    """PennyLane's ``StronglyEntanglingLayers``: layer l has a CNOT from each qubit i to i + r, r = l mod (n - 1) + 1.

    Args:
        weights: angles of shape ``(layers, qubits, 3)``.
    """
    layers = []
    for number, angles in enumerate(weights):
        qubits = len(angles)
        reach = number % (qubits - 1) + 1 if qubits > 1 else 0
        ring = tuple((qubit, (qubit + reach) % qubits) for qubit in range(qubits) if qubits > 1)
        layers.append(Layer(angles, ring))
    return layers


def random_weights(layers: int, qubits: int, seed: int) -> NDArray[np.float64]:
    """Angles between 0 and 2 pi, of shape ``(layers, qubits, 3)``; the same for the same arguments."""
    return np.random.default_rng([seed, layers, qubits]).uniform(0, 2 * np.pi, (layers, qubits, 3))


def check(layers: Sequence[Layer]) -> int:
    """How many qubits the layers have.

    Raises:
        ValueError: there is none, or they differ.
    """
    sizes = {len(layer.angles) for layer in layers}
    if len(sizes) != 1 or not min(sizes):
        raise ValueError(f"layers: one or more on the same number of qubits are needed, got {sorted(sizes)} qubits")
    return sizes.pop()


def _first_not_finite(angles: NDArray[np.float64]) -> str:
    qubit, angle = np.argwhere(~np.isfinite(angles))[0]
    return f"{angles[qubit, angle]} on qubit {qubit}"
