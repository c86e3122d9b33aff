"""The contracts, one file for each kind: of plugins (Launcher, JobEnvironment, Engine, QPU, Policy) and observers.

That of mini-apps is in `pilot.interfaces.miniapps`, which workers do not load.

A **launcher** gets a placeholder job, a **job environment** says what the processes of such a job can know about it, an
**engine** runs workers inside it, a **QPU** runs circuits, a **policy** says which task is next and which pilot gets
it.
Each is registered as an entry point (``registry.py``) and passes the contract suite of its kind in `pilot.testing`.
"""

from __future__ import annotations

from pilot.interfaces.engines import Allocation, Engine, OnExit, WorkerSpec
from pilot.interfaces.estimators import TaskEstimator
from pilot.interfaces.kinds import JointFunction, Kind, Map, Noted, Offer, Part, Prepared, WorkFunction
from pilot.interfaces.launchers import Job, JobEnvironment, JobState, Launcher, Misfit, Refusal
from pilot.interfaces.observers import (
    AttemptEnded,
    EventsDropped,
    Observer,
    PilotChanged,
    QPUChanged,
    SessionEvent,
    TaskChanged,
    TaskEnded,
    TaskEvent,
    TaskOutput,
    TaskSubmitted,
)
from pilot.interfaces.policies import Candidate, Policy, QPUTable, QueuedTask, Spreads, place_of
from pilot.interfaces.qpus import QPU, CircuitResult, Run
from pilot.interfaces.references import Made, Record, Reference, References

__all__ = [
    "QPU",
    "Allocation",
    "AttemptEnded",
    "Candidate",
    "CircuitResult",
    "Engine",
    "EventsDropped",
    "Job",
    "JobEnvironment",
    "JobState",
    "JointFunction",
    "Kind",
    "Launcher",
    "Made",
    "Map",
    "Misfit",
    "Noted",
    "Observer",
    "Offer",
    "OnExit",
    "Part",
    "PilotChanged",
    "Policy",
    "Prepared",
    "QPUChanged",
    "QPUTable",
    "QueuedTask",
    "Record",
    "Reference",
    "References",
    "Refusal",
    "Run",
    "SessionEvent",
    "Spreads",
    "TaskChanged",
    "TaskEnded",
    "TaskEstimator",
    "TaskEvent",
    "TaskOutput",
    "TaskSubmitted",
    "WorkFunction",
    "WorkerSpec",
    "place_of",
]
