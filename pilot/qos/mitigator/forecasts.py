"""What a variant is predicted to give: its circuits are sampled from a model of the device, and merged as it says.

Outcomes of a circuit are those without noise with a probability that the calibration gives, and uniform else; then they
are read with the errors of the readout. The probability is such that the fidelity is the computed one for circuits of
few qubits, and else that of the formula (`pilot.quantum.fidelities` has both). Where the errors of the readout are
undone, fewer shots are drawn instead: a correction by inverse matrices makes the variance larger.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf, log, prod, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from pilot.errors import DescriptionError, QPUError
from pilot.quantum.compilation import Compiler, structure
from pilot.quantum.fidelities import HARMFUL, MAX_EXACT, Ideal, hellinger, ideal_of
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

#: Errors of which fewer change an outcome are not errors of gates.
LEAST_HARMFUL = 0.3
#: Outcomes are nearly uniform where those that are uniform have this fidelity.
FLAT = 0.9
#: Halvings of the interval in which a probability is looked for.
STEPS = 12
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
    #: The probability that no error happens in gates and idle times.
    gates: float
    #: `kept` was computed, not by the formula.
    is_computed: bool = False

    def read(self, bit: int) -> tuple[float, float]:
        """Those of a bit; of one that the compiled circuit of the group has not, the mean of the others."""
        if bit in self.readout or not self.readout:
            return self.readout.get(bit, (1.0, 1.0))
        known = np.array(list(self.readout.values()))
        return float(known[:, 0].mean()), float(known[:, 1].mean())

    def calibration_variance(self, shots: int) -> float:
        """What a corrected value of one qubit varies by, since its readout was measured with so many shots a state."""
        rates = np.array(list(self.readout.values()))
        contrasts = np.maximum(rates.sum(axis=1) - 1, 0.1)
        return float(((rates * (1 - rates)).sum(axis=1) / contrasts**2).mean() / shots) if len(rates) else 0.0

    def outcomes(self, ideal: Ideal, factor: float = 1.0, *, corrected: bool = False) -> NDArray[np.float64]:
        """Probabilities of the outcomes of a circuit; `corrected`: before they are read.

        Args:
            ideal: what the circuit gives without noise.
            factor: how many times as strong the noise in gates is.
            corrected: the errors of the readout are undone.
        """
        kept = self.kept**factor
        found: NDArray[np.float64] = kept * ideal.probabilities + (1 - kept) / len(ideal.probabilities)
        for place, bit in enumerate(() if corrected else ideal.bits):
            found = _read(found, place, *self.read(bit))
        return found

    def matched(self, ideal: Ideal, fidelity: float) -> Noise:
        """With that probability to keep outcomes that gives a circuit this fidelity; the same where the fidelity says
        little of it, since the outcomes are nearly uniform."""
        low, high = 0.0, 1.0
        if hellinger(ideal.probabilities, self._replace(kept=0.0).outcomes(ideal)) > FLAT:
            return self
        for _ in range(STEPS):
            middle = self._replace(kept=(low + high) / 2)
            if hellinger(ideal.probabilities, middle.outcomes(ideal)) < fidelity:
                low = middle.kept
            else:
                high = middle.kept
        return self._replace(kept=(low + high) / 2, is_computed=True)


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
        #: Logarithms of the probabilities of computed pieces to keep outcomes, and to have no error; each summed.
        self._computed = (0.0, 0.0)
        self._noises: dict[tuple[bytes, tuple[str, ...]], Noise] = {}
        #: By the identity of a circuit: the circuit, and what it gives without noise.
        self._ideals: dict[int, tuple[QuantumCircuit, Ideal | None]] = {}

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
        calibrated = sum(
            goal.mean_weight * noise.calibration_variance(one.shots) / len(noises)
            for one in variant.mitigation
            if isinstance(one, Readout)
            for noise in noises.values()
        )
        return Forecast(goal.loss(exact) + float(np.mean(errors**2)) + calibrated + doubt**2, 0.0)

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

    def errors(self, circuit: QuantumCircuit) -> float:
        """The probability that an error in a gate or an idle time changes an outcome of a circuit; infinite where it is
        not known, or the device cannot run the circuit."""
        if not self.is_able:
            return inf
        try:
            return 1 - self.noise_of(circuit).kept
        except (QPUError, DescriptionError):
            return inf

    def noise_of(self, circuit: QuantumCircuit, around: Sequence[Any] = ()) -> Noise:
        """What the device does to a circuit.

        Args:
            circuit: not compiled.
            around: stages of the compiled circuit.
        """
        added = [one for one in around if not isinstance(one, Readout | ZeroNoise)]
        key = (structure(circuit), tuple(map(repr, added)))
        if key not in self._noises:
            compiled = self.compiler.compile(circuit, self._level)
            if added:
                device = Device(target=self.compiler.target, name=self.compiler.name)
                compiled = stages(added).stage.plan([compiled], None, device, self._seed).circuits[0]
            fidelities = self.compiler.fidelities
            assert fidelities is not None
            success = fidelities.success(compiled)
            noise = Noise(success.gates**HARMFUL, success.readout, success.gates)
            ideal = self._expected(circuit)
            if ideal is not None and len(ideal.bits) <= MAX_EXACT:
                estimate = fidelities.estimate(compiled, ideal)
                noise = noise.matched(ideal, estimate.value) if estimate.is_exact else noise
            self._noises[key] = noise
        noise = self._noises[key]
        return noise if noise.is_computed else noise._replace(kept=noise.gates**self.harmful)

    @property
    def harmful(self) -> float:
        """The share of errors that change an outcome, as `fidelities.HARMFUL`: of the pieces of this circuit for which
        it was computed; where there are none, of circuits in general."""
        kept, gates = self._computed
        return min(max(kept / gates, LEAST_HARMFUL), 1.0) if gates else HARMFUL

    def begin(self) -> None:
        """Another circuit."""
        self._computed = (0.0, 0.0)

    def is_rough(self, variant: Variant) -> bool:
        """True where its noise is that of the formula, so that it changes with what is computed of pieces."""
        return not all(noise.is_computed for noise in self._by_group(variant).values())

    def _by_group(self, variant: Variant) -> dict[int, Noise]:
        """Of each group, by the circuit with fewest operations: it has most of what there is to lose."""
        smallest: dict[int, QuantumCircuit] = {}
        for circuit, group in zip(variant.circuits, variant.groups, strict=True):
            if group not in smallest or len(circuit.data) < len(smallest[group].data):
                smallest[group] = circuit
        found = {group: self.noise_of(circuit, variant.mitigation) for group, circuit in smallest.items()}
        for noise in found.values():
            if noise.is_computed and noise.kept > 0 and noise.gates < 1:
                kept, gates = self._computed
                self._computed = (kept + log(noise.kept), gates + log(noise.gates))
        return found

    def _expected(self, circuit: QuantumCircuit) -> Ideal | None:
        """What a circuit gives without noise. Variants share circuits: each is looked for as the object that it is."""
        known = self._ideals.get(id(circuit))
        if known is None:
            known = self._ideals[id(circuit)] = (circuit, ideal_of(circuit))
        return known[1]


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
    corrected = any(isinstance(one, Readout) for one in variant.mitigation)
    found = noise.outcomes(ideal, factor, corrected=corrected)
    counted = float(shots or 0)
    if corrected:
        counted *= prod(max(sum(noise.read(bit)) - 1, 0.1) ** 2 for bit in ideal.bits)
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
