"""Descriptions of pilots and tasks, checked when they are built. Runs in the user's process.

Read next: ``interfaces/`` (what starts and runs them) and ``manager/manager.py``.
"""

from pilot.descriptions.pilots import PilotDescription
from pilot.descriptions.qos import QosOptions
from pilot.descriptions.tasks import TaskDescription
from pilot.publishing import publish

__all__ = ["PilotDescription", "QosOptions", "TaskDescription"]

publish(PilotDescription, QosOptions, TaskDescription)
