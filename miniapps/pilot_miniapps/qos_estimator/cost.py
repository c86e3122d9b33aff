"""What an estimate costs. Workers run it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from pilot.qos.asking import ask
from pilot.qos.families import FAMILIES, circuit
from pilot.qos.predictor import Predictor

#: Qiskit's optimization level.
LEVEL = 3


class Cost(msgspec.Struct, frozen=True):
    """Milliseconds of CPU time for one circuit and one QPU.

    Attributes:
        cold: of each circuit on each QPU, compiling included.
        cached: the same again.
    """

    cold: list[float]
    cached: list[float]


def cost(snapshots: Sequence[str], qubits: int, seed: int) -> Cost:
    """The cost for all families; the compilers were used before, for other circuits."""
    infos = [ask(f"fake:{snapshot}") for snapshot in snapshots]
    predictor = Predictor()
    for info in infos:
        predictor.predict(circuit("qaoa-r", qubits, seed + 1), info, LEVEL)
    made = [circuit(family, qubits, seed) for family in FAMILIES]
    cold, cached = [], []
    for milliseconds in (cold, cached):
        for one in made:
            for info in infos:
                begun = time.process_time()
                predictor.predict(one, info, LEVEL)
                milliseconds.append((time.process_time() - begun) * 1e3)
    return Cost(cold, cached)
