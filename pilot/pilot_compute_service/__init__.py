"""Pilot-Quantum's API, as a layer over `pilot.PilotManager`: programs written for it run unchanged.

``docs/pilot_quantum.md`` says what becomes of each key and call. Read next: ``service.py``.
"""

from __future__ import annotations

from pilot.interfaces import Reference as PilotFuture
from pilot.pilot_compute_service.pilots import PilotCompute
from pilot.pilot_compute_service.service import PilotComputeService
from pilot.pilot_compute_service.submission import PilotComputeBase
from pilot.pilot_enums_exceptions import ExecutionEngine, PilotAPIException

__all__ = [
    "ExecutionEngine",
    "PilotAPIException",
    "PilotCompute",
    "PilotComputeBase",
    "PilotComputeService",
    "PilotFuture",
]
