"""What every kind of task promises (`KindContract`): circuits, with shots, observables and parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from pilot import TaskDescription
from pilot.testing import KindContract


def rotated() -> QuantumCircuit:
    """The expectation value of Z is cos(theta)."""
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("theta"), 0)
    return circuit


def counted() -> QuantumCircuit:
    """Its only outcome is 01."""
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.measure_all()
    return circuit


class TestCounts(KindContract):
    description = TaskDescription(kind="circuit", circuit=counted(), shots=100)
    wrong = TaskDescription(kind="circuit", circuit=QuantumCircuit(1), shots=100)  # it measures nothing

    def check(self, result: Any) -> None:
        assert result.get_counts() == {"01": 100}


class TestSweep(KindContract):
    description = TaskDescription(
        kind="circuit", circuit=rotated(), observables=["Z"], parameters=[[0.1], [1.0], [2.0]]
    )
    wrong = TaskDescription(kind="circuit", circuit=rotated(), observables=["Z"])  # theta has no value

    def check(self, result: Any) -> None:
        assert np.ravel(result.values) == pytest.approx(np.cos([0.1, 1.0, 2.0]), abs=1e-9)
