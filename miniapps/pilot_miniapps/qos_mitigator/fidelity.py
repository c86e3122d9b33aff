"""Mitigated beside unmitigated at equal shots, on a device with exact noise: figure 9 of QOS. Workers run it."""

from __future__ import annotations

import time
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pilot.qos.families import circuit
from pilot.qos.mitigator import Goal, Mitigator, QosOptions
from pilot_miniapps.qos_mitigator.cases import neighbours, without_measurements
from pilot_miniapps.qos_mitigator.machine import LEVEL, Noiseless, TooWide, machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pilot.quantum.outcomes import Outcomes


class Case(msgspec.Struct, frozen=True):
    """One circuit on one device.

    Attributes:
        family: of the circuit.
        snapshot: the device.
        plain: the Hellinger fidelity of the circuit as it is, for each seed.
        mitigated: of what the mitigator chose, for the same number of shots.
        ceiling: of the circuit as it is without noise.
        cutting: of the best that cutting alone was predicted to give.
        plain_error: the mean deviation of ZZ of neighbours.
        mitigated_error: of what the mitigator chose for these observables.
        circuits: that ran.
        overhead: of the cuts.
        shots: of all circuits.
        seconds: of classical work: decision and merge, CPU time.
        name: what was done.
        values_name: what was done for the observables.
    """

    family: str
    snapshot: str
    plain: list[float]
    mitigated: list[float]
    ceiling: list[float]
    cutting: list[float]
    plain_error: list[float]
    mitigated_error: list[float]
    circuits: int
    overhead: float
    shots: int
    seconds: float
    name: str
    values_name: str


def case(snapshot: str, family: str, qubits: int, seed: int, shots: int, seeds: int, errors: int) -> Case | None:
    """One circuit on one device; None: it uses too many qubits there to be followed with noise.

    Args:
        snapshot: of the device.
        family: of the circuit.
        qubits: of the circuit.
        seed: of the circuit.
        shots: on both sides.
        seeds: numbers of samplings.
        errors: as of `Machine`.
    """
    try:
        return _case(snapshot, family, qubits, seed, shots, seeds, errors)
    except TooWide:
        return None


def _case(snapshot: str, family: str, qubits: int, seed: int, shots: int, seeds: int, errors: int) -> Case:
    device, noiseless = machine(snapshot, errors), Noiseless()
    made = circuit(family, qubits, seed)
    begun = time.process_time()
    choice = Mitigator(device.info, QosOptions(), LEVEL).choose(made, shots)
    seconds = time.process_time() - begun
    alone = Mitigator(device.info, QosOptions(stages=("cutting",)), LEVEL).choose(made, shots)
    goal, base = choice.goal, choice.goal.base()
    numbers = range(seeds)
    counted = [device.run(base, shots, number) for number in numbers]
    plain = [1 - goal.loss(one) for one in counted]
    mitigated = [1 - goal.loss(device.run(choice.variant, shots, 1000 + number)) for number in numbers]
    ceiling = [1 - goal.loss(noiseless.run(base, shots, number)) for number in numbers]
    cutting = [1 - goal.loss(device.run(alone.variant, shots, 2000 + number)) for number in numbers]
    wanted = neighbours(made.num_clbits)
    values = Mitigator(device.info, QosOptions(), LEVEL).choose(
        without_measurements(family, qubits, seed), shots, wanted
    )
    assert values.goal.values is not None
    exact = values.goal.values
    plain_error = [float(np.mean(np.abs(_neighbours_of(one) - exact))) for one in counted]
    found = [device.run(values.variant, shots, 3000 + number).values for number in numbers]
    mitigated_error = [float(np.mean(np.abs(one - exact))) for one in found]
    return Case(
        *(family, snapshot, plain, mitigated, ceiling, cutting, plain_error, mitigated_error),
        *(len(choice.variant.circuits), choice.variant.overhead, shots, seconds),
        *(choice.variant.name, values.variant.name),
    )


def _neighbours_of(outcomes: Outcomes) -> NDArray[np.float64]:
    """ZZ of each measured qubit and the next one, from counts."""
    spins = 1.0 - 2.0 * outcomes.bits()
    found: NDArray[np.float64] = outcomes.weights @ (spins[:, :-1] * spins[:, 1:]) / outcomes.weights.sum()
    return found


def utilisation(snapshot: str, family: str, widths: tuple[int, ...], floor: float, shots: int) -> float:
    """The part of a device's qubits that the widest of these circuits uses that has this fidelity (figure 4b of QOS);
    0: none has."""
    device, best = machine(snapshot), 0
    for width in widths:
        goal = Goal.of(circuit(family, width), (), QosOptions())
        fidelity = fmean(1 - goal.loss(device.run(goal.base(), shots, number)) for number in range(3))
        best = width if fidelity >= floor else best
    return best / device.info.qubits
