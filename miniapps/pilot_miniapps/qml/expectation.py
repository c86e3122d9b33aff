"""The oracle of `qml-classifier`: Qiskit computes the expectation values, from the weights alone."""

from __future__ import annotations

import numpy as np

from pilot_miniapps.qml.encoding import Floats


def expectation_values(weights: Floats, state: Floats, classes: int) -> Floats:
    """⟨Z⟩ on each of the first qubits after the circuit of `classifier`, by Qiskit's state vector.

    Args:
        weights: shape ``(layers, qubits, 3)``.
        state: that the circuit starts in, shape ``(2**qubits,)``; qubit 0 is the most significant bit of the index.
        classes: how many qubits.
    """
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import Pauli, Statevector

    layers, qubits, _ = weights.shape
    circuit = QuantumCircuit(qubits)
    for layer in range(layers):
        for qubit in range(qubits):
            first, middle, last = map(float, weights[layer, qubit])
            circuit.rz(first, qubit)
            circuit.ry(middle, qubit)
            circuit.rz(last, qubit)
        for qubit in range(qubits):
            circuit.cx(qubit, (qubit + 1) % qubits)
    begun = Statevector(np.asarray(state, complex)).reverse_qargs()
    ended = begun.evolve(circuit)
    return np.array([ended.expectation_value(Pauli("Z"), [qubit]).real for qubit in range(classes)])
