"""A device of Qiskit's as `QPUInfo`; and how QPUs that compute run a job."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any

import msgspec

from pilot.errors import QPUCancelled
from pilot.resources import Calibration, GateFacts, QPUInfo, QubitFacts

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

    from pilot.interfaces import Run
    from pilot.quantum.outcomes import Outcomes

#: Not gates: gate errors do not apply to them.
_NO_GATES = frozenset({"measure", "reset", "delay", "id", "barrier"})


#: Probabilities of reading 1 in state 0, and 0 in state 1, by qubit; None: not known.
Readout = Sequence[tuple[float, float] | None]


def info_of(name: str, target: Target, readout: Readout = (), **more: Any) -> QPUInfo:
    """The properties in a target: qubits, gates, coupling, and its calibration with medians.

    Args:
        name: as in ``PilotDescription.qpus``.
        target: of the device.
        readout: its readout errors, where they are not the same in both states; empty: not known.
        **more: further fields of `QPUInfo`, where they are known from elsewhere.
    """
    singles: list[float | None] = []
    pairs: list[float | None] = []
    coupling: set[tuple[int, int]] = set()
    everywhere = True
    for gate in target.operation_names:
        qargs = target.qargs_for_operation_name(gate)
        for qubits in qargs or ():
            properties = target[gate][qubits]
            error = getattr(properties, "error", None)
            if len(qubits) == 2:
                coupling.add((qubits[0], qubits[1]))
                everywhere = False
                pairs.append(error)
            elif len(qubits) == 1 and gate not in _NO_GATES:
                singles.append(error)
    readings = [getattr(properties, "error", None) for properties in _properties(target, "measure")]
    qubits = target.qubit_properties or []
    found: dict[str, Any] = {
        "qubits": target.num_qubits or 0,
        "gates": tuple(sorted(target.operation_names)),
        "coupling": None if everywhere else tuple(sorted(coupling)),
        "error_1q": _median(singles),
        "error_2q": _median(pairs),
        "error_readout": _median(readings),
        "t1": _median(getattr(qubit, "t1", None) for qubit in qubits),
        "t2": _median(getattr(qubit, "t2", None) for qubit in qubits),
        "calibration": calibration_of(target, readout),
    }
    return QPUInfo(name=name, **{**found, **more})


def calibration_of(target: Target, readout: Readout = ()) -> Calibration:
    """Errors and times of each instruction of a target; instructions without a place of their own are left out."""
    qubits = [QubitFacts(*_numbers(one, "t1", "t2", "frequency")) for one in target.qubit_properties or []]
    for qubit, errors in enumerate(readout[: len(qubits)]):
        if errors is not None:
            qubits[qubit] = msgspec.structs.replace(qubits[qubit], ones_in_0=errors[0], zeros_in_1=errors[1])
    gates = [
        GateFacts(name, tuple(places), *_numbers(properties, "error", "duration"))
        for name in target.operation_names
        for places, properties in target[name].items()
        if places is not None
    ]
    return Calibration(
        gates=tuple(gates),
        qubits=tuple(qubits),
        dt=target.dt,
        granularity=target.granularity,
        min_length=target.min_length,
        pulse_alignment=target.pulse_alignment,
        acquire_alignment=target.acquire_alignment,
    )


def _numbers(properties: Any, *names: str) -> list[float | None]:
    found = (getattr(properties, name, None) for name in names)
    return [None if value is None else float(value) for value in found]


def one_by_one(
    name: str, run: Run, each: Callable[[QuantumCircuit, int], Outcomes], cancelled: Event
) -> list[Outcomes]:
    """What ``each`` gives for every circuit and its seed.

    Raises:
        QPUCancelled: ``cancelled`` was set, seen before the next circuit.
    """
    found: list[Outcomes] = []
    for circuit, seed in zip(run.circuits, run.seeds, strict=True):
        time.sleep(0)  # lets who cancels in: a simulator may hold the interpreter's lock
        if cancelled.is_set():
            raise QPUCancelled(f"{name}: cancelled after {len(found)} of {len(run.circuits)} circuits", qpu=name)
        found.append(each(circuit, seed))
    return found


def _properties(target: Target, gate: str) -> list[Any]:
    return list(target[gate].values()) if gate in target.operation_names else []


def _median(values: Iterable[float | None]) -> float | None:
    """Of those that are there; an error of 1 marks what is broken, 0 what is done in software."""
    there = [value for value in values if value is not None and 0 < value < 1]
    return statistics.median(there) if there else None
