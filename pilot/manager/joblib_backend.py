"""A backend of joblib, and so of scikit-learn's ``n_jobs``, over a manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import joblib
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, SequentialBackend

from pilot.manager.executor import PilotExecutor
from pilot.manager.handles import Task
from pilot.manager.manager import PilotManager


def register_joblib(manager: PilotManager, name: str = "pilot", **options: Any) -> None:
    """Give joblib a backend that runs its calls as tasks::

        pilot.register_joblib(manager)
        with joblib.parallel_config(backend="pilot", n_jobs=-1):
            GridSearchCV(model, grid).fit(x, y)

    ``n_jobs=-1``, and no ``n_jobs``, mean all cores of the pilots. Calls within a call run one after the other. When
    one call has failed, joblib cancels those that are not over.

    Args:
        manager: who runs the tasks.
        name: what ``parallel_config`` calls it.
        options: fields of `TaskDescription` for every task, as for `PilotExecutor`.

    Raises:
        DescriptionError: an option is not valid.
    """
    executor = PilotExecutor(manager, **options)
    joblib.register_parallel_backend(name, lambda **given: _Backend(executor, **given))


class _Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, executor: PilotExecutor, **given: Any) -> None:
        super().__init__(**given)
        self._executor = executor
        self._tasks: set[Task[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        cores = self._executor.cores()
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Task[Any]:
        task = self._executor.submit(_call, func)  # as an argument: large arrays in it are stored once
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if callback is not None:
            task.add_done_callback(callback)
        return task

    apply_async = submit  # the name that joblib used before 1.5

    def retrieve_result_callback(self, out: Task[Any]) -> Any:
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self._executor.cancel(list(self._tasks))

    def get_nested_backend(self) -> tuple[Any, int]:
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), 1


def _call(func: Callable[[], Any]) -> Any:
    return func()
