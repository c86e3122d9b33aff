"""A device whose outcomes are drawn from the probabilities of its noise: what a variant gives on it, with no queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot import QPUError
from pilot.qos.asking import ask
from pilot.quantum.compilation import Compiler, structure
from pilot.quantum.device_noise import DeviceNoise, exact_seconds
from pilot.quantum.fidelities import ideal_of
from pilot.quantum.mitigation import Device, stages
from pilot.quantum.noisy_chains import NoisyChain, TooEntangled
from pilot.quantum.outcomes import Outcomes, registers_of
from pilot.quantum.targets import Reported, readout_of, target_of
from pilot_miniapps.qos_estimator.devices import jittered

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit
    from qiskit.circuit import Clbit

    from pilot.qos.mitigator import Variant

    #: The measured bits; the state, or the probabilities of all outcomes; which bits of the circuit these are.
    _Followed = tuple[list[Clbit], NoisyChain | NDArray[np.float64], list[int]]

#: Qiskit's optimization level, and of so many compiled circuits the best is taken, on both sides of a comparison.
LEVEL, TRIES = 3, 3
#: Values of a state at most, those of 13 qubits: 1.5 GB while it changes. Seconds of a chain at most.
ROOM, LONGEST = 1 << 26, 60.0


class TooWide(QPUError):
    """A circuit uses too many qubits, too entangled to be followed with noise."""


class Machine:
    """A snapshot with its noise.

    Args:
        snapshot: such as "kolkata".
        errors: 0: the device has the errors that it reports; else others, drawn from this seed.
    """

    def __init__(self, snapshot: str, errors: int = 0) -> None:
        self.info = ask(f"fake:{snapshot}")
        random = np.random.default_rng([errors, *snapshot.encode()])
        its = jittered(self.info, random) if errors else self.info
        self.compiler = Compiler(Reported(self.info.name, self.info))
        self._noise = DeviceNoise(target_of(its), readout_of(its))
        self._known: dict[bytes, _Followed] = {}

    def run(self, variant: Variant, shots: int, seed: int) -> Any:
        """What a variant gives for so many shots, as its merge makes it: mitigation included, each shot counted."""
        random = np.random.default_rng([seed, 1])
        compiled = [self.compiler.compile(circuit, LEVEL, TRIES) for circuit in variant.circuits]
        mitigation = stages(variant.mitigation)
        device = Device(target=self.compiler.target, name=self.info.name)
        factors = [1.0] * len(compiled)
        if mitigation.zero_noise is not None:
            factors = [one for circuit in compiled for one in mitigation.zero_noise.factors_of(circuit)]
            scaled = mitigation.zero_noise.scaled(compiled, device)
            compiled = [circuit for same in zip(*scaled, strict=True) for circuit in same]
        dealt = np.repeat(variant.shots(shots), len(variant.factors)).tolist()
        planned = mitigation.stage.plan(compiled, dealt, device, seed)
        drawn = [
            self.sample(circuit, its or 0, random) for circuit, its in zip(planned.circuits, planned.shots, strict=True)
        ]
        found = [replace(one, noise_factor=factor) for one, factor in zip(planned.combine(drawn), factors, strict=True)]
        return variant.merge(found, None)

    def sample(self, compiled: QuantumCircuit, shots: int, random: np.random.Generator) -> Outcomes:
        """Counts of a compiled circuit."""
        key = structure(compiled)
        if key not in self._known:
            self._known[key] = self._followed(compiled)
        bits, state, places = self._known[key]
        if not isinstance(state, NoisyChain):
            return sampled(compiled, places, state, shots, random)
        found, counts = state.sample(bits, shots, random, lambda: None)
        table = np.zeros((len(counts), compiled.num_clbits), dtype=bool)
        table[:, places] = found
        return Outcomes.from_bits(table, counts, registers=registers_of(compiled), shots=shots)

    def _followed(self, compiled: QuantumCircuit) -> _Followed:
        """What the circuit does: a chain where it is wide and little entangled, else all probabilities.

        Raises:
            TooWide: it is, for both.
        """
        small, active = self._noise.reduce(compiled)
        scheduled = self._noise.schedule(small, active)
        state: NoisyChain | NDArray[np.float64]
        seconds = exact_seconds(scheduled, ROOM)
        try:
            bits, state = self._noise.chain(scheduled, active, min(seconds / 4, LONGEST))
        except TooEntangled:
            if seconds == inf:
                raise TooWide(
                    f"circuit {compiled.name!r} uses {len(active)} qubits of {self.info.name}, too entangled to be "
                    "followed with noise: take fewer qubits, or another device"
                ) from None
            bits, state = self._noise.probabilities(scheduled, active)
        return bits, state, [scheduled.find_bit(bit).index for bit in bits]


class Noiseless:
    """The same without noise: variants are sampled as they are."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Sequence[int], NDArray[np.float64]]] = {}

    def run(self, variant: Variant, shots: int, seed: int) -> Any:
        """What a variant gives; mitigation of noise is left out, and its shots are not taken."""
        random = np.random.default_rng([seed, 2])
        dealt = replace(variant, calibration=0.0, factors=(1.0,)).shots(shots).tolist()
        drawn = [self.sample(circuit, its, random) for circuit, its in zip(variant.circuits, dealt, strict=True)]
        return variant.merge(drawn, None)

    def sample(self, circuit: QuantumCircuit, shots: int, random: np.random.Generator) -> Outcomes:
        """Counts of a circuit."""
        key = structure(circuit)
        if key not in self._known:
            ideal = ideal_of(circuit)
            assert ideal is not None
            self._known[key] = ideal.bits, ideal.probabilities
        return sampled(circuit, *self._known[key], shots, random)


def sampled(
    circuit: QuantumCircuit,
    bits: Sequence[int],
    probabilities: NDArray[np.float64],
    shots: int,
    random: np.random.Generator,
) -> Outcomes:
    """Counts of a circuit from the probabilities of these of its classical bits."""
    clipped = probabilities.clip(min=0.0)
    counts = random.multinomial(shots, clipped / clipped.sum())
    index = np.flatnonzero(counts)
    table = np.zeros((len(index), circuit.num_clbits), dtype=bool)
    for place, bit in enumerate(bits):
        table[:, bit] = index >> place & 1
    return Outcomes.from_bits(table, counts[index], registers=registers_of(circuit), shots=shots)


@lru_cache(maxsize=4)
def machine(snapshot: str, errors: int = 0) -> Machine:
    """That of a snapshot, kept by this process."""
    return Machine(snapshot, errors)
