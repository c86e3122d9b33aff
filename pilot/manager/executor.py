"""A `concurrent.futures.Executor` over a manager, for code that wants one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from pilot.descriptions import TaskDescription
from pilot.manager.handles import Task
from pilot.manager.manager import P, PilotManager, R
from pilot.publishing import publish


class PilotExecutor(Executor):
    """Submits to a manager's pilots. Shutting it down waits for its own tasks and leaves the manager open.

    ``chunksize`` of ``map`` has no effect: the manager batches by measured time.

    Args:
        manager: who runs the tasks.
        options: fields of `TaskDescription` for every task, such as ``num_cpus=2`` or ``pilot="gpu"``.
    """

    def __init__(self, manager: PilotManager, **options: Any) -> None:
        self._manager = manager
        self._options = options
        self._tasks: set[Task] = set()
        self._down = False
        if options:
            TaskDescription.build({"function": print, **options})  # a wrong one fails here

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """One task: ``fn(*args, **kwargs)``.

        Raises:
            RuntimeError: the executor was shut down.
        """
        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self._options:
            wanted = TaskDescription(function=fn, args=args, kwargs=kwargs, **self._options)
            task = self._manager.submit_task(wanted)
        else:
            task = self._manager.submit_task(fn, *args, **kwargs)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; wait for those under way, or cancel what is not finished."""
        self._down = True
        tasks = list(self._tasks)
        if cancel_futures:
            for task in tasks:
                task.cancel()
        if wait:
            self._manager.wait_tasks(tasks)


publish(PilotExecutor)
