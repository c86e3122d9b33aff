"""`current_manager`: inside a task, the manager that runs it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeVar, overload

from pilot.descriptions import TaskDescription
from pilot.descriptions.tasks import with_key, with_place
from pilot.errors import DescriptionError
from pilot.publishing import publish
from pilot.results import CANCELLED, OK
from pilot.wire import payload
from pilot.worker.calls import TaskCalls, here
from pilot.worker.child_tasks import ChildTask
from pilot.worker.described import check_options, keyed
from pilot.worker.packing import Packer

R = TypeVar("R")


def current_manager() -> CurrentManager:
    """Inside a task: the manager that runs it. It takes tasks, which belong to the one that submits them.

    ::

        def fibonacci(n):
            if n < 2:
                return n
            manager = pilot.current_manager()
            return sum(manager.get_results(manager.map(fibonacci, [n - 1, n - 2])))

    Raises:
        RuntimeError: this is no task: use the `PilotManager` itself. Nor is a process that a task has started, a rank
            or a program.
    """
    for calls, spool, pid in here:
        if pid == os.getpid() and (task := calls.task) is not None:
            return CurrentManager(calls, Packer(spool), task)
    raise RuntimeError(
        "current_manager() is for the function of a task, in its own process: outside of tasks use the PilotManager "
        "that you have made; in a process that a task has started, in ranks and in programs there is none"
    )


class CurrentManager:
    """What a task has of the manager that runs it. All methods may be called from any thread of the task, until it
    ends."""

    def __init__(self, calls: TaskCalls, packer: Packer, task: int) -> None:
        self._calls = calls
        self._packer = packer
        #: The id of the task that it was made in.
        self.task = task

    # ---- submitting -------------------------------------------------------------------------------------------

    @overload
    def submit_task(
        self, work: TaskDescription | Mapping[str, Any], /, *, key: str | None = None
    ) -> ChildTask[Any]: ...
    @overload
    def submit_task(
        self, work: Callable[..., R], /, *args: Any, key: str | None = None, **kwargs: Any
    ) -> ChildTask[R]: ...
    def submit_task(self, work: Any, /, *args: Any, key: str | None = None, **kwargs: Any) -> ChildTask[Any]:
        """Submit one task, as `PilotManager.submit_task` does. Blocks until the manager has taken it.

        Args:
            work: a callable, or a description (or a dict with its keys). Its ``priority`` counts from that of this
                task plus 1, so that tasks that others wait for go first.
            args: arguments of the callable, child tasks among them.
            key: names the task in the session. When this task runs again, the same key gives the child of before; one
                that was cancelled or failed is submitted again. An argument of the callable's own that is called
                ``key`` can be given in a description.
            kwargs: the same as ``args``, by name.

        Raises:
            DescriptionError: a key or value is not valid, or another task has this ``key``.
            NoPilotError: no pilot can ever run it.
            NotPicklable: the function or an argument cannot be pickled.
            RuntimeError: the task that this manager was given in is over.
        """
        return self._submit([self._described(work, args, kwargs, key)])[0]

    def submit_tasks(
        self, descriptions: Iterable[TaskDescription | Mapping[str, Any] | Callable[[], Any]]
    ) -> list[ChildTask[Any]]:
        """Submit many at once: descriptions, dicts, or callables without arguments. As `submit_task`; when one is
        refused, none is submitted."""
        return self._submit([self._described(one, (), {}, None) for one in descriptions])

    def map(self, function: Callable[..., R], /, *iterables: Iterable[Any], **fields: Any) -> list[ChildTask[R]]:
        """One task for each tuple of arguments, as the built-in ``map`` makes them; ``fields`` of `TaskDescription`
        are for each of them. With ``key="sweep"`` their keys are "sweep/0", "sweep/1" and so on.

        Raises:
            DescriptionError: ``chunksize`` and ``window`` are of the `PilotManager` outside of tasks, or a field is not
                valid.
        """
        for name in ("chunksize", "window"):
            if name in fields:
                raise DescriptionError(
                    f"map: {name} is not valid in a task; leave it out, or submit functions that call many inputs each",
                    field=name,
                    given=fields[name],
                )
        return self._submit(
            [
                TaskDescription(function=function, args=args, **with_place(fields, place))
                for place, args in enumerate(zip(*iterables, strict=False))
            ]
        )

    def _described(self, work: Any, args: tuple[Any, ...], kwargs: dict[str, Any], key: str | None) -> TaskDescription:
        if isinstance(work, TaskDescription) or (not callable(work) and isinstance(work, Mapping)):
            if args or kwargs:
                raise DescriptionError("with a description, arguments belong into its args and kwargs")
            return with_key(TaskDescription.build(work), key)
        if kwargs:
            check_options(work, kwargs)
        if key is not None:
            return keyed(work, args, kwargs, key)
        return TaskDescription(function=work, args=args, kwargs=kwargs)

    def _submit(self, wanted: list[TaskDescription]) -> list[ChildTask[Any]]:
        self._check()
        if not wanted:
            return []
        tasks = self._calls.submit(self._packer.pack(wanted))
        return [ChildTask(self, id, name, one.key) for (id, name), one in zip(tasks, wanted, strict=True)]

    # ---- waiting ----------------------------------------------------------------------------------------------

    def get_results(self, tasks: Iterable[ChildTask[R]]) -> list[R]:
        """The results in the order of the tasks. Blocks, and raises what the first failed one raised."""
        wanted = _children("get_results", tasks)
        self.wait_tasks(wanted)
        return [task.result() for task in wanted]

    def wait_tasks(
        self, tasks: Iterable[ChildTask[R]], timeout: float | None = None
    ) -> tuple[list[ChildTask[R]], list[ChildTask[R]]]:
        """Block until the tasks are over, however they end. Others have the cores of this task meanwhile.

        Args:
            tasks: which.
            timeout: seconds to wait at most; None: for ever.

        Returns:
            The tasks that are over, and those that are not, each in the given order.

        Raises:
            NoPilotError: as `ChildTask.result`.
        """
        wanted = _children("wait_tasks", tasks)
        self._check()
        if open := [task.id for task in wanted if self.end_of(task) is None]:
            self._calls.wait(open, lambda: all(self._calls.end_of(id) is not None for id in open), timeout)
        done: list[ChildTask[R]] = []
        not_done: list[ChildTask[R]] = []
        for task in wanted:
            (not_done if self.end_of(task) is None else done).append(task)
        return done, not_done

    def as_completed(self, tasks: Iterable[ChildTask[R]], *, timeout: float | None = None) -> Iterator[ChildTask[R]]:
        """Tasks, each when it is over, however it ended.

        Raises:
            TimeoutError: some are not over within ``timeout`` seconds.
            NoPilotError: as `ChildTask.result`.
        """
        open = {task.id: task for task in _children("as_completed", tasks)}
        deadline = None if timeout is None else time.monotonic() + timeout
        while open:
            self._check()
            ids = list(open)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._calls.wait(ids, lambda ids=ids: any(self._calls.end_of(id) for id in ids), left):  # type: ignore[misc]
                raise TimeoutError(f"{len(open)} task(s) are not over after {timeout} s")
            for id in [id for id in ids if self._calls.end_of(id) is not None]:
                yield open.pop(id)

    def cancel(self, tasks: Iterable[ChildTask[Any]]) -> None:
        """Cancel tasks. Does not block: `wait_tasks` waits until it is confirmed."""
        self._check()
        self._calls.cancel([task.id for task in _children("cancel", tasks)])

    # ---- what handles ask -------------------------------------------------------------------------------------

    def watch(self, tasks: Iterable[ChildTask[Any]]) -> None:
        """Have the manager tell of their ends."""
        self._check()
        self._calls.watch([task.id for task in tasks])

    def tell_of_ends(self, tasks: Iterable[ChildTask[Any]], tell: Callable[[ChildTask[Any]], None]) -> None:
        """Block until the tasks are over, and call ``tell`` with each as soon as it is."""
        self._check()
        open = {task.id: task for task in tasks}

        def are_over() -> bool:
            for id in [id for id in open if self._calls.end_of(id) is not None]:
                tell(open.pop(id))
            return not open

        if not are_over():
            self._calls.wait(list(open), are_over)

    def end_of(self, task: ChildTask[Any]) -> Any:
        """How it ended; None: that is not known here."""
        self._check()
        return self._calls.end_of(task.id)

    def value_of(self, task: ChildTask[R]) -> R:
        """The result of a task that is over, unpickled anew."""
        value: R = payload.load(self.end_of(task).value, spool=self._packer.spool)
        return value

    def error_of(self, task: ChildTask[Any]) -> BaseException | None:
        """The error of a task that is over; None: it has a result. CancelledError: it was cancelled."""
        end = self.end_of(task)
        if end.status == OK:
            return None
        if end.status == CANCELLED:
            raise CancelledError(f"task {task.id} ({task.name}) was cancelled")
        return payload.load_exception(end.value, end.where, end.where, task=task.id)

    def _check(self) -> None:
        if self._calls.task != self.task:
            raise RuntimeError(
                f"this manager was given to task {self.task}, which is over: call current_manager() in each task"
            )

    def __reduce__(self) -> Any:
        raise TypeError("a manager cannot be pickled: a child task calls current_manager() itself")


publish(CurrentManager)


class CurrentOwner:
    """Submits what a function that `PilotManager.task` has decorated is called with in a task."""

    def submit_task(self, description: TaskDescription) -> ChildTask[Any]:
        """Submit a call as a child of the task that runs."""
        return current_manager().submit_task(description)


def _children(method: str, given: Iterable[ChildTask[R]]) -> list[ChildTask[R]]:
    tasks: list[Any] = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(task, ChildTask) for task in tasks):
        expected = "a list of tasks that current_manager() has submitted; for one task [task]"
        raise DescriptionError(f"{method}: {given!r} is not valid; expected {expected}", field=method)
    return tasks
