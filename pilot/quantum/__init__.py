"""Circuits as tasks: how they travel and run, and what is built from many of them.

`programs` reads and writes circuits in every common form, `outcomes` is what a circuit gives, `circuits` how
circuits travel and are simulated, `deferral` how measurements in the middle move to the end, `cutting` how a
circuit too wide for any simulator or QPU is run in pieces.

Nothing in here holds a manager: work is handed to a callable, and `PilotManager.map` is one. The one process that
is started here parses strangers' texts (`programs.sandbox`). Qiskit is imported by the modules that need it, never
by `import pilot`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot.quantum.programs import Program, load

__all__ = ["Program", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `Program` bring Qiskit along, so they are loaded when they are asked for."""
    if name in __all__:
        from pilot.quantum import programs

        return getattr(programs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
