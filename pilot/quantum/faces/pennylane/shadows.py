"""Classical shadows: each shot in a basis of its own, shots in the same basis together.

H.-Y. Huang, R. Kueng, J. Preskill: Predicting many properties of a quantum system from very few measurements,
Nature Physics 16, 1050 (2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pennylane.measurements import ShadowExpvalMP
from pennylane.shadows import ClassicalShadow
from qiskit.circuit import ClassicalRegister, ParameterVector

from pilot.quantum.faces.submission import shot_order

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

#: U(θ, 0, λ) turns X, Y and Z, which PennyLane numbers so, into Z: θ and λ.
_ANGLES = np.array([[np.pi / 2, np.pi], [np.pi / 2, np.pi / 2], [0.0, 0.0]])


@dataclass(frozen=True)
class Shadow:
    """The bases of a shadow with so many shots."""

    measurement: Any
    #: `(shots, n_wires)`: 0 for X, 1 for Y, 2 for Z.
    recipes: NDArray[np.int64]

    @classmethod
    def draw(cls, measurement: Any, shots: int) -> Shadow:
        """From the measurement's seed, as PennyLane draws them."""
        rng = np.random.RandomState(measurement.seed)
        return cls(measurement, rng.randint(0, 3, size=(shots, len(measurement.wires))))

    def circuit(self, gates: QuantumCircuit, qubits: list[int]) -> QuantumCircuit:
        """``gates`` with free parameters for the basis of each of these qubits, which are measured."""
        circuit = gates.copy()
        angles = ParameterVector("basis", 2 * len(qubits))
        for number, qubit in enumerate(qubits):
            circuit.u(angles[2 * number], 0, angles[2 * number + 1], qubit)
        register = ClassicalRegister(len(qubits), "wires")
        circuit.add_register(register)
        circuit.measure(qubits, register)
        return circuit

    def sets(self) -> Iterator[tuple[int, NDArray[np.float64], list[NDArray[np.intp]]]]:
        """Shots of each basis, the circuit's parameters for all bases that have so many, and whose shots these are."""
        bases, inverse, counts = np.unique(self.recipes, axis=0, return_inverse=True, return_counts=True)
        of_shots = inverse.reshape(-1)
        for shots in np.unique(counts):
            chosen = np.flatnonzero(counts == shots)
            values = _ANGLES[bases[chosen]].reshape(len(chosen), -1)
            yield int(shots), values, [np.flatnonzero(of_shots == one) for one in chosen]

    def result(self, results: list[Any], rng: np.random.Generator) -> Any:
        """Bits and bases `(2, shots, n_wires)`, or what they say of the observables."""
        bits = np.zeros(self.recipes.shape, dtype=np.int8)
        for (_, _, places), outcomes in zip(self.sets(), results, strict=True):
            for where, one in zip(places, outcomes, strict=True):
                bits[where] = one.bits("wires")[shot_order(one, rng)]
        recipes = self.recipes.astype(np.int8)
        if not isinstance(self.measurement, ShadowExpvalMP):
            return np.stack([bits, recipes])
        shadow = ClassicalShadow(bits, recipes, wire_map=self.measurement.wires.tolist())
        return shadow.expval(self.measurement.H, self.measurement.k)
