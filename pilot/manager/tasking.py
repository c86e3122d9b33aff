"""`TaskSession`: the part of `PilotManager`'s API that submits tasks and cancels them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar, overload

from pilot.descriptions import TaskDescription
from pilot.descriptions.tasks import with_key, with_place
from pilot.errors import DescriptionError
from pilot.manager import maps, windows
from pilot.manager.handles import Task, Together, tasks_of
from pilot.manager.maps import ChunkSize, MapResult, check_fields, without_key
from pilot.manager.objects import ObjectRef
from pilot.manager.resubmission import Resubmission
from pilot.manager.session import Session
from pilot.manager.submitting import Submitter
from pilot.resources import PLAIN
from pilot.worker.current import CurrentOwner
from pilot.worker.described import check_options, keyed

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
Many: TypeAlias = Iterable[Any]
_Stands: TypeAlias = "Task[Any] | ObjectRef[Any]"
#: An argument that tasks or objects stand in.
Needed: TypeAlias = "_Stands | Sequence[_Stands] | Mapping[str, _Stands]"


class TaskSession(Session):
    """An open session to which tasks are submitted. All methods may be called from any thread."""

    _submitter: Submitter
    _resubmission: Resubmission

    @overload
    def submit_task(self, work: TaskDescription | Mapping[str, Any], /, *, key: str | None = None) -> Task[Any]: ...
    @overload
    def submit_task(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...
    @overload  # a task stands for its result, which no type says
    def submit_task(self, work: Callable[..., R], first: Needed, /, *args: Any, **kwargs: Any) -> Task[R]: ...  # type: ignore[overload-cannot-match]
    @overload
    def submit_task(self, work: Callable[..., R], one: Any, two: Needed, /, *args: Any, **kwargs: Any) -> Task[R]: ...  # type: ignore[overload-cannot-match]
    @overload
    def submit_task(self, work: Callable[..., R], /, *args: Any, key: str, **kwargs: Any) -> Task[R]: ...  # type: ignore[overload-cannot-match]
    def submit_task(self, work: Any, /, *args: Any, key: Any = None, **kwargs: Any) -> Task[Any]:
        """Send one task on its way. Blocks only while 10,000 tasks were submitted that are not in the journal yet, as
        when the disk is full.

        A callable runs as it is now, with the values that its globals, defaults and closure have now, however they
        change later; each task has a copy of its own, so that no task sees what another one changed. Functions and
        classes of modules that can be imported are the exception: as in a process pool they travel by name, and a
        worker imports their module once (``cloudpickle.register_pickle_by_value(module)`` sends them by value).

        Type checkers compare the arguments with the callable's, and accept a task (or a list or dict of tasks) in place
        of the first or the second one; in other places they accept it in a `TaskDescription`.

        Args:
            work: a callable, or a description (or a dict with its keys). Of an ``async`` function the result is what
                it returns; all those of a worker run in one event loop, one after the other.
            args: arguments of the callable; a `Task` among them, at any depth, is a dependency and stands for its
                result, an `ObjectRef` for its value. Large arrays travel without a copy, and are read-only in the task.
            key: a text that names the task, so that it is submitted once: the same key gives the same task, also after
                `attach`, until it is forgotten. One that was cancelled, or failed without having run, is submitted
                again. An argument of the callable's own that is called ``key`` can be given
                in a description.
            kwargs: the same as ``args``, by name.

        Raises:
            DescriptionError: a key or value is not valid; another task has this ``key``.
            NoPilotError: no pilot, present or requested, can ever run it; the message says why for each one.
            NotPicklable: the function or an argument cannot be pickled, or only as a name of ``__main__``.
            SessionError: the manager is closed, or a large argument cannot be written to the session folder.
        """
        if isinstance(work, TaskDescription) or (not callable(work) and isinstance(work, Mapping)):
            if args or kwargs:
                raise DescriptionError("with a description, arguments belong into its args and kwargs")
            return self._submitter.submit_described(with_key(TaskDescription.build(work), key))
        if kwargs:
            check_options(work, kwargs)
        if key is not None:
            return self._submitter.submit_described(keyed(work, args, kwargs, key))
        return self._submitter.submit(work, args, kwargs, PLAIN)

    def submit_tasks(
        self, descriptions: Iterable[TaskDescription | Mapping[str, Any] | Callable[[], Any]]
    ) -> list[Task[Any]]:
        """Send many tasks on their way: descriptions, dicts, or callables without arguments.

        Raises:
            Exception: as `submit_task`, for the first one that is refused; those before it are cancelled, but for those
                with a ``key``.
        """
        return self._submit_all(lambda one: self.submit_task(one), descriptions)

    def _submit_all(self, submit: Callable[[A], Task[R]], inputs: Iterable[A]) -> list[Task[R]]:
        tasks: list[Task[R]] = []
        try:
            for one in inputs:
                tasks.append(submit(one))
        except BaseException:
            self._submitter.cancel(without_key(tasks))
            raise
        return tasks

    @overload
    def map(
        self, function: Callable[..., R], first: Many, /, *others: Many, window: int, chunksize: int = 1, **fields: Any
    ) -> Iterator[R]: ...
    @overload
    def map(
        self, function: Callable[..., R], first: Many, /, *others: Many, chunksize: ChunkSize, **fields: Any
    ) -> MapResult[R]: ...
    @overload
    def map(self, function: Callable[[A], R], first: Iterable[A | Task[A]], /, **fields: Any) -> list[Task[R]]: ...
    @overload
    def map(
        self,
        function: Callable[[A, B], R],
        first: Iterable[A | Task[A]],
        second: Iterable[B | Task[B]],
        /,
        **fields: Any,
    ) -> list[Task[R]]: ...
    @overload
    def map(
        self, function: Callable[..., R], first: Many, second: Many, third: Many, /, *others: Many, **fields: Any
    ) -> list[Task[R]]: ...
    def map(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        chunksize: ChunkSize | None = None,
        window: int | None = None,
        **fields: Any,
    ) -> list[Task[Any]] | MapResult[Any] | Iterator[Any]:
        """One task for each tuple of arguments, as the built-in ``map`` makes them.

        The function is taken once, as it is now; with a ``window`` it is taken as the inputs are.

        Args:
            function: what is called.
            iterables: for each argument its values; the shortest one counts.
            chunksize: this number of inputs in each task, which costs much less for short calls; "auto": as many as
                take about 50 ms, by the first ones, for which it waits a second at most. What an input raises is its
                own error; the rest (scheduling, cancelling, losses) is the chunk's, see `MapResult`.
            window: so many inputs are submitted and their results not read yet, at most: a generator of any length
                takes little memory. The next input is taken when a result is read. What is not over is cancelled when
                reading ends with an error, or the iterator is closed.
            fields: of `TaskDescription`, for each task, such as ``priority=1`` or ``pilot="gpu"``. In chunks
                ``timeout``, ``expected_duration`` and ``retries`` are those of one input. With ``key="sweep"`` the
                tasks have the keys "sweep/0", "sweep/1" and so on, by the place of their first input: the same call
                after an `attach` gives the same tasks. Not with a ``window``, and with a number as ``chunksize``.

        Returns:
            The tasks in order; with a ``chunksize`` a `MapResult`, whose items are the inputs' results; with a
            ``window`` an iterator over the results, in the order of the inputs.

        Raises:
            DescriptionError: ``chunksize``, ``window`` or a field is not valid.
            Exception: as `submit_task`, for the first input that is refused; the tasks before it are cancelled, but for
                those with a ``key``.
        """
        self._state.check_open()
        if not iterables:
            raise DescriptionError(
                "map: there are no inputs; give an iterable for each argument, such as map(f, values)"
            )
        if window is not None:
            return self._map_in_window(function, iterables, window, 1 if chunksize is None else chunksize, fields)
        if chunksize is not None:
            return maps.submit(self.submit_task, self._submitter, function, iterables, chunksize, fields)
        inputs = zip(*iterables, strict=False)
        if fields:
            check_fields("map", fields, has_key=True)
            return self.submit_tasks(
                TaskDescription(function=function, args=args, **with_place(fields, place))
                for place, args in enumerate(inputs)
            )
        work = self._submitter.functions.record(function)
        return self._submit_all(lambda args: self._submitter.submit(work, args, {}, PLAIN), inputs)

    @overload
    def task(self, function: Callable[P, R], /) -> Callable[P, Task[R]]: ...
    @overload
    def task(self, /, **fields: Any) -> Callable[[Callable[P, R]], Callable[P, Task[R]]]: ...
    def task(self, function: Callable[..., Any] | None = None, /, **fields: Any) -> Callable[..., Any]:
        """A decorator: calls of the function submit tasks, and return them; in a task, as `current_manager` does.

        ::

            @manager.task(num_cpus=2, retries=1)
            def simulate(seed): ...

            tasks = [simulate(seed) for seed in range(100)]

        Args:
            function: what is called; ``simulate.__wrapped__`` is the function itself.
            fields: of `TaskDescription`, for each task.

        Raises:
            DescriptionError: a field is not valid.
        """
        check_fields("task", fields)
        owner = _Owner(self.submit_task)

        def decorate(function: Callable[..., Any]) -> Callable[..., Task[Any]]:
            @functools.wraps(function)
            def submit(*args: Any, **kwargs: Any) -> Task[Any]:
                description = TaskDescription(function=function, args=args, kwargs=kwargs, **fields)
                return owner.submit_task(description)  # type: ignore[no-any-return]

            return submit

        return decorate if function is None else decorate(function)

    def _map_in_window(
        self,
        function: Callable[..., R],
        iterables: Sequence[Iterable[Any]],
        window: int,
        chunksize: ChunkSize,
        fields: Mapping[str, Any],
    ) -> Iterator[R]:
        check_fields("map with a window", fields)

        def submit(block: list[tuple[Any, ...]]) -> Task[R] | MapResult[R]:
            if chunksize != 1:
                columns = list(zip(*block, strict=True))
                return maps.submit(self.submit_task, self._submitter, function, columns, chunksize, fields)
            if fields:
                return self.submit_task(TaskDescription(function=function, args=block[0], **fields))
            return self.submit_task(function, *block[0])

        return windows.results(submit, zip(*iterables, strict=False), window, chunksize)

    def as_completed(
        self, tasks: Iterable[Task[R]], *, window: int | None = None, timeout: float | None = None
    ) -> Iterator[Task[R]]:
        """Tasks, each when it has ended, however it ended. One that is there several times comes once; with a
        ``window``: once while it has not been returned.

        Args:
            tasks: which; a generator may submit each when it is taken.
            window: so many tasks are taken that have not been returned yet, at most: a generator of any length takes
                little memory. None: all are taken at the first step.
            timeout: seconds from now on in which all must have ended; None: for ever.

        Raises:
            TimeoutError: some have not ended within that time.
            DescriptionError: the ``window`` is not valid, or what was given is no task.
        """
        return windows.as_completed(tasks, window, timeout)

    def cancel(self, tasks: Iterable[Task] | Together, *, running: bool = True) -> None:
        """Cancel tasks, and the parts that they put together. Does not block: `wait_tasks` waits until it is confirmed.

        Args:
            tasks: which; those that are over stay as they are.
            running: those that run, too, with their workers. False: these go on to their end.

        Raises:
            DescriptionError: it is not a list of tasks, or one is another manager's.
            SessionError: this process was forked from the manager's.
        """
        self._submitter.cancel(tasks_of("cancel", tasks), running=running)

    def resubmit(self, tasks: Iterable[Task[R]]) -> list[Task[R]]:
        """Give tasks that failed or were cancelled another attempt, also after an `attach`. Does not wait for it.

        For each there is a new task with the same function, arguments, requirements and name.
        Where one depends on a task that failed or was cancelled as well, that one gets another attempt with it, unless
        an earlier call has given it one already; the new tasks depend on each other as the old ones did. All is read
        from the journal; large arguments are kept in the session's folder for this until the task is done.

        Args:
            tasks: which; ``[task for task in manager.tasks.values() if task.state is TaskState.FAILED]``, say.

        Returns:
            The new tasks, in the order of the given ones.

        Raises:
            DescriptionError: one has not failed, is not over, or is another manager's; no task is submitted then.
            NoPilotError: no pilot, present or requested, can ever run one of them; no task is submitted then.
            SessionError: the manager is closed, or arguments cannot be read from the session folder.
        """
        return self._resubmission.resubmit(tasks)


class _Owner:
    """Submits what a decorated function is called with. It travels with the function, and is a `CurrentOwner` then."""

    def __init__(self, submit_task: Callable[..., Any]) -> None:
        self.submit_task = submit_task

    def __reduce__(self) -> Any:
        return CurrentOwner, ()
