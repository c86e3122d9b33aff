"""Readout correction: errors of the readout are measured with a part of the shots, and undone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from pilot.errors import invalid
from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Step, Variant
from pilot.quantum.mitigation import Readout

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import Clbit

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
        if not isinstance(self.share, Real) or not 0 < self.share < 1:
            raise invalid("readout.share", self.share, "a number between 0 and 1")

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """One, where all circuits can be corrected."""
        budget = int(self.share * context.shots)
        if budget < 2 * _FEWEST or not all(map(_is_correctable, variant.circuits)):
            return
        measured = sum(entry.name == "measure" for circuit in variant.circuits for entry in circuit.data)
        # as many circuits as `Readout` has for these qubits, or for fewer: each gets the same number of shots
        circuits = 1 << min(min(measured, context.info.qubits).bit_length(), budget.bit_length() - 1)
        shots = budget // circuits * circuits // 2
        step = Step(stage=self.name, text=f"{self.share:.0%} of the shots measure it")
        yield variant.around(Readout(shots=shots, midway=True), step, calibration=2 * shots / context.shots)


def _is_correctable(circuit: QuantumCircuit) -> bool:
    """False where something depends on a bit, or a bit is measured again: that cannot be undone."""
    measured: set[Clbit] = set()
    for entry in circuit.data:
        if entry.name == "measure":
            if measured.intersection(entry.clbits):
                return False
            measured.update(entry.clbits)
        elif entry.clbits or entry.name == "store" or entry.is_control_flow():
            return False
    return bool(measured)
