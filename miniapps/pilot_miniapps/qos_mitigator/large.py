"""Circuits of 24 qubits whose outcomes without noise are few: how much of a gain is noise, and how much is sampling."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pilot.qos.families import circuit
from pilot.qos.mitigator import Mitigator, QosOptions
from pilot.qos.mitigator.stages.cutting import Cutting
from pilot_miniapps.qos_mitigator.machine import LEVEL, Noiseless, machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot.quantum.outcomes import Outcomes

#: Families whose outcomes are known.
FAMILIES = ("ghz", "w", "bv")


class Large(msgspec.Struct, frozen=True):
    """One family.

    Attributes:
        family: of the circuit.
        plain: the fidelity of the circuit as it is, on the device.
        plain_noiseless: without noise.
        mitigated: of the variant that was chosen, on the device, for the same shots.
        mitigated_noiseless: without noise.
        circuits: of the variant.
        overhead: of the variant.
        name: of the variant.
    """

    family: str
    plain: float
    plain_noiseless: float
    mitigated: float
    mitigated_noiseless: float
    circuits: int
    overhead: float
    name: str


def ideal(family: str, qubits: int) -> dict[str, float]:
    """The outcomes without noise."""
    if family == "ghz":
        return {"0" * qubits: 0.5, "1" * qubits: 0.5}
    if family == "bv":
        return {"1" * (qubits - 1): 1.0}
    return {f"{1 << one:0{qubits}b}": 1 / qubits for one in range(qubits)}


def fidelity(known: Mapping[str, float], found: Outcomes) -> float:
    """The Hellinger fidelity of outcomes."""
    counts = found.get_counts()
    total = sum(counts.values())
    return float(sum(sqrt(value * counts.get(text, 0.0) / total) for text, value in known.items()) ** 2)


def large(snapshot: str, family: str, qubits: int, shots: int, seeds: int) -> Large:
    """One family.

    Args:
        snapshot: of the device.
        family: of the circuit.
        qubits: of the circuit.
        shots: on both sides.
        seeds: numbers of samplings.
    """
    device, noiseless, known = machine(snapshot), Noiseless(), ideal(family, qubits)
    options = QosOptions(stages=[Cutting(required=True), "readout"])
    choice = Mitigator(device.info, options, LEVEL).choose(circuit(family, qubits), shots)
    numbers = range(seeds)
    plain = [fidelity(known, device.run(choice.goal.base(), shots, number)) for number in numbers]
    mitigated = [fidelity(known, device.run(choice.variant, shots, 1000 + number)) for number in numbers]
    cut = [fidelity(known, noiseless.run(choice.variant, shots, number)) for number in numbers]
    values = np.array(list(known.values()))
    drawn = np.random.default_rng(0).multinomial(shots, values, size=seeds)
    whole = np.sqrt(values * drawn / shots).sum(axis=1) ** 2
    return Large(
        *(family, float(np.mean(plain)), float(whole.mean()), float(np.mean(mitigated)), float(np.mean(cut))),
        *(len(choice.variant.circuits), choice.variant.overhead, choice.variant.name),
    )
