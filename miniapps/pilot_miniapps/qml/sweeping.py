"""The gates of a staircase that prepares a state: from matrix product states, then improved in sweeps.

Both steps as in Rudolph et al., "Decomposition of matrix product states into shallow quantum circuits" (Quantum Sci.
Technol. 9, 015012, 2024), which the Pilot-Quantum paper cites: each layer is the exact circuit of a matrix product
state of bond dimension 2 that approximates what the layers so far leave of the state (the method of Ran, Phys. Rev. A
101, 032310, 2020); then each gate in turn is replaced by the best one with all others fixed. With 13 qubits the
environment of a gate is computed exactly, from state vectors.
"""

from __future__ import annotations

import numpy as np

from pilot_miniapps.qml.encoding import Floats
from pilot_miniapps.qml.staircase import Staircase


def disentangled(circuit: Staircase, target: Floats) -> Floats:
    """Gates of the circuit that prepare about the target, shape ``(gates, 4, 4)``, each of determinant 1.

    The layer that acts last is found first; its inverse takes most of the entanglement out of the state, and the next
    layer is found for what remains.
    """
    layers = []
    rest = target
    for _ in range(circuit.layers):
        layer = _layer(circuit, rest)
        bra = rest.reshape(4, -1)
        for number in reversed(range(circuit.steps)):
            bra = layer[number].T @ circuit.turned_back(bra, number)
        rest = bra.ravel()
        layers.insert(0, layer)
    return np.concatenate(layers)


def _layer(circuit: Staircase, state: Floats) -> Floats:
    """The layer that prepares the matrix product state of bond dimension 2 next to the state.

    From the last qubit to the first: what two qubits (the second one is a bond, except for the first pair) have most
    of, by the eigenvectors of their reduced density matrix. A gate takes the bond, and a new qubit in 0, to both.
    """
    gates = np.empty((circuit.steps, 4, 4))
    rest = state.reshape(-1, 4)
    for number in reversed(range(circuit.steps)):
        bonds = 2 if number else 1
        _, vectors = np.linalg.eigh(rest.T @ rest)
        kept = vectors[:, : -bonds - 1 : -1]
        gates[number] = _completed(kept)
        rest = (rest @ kept).reshape(-1, 4) if number else rest
    return gates


def _completed(columns: Floats) -> Floats:
    """A rotation that takes |00⟩ (and |10⟩) to these columns: the others complete the basis."""
    basis = np.linalg.svd(columns)[0]  # its last columns are orthogonal to ours
    gate = np.empty((4, 4))
    gate[:, [0, 2][: columns.shape[1]]] = columns
    gate[:, [1, 3] if columns.shape[1] == 2 else [1, 2, 3]] = basis[:, columns.shape[1] :]
    gate[:, 3] *= np.linalg.det(gate)
    return gate


def swept(circuit: Staircase, gates: Floats, target: Floats, sweeps: int) -> Floats:
    """The gates after so many sweeps, forth and back in turns; a sweep replaces each gate once.

    The overlap with the target is linear in each gate: it is the trace of the gate's transpose times its environment.
    The best rotation for that is the polar factor of the environment (Kabsch, Acta Cryst. A 32, 922, 1976). The
    overlap never falls.
    """
    gates = gates.copy()
    ket, bra = circuit.zero(), target.reshape(4, -1)
    for number in reversed(range(circuit.number_of_gates)):
        bra = gates[number].T @ circuit.turned_back(bra, number)
    for sweep in range(sweeps):
        if sweep % 2 == 0:
            for number in range(circuit.number_of_gates):
                bra = gates[number] @ bra
                gates[number] = _best(bra @ ket.T)
                ket, bra = circuit.turned(gates[number] @ ket, number), circuit.turned(bra, number)
        else:
            for number in reversed(range(circuit.number_of_gates)):
                ket, bra = circuit.turned_back(ket, number), circuit.turned_back(bra, number)
                ket = gates[number].T @ ket
                gates[number] = _best(bra @ ket.T)
                bra = gates[number].T @ bra
    return gates


def _best(environment: Floats) -> Floats:
    """The rotation with the largest trace with the environment."""
    left, _, right = np.linalg.svd(environment)
    left[:, 3] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    return left @ right
