"""Qiskit's target of a QPU, from the properties that the QPU reports; and waiting for a manager's device."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qiskit.circuit import BoxOp, BreakLoopOp, ContinueLoopOp, ForLoopOp, IfElseOp, SwitchCaseOp, WhileLoopOp
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.providers import QubitProperties
from qiskit.transpiler import CouplingMap, InstructionProperties, Target

from pilot import registry
from pilot.errors import PilotFailed, QPUUnavailable
from pilot.resources import ANY_QPU, Calibration, QPUInfo
from pilot.worker import device

#: What every target has, whether it is listed or not.
_ALWAYS = ("measure", "reset", "delay")
_CONTROL_FLOW = {
    "if_else": IfElseOp,
    "for_loop": ForLoopOp,
    "while_loop": WhileLoopOp,
    "switch_case": SwitchCaseOp,
    "break_loop": BreakLoopOp,
    "continue_loop": ContinueLoopOp,
    "box": BoxOp,
}


def known_info(manager: Any, qpu: str, seconds: float) -> QPUInfo:
    """The properties of a QPU of a manager's pilots; blocks while a pilot that has it is starting.

    Args:
        manager: with ``qpus`` and ``pilots``, as a `PilotManager`.
        qpu: as in ``TaskDescription.qpu``. A simulator is asked here.
        seconds: to wait at most.

    Raises:
        QPUUnavailable: no pilot has it, it cannot be used, or it is still starting after that time.
    """
    if not isinstance(qpu, str) or qpu == ANY_QPU:
        known = ", ".join(_reported(manager)) or "none has reported yet"
        what = "'*' is any device" if qpu == ANY_QPU else f"{qpu!r} may be several devices"
        raise QPUUnavailable(f"{what}, and a target is that of one: name it ({known})", qpu=qpu)
    if not registry.is_device(qpu):
        return device.simulator(qpu).info()
    end = time.monotonic() + seconds
    for pilot in [one for one in getattr(manager, "pilots", ()) if qpu in one.description.qpus]:
        if qpu in _reported(manager):
            break
        with contextlib.suppress(PilotFailed):  # another one may have it too
            pilot.wait(max(0.0, end - time.monotonic()))
    info = _reported(manager).get(qpu)
    if info is None:
        raise QPUUnavailable(_missing(manager, qpu, seconds), qpu=qpu)
    if not info.qubits:
        raise QPUUnavailable(f"{qpu} cannot be used: {info.problem}", qpu=qpu)
    return info


def _reported(manager: Any) -> Mapping[str, QPUInfo]:
    known: Mapping[str, QPUInfo] = getattr(manager, "qpus", {})
    return known


def _missing(manager: Any, qpu: str, seconds: float) -> str:
    pilots = getattr(manager, "pilots", ())
    having = [one for one in pilots if qpu in one.description.qpus]
    if having:
        states = ", ".join(f"{one.name} is {one.state.value}" + (f" ({one.job})" if one.job else "") for one in having)
        return f"{qpu} has not reported after {seconds:g} s: {states}; its log is {having[0].log_path}"
    others = ", ".join(dict.fromkeys(name for one in pilots for name in one.description.qpus)) or "no QPU"
    return f"no pilot has {qpu}: the manager's pilots have {others}; submit a pilot with it among its qpus"


@dataclass(frozen=True)
class Reported:
    """A device as it described itself, for a `Compiler`."""

    name: str
    its: QPUInfo

    def info(self) -> QPUInfo:
        """Its properties."""
        return self.its

    def target(self) -> Target:
        """Its gates and their errors."""
        return target_of(self.its)


def target_of(info: QPUInfo) -> Target:
    """Gates that Qiskit knows by name, on the QPU's qubits, with errors and times where it reports them."""
    known = {**get_standard_gate_name_mapping(), **_CONTROL_FLOW}
    wanted = [*_ALWAYS, *(info.gates or known)]
    gates = [name for name in dict.fromkeys(wanted) if name in known]
    if info.calibration is not None:
        return _calibrated(info, info.calibration, gates)
    if info.coupling is None:
        return Target.from_configuration(gates, info.qubits or None, custom_name_mapping=_CONTROL_FLOW)
    gates = [name for name in gates if name in _CONTROL_FLOW or known[name].num_qubits <= 2]
    coupling = CouplingMap(info.coupling)
    return Target.from_configuration(gates, info.qubits, coupling, custom_name_mapping=_CONTROL_FLOW)


def readout_of(info: QPUInfo) -> list[tuple[float, float] | None]:
    """Probabilities of reading 1 in state 0, and 0 in state 1, of each qubit; None: the error of its measurement."""
    qubits = info.calibration.qubits if info.calibration is not None else ()
    return [
        None if one.ones_in_0 is None or one.zeros_in_1 is None else (one.ones_in_0, one.zeros_in_1) for one in qubits
    ]


def _calibrated(info: QPUInfo, calibration: Calibration, gates: list[str]) -> Target:
    """A gate stands where the calibration has it; one that has no place there acts on all qubits."""
    target = Target(
        num_qubits=info.qubits,
        dt=calibration.dt,
        granularity=calibration.granularity,
        min_length=calibration.min_length,
        pulse_alignment=calibration.pulse_alignment,
        acquire_alignment=calibration.acquire_alignment,
        qubit_properties=[QubitProperties(t1=one.t1, t2=one.t2, frequency=one.frequency) for one in calibration.qubits]
        or None,
    )
    places: dict[str, dict[tuple[int, ...], InstructionProperties]] = {}
    for one in calibration.gates:
        properties = InstructionProperties(duration=one.duration, error=one.error)
        places.setdefault(one.name, {})[one.qubits] = properties
    operations = get_standard_gate_name_mapping()
    for name in gates:
        if name in _CONTROL_FLOW:
            target.add_instruction(_CONTROL_FLOW[name], name=name)
        elif name in places:
            target.add_instruction(operations[name], places[name])
        elif name in _ALWAYS:
            target.add_instruction(operations[name], {(qubit,): None for qubit in range(info.qubits)})
        else:
            target.add_instruction(operations[name])
    return target
