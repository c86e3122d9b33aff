"""Is the best variant chosen: the loss of each, on a device with exact noise. Workers run it."""

from __future__ import annotations

from statistics import fmean

import msgspec

from pilot.qos.families import circuit
from pilot.qos.mitigator import Mitigator, QosOptions
from pilot_miniapps.qos_mitigator.machine import LEVEL, machine

#: All variants are looked at, not the best of each stage alone.
ALL = 1000


class Choosing(msgspec.Struct, frozen=True):
    """One circuit.

    Attributes:
        family: of the circuit.
        seed: of the circuit.
        snapshot: the device.
        chosen: the fidelity of the variant that was chosen.
        best: of the best.
        plain: of the circuit as it is.
        choices: variants that were run.
        name: of the variant that was chosen.
        best_name: of the best.
    """

    family: str
    seed: int
    snapshot: str
    chosen: float
    best: float
    plain: float
    choices: int
    name: str
    best_name: str


def choosing(snapshot: str, family: str, qubits: int, seed: int, shots: int, draws: int, errors: int) -> Choosing:
    """Run all variants of a circuit, and the one that the mitigator chooses by itself.

    Args:
        snapshot: of the device.
        family: of the circuit.
        qubits: of the circuit.
        seed: of the circuit.
        shots: of each variant.
        draws: numbers of samplings; their mean counts.
        errors: as of `Machine`.
    """
    device = machine(snapshot, errors)
    made = circuit(family, qubits, seed)
    choice = Mitigator(device.info, QosOptions(), LEVEL).choose(made, shots)
    every = Mitigator(device.info, QosOptions(), LEVEL, ALL).choose(made, shots)
    names = {choice.variant.name}
    variants = [choice.variant]
    for ranked in every.ranked:
        if not ranked.rejected and ranked.variant.name not in names:
            names.add(ranked.variant.name)
            variants.append(ranked.variant)
    found = {
        one.name: fmean(1 - choice.goal.loss(device.run(one, shots, number)) for number in range(draws))
        for one in variants
    }
    best = max(found, key=found.__getitem__)
    plain = found[every.ranked[0].variant.name]
    return Choosing(
        family, seed, snapshot, found[choice.variant.name], found[best], plain, len(found), choice.variant.name, best
    )
