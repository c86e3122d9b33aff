"""Readout correction: errors of the readout are measured with a part of the shots, and undone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilot.errors import invalid
from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Step, Variant
from pilot.quantum.mitigation import Readout

#: Shots that tell something of the readout.
_FEWEST = 16


@dataclass(frozen=True)
class ReadoutCorrection(QosStage):
    """Measures the readout of the qubits that are used, and undoes its errors (`pilot.quantum.mitigation.Readout`)."""

    #: The part of all shots that measures it.
    share: float = 1 / 8
    required: bool = False

    name = "readout"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise invalid("readout.share", self.share, "a number between 0 and 1")

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """One. Circuits with control flow give none: what depends on a bit cannot be undone."""
        shots = int(self.share * context.shots / 2)
        if shots < _FEWEST or any(entry.is_control_flow() for circuit in variant.circuits for entry in circuit.data):
            return
        step = Step(stage=self.name, text=f"{self.share:.0%} of the shots measure it")
        yield variant.around(Readout(shots=shots, midway=True), step, calibration=self.share)
