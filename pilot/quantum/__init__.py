"""Circuits as tasks: how they travel and run, and what is built from many of them.

Texts and objects of other packages become circuits in `programs`. `tasks` makes tasks of a description with a circuit.
Workers run them with `execution`: on simulators (`aer`, by the method that `costs` finds; `deferral` moves measurements
in the middle to the end) or on a device, for which `compilation` compiles them and whose errors `mitigation` reduces.
`outcomes` is the result of a circuit; `expectation` and `tomography` plan which circuits to measure for other results,
and combine their outcomes. `noise` simulates with a noise model of the user's own. `cutting` runs a circuit that is too
wide in pieces. `faces` are for users of Qiskit and PennyLane.

Nothing in here starts a process or holds a manager: tasks are submitted to a manager that the caller passes. Qiskit is
imported by the modules that need it, never by `import pilot`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot.quantum.faces import PilotBackend, PilotEstimator, PilotSampler, mitiq_executor
    from pilot.quantum.noise import PackedNoiseModel
    from pilot.quantum.programs import Program, load

__all__ = ["PackedNoiseModel", "PilotBackend", "PilotEstimator", "PilotSampler", "Program", "load", "mitiq_executor"]

_HOMES = {"PackedNoiseModel": "noise", "Program": "programs", "load": "programs"}


def __getattr__(name: str) -> Any:
    """These names import Qiskit, so they are loaded on first use."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'faces')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
