"""The circuit without cuts, by Aer: its exact value, and how long that takes."""

from __future__ import annotations

import time

from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator

from pilot_miniapps.circuit_cutting.problem import Problem

STATE_VECTOR = "statevector"
PRODUCT_STATE = "matrix_product_state"
#: How a report calls them.
NAMES = {STATE_VECTOR: "state vector", PRODUCT_STATE: "product state"}


def exact_value(circuit: QuantumCircuit, observable: str, method: str) -> float:
    """The expectation value of a Pauli string, qubit 0 last, from the state itself, with one thread.

    Args:
        circuit: gates alone.
        observable: a letter for each qubit.
        method: of Aer.
    """
    measured = circuit.copy()
    measured.save_expectation_value(SparsePauliOp(observable), measured.qubits)
    simulator = AerSimulator(method=method, max_parallel_threads=1)
    return float(simulator.run(measured, shots=1).result().data(0)["expectation_value"])


def timed_value(qubits: int, repetitions: int, observable: str, method: str) -> tuple[float, float]:
    """The paper's circuit without cuts: its value, and the seconds that took. Runs in a worker."""
    problem = Problem.of_paper(qubits, repetitions, observable)
    begun = time.perf_counter()
    value = exact_value(problem.circuit, problem.observable, method)
    return value, time.perf_counter() - begun
