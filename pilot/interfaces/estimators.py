"""The contract of estimators: what is expected of tasks of one kind on each QPU.

A package adds one with an entry point of the group ``pilot.estimators``, by the name of the kind of tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pilot.interfaces.kinds import WorkFunction
from pilot.resources import QPUEstimate, QPUInfo

if TYPE_CHECKING:
    from pilot.descriptions import TaskDescription


class TaskEstimator(ABC):
    """Estimates tasks of one kind. A manager makes one with ``TaskEstimator()`` and keeps it.

    The work is a task of its own on a pilot's core. What it returns stays with the manager, which asks for estimates of
    it, and tells how long tasks took. Only `work` is called in users' threads; nothing of this may block.
    """

    @abstractmethod
    def work(
        self, sample: Any, wanted: TaskDescription, infos: Sequence[QPUInfo], *, final: bool
    ) -> tuple[WorkFunction, tuple[Any, ...]]:
        """What a worker calls for a task, and its arguments. It raises where no QPU can reach what is wanted.

        Args:
            sample: `Prepared.sample` of the task.
            wanted: its description; after an attach without the work itself (circuit, parameters, observables, …).
            infos: what the QPUs report; empty: none has yet.
            final: no other QPU that could run the task is on its way.
        """

    @abstractmethod
    def estimates(self, result: Any, wanted: TaskDescription, infos: Sequence[QPUInfo]) -> tuple[QPUEstimate, ...]:
        """What is expected of the task, from what the worker returned."""

    @abstractmethod
    def learn(
        self, result: Any, wanted: TaskDescription, infos: Sequence[QPUInfo], qpu: str, weight: float, seconds: float
    ) -> None:
        """A part of the task has run.

        Args:
            result: what the worker returned for the task.
            wanted: its description.
            infos: those of `work`.
            qpu: that it ran on.
            weight: of the part, among all of the task: above 0, at most 1.
            seconds: that it took.
        """
