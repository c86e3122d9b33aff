"""What a variant is predicted to give: its circuits are sampled from a model of the device, and merged as it says.

Outcomes of a circuit are those without noise with a probability that the calibration gives, and uniform else
(`pilot.quantum.fidelities` says why and how well); then they are read with the errors of the readout. Where these are
undone, fewer shots are drawn instead: a correction by inverse matrices makes the variance larger.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from pilot.quantum.compilation import Compiler, structure, tries_for
from pilot.quantum.fidelities import HARMFUL, Ideal, ideal_of
from pilot.quantum.mitigation import Device, Readout, ZeroNoise, stages
from pilot.quantum.outcomes import Outcomes, registers_of
from pilot.quantum.targets import Reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.qos.mitigator.goals import Goal
    from pilot.qos.mitigator.variants import Variant
    from pilot.resources import QPUInfo

#: How often the result of a variant is drawn.
DRAWS = 2
#: The part of what an extrapolation to no noise moves values by that is not trusted: real noise is not uniform.
UNCERTAIN = 0.3


class Noise(NamedTuple):
    """What a device does to circuits of one group."""

    #: The probability that no error in gates and idle times changes an outcome.
    kept: float
    #: By place of the classical bit, the probabilities of reading 0 and 1 as they are.
    readout: dict[int, tuple[float, float]]

    def read(self, bit: int) -> tuple[float, float]:
        """Those of a bit; of one that the compiled circuit of the group has not, the mean of the others."""
        if bit in self.readout or not self.readout:
            return self.readout.get(bit, (1.0, 1.0))
        known = np.array(list(self.readout.values()))
        return float(known[:, 0].mean()), float(known[:, 1].mean())


class Forecast(NamedTuple):
    """What is predicted of a variant."""

    #: As `Goal.loss`.
    loss: float
    #: The standard error of the mean over the draws.
    spread: float


class Forecaster:
    """Predicts variants on one device.

    Args:
        info: of the device, with its calibration.
        level: Qiskit's optimization level.
        seed: of the draws.
    """

    def __init__(self, info: QPUInfo, level: int = 2, seed: int = 0) -> None:
        self.compiler = Compiler(Reported(info.name, info))
        self._level, self._seed = level, seed
        self._noises: dict[tuple[bytes, tuple[str, ...]], Noise] = {}
        self._ideals: dict[bytes, Ideal | None] = {}

    @property
    def is_able(self) -> bool:
        """False where the device reports no errors."""
        return self.compiler.target is not None and self.compiler.fidelities is not None

    def forecast(self, variant: Variant, goal: Goal, shots: int) -> Forecast | None:
        """What a variant is predicted to give; None: something of it is not known.

        Raises:
            QPUError, DescriptionError: the device cannot run one of the circuits.
        """
        noises = self._by_group(variant)
        expected = [self._expected(circuit) for circuit in variant.circuits]
        if not goal.is_known or any(one is None for one in expected):
            return None
        ideals = cast("list[Ideal]", expected)
        if goal.values is not None:
            return self._of_values(variant, goal, noises, ideals, shots)
        drawn = [self._drawn(variant, noises, ideals, shots, draw) for draw in range(DRAWS)]
        losses = [goal.loss(variant.merge(one, None)) for one in drawn]
        return Forecast(float(np.mean(losses)), float(np.std(losses, ddof=1)) / sqrt(DRAWS))

    def _of_values(
        self, variant: Variant, goal: Goal, noises: dict[int, Noise], ideals: Sequence[Ideal], shots: int
    ) -> Forecast:
        """The mean square of the errors of values: what the noise moves them by, and what the shots do."""
        exact = variant.merge(self._drawn(variant, noises, ideals, None, 0), None)
        errors = variant.merge(self._drawn(variant, noises, ideals, shots, 0), None).standard_errors
        doubt = 0.0
        if len(variant.factors) > 1:
            noisy = goal.base().merge(self._drawn(goal.base(), noises, ideals, None, 0), None)
            doubt = UNCERTAIN * float(np.mean((noisy.values - exact.values) ** 2)) ** 0.5
        return Forecast(goal.loss(exact) + float(np.mean(errors**2)) + doubt**2, 0.0)

    def _drawn(
        self, variant: Variant, noises: dict[int, Noise], ideals: Sequence[Ideal], shots: int | None, draw: int
    ) -> list[Outcomes]:
        """Outcomes of all circuits, of each with each noise factor; shots are None: exact."""
        random = np.random.default_rng([self._seed, draw])
        dealt = [None] * len(ideals) if shots is None else variant.shots(shots).tolist()
        return [
            _sampled(circuit, ideal, noises[group], its_shots, variant, factor, random)
            for circuit, ideal, group, its_shots in zip(variant.circuits, ideals, variant.groups, dealt, strict=True)
            for factor in variant.factors
        ]

    def rough(self, variant: Variant, shots: int) -> float:
        """The loss of a variant whose result without noise is not known.

        1 less the probability that no error changes an outcome in any piece, times the part of the result that is not
        the scatter of its shots, ``1 - overhead / shots``.
        """
        corrected = any(isinstance(one, Readout) for one in variant.mitigation)
        kept, overhead, counted = 1.0, variant.overhead, shots * (1 - variant.calibration)
        for noise in self._by_group(variant).values():
            kept *= noise.kept
            for zero, one in noise.readout.values():
                if corrected:
                    overhead *= max(zero + one - 1, 0.1) ** (-2 / variant.averaged)
                else:
                    kept *= (zero + one) / 2
        return 1.0 - float(kept ** (1 / variant.averaged)) * max(0.0, 1 - overhead / counted)

    def noise_of(self, circuit: QuantumCircuit, around: Sequence[Any] = ()) -> Noise:
        """What the device does to a circuit.

        Args:
            circuit: not compiled.
            around: stages of the compiled circuit.
        """
        added = [one for one in around if not isinstance(one, Readout | ZeroNoise)]
        key = (structure(circuit), tuple(map(repr, added)))
        if key not in self._noises:
            compiled = self.compiler.compile(circuit, self._level, tries_for(circuit))
            if added:
                device = Device(target=self.compiler.target, name=self.compiler.name)
                compiled = stages(added).stage.plan([compiled], None, device, self._seed).circuits[0]
            fidelities = self.compiler.fidelities
            assert fidelities is not None
            success = fidelities.success(compiled)
            self._noises[key] = Noise(success.gates**HARMFUL, success.readout)
        return self._noises[key]

    def _by_group(self, variant: Variant) -> dict[int, Noise]:
        """Of each group, by the circuit with most operations."""
        largest: dict[int, QuantumCircuit] = {}
        for circuit, group in zip(variant.circuits, variant.groups, strict=True):
            if group not in largest or len(circuit.data) > len(largest[group].data):
                largest[group] = circuit
        return {group: self.noise_of(circuit, variant.mitigation) for group, circuit in largest.items()}

    def _expected(self, circuit: QuantumCircuit) -> Ideal | None:
        key = structure(circuit)
        if key not in self._ideals:
            self._ideals[key] = ideal_of(circuit)
        return self._ideals[key]


def _sampled(
    circuit: QuantumCircuit,
    ideal: Ideal,
    noise: Noise,
    shots: int | None,
    variant: Variant,
    factor: float,
    random: np.random.Generator,
) -> Outcomes:
    """What the model of the device gives for a circuit."""
    kept = noise.kept**factor
    found = kept * ideal.probabilities + (1 - kept) / len(ideal.probabilities)
    corrected = any(isinstance(one, Readout) for one in variant.mitigation)
    counted = float(shots or 0)
    for place, bit in enumerate(ideal.bits):
        zero, one = noise.read(bit)
        if corrected:
            counted *= max(zero + one - 1, 0.1) ** 2
        else:
            found = _read(found, place, zero, one)
    weights = found / found.sum()
    if shots is not None:
        weights = random.multinomial(max(2, round(counted)), weights)
    index = np.flatnonzero(weights)
    bits = np.zeros((len(index), circuit.num_clbits), dtype=bool)
    for place, bit in enumerate(ideal.bits):
        bits[:, bit] = index >> place & 1
    total = None if shots is None else int(weights.sum())
    drawn = Outcomes.from_bits(bits, weights[index], registers=registers_of(circuit), shots=total)
    return replace(drawn, noise_factor=factor)


def _read(found: NDArray[np.float64], place: int, zero: float, one: float) -> NDArray[np.float64]:
    """Probabilities after a bit is read; `zero` and `one` are those of reading 0 and 1 as they are."""
    table = found.reshape(-1, 2, 1 << place)
    read = np.stack(
        [zero * table[:, 0] + (1 - one) * table[:, 1], (1 - zero) * table[:, 0] + one * table[:, 1]], axis=1
    )
    return read.reshape(-1)
