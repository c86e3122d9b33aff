"""The circuit that prepares an image: layers of a staircase of two-qubit gates, with real amplitudes.

Each layer has a gate on each pair of neighbours (0, 1), (1, 2), ..., in this order. With real amplitudes, a gate is a
rotation of four dimensions (SO(4), six angles):

    RY(a) ⊗ RY(b) · CNOT · RY(c) ⊗ RY(d) · CNOT · RY(e) ⊗ RY(f) ,     control: the first qubit.

The CNOTs turn Y⊗1 into Y⊗X and 1⊗Y into Z⊗Y, and {Y1, ZY, XY} and {1Y, YX, YZ} are two sets of Pauli matrices that
commute with each other: each set has its own three Euler angles, (a, d, e) and (b, c, f), which reach all of SO(4).

The last rotations of a gate and the first ones of the next gate on that qubit are one rotation. What remains is one
rotation on each qubit before all gates, and four in each gate:

    parameters(n qubits, L layers) = n + 4 (n - 1) L ,      13 + 4 · 12 · 4 = 205

for the 13 qubits and depth 4 of the Pilot-Quantum paper, which gives the number 205 without the formula. The same
number follows from 6 (n - 1) L angles less one for each of the 2 (n - 1) L - n places where two rotations meet.

Parameters are ordered: the n first rotations, then c, d, a, b of each gate in the order of time.

States here have the shape ``(4, 2**(n - 2))``: the first axis is the pair of qubits that the next gate acts on, and
the qubits are in cyclic order after that pair. So every gate is one product of matrices.
"""

from __future__ import annotations

import numpy as np

from pilot_miniapps.qml.encoding import Floats

_CNOT = np.eye(4)[[0, 1, 3, 2]]


def number_of_parameters(qubits: int, layers: int) -> int:
    """How many angles the circuit has: n + 4 (n - 1) L."""
    return qubits + 4 * (qubits - 1) * layers


