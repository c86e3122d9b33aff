"""What mitigation costs: circuits, and seconds of classical work. Workers run it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import msgspec

from pilot.qos.families import circuit
from pilot.qos.mitigator import Context, Mitigator, QosOptions, Variant
from pilot.qos.mitigator.stages.cutting import Cutting
from pilot.quantum.compilation import Compiler
from pilot.quantum.outcomes import Outcomes
from pilot.quantum.targets import Reported
from pilot_miniapps.qos_mitigator.machine import LEVEL, Machine, machine


class Cost(msgspec.Struct, frozen=True):
    """One circuit.

    Attributes:
        family: of the circuit.
        decision: CPU seconds of the choice.
        cuts: of the variant with most cuts.
        knit: CPU seconds in which the distribution of that variant is put together.
        circuits: of that variant.
        compiling: CPU seconds in which the whole circuit is compiled.
    """

    family: str
    decision: float
    cuts: int
    knit: float
    circuits: int
    compiling: float


def cost(snapshot: str, family: str, qubits: int, seed: int, shots: int, rounds: int) -> Cost:
    """One circuit; the least of some rounds, each with what is kept between circuits of a process kept."""
    device = machine(snapshot)
    made = circuit(family, qubits, seed)
    decisions, compilings = [], []
    for _ in range(rounds):
        mitigator = Mitigator(device.info, QosOptions(), LEVEL)
        mitigator.choose(circuit("ghz", 3), shots)  # it has the device's target now, as a session has
        begun = time.process_time()
        choice = mitigator.choose(made, shots)
        decisions.append(time.process_time() - begun)
        compiler = Compiler(Reported(device.info.name, device.info))
        compiler.compile(circuit("ghz", 3), LEVEL)
        begun = time.process_time()
        compiler.compile(made, LEVEL)
        compilings.append(time.process_time() - begun)
    variant = _most_cuts(
        choice.goal.base(), Context(goal=choice.goal, options=QosOptions(), info=device.info, shots=shots)
    )
    outcomes = _outcomes(device, variant, shots)
    knits = []
    for _ in range(rounds):
        begun = time.process_time()
        variant.merge(outcomes, None)
        knits.append(time.process_time() - begun)
    return Cost(family, min(decisions), variant.spent, min(knits), len(variant.circuits), median(compilings))


def _most_cuts(base: Variant, context: Context) -> Variant:
    return max([base, *Cutting().variants(base, context)], key=lambda one: (one.spent, len(one.circuits)))


def _outcomes(device: Machine, variant: Variant, shots: int) -> list[Outcomes]:
    """What the circuits of a variant gave."""
    found: list[Outcomes] = device.run(replace(variant, merge=_as_they_are), shots, 0)
    return found


def _as_they_are(outcomes: Sequence[Outcomes], manager: object) -> list[Outcomes]:
    return list(outcomes)
