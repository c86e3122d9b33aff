"""Circuits as tasks: how they travel and run, and what is built from many of them.

Text and objects of others become circuits in `programs`. `tasks` makes tasks of a description with a circuit,
`execution` is what workers run for them: on simulators (`aer`, by the method that `costs` finds; `deferral` moves
measurements in the middle to the end) or on a device, for which `compilation` writes them and whose errors
`mitigation` lessens. `outcomes` is what a circuit gives; `expectation` and `tomography` say which circuits to
measure for more than that, and what their outcomes mean. `noise` simulates with a noise model of the user's own.
`cutting` runs a circuit that is too wide in pieces.
`faces` are for those who come from Qiskit and PennyLane.

Nothing in here starts a process or holds a manager: work is handed to one that is given. Qiskit is imported by
the modules that need it, never by `import pilot`.
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
    """These names bring Qiskit along, so they are loaded when they are asked for."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'faces')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