class Staircase:
    """The circuit of `layers` layers on `qubits` qubits (at least 3)."""

    def __init__(self, qubits: int, layers: int) -> None:
        self.qubits, self.layers = qubits, layers
        self.steps = qubits - 1
        self.number_of_gates = self.steps * layers
        self.number_of_parameters = number_of_parameters(qubits, layers)

    # ---- states ---------------------------------------------------------------------------------------------------

    def zero(self) -> Floats:
        """The state |0...0⟩."""
        state = np.zeros((4, 2 ** (self.qubits - 2)))
        state[0, 0] = 1
        return state

    def turned(self, state: Floats, gate: int) -> Floats:
        """The state with the qubits of the gate after `gate` in front. After a layer, two qubits are moved at once."""
        moved = 4 if self._ends_layer(gate) else 2
        return np.ascontiguousarray(state.reshape(moved, -1).T).reshape(4, -1)

    def turned_back(self, state: Floats, gate: int) -> Floats:
        """The reverse of `turned`: the qubits of `gate` are in front again."""
        moved = 4 if self._ends_layer(gate) else 2
        return np.ascontiguousarray(state.reshape(-1, moved).T).reshape(4, -1)

    def _ends_layer(self, gate: int) -> bool:
        return gate % self.steps == self.steps - 1

    def state(self, parameters: Floats) -> Floats:
        """The amplitudes that the circuit prepares, shape ``(2**n,)``; qubit 0 is the most significant bit."""
        state = self.zero()
        for number, gate in enumerate(self.gates(parameters)):
            state = self.turned(gate @ state, number)
        return state.ravel()

    # ---- parameters and gates -------------------------------------------------------------------------------------

    def gates(self, parameters: Floats) -> Floats:
        """The gates as matrices, shape ``(gates, 4, 4)``, with the first rotations in those of the first layer."""
        first, inner, outer = self._split(parameters)
        return _pairs(outer) @ _CNOT @ _pairs(inner) @ _CNOT @ _pairs(first)

    def parameters(self, gates: Floats) -> Floats:
        """The angles of a circuit of these gates, rotations of shape ``(gates, 4, 4)`` and determinant 1."""
        angles = np.zeros(self.number_of_parameters)
        ours = angles[self.qubits :].reshape(-1, 4)
        last = [(angles, qubit) for qubit in range(self.qubits)]  # where the newest rotation of each qubit is
        for number, gate in enumerate(gates):
            left, right, (c, d), before = _euler(gate)
            for qubit, angle in enumerate(before, start=number % self.steps):
                holder, index = last[qubit]
                holder[index] += angle
            ours[number] = c, d, left, right
            last[number % self.steps], last[number % self.steps + 1] = (ours[number], 2), (ours[number], 3)
        return angles

    def _split(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """The angles of each gate before, between and after its CNOTs, each of shape ``(gates, 2)``."""
        first = np.zeros((self.number_of_gates, 2))
        first[: self.steps, 1] = parameters[1 : self.qubits]
        first[0, 0] = parameters[0]
        ours = parameters[self.qubits :].reshape(-1, 4)
        return first, ours[:, :2], ours[:, 2:]

    # ---- the gradient ---------------------------------------------------------------------------------------------

    def overlap_and_gradient(self, parameters: Floats, target: Floats) -> tuple[float, Floats]:
        """⟨target|circuit⟩ and its derivatives by the parameters, by the adjoint method: one pass forth, one back.

        Args:
            parameters: shape ``(n + 4 (n - 1) L,)``.
            target: real amplitudes, shape ``(2**n,)``.
        """
        gates = self.gates(parameters)
        kets = [self.zero()]
        for number, gate in enumerate(gates):
            kets.append(self.turned(gate @ kets[-1], number))
        overlap = float(target @ kets.pop().ravel())
        bra = target.reshape(4, -1)
        by_gate = np.empty_like(gates)
        for number in reversed(range(self.number_of_gates)):
            bra = self.turned_back(bra, number)
            by_gate[number] = bra @ kets.pop().T
            bra = gates[number].T @ bra
        return overlap, self._by_angles(parameters, by_gate)

    def _by_angles(self, parameters: Floats, by_gate: Floats) -> Floats:
        """The derivatives by the angles, from those by the elements of the gates."""
        first, inner, outer = self._split(parameters)
        before, between, after = _pairs(first), _CNOT @ _pairs(inner) @ _CNOT, _pairs(outer)
        by_first = _contract(by_gate, after @ between, _derivatives(first))
        by_inner = _contract(by_gate, after @ _CNOT, _derivatives(inner), _CNOT @ before)
        by_outer = _contract(by_gate, np.eye(4), _derivatives(outer), between @ before)
        gradient = np.empty(self.number_of_parameters)
        gradient[0], gradient[1 : self.qubits] = by_first[0, 0], by_first[: self.steps, 1]
        gradient[self.qubits :] = np.hstack([by_inner, by_outer]).ravel()
        return gradient


def _rotations(angles: Floats) -> Floats:
    """RY of each angle, shape ``angles.shape + (2, 2)``."""
    cosine, sine = np.cos(angles / 2), np.sin(angles / 2)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


def _pairs(angles: Floats) -> Floats:
    """RY ⊗ RY of each pair of angles: from shape ``(gates, 2)`` to ``(gates, 4, 4)``."""
    return _products(*np.moveaxis(_rotations(angles), 1, 0))


def _derivatives(angles: Floats) -> Floats:
    """The derivatives of `_pairs` by both angles, shape ``(gates, 2, 4, 4)``: d RY(t)/dt = RY(t + π) / 2."""
    first, second = np.moveaxis(_rotations(angles), 1, 0)
    first_moved, second_moved = np.moveaxis(_rotations(angles + np.pi) / 2, 1, 0)
    return np.stack([_products(first_moved, second), _products(first, second_moved)], 1)


def _products(first: Floats, second: Floats) -> Floats:
    return np.einsum("gij,gkl->gikjl", first, second).reshape(-1, 4, 4)


def _contract(by_gate: Floats, left: Floats, moved: Floats, right: Floats | None = None) -> Floats:
    """The derivative by each angle: the sum of by_gate · (left · moved · right), shape ``(gates, 2)``."""
    outer = np.swapaxes(left, -1, -2) @ by_gate
    if right is not None:
        outer = outer @ np.swapaxes(right, -1, -2)
    return np.einsum("gij,gpij->gp", outer, moved)


_ONE, _X, _Y, _Z = np.eye(2), np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])


def _quaternion_units(*pauli_strings: np.ndarray) -> Floats:
    """1 and -i times each Pauli string: real matrices, shape ``(4, 4, 4)``."""
    return np.stack([np.eye(4), *((-1j * string).real for string in pauli_strings)])


#: Each set: around Y, around the axis of the core, and the third axis of a right-handed system.
_LEFT = _quaternion_units(np.kron(_Y, _ONE), np.kron(_Z, _Y), np.kron(_X, _Y))
_RIGHT = _quaternion_units(np.kron(_ONE, _Y), np.kron(_Y, _X), -np.kron(_Y, _Z))
_UNITS = np.einsum("iab,jbc->ijac", _LEFT, _RIGHT)


def _euler(gate: Floats) -> tuple[float, float, tuple[float, float], tuple[float, float]]:
    """The angles a, b, (c, d), (e, f) of a gate; see the docstring of the module.

    The gate is q·p with one quaternion of each set, so its components in the products of their units are a matrix of
    rank one, from which both can be read.
    """
    components = np.einsum("ijab,ab->ij", _UNITS, gate) / 4
    p = components[np.argmax(np.abs(components).sum(1))]
    p = p / np.linalg.norm(p)
    a, d, e = _angles(components @ p)
    b, c, f = _angles(p)
    return a, b, (c, d), (e, f)


def _angles(quaternion: Floats) -> tuple[float, float, float]:
    """Euler angles of a rotation around the first, the second and again the first axis; the last of them acts first."""
    real, first, second, third = quaternion
    middle = 2 * np.arctan2(np.hypot(second, third), np.hypot(real, first))
    half_sum, half_difference = np.arctan2(first, real), np.arctan2(third, second)
    return half_sum + half_difference, middle, half_sum - half_difference
