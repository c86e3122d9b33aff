"""Circuits from where users already are: Qiskit's V2 primitives, a Qiskit backend and a mitiq executor over a manager.

    sampler = PilotSampler(manager)                       # wherever Qiskit takes a BaseSamplerV2
    estimator = PilotEstimator(manager, qpu="fake:kolkata")
    backend = PilotBackend(manager)                       # wherever Qiskit takes a BackendV2

A manager is anything with ``submit_tasks(descriptions) -> futures``. PennyLane's device stands in
`pilot.quantum.faces.pennylane`.
"""

from pilot.quantum.faces.backend import PilotBackend
from pilot.quantum.faces.estimator import PilotEstimator, mitiq_executor
from pilot.quantum.faces.jobs import PilotJob, PilotPrimitiveJob
from pilot.quantum.faces.sampler import PilotSampler

__all__ = ["PilotBackend", "PilotEstimator", "PilotJob", "PilotPrimitiveJob", "PilotSampler", "mitiq_executor"]
