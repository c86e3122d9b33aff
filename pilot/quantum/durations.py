"""Targets whose calibration has holes: what is not known to take time takes none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qiskit.transpiler import InstructionProperties, Target

if TYPE_CHECKING:
    from collections.abc import Sequence


def timed(target: Target, qubits: Sequence[int] | None = None) -> Target:
    """The target with a duration of 0 where an instruction has none, as Aer's `NoiseModel.from_backend` takes it.

    Args:
        target: of a device. Instructions that it has on all qubits alike get an entry for each qubit that others
            know; delays and blocks stay as they are.
        qubits: keep these alone, numbered from 0; None: all.
    """
    number = {qubit: index for index, qubit in enumerate(range(target.num_qubits) if qubits is None else qubits)}
    known = target.qubit_properties
    result = Target(
        num_qubits=len(number),
        dt=target.dt,
        granularity=target.granularity,
        min_length=target.min_length,
        pulse_alignment=target.pulse_alignment,
        acquire_alignment=target.acquire_alignment,
        qubit_properties=None if known is None else [known[qubit] for qubit in number],
    )
    for name in target.operation_names:
        operation = target.operation_from_name(name)
        places = target[name]
        if places is None or None in places:
            if isinstance(operation, type):
                result.add_instruction(operation, name=name)
                continue
            if operation.num_qubits != 1:
                result.add_instruction(operation, {None: None}, name=name)
                continue
            shared = (places or {}).get(None)
            places = dict.fromkeys([(qubit,) for qubit in number], shared)
        kept = {
            tuple(number[qubit] for qubit in its): _timed(properties)
            for its, properties in places.items()
            if all(qubit in number for qubit in its)
        }
        if kept:
            result.add_instruction(operation, kept, name=name)
    return result


def _timed(properties: InstructionProperties | None) -> InstructionProperties:
    duration, error = getattr(properties, "duration", None), getattr(properties, "error", None)
    return InstructionProperties(duration=duration or 0.0, error=error)
