"""Pilot jobs for quantum-HPC: one manager routes tasks to pilots that run Ray, Dask or plain processes.

The way of a task::

    description ─► manager ─► controller ─► policy ─► channel ══► agent ─► worker ══► channel ─► result

1. `PilotManager.submit_task` checks the description, pickles the arguments and hands out a `Task`.
2. The manager's thread writes it to the journal and gives the controller an event.
3. The controller queues it; when a pilot that fits has credit, it cuts a batch off the queue.
4. The policy chooses the pilot that gets the batch, and gives the reason.
5. The channel (ZeroMQ with CURVE) carries it to the agent in that pilot's placeholder job.
6. The agent gives it to a warm worker in the engine's cluster, which runs its tasks one by one.
7. Outcomes come back the same way, go to the journal, are acknowledged, and finish the `Task`.

The folders show where their code runs: `manager` (the user's process) with `scheduling` (its decisions), `agent` (the
placeholder job), `worker` (the engine's processes), `wire` (between them), `cli` (the shell). The names below are
loaded on first use, so that a worker does not load the manager.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pilot.version import __version__

if TYPE_CHECKING:
    from pilot.descriptions import PilotDescription, QosOptions, TaskDescription
    from pilot.errors import (
        DependencyFailed,
        DescriptionError,
        ExecutableFailed,
        JobRefused,
        MpiFailed,
        NoPilotError,
        NotPicklable,
        PilotError,
        PilotFailed,
        PluginError,
        ProgramError,
        QPUCancelled,
        QPUError,
        QPUUnavailable,
        SessionError,
        StateError,
        TaskError,
        TaskExited,
        TaskTimeout,
        WorkerDied,
    )
    from pilot.manager.executor import PilotExecutor
    from pilot.manager.handles import Task
    from pilot.manager.joblib_backend import register_joblib
    from pilot.manager.manager import PilotManager
    from pilot.manager.maps import MapResult
    from pilot.manager.metrics import write_metrics
    from pilot.manager.objects import ObjectRef
    from pilot.manager.observers import Subscription
    from pilot.manager.pilots import Pilot, Scaler
    from pilot.manager.reading import SessionReader
    from pilot.results import MpiResult, TaskInfo
    from pilot.states import PilotState, TaskState
    from pilot.worker.child_tasks import ChildTask
    from pilot.worker.current import CurrentManager, current_manager
    from pilot.worker.initialized import worker_state

__all__ = [
    "ChildTask",
    "CurrentManager",
    "DependencyFailed",
    "DescriptionError",
    "ExecutableFailed",
    "JobRefused",
    "MapResult",
    "MpiFailed",
    "MpiResult",
    "NoPilotError",
    "NotPicklable",
    "ObjectRef",
    "Pilot",
    "PilotDescription",
    "PilotError",
    "PilotExecutor",
    "PilotFailed",
    "PilotManager",
    "PilotState",
    "PluginError",
    "ProgramError",
    "QPUCancelled",
    "QPUError",
    "QPUUnavailable",
    "QosOptions",
    "Scaler",
    "SessionError",
    "SessionReader",
    "StateError",
    "Subscription",
    "Task",
    "TaskDescription",
    "TaskError",
    "TaskExited",
    "TaskInfo",
    "TaskState",
    "TaskTimeout",
    "WorkerDied",
    "__version__",
    "current_manager",
    "register_joblib",
    "worker_state",
    "write_metrics",
]

_HOMES = {
    **dict.fromkeys(("PilotDescription", "QosOptions", "TaskDescription"), "descriptions"),
    **dict.fromkeys(("MpiResult", "TaskInfo"), "results"),
    **dict.fromkeys(("PilotState", "TaskState"), "states"),
    "ChildTask": "worker.child_tasks",
    **dict.fromkeys(("CurrentManager", "current_manager"), "worker.current"),
    "ObjectRef": "manager.objects",
    **dict.fromkeys(("Pilot", "Scaler"), "manager.pilots"),
    "SessionReader": "manager.reading",
    "MapResult": "manager.maps",
    "PilotExecutor": "manager.executor",
    "PilotManager": "manager.manager",
    "Subscription": "manager.observers",
    "Task": "manager.handles",
    "register_joblib": "manager.joblib_backend",
    "worker_state": "worker.initialized",
    "write_metrics": "manager.metrics",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
