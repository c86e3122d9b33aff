"""Does mitigation of values ever harm: its mean square error over that without, at equal shots. Workers run it."""

from __future__ import annotations

import msgspec
import numpy as np

from pilot.qos.mitigator import Mitigator, QosOptions
from pilot_miniapps.qos_mitigator.cases import neighbours, without_measurements
from pilot_miniapps.qos_mitigator.machine import LEVEL, machine

#: Added to each square error, so that there are ratios where an outcome has none.
LEAST = 1e-12
#: Resamplings of the interval.
RESAMPLED = 2000


class Harm(msgspec.Struct, frozen=True):
    """One circuit with one number of shots.

    Attributes:
        family: of the circuit.
        seed: of the circuit.
        qubits: of the circuit.
        shots: of both sides.
        ratio: of the mean square errors, mitigated over not.
        low: the lower bound of its 95 % interval.
        high: the upper bound.
        plain: the mean square error without mitigation.
        name: what was chosen.
    """

    family: str
    seed: int
    qubits: int
    shots: int
    ratio: float
    low: float
    high: float
    plain: float
    name: str


def harm(
    snapshot: str, family: str, qubits: int, seed: int, numbers: tuple[int, ...], draws: int, errors: int
) -> list[Harm]:
    """One circuit with each number of shots.

    Args:
        snapshot: of the device.
        family: of the circuit.
        qubits: of the circuit.
        seed: of the circuit.
        numbers: of shots.
        draws: numbers of samplings of each side.
        errors: as of `Machine`.
    """
    device = machine(snapshot, errors)
    made, wanted = without_measurements(family, qubits, seed), neighbours(qubits)
    mitigator = Mitigator(device.info, QosOptions(), LEVEL)
    found = []
    for shots in numbers:
        choice = mitigator.choose(made, shots, wanted)
        base = choice.goal.base()
        plain = np.array([choice.goal.loss(device.run(base, shots, number)) for number in range(draws)]) + LEAST
        mitigated = plain
        if choice.variant.steps:
            mitigated = np.array(
                [LEAST + choice.goal.loss(device.run(choice.variant, shots, 1000 + number)) for number in range(draws)]
            )
        random = np.random.default_rng(0)
        places = random.integers(draws, size=(2, RESAMPLED, draws))
        ratios = mitigated[places[0]].mean(axis=1) / plain[places[1]].mean(axis=1)
        low, high = np.quantile(ratios, (0.025, 0.975)) if choice.variant.steps else (1.0, 1.0)
        ratio = float(mitigated.mean() / plain.mean())
        found.append(
            Harm(
                *(family, seed, qubits, shots, ratio, float(low), float(high), float(plain.mean())),
                choice.variant.name,
            )
        )
    return found
