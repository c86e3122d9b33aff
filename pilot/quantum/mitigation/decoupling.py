"""Dynamical decoupling: qubits that wait are turned back and forth, so that slow drifts cancel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, ClassicalRegister, Delay, Gate, QuantumRegister
from qiskit.circuit.library import RGate, RXGate, RYGate, RZGate, SXGate, U3Gate, UGate, XGate, YGate
from qiskit.transpiler import PassManager
from qiskit.transpiler.exceptions import TranspilerError
from qiskit.transpiler.passes import (
    ALAPScheduleAnalysis,
    ConstrainedReschedule,
    InstructionDurationCheck,
    PadDynamicalDecoupling,
    TimeUnitConversion,
)

from pilot.errors import DescriptionError, invalid
from pilot.quantum.durations import timed
from pilot.quantum.mitigation.stage import Device, Planned, Shots, Stage, each
from pilot.quantum.programs.definitions import append

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit.transpiler import Target

#: The pulses of each sequence: half turns about X, about X backwards, and about Y.
SEQUENCES = {"XX": ("X", "X"), "XpXm": ("X", "-X"), "XY4": ("X", "Y", "X", "Y")}

#: Seconds of the step of time for targets without one: so short that no duration has to be rounded.
_UNIT = 1e-15
#: Ways to write a pulse in gates, the first that the target has. The turns about Z take no time on devices that
#: have no other gate for it.
_PULSES: dict[str, tuple[tuple[Gate, ...], ...]] = {
    "X": (
        (XGate(),),
        (RXGate(math.pi),),
        (RGate(math.pi, 0),),
        (UGate(math.pi, 0, math.pi),),
        (U3Gate(math.pi, 0, math.pi),),
        (SXGate(), SXGate()),
    ),
    "-X": (
        (RZGate(math.pi), XGate(), RZGate(-math.pi)),
        (RXGate(-math.pi),),
        (RGate(-math.pi, 0),),
        (RGate(math.pi, math.pi),),
        (UGate(math.pi, math.pi, 0),),
        (U3Gate(math.pi, math.pi, 0),),
        (RZGate(math.pi), SXGate(), SXGate(), RZGate(-math.pi)),
    ),
    "Y": (
        (YGate(),),
        (RZGate(-math.pi / 2), XGate(), RZGate(math.pi / 2)),
        (RYGate(math.pi),),
        (RGate(math.pi, math.pi / 2),),
        (UGate(math.pi, 0, 0),),
        (U3Gate(math.pi, 0, 0),),
        (RZGate(-math.pi / 2), SXGate(), SXGate(), RZGate(math.pi / 2)),
    ),
}


@dataclass(frozen=True)
class DynamicalDecoupling(Stage):
    """Circuits scheduled as late as possible, with a sequence of half turns in every pause long enough for it.

    Qiskit's passes `ALAPScheduleAnalysis` and `PadDynamicalDecoupling` do the work, with the target's durations
    (0 where one is missing) and alignment. The pulses make up the identity and stand evenly spaced. Qubits that
    have not begun yet are left alone. The circuits then hold delays in the target's `dt`, or in seconds where it
    has none, and must run as they are.
    """

    #: "XX", "XpXm" (the second turn backwards, against errors of the turns themselves) or "XY4" (against drifts
    #: about every axis; Viola, Knill and Lloyd, PRL 82 2417, 1999).
    sequence: str = "XX"

    name = "dd"

    def __post_init__(self) -> None:
        if self.sequence not in SEQUENCES:
            raise invalid("dd.sequence", self.sequence, f"one of {', '.join(SEQUENCES)}")

    def plan(
        self, circuits: Sequence[QuantumCircuit], shots: Shots, device: Device, seed: int | None = None
    ) -> Planned:
        """As many circuits, padded.

        Raises:
            DescriptionError: the device reports no durations or has no gates for the sequence, or a circuit cannot
            be scheduled: it has gates that the target does not know, or branches and loops.
        """
        if device.target is None or "delay" not in device.target.operation_names:
            raise DescriptionError(
                f"dd: QPU {device.name!r} reports no durations of gates, or cannot wait; leave the stage out",
                field="mitigation",
            )
        target = timed(device.target)
        unit = None if target.dt is not None else _UNIT
        target.dt = target.dt or _UNIT
        passes = _passes(target, self.sequence, device.name)
        return Planned(
            circuits=tuple(_padded(circuit, passes, unit) for circuit in circuits),
            shots=each(shots, len(circuits)),
            merge=list,
        )


def _passes(target: Target, sequence: str, name: str) -> PassManager:
    gates, spacing = _timed(sequence, target, name)
    aligned = {"acquire_alignment": target.acquire_alignment, "pulse_alignment": target.pulse_alignment}
    return PassManager(
        [
            TimeUnitConversion(target=target),
            ALAPScheduleAnalysis(target=target),
            InstructionDurationCheck(**aligned, target=target),
            ConstrainedReschedule(**aligned, target=target),
            PadDynamicalDecoupling(dd_sequence=gates, spacing=spacing, target=target),
        ]
    )


def _timed(sequence: str, target: Target, name: str) -> tuple[list[Gate], list[float]]:
    """The sequence's gates, and the share of the pause before each and after the last."""
    known = set(target.operation_names)
    gates: list[Gate] = []
    spacing = [0.0]
    pulses = SEQUENCES[sequence]
    half = 1 / (2 * len(pulses))
    for pulse in pulses:
        written = next((way for way in _PULSES[pulse] if known.issuperset(gate.name for gate in way)), None)
        if written is None:
            raise DescriptionError(
                f"dd: sequence {sequence!r} needs a half turn about {pulse}, which QPU {name!r} has no gate for "
                f"(it has {sorted(known)}); leave the stage out",
                field="mitigation",
            )
        spacing[-1] += half
        spacing += [0.0] * (len(written) - 1) + [half]
        gates += written
    return gates, spacing


def _padded(circuit: QuantumCircuit, passes: PassManager, unit: float | None) -> QuantumCircuit:
    """The circuit, scheduled and padded, with its own qubits, bits and registers.

    Args:
        circuit: compiled.
        passes: what does it.
        unit: seconds of the passes' `dt`, for delays in seconds; None: delays stay in the target's `dt`.
    """
    physical = QuantumCircuit(
        QuantumRegister(circuit.num_qubits, "q"), ClassicalRegister(circuit.num_clbits, "c")
    )  # as the passes want it
    physical.compose(circuit, inplace=True)
    try:
        padded = passes.run(physical)
    except TranspilerError as error:
        raise DescriptionError(
            f"dd: circuit {circuit.name!r} cannot be scheduled: {error.message.rstrip('.')}; compile it for the QPU, "
            "without branches and loops",
            field="mitigation",
        ) from error
    busy = {qubit for entry in padded.data if entry.operation.name != "delay" for qubit in entry.qubits}
    result = circuit.copy_empty_like()
    result.global_phase = padded.global_phase
    for entry in padded.data:
        if busy.issuperset(entry.qubits):
            qubits = [circuit.qubits[padded.find_bit(qubit).index] for qubit in entry.qubits]
            clbits = [circuit.clbits[padded.find_bit(clbit).index] for clbit in entry.clbits]
            operation = entry.operation
            if unit is not None and isinstance(operation, Delay):
                operation = Delay(operation.duration * unit, "s")
            append(result, [CircuitInstruction(operation, qubits, clbits)])
    return result
