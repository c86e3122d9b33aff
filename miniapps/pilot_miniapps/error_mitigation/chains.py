"""Circuits whose values without noise are known: the dynamics of short chains of spins."""

from __future__ import annotations

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector


def chain(qubits: int, steps: int, seed: int, number: int) -> tuple[QuantumCircuit, SparsePauliOp]:
    """Spins up that evolve under an Ising model in a transverse field, by Trotter steps of first order.

    Args:
        qubits: of the chain.
        steps: each turns all pairs of neighbours by ``exp(-i J ZZ)`` and all qubits by ``exp(-i h X)``.
        seed: of all circuits.
        number: of this one; J and h of each pair and qubit are drawn anew for it.

    Returns:
        The circuit, and the mean of ZZ over neighbours and of Z: all of it can be measured at once.
    """
    random = np.random.default_rng([seed, qubits, steps, number])
    couplings = random.uniform(0.2, 0.5, qubits - 1)
    fields = random.uniform(0.1, 0.35, qubits)
    circuit = QuantumCircuit(qubits, name=f"chain-{number}")
    for _ in range(steps):
        for qubit in range(qubits - 1):
            circuit.rzz(2 * couplings[qubit], qubit, qubit + 1)
        for qubit in range(qubits):
            circuit.rx(2 * fields[qubit], qubit)
    weight = 1 / (2 * qubits - 1)
    pairs = [("ZZ", [qubit, qubit + 1], weight) for qubit in range(qubits - 1)]
    singles = [("Z", [qubit], weight) for qubit in range(qubits)]
    return circuit, SparsePauliOp.from_sparse_list([*pairs, *singles], num_qubits=qubits)


def exact_value(circuit: QuantumCircuit, observable: SparsePauliOp) -> float:
    """Without noise and shots, by Qiskit's `Statevector`."""
    return float(Statevector(circuit).expectation_value(observable).real)
