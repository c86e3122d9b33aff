"""A `concurrent.futures.Executor` over a manager, for code that wants one."""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any

from pilot.descriptions import TaskDescription
from pilot.errors import SessionError, invalid
from pilot.manager import maps, windows
from pilot.manager.handles import Task, wait_done
from pilot.manager.manager import PilotManager
from pilot.manager.maps import ChunkSize, MapResult
from pilot.manager.tasking import P, R
from pilot.manager.waiting import end_of
from pilot.publishing import publish
from pilot.states import is_final

_WORKERS = "nothing: the workers are those of the pilots"
#: Arguments of other executors, and fields that each call gives itself: what is expected of them here.
_REFUSED = {
    "max_workers": "nothing: as many tasks run at once as the pilots have cores (cores_per_node)",
    **dict.fromkeys(("mp_context", "max_tasks_per_child", "thread_name_prefix"), _WORKERS),
    **dict.fromkeys(("function", "args", "kwargs"), "nothing: submit and map are given it"),
    "key": "nothing: a key is of one task; take submit_task of the manager",
}
#: Tasks of all executors that have not ended.
_unfinished: set[Task] = set()


def _finish() -> None:
    """When the program has come to its end: wait for these tasks, as process pools do. After an error that nobody
    caught, Ctrl-C included, they are cancelled with their managers."""
    if getattr(sys, "last_value", None) is None:
        for task in list(_unfinished):
            try:
                wait_done(task, None)
            except SessionError:  # a forked process
                return


class PilotExecutor(Executor):
    """Submits to a manager's pilots. Shutting it down waits for its own tasks and leaves the manager open.

    A program that comes to its end waits for the tasks of its executors, as for those of a process pool; not after an
    error that nobody caught or a signal, nor where the manager was closed before.

    Without a ``chunksize`` its ``map`` makes a task of each input, and the manager batches them by measured time. With
    one it makes chunks, as `PilotManager.map` does.

    Args:
        manager: who runs the tasks.
        options: fields of `TaskDescription` for every task, such as ``num_cpus=2`` or ``pilot="gpu"``.

    Raises:
        DescriptionError: it is not a manager, or an option is not valid.
    """

    def __init__(self, manager: PilotManager, **options: Any) -> None:
        if not isinstance(manager, PilotManager):
            expected = "a PilotManager; in a task take submit_task, map and get_results of current_manager()"
            raise invalid("manager", type(manager), expected)
        self._manager = manager
        self._options = options
        self._tasks: set[Task] = set()
        self._down = False
        for name, given in options.items():
            if name in _REFUSED:
                raise invalid(f"PilotExecutor.{name}", given, _REFUSED[name])
        if options:
            maps.check_fields("PilotExecutor", options)
        atexit.unregister(_finish)  # last come, first called: before the manager is closed
        atexit.register(_finish)

    @property
    def _max_workers(self) -> int:
        """How many tasks run at once: Dask asks its pools for it."""
        return max(1, self.cores())

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """One task: ``fn(*args, **kwargs)``, as with every executor: a ``key`` is the function's, not the task's.

        Raises:
            RuntimeError: the executor was shut down.
        """
        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self._options or "key" in kwargs:  # which submit_task would take for the task's
            wanted = TaskDescription(function=fn, args=args, kwargs=kwargs, **self._options)
            task = self._manager.submit_task(wanted)
        else:
            task = self._manager.submit_task(fn, *args, **kwargs)
        self._keep(task)
        return task

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: ChunkSize = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """The results of ``fn`` in the order of its inputs, as ``Executor.map`` gives them.

        Args:
            fn: what is called.
            iterables: for each argument its values; the shortest one counts.
            timeout: seconds from now on in which the results must be there; None: for ever.
            chunksize: inputs of one task, or "auto". From 2 on ``timeout`` and ``expected_duration`` of the executor's
                options count for each input, and ``retries`` and what belongs to them too.
            buffersize: so many inputs are submitted and their results not read yet, at most, as with Python 3.14. None:
                all are submitted now.

        Raises:
            RuntimeError: the executor was shut down.
            DescriptionError: the ``chunksize`` or the ``buffersize`` is not valid.
        """
        one_by_one = chunksize == 1 and not isinstance(chunksize, bool)
        if buffersize is not None:

            def submit(block: list[tuple[Any, ...]]) -> Task[R] | MapResult[R]:
                return (
                    self.submit(fn, *block[0]) if one_by_one else self._chunks(fn, zip(*block, strict=True), chunksize)
                )

            return windows.results(submit, zip(*iterables, strict=False), buffersize, chunksize, timeout)
        if one_by_one:
            return super().map(fn, *iterables, timeout=timeout)
        mapped = self._chunks(fn, iterables, chunksize)
        return _results(mapped, end_of(timeout))

    def _chunks(self, fn: Callable[..., R], iterables: Iterable[Iterable[Any]], chunksize: ChunkSize) -> MapResult[R]:
        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        mapped: MapResult[R] = maps.submit(
            self._manager.submit_task, self, fn, list(iterables), chunksize, self._options
        )
        for task in mapped.tasks:
            self._keep(task)
        return mapped

    def cores(self) -> int:
        """Cores of the manager's pilots that are not over: so many tasks of one core run at once."""
        pilots = (pilot for pilot in self._manager.pilots if not is_final(pilot.state))
        return sum(pilot.description.cores * pilot.description.number_of_nodes for pilot in pilots)

    def _keep(self, task: Task[Any]) -> None:
        """`shutdown`, and the end of the program, are about this one."""
        self._tasks.add(task)
        _unfinished.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: Any) -> None:
        self._tasks.discard(task)
        _unfinished.discard(task)

    def cancel(self, tasks: Iterable[Task[Any]]) -> None:
        """As `PilotManager.cancel`."""
        self._manager.cancel(tasks)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks. Those that are not over go on; ``cancel_futures``: those that run do, and the others are
        cancelled.

        Args:
            wait: block until all are over. False: a program that comes to its end waits for them.
            cancel_futures: cancel what has not begun.
        """
        self._down = True
        tasks = list(self._tasks)
        if cancel_futures and tasks:
            self._manager.cancel(tasks, running=False)
        if wait:
            self._manager.wait_tasks(tasks)


def _results(mapped: MapResult[R], end: float | None) -> Iterator[R]:
    """The results until the time is over. What is left then, or when the caller stops reading, is cancelled."""
    try:
        yield from mapped.within(None if end is None else max(0.0, end - time.monotonic()))
    finally:
        mapped.cancel()


publish(PilotExecutor)
