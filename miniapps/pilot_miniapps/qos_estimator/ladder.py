"""Estimates of circuits that are too wide to be computed, beside trajectories. Workers run it."""

from __future__ import annotations

import msgspec

from pilot.qos.asking import ask
from pilot.qos.families import circuit
from pilot.quantum.compilation import Compiler, tries_for
from pilot.quantum.fidelities import ideal_of
from pilot.quantum.targets import Reported
from pilot_miniapps.qos_estimator.accuracy import LEVEL
from pilot_miniapps.qos_estimator.reference import reference


class Rung(msgspec.Struct, frozen=True):
    """One circuit on one device.

    Attributes:
        snapshot: the device.
        family: of the circuit.
        qubits: of the circuit.
        estimate: the estimator's.
        truth: the fidelity by Aer's trajectories.
        error: the standard error of the truth.
    """

    snapshot: str
    family: str
    qubits: int
    estimate: float
    truth: float
    error: float


def rung(snapshot: str, family: str, qubits: int, seed: int, trajectories: int) -> Rung:
    """One circuit on one device, its truth by so many trajectories."""
    info = ask(f"fake:{snapshot}")
    compiler = Compiler(Reported(info.name, info))
    made = circuit(family, qubits, seed)
    compiled, ideal, fidelities = compiler.compile(made, LEVEL, tries_for(made)), ideal_of(made), compiler.fidelities
    assert ideal is not None and fidelities is not None
    truth, error = reference(snapshot).sampled(compiled, ideal, trajectories)
    return Rung(snapshot, family, qubits, fidelities.estimate(compiled, ideal).value, truth, error)
