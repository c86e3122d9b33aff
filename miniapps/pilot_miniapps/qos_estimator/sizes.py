"""How well circuits of different sizes run on devices, and how well any device could with its shots. Workers run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pilot.qos.asking import ask
from pilot.qos.families import circuit
from pilot.quantum.compilation import Compiler, tries_for
from pilot.quantum.fidelities import hellinger, ideal_of
from pilot.quantum.targets import Reported
from pilot_miniapps.qos_estimator.accuracy import LEVEL
from pilot_miniapps.qos_estimator.reference import reference

if TYPE_CHECKING:
    from pilot.quantum.fidelities import Ideal

#: Shots of each circuit, as in the QOS paper (arXiv 2406.19120).
SHOTS = 8192
#: Circuits with more qubits than this are run by trajectories.
MOST_COMPUTED = 8
#: How often a device without errors is sampled.
DRAWS = 20


class Sized(msgspec.Struct, frozen=True):
    """One circuit on one device.

    Attributes:
        snapshot: the device.
        family: of the circuit.
        qubits: of the circuit.
        fidelity: of its outcomes, by Aer: Hellinger's, of probabilities, without the scatter of shots.
        error: the standard error of the fidelity; 0 where it is computed.
        ceiling: the fidelity that a device without errors reaches with `SHOTS` shots, on average.
    """

    snapshot: str
    family: str
    qubits: int
    fidelity: float
    error: float
    ceiling: float


def sized(snapshot: str, family: str, qubits: int, seed: int, trajectories: int) -> Sized:
    """One circuit on one device; so many trajectories where it is wide."""
    info = ask(f"fake:{snapshot}")
    compiler = Compiler(Reported(info.name, info))
    made = circuit(family, qubits, seed)
    compiled, ideal = compiler.compile(made, LEVEL, tries_for(made)), ideal_of(made)
    assert ideal is not None
    if qubits > MOST_COMPUTED:
        fidelity, error = reference(snapshot).sampled(compiled, ideal, trajectories)
    else:
        fidelity, error = reference(snapshot).fidelity(compiled, ideal), 0.0
    return Sized(snapshot, family, qubits, fidelity, error, ceiling(ideal, seed))


def ceiling(ideal: Ideal, seed: int) -> float:
    """The mean fidelity of `SHOTS` samples of what a circuit gives without errors."""
    random = np.random.default_rng([seed, 7])
    share = ideal.probabilities / ideal.probabilities.sum()
    drawn = (random.multinomial(SHOTS, share) / SHOTS for _ in range(DRAWS))
    return float(np.mean([hellinger(ideal.probabilities, one) for one in drawn]))
