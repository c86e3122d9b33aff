"""The contracts of the plugins, one file for each kind: Launcher, JobEnvironment, Engine, QPU, Policy.

A **launcher** gets a placeholder job, a **job environment** says what the processes of such a job can know about it, an
**engine** runs workers inside it, a **QPU** runs circuits, a **policy** says which task is next and which pilot gets
it.
Each is registered as an entry point (``registry.py``) and passes the contract suite of its kind in `pilot.testing`.
"""

from __future__ import annotations

from pilot.interfaces.engines import Allocation, Engine, OnExit, WorkerSpec
from pilot.interfaces.kinds import JointFunction, Kind, Offer, Part, Prepared, WorkFunction
from pilot.interfaces.launchers import Job, JobEnvironment, JobState, Launcher, Misfit
from pilot.interfaces.policies import Candidate, Policy, QPUTable, QueuedTask
from pilot.interfaces.qpus import QPU, CircuitResult, Run

__all__ = [
    "QPU",
    "Allocation",
    "Candidate",
    "CircuitResult",
    "Engine",
    "Job",
    "JobEnvironment",
    "JobState",
    "JointFunction",
    "Kind",
    "Launcher",
    "Misfit",
    "Offer",
    "OnExit",
    "Part",
    "Policy",
    "Prepared",
    "QPUTable",
    "QueuedTask",
    "Run",
    "WorkFunction",
    "WorkerSpec",
]
