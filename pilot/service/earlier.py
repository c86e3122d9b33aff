"""`EarlierTasks`: what an earlier service with the same session has given to the manager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilot.manager.handles import Task
    from pilot.manager.manager import PilotManager


class EarlierTasks:
    """The manager's tasks of an earlier service, by their keys. For one thread."""

    def __init__(self, manager: PilotManager) -> None:
        """Those that the manager has now."""
        self._manager = manager
        self._tasks = {task.key: task for task in manager.tasks.values() if task.key is not None}

    def have_all(self, keys: Sequence[str]) -> bool:
        """True when those with these keys can be taken.

        What was cancelled when the earlier service ended, and not by its user, is forgotten, to be submitted again.
        """
        for key in keys:
            if key in self._tasks and self._tasks[key].cancelled():
                self._manager.forget([self._tasks.pop(key)])
        return all(key in self._tasks for key in keys)

    def take(self, key: str) -> Task | None:
        """The one with this key, which is then no longer among them."""
        return self._tasks.pop(key, None)

    def take_all(self) -> list[Task]:
        """Those that are left."""
        left = list(self._tasks.values())
        self._tasks.clear()
        return left
