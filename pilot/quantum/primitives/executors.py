"""Functions that run circuits, as error mitigation packages want them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qiskit import QuantumCircuit

from pilot.quantum.primitives.estimator import PilotEstimator
from pilot.quantum.primitives.submission import Manager


def mitiq_executor(
    manager: Manager, observable: Any, *, qpu: str | None = None, precision: float | None = None, **options: Any
) -> Callable[[Sequence[QuantumCircuit]], list[float]]:
    """A batched executor for mitiq: ``execute_with_zne(circuit, mitiq_executor(manager, "ZZ", qpu="fake:kolkata"))``.

    mitiq hands over all circuits of a method at once (``mitiq.Executor``), and they run side by side on the pilots.
    ``optimization_level`` is 0 unless given: a compiler that cancels gates would undo folding.

    Args:
        manager: who submits the tasks.
        observable: what is measured in every circuit: a Pauli string with qubit 0 last, or Qiskit's ``SparsePauliOp``.
        qpu: as for `PilotEstimator`.
        precision: as its ``default_precision``.
        **options: as its options; and ``seed``.

    Returns:
        A function from circuits to expectation values, in their order. It blocks.
    """
    options = {"optimization_level": 0, **options}
    estimator = PilotEstimator(manager, qpu=qpu, default_precision=precision, **options)

    def execute(circuits: Sequence[QuantumCircuit]) -> list[float]:  # mitiq reads the annotations
        results = estimator.run([(circuit, observable) for circuit in circuits]).result()
        return [float(result.data.evs) for result in results]

    return execute
