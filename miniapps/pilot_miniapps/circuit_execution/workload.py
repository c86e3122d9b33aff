"""Random circuits and observables, each from its seed alone; and many of them in one task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Pauli, PauliList, SparsePauliOp
from qiskit_aer import AerSimulator

from pilot.quantum.aer import exact_values
from pilot.quantum.aer import warm_up as prepare_worker
from pilot.quantum.aer_simulators import Simulator, pass_manager

if TYPE_CHECKING:
    from collections.abc import Sequence


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """Circuits of one width.

    Attributes:
        qubits: of each circuit.
        depth: layers of gates on one and two qubits, drawn from Qiskit's standard gates.
        size: Pauli strings in the observable, which is their mean: its value is between -1 and 1.
        seed: of all circuits; each has its own, from this one, the width and its number.
    """

    qubits: int
    depth: int
    size: int
    seed: int

    def case(self, number: int) -> tuple[QuantumCircuit, SparsePauliOp]:
        """The circuit with this number, and its observable; no Pauli string is the identity."""
        random = np.random.default_rng([self.seed, self.qubits, number])
        circuit = random_circuit(self.qubits, self.depth, max_operands=2, seed=int(random.integers(2**31)))
        circuit.name = f"random-{self.qubits}-{number}"
        codes = random.integers(4, size=(self.size, self.qubits))
        codes[~codes.any(axis=1), 0] = 3
        strings = PauliList([Pauli((codes[row] > 1, codes[row] % 2 == 1)) for row in range(self.size)])
        return circuit, SparsePauliOp(strings, np.full(self.size, 1 / self.size)).simplify()


def values_together(workload: Workload, numbers: Sequence[int], on_gpu: bool = False) -> list[float]:
    """Exact values of many circuits; these are made where they run.

    On a GPU all are one run of Aer, since each run waits for the GPU.

    Args:
        workload: the circuits.
        numbers: which of them.
        on_gpu: on this worker's GPU, else on its core.

    Raises:
        RuntimeError: Aer sees no GPU here, or a circuit failed.
    """
    cases = [workload.case(number) for number in numbers]
    if on_gpu:
        return _on_gpu(cases)
    return [float(exact_values(circuit, [observable])[0]) for circuit, observable in cases]


def _on_gpu(cases: Sequence[tuple[QuantumCircuit, SparsePauliOp]]) -> list[float]:
    simulator = AerSimulator(method="statevector", device="GPU")
    if "GPU" not in simulator.available_devices():
        raise RuntimeError(
            f"this Aer sees no GPU here (devices: {', '.join(simulator.available_devices())}): install "
            "qiskit-aer-gpu in the place of qiskit-aer, and check nvidia-smi in the pilot's job"
        )
    for circuit, observable in cases:
        circuit.save_expectation_value(observable, circuit.qubits)
    known = [pass_manager(Simulator("statevector", "GPU")).run(circuit) for circuit, _ in cases]
    result = simulator.run(known, shots=1).result()
    if not result.success:
        raise RuntimeError(f"Aer on a GPU: {result.status}")
    return [float(result.data(place)["expectation_value"]) for place in range(len(known))]


def warm_up() -> None:
    """Import Qiskit and what simulates, and use each once, ahead of the first circuit."""
    prepare_worker()
    values_together(Workload(qubits=2, depth=2, size=1, seed=0), [0])
