"""Names of Pilot-Quantum's API; read next: ``pilot_compute_service``."""

from __future__ import annotations

from enum import Enum

from pilot.errors import PilotError


class ExecutionEngine(Enum):
    """What runs the tasks in a service's pilots."""

    DASK = "dask"
    RAY = "ray"


#: What goes wrong in this API is a `PilotError`; so ``except PilotAPIException`` catches all of it.
PilotAPIException = PilotError
