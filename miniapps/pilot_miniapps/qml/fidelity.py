"""The oracle of `qml-compression`: Qiskit prepares the state, from the angles alone.

It knows the circuit from its description only (`staircase`), and shares no code with what found the angles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_miniapps.qml.encoding import Floats

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


def fidelity(parameters: Floats, target: Floats, qubits: int, layers: int) -> float:
    """|⟨target|circuit⟩|², where Qiskit simulates the circuit.

    Args:
        parameters: in the order of `Staircase`.
        target: shape ``(2**qubits,)``; qubit 0 is the most significant bit of the index.
        qubits: of the circuit.
        layers: of the circuit.
    """
    from qiskit.quantum_info import Statevector

    state = Statevector(qiskit_circuit(parameters, qubits, layers).reverse_bits())
    return abs(complex(target @ state.data)) ** 2


def qiskit_circuit(parameters: Floats, qubits: int, layers: int) -> QuantumCircuit:
    """The circuit of these angles as Qiskit's; its qubit 0 is our first one."""
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(qubits)
    angles = iter(map(float, parameters))
    for qubit in range(qubits):
        circuit.ry(next(angles), qubit)
    for _ in range(layers):
        for qubit in range(qubits - 1):
            for _ in range(2):
                circuit.cx(qubit, qubit + 1)
                circuit.ry(next(angles), qubit)
                circuit.ry(next(angles), qubit + 1)
    return circuit
