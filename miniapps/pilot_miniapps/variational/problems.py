"""What a loop minimises: the expectation value of a Hamiltonian over a circuit's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qiskit.quantum_info import Statevector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit import QuantumCircuit
    from qiskit.quantum_info import SparsePauliOp


@dataclass(frozen=True, eq=False)
class Problem:
    """A Hamiltonian, and a circuit with parameters.

    Attributes:
        name: for plots and keys.
        circuit: on the Hamiltonian's qubits; its parameters have the period 2π.
        hamiltonian: in Hartree, or minus the edges that are cut.
        degrees: of each parameter, in the order of ``circuit.parameters``: with the others fixed, the energy is a
            trigonometric polynomial of this degree.
        start: first values of the parameters.
    """

    name: str
    circuit: QuantumCircuit
    hamiltonian: SparsePauliOp
    degrees: tuple[int, ...]
    start: tuple[float, ...]

    def ground_energy(self) -> float:
        """The least eigenvalue, by NumPy from the whole matrix."""
        return float(np.linalg.eigvalsh(self.hamiltonian.to_matrix())[0])

    def energy(self, parameters: Sequence[float]) -> float:
        """Without noise and shots, by Qiskit's `Statevector`."""
        state = Statevector(self.circuit.assign_parameters(list(parameters)))
        return float(state.expectation_value(self.hamiltonian).real)
