"""Pilot jobs for quantum-HPC: one manager routes tasks to pilots that run Ray, Dask or plain processes.

The way of a task::

    description ─► manager ─► controller ─► router ─► channel ══► agent ─► worker ══► channel ─► result

1. `PilotManager.submit_task` checks the description, pickles the arguments and hands out a `Task`.
2. The conductor (the manager's thread) writes it to the journal and tells the controller.
3. The controller queues it; when a pilot that fits has credit, it cuts a batch off the queue.
4. The policy says which pilot gets the batch, and why.
5. The channel (ZeroMQ with CURVE) carries it to the agent in that pilot's placeholder job.
6. The agent's crew gives it to a warm worker in the engine's cluster, which runs its tasks one by one.
7. Outcomes come back the same way, go to the journal, are acknowledged, and finish the `Task`.
"""

from pilot.descriptions import PilotDescription, TaskDescription
from pilot.errors import (
    DescriptionError,
    MpiFailed,
    NoPilotError,
    PilotError,
    PilotFailed,
    SessionError,
    TaskError,
)
from pilot.executor import PilotExecutor
from pilot.handles import Pilot, Task
from pilot.manager import PilotManager
from pilot.results import MpiResult, TaskInfo
from pilot.states import PilotState, TaskState
from pilot.version import __version__

__all__ = [
    "DescriptionError",
    "MpiFailed",
    "MpiResult",
    "NoPilotError",
    "Pilot",
    "PilotDescription",
    "PilotError",
    "PilotExecutor",
    "PilotFailed",
    "PilotManager",
    "PilotState",
    "SessionError",
    "Task",
    "TaskDescription",
    "TaskError",
    "TaskInfo",
    "TaskState",
    "__version__",
]
