"""Snapshots of devices: as Qiskit has them, and with other errors than those that they report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from pilot.resources import QPUInfo

#: Each error of a device is this uncertain: the standard deviation of its logarithm.
JITTER = 0.3


def backend_of(snapshot: str) -> Any:
    """Qiskit's own copy of a device: "kolkata"."""
    from qiskit_ibm_runtime import fake_provider

    names = (f"Fake{snapshot.capitalize()}V2", f"Fake{snapshot.capitalize()}")
    return getattr(fake_provider, next(name for name in names if hasattr(fake_provider, name)))()


def jittered(info: QPUInfo, random: np.random.Generator) -> QPUInfo:
    """The device with each error multiplied by a number of its own, T1 and T2 divided: logarithms are normal."""
    calibration = info.calibration
    assert calibration is not None

    def drawn(value: float | None, power: int) -> float | None:
        return None if value is None else float(value * random.lognormal(0, JITTER) ** power)

    def error(value: float | None) -> float | None:
        found = drawn(value, 1)
        return None if found is None else min(found, 1.0)

    gates = tuple(msgspec.structs.replace(one, error=error(one.error)) for one in calibration.gates)
    qubits = tuple(
        msgspec.structs.replace(
            one,
            t1=drawn(one.t1, -1),
            t2=drawn(one.t2, -1),
            ones_in_0=error(one.ones_in_0),
            zeros_in_1=error(one.zeros_in_1),
        )
        for one in calibration.qubits
    )
    return msgspec.structs.replace(info, calibration=msgspec.structs.replace(calibration, gates=gates, qubits=qubits))
