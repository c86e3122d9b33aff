"""`PilotManager`: what a user calls. Read next: ``loop.py`` (its thread) and ``scheduling`` (who decides)."""

from __future__ import annotations

import atexit
import logging
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, overload

from pilot.descriptions import PilotDescription, TaskDescription
from pilot.errors import DescriptionError, invalid
from pilot.interfaces import Policy
from pilot.manager import maps, private
from pilot.manager.handles import Task, tasks_of
from pilot.manager.keys import keyed, with_key
from pilot.manager.maps import ChunkSize, MapResult
from pilot.manager.objects import ObjectRef
from pilot.manager.opening import Parts, open_parts
from pilot.manager.pilots import Pilot, Scaler, close_clients
from pilot.manager.reading import SessionReader
from pilot.manager.session import Session
from pilot.publishing import publish
from pilot.resources import PLAIN
from pilot.states import PilotState
from pilot.wire.session import SessionFolder

if TYPE_CHECKING:
    from pilot.fields import Time
    from pilot.manager.progress import Progress

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
Many: TypeAlias = Iterable[Any]
_Stands: TypeAlias = "Task[Any] | ObjectRef[Any]"
#: An argument that tasks or objects stand in.
Needed: TypeAlias = "_Stands | Sequence[_Stands] | Mapping[str, _Stands]"

#: Seconds that agents have to end by themselves when the manager is closed.
CLOSE_SECONDS = 10.0
#: Seconds that queued tasks wait for another pilot when none can run them any more.
WAIT_FOR_PILOT = 60.0


class PilotManager(Session):
    """Gets pilots, and sends each task to the pilot that is expected to finish it first.

    As a context manager it waits, at the end of the block, until all tasks are finished, then ends its pilots. When
    the block is left by an exception (Ctrl-C included) it ends them at once.

    All methods may be called from any thread. In a forked child they raise `SessionError`, but for what is known
    already: tasks that were finished have their results there.
    """

    def __init__(
        self,
        session_dir: str | os.PathLike[str] | None = None,
        *,
        policy: str | Policy = "balanced",
        progress: bool = False,
        address: str | None = None,
        ports: tuple[int, int] | None = None,
        wait_for_pilot: float | None = WAIT_FOR_PILOT,
    ) -> None:
        """Open a new session.

        Args:
            session_dir: folder for the journal, logs and large values; the hosts where pilots run must see it under
                the same path. None: a private folder, removed by `close` unless a pilot failed, below
                ``$QUANTUM_PILOT_SESSIONS`` if that is set; else below ``~/.quantum-pilot/sessions`` inside a resource
                manager's job, or where its command for submitting jobs is on PATH; else below the temporary directory,
                which other hosts do not see.
            policy: which task is next, and which of the pilots with room gets it: a name of the group
                ``pilot.policies``, "package.module:Class", or a `pilot.interfaces.Policy` object.
            progress: show tasks, rates and pilots on the terminal.
            address: the address of this host (or a name of it) at which agents on other hosts reach it. None: all that
                it has, from the first pilot on whose jobs run on other hosts; until then loopback only.
            ports: first and last port to listen on. None: any.
            wait_for_pilot: seconds that a queued task waits for another pilot when none can run it any more (they are
                over, drain, or have too little walltime left), before it fails with `NoPilotError`. 0: it fails at
                once; None: it waits until there is one. A task that no pilot can ever run is
                refused there.

        Raises:
            DescriptionError: ``wait_for_pilot`` is not such a number.
            SessionError: the folder cannot be used, or holds a session already (`attach` opens it again); the address
                is not this host's, or all ports are taken.
            PluginError: there is no such policy.
        """
        wait = _check_wait(wait_for_pilot)
        folder = SessionFolder.create(session_dir)
        own = session_dir is None
        if own:
            private.name_idle()
        parts = open_parts(folder, temporary=own, policy=policy, address=address, ports=ports, wait_for_pilot=wait)
        self._start(parts, progress, temporary=own)

    @classmethod
    def attach(
        cls,
        session_dir: str | os.PathLike[str],
        *,
        policy: str | Policy = "balanced",
        progress: bool = False,
        address: str | None = None,
        ports: tuple[int, int] | None = None,
        wait_for_pilot: float | None = WAIT_FOR_PILOT,
    ) -> PilotManager:
        """Open the session of a manager that is gone.

        Pilots that still run join again with the work that they have; finished results are there; what was lost is
        run again. `tasks` has them all. Does not wait for the pilots.

        Listens where the manager before did, as far as these addresses and ports are this host's and free; ``address``,
        ``ports`` and ``wait_for_pilot`` as for a new session.

        A folder that was moved is opened where it is: its pilots are requested again, and what their agents had not
        handed over is run again.

        Raises:
            SessionError: there is no session in this folder, another manager uses it, or as for a new session. Or its
                journal is damaged or has lost what was written last; it is a copy of a session that is still there; it
                is another user's, or others can write to it; or its agents are of another version, and still run.
                Nothing is changed then.
        """
        wait = _check_wait(wait_for_pilot)
        folder = SessionFolder.open(session_dir)
        parts = open_parts(folder, attach=True, policy=policy, address=address, ports=ports, wait_for_pilot=wait)
        manager = cls.__new__(cls)
        manager._start(parts, progress, temporary=False)
        return manager

    @staticmethod
    def read(session_dir: str | os.PathLike[str]) -> SessionReader:
        """Look into a session without a part in it: its pilots and tasks, their states and results, as the journal has
        them now. Nothing is written, and the session's manager, if there is one, goes on.

        What is not over stays as it is read: read again to see more. `submit_task` and all else that would change
        something raise `SessionError`. On the manager's host, or when the manager is gone.

        Raises:
            SessionError: there is no session in this folder; it is damaged, or other users can write to it.
        """
        return SessionReader(session_dir)

    def _start(self, parts: Parts, progress: bool, temporary: bool) -> None:
        self._state, self._loop, self._requests, self._submitter, self._resubmission, self._forgetter, self._objects = (
            parts
        )
        self._temporary = temporary
        finished = len(self._state.tasks) - len(self._state.tasks.not_recorded())
        self._progress = _progress(self, finished) if progress else None
        self._loop.start()
        atexit.register(self.close)
        if temporary:
            private.add(self._state, self._loop.begin_to_close)

    # ---- pilots -----------------------------------------------------------------------------------------------

    def submit_pilot(self, description: PilotDescription | Mapping[str, Any]) -> Pilot:
        """Ask for a pilot. Does not wait for it: `Pilot.wait` does.

        Args:
            description: of the pilot; or a dict with the same keys.

        Raises:
            DescriptionError: a key or value is not valid, or another pilot has this name.
            PluginError: no launcher for its ``resource``, or an engine that is not installed.
            SessionError: the manager is closed.
        """
        return self._requests.submit(description)

    def autoscale(
        self,
        description: PilotDescription | Mapping[str, Any],
        minimum: int = 0,
        maximum: int = 4,
        *,
        idle: Time = 60.0,
        backlog: Time = 30.0,
        delay: Time = 5.0,
    ) -> Scaler:
        """Ask for pilots while much is queued, and give them back when they are idle. Does not block.

        Only tasks that such a pilot could run count. One that is on its way counts as if it were there; none is given
        back while tasks for it are queued. After one was given back, the next is requested no sooner than ``idle``
        seconds later, unless more than twice the backlog is queued. When three pilots in a row do not start, no more
        are requested (see `Scaler.over`).

        The journal keeps the pilots but not the autoscaler: after `attach`, call it again.

        Args:
            description: what each of its pilots is; a name gets a number: ``name.2``, ``name.3``, …
            minimum: the least number of pilots; they are requested at once.
            maximum: pilots at most.
            idle: seconds after which an idle pilot is drained. Here and for the next two a timedelta or a text such as
                "0:10:00" will do, too.
            backlog: seconds of measured work for each core of the pilots that fit: what is queued beyond that is a
                reason to ask for another pilot. A task of a function that was not measured yet counts as one for each
                of its cores.
            delay: seconds that there must be too much queued first.

        Raises:
            DescriptionError: a value is not valid, or the description has ``renewals``.
            PluginError: no launcher for its ``resource``, or an engine that is not installed.
            SessionError: the manager is closed.
        """
        return self._requests.autoscale(
            description, minimum=minimum, maximum=maximum, idle=idle, backlog=backlog, delay=delay
        )

    # ---- tasks ------------------------------------------------------------------------------------------------

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
            work: a callable, or a description (or a dict with its keys).
            args: arguments of the callable; a `Task` among them, at any depth, is a dependency and stands for its
                result, an `ObjectRef` for its value. Large arrays travel without a copy, and are read-only in the task.
            key: a text that names the task, so that it is submitted once: the same key gives the same task, also after
                `attach`, until it is forgotten. An argument of the callable's own that is called ``key`` can be given
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
            wanted = TaskDescription.build(work)
            return self._submitter.submit_described(wanted if key is None else with_key(wanted, key))
        if key is not None:
            return self._submitter.submit_described(keyed(work, args, kwargs, key))
        return self._submitter.submit(work, args, kwargs, PLAIN)

    def submit_tasks(
        self, descriptions: Iterable[TaskDescription | Mapping[str, Any] | Callable[[], Any]]
    ) -> list[Task[Any]]:
        """Send many tasks on their way: descriptions, dicts, or callables without arguments.

        Raises:
            Exception: as `submit_task`, for the first one that is refused; those before it are cancelled.
        """
        tasks: list[Task] = []
        try:
            for one in descriptions:
                tasks.append(self.submit_task(one))
        except BaseException:
            self._submitter.cancel(tasks)
            raise
        return tasks

    @overload
    def map(self, function: Callable[[A], R], first: Iterable[A | Task[A]], /) -> list[Task[R]]: ...
    @overload
    def map(
        self, function: Callable[[A, B], R], first: Iterable[A | Task[A]], second: Iterable[B | Task[B]], /
    ) -> list[Task[R]]: ...
    @overload
    def map(
        self, function: Callable[..., R], first: Many, second: Many, third: Many, /, *others: Many
    ) -> list[Task[R]]: ...
    @overload
    def map(self, function: Callable[..., R], first: Many, /, *others: Many, chunksize: ChunkSize) -> MapResult[R]: ...
    def map(
        self, function: Callable[..., Any], /, *iterables: Iterable[Any], chunksize: ChunkSize | None = None
    ) -> list[Task[Any]] | MapResult[Any]:
        """One task for each tuple of arguments, as the built-in ``map`` makes them.

        The function is taken once, as it is now.

        Args:
            function: what is called.
            iterables: for each argument its values; the shortest one counts.
            chunksize: this number of inputs in each task, which costs much less for short calls; "auto": as many as
                take about 50 ms, by the first ones, for which it waits a second at most. What an input raises is its
                own error; the rest (scheduling, cancelling, losses) is the chunk's, see `MapResult`.

        Returns:
            The tasks in order; with a ``chunksize`` a `MapResult`, whose items are the inputs' results.
        """
        self._state.check_open()
        if chunksize is not None:
            return maps.submit(self.submit_task, self._submitter.cores, function, iterables, chunksize)
        work = self._submitter.function(function)
        return [self._submitter.submit(work, args, {}, PLAIN) for args in zip(*iterables, strict=False)]

    def cancel(self, tasks: Iterable[Task], *, running: bool = True) -> None:
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

    # ---- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every pilot with all its processes, cancel what is not finished then, close the journal. Blocks.

        Results that workers have at that moment are taken in. How many tasks were cancelled is logged. A pilot that is
        still being started, or that waits in a queue, is not waited for. Nothing happens the second time.
        """
        state = self._state
        if state.is_foreign:  # the pilots are not this process's own
            return
        with state.lock:
            if state.is_closed:
                return
            state.is_closed = True
        atexit.unregister(self.close)
        private.discard(state)
        failed = any(pilot.state is PilotState.FAILED for pilot in self.pilots)
        for pilot in self.pilots:
            close_clients(pilot)
        try:
            self._loop.close(CLOSE_SECONDS)
            if self._progress is not None:
                self._progress.stop()
        finally:
            state.folder.lock.release()
            if cancelled := sum(task.cancelled() for task in state.unfinished):
                log.warning("%d of %d task(s) were cancelled when the manager was closed", cancelled, len(state.tasks))
            if self._temporary and not failed:
                state.folder.remove()
            elif failed:
                log.warning("a pilot failed: its logs are kept in %s", state.folder.path)

    def __reduce__(self) -> Any:
        raise TypeError("a PilotManager cannot be pickled: a task cannot take its manager along")

    def __enter__(self) -> PilotManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait_tasks(self._state.tasks.not_recorded())
        finally:
            self.close()


publish(PilotManager)


def _check_wait(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or not 0 <= seconds < math.inf:
        raise invalid("wait_for_pilot", seconds, "a number of seconds from 0 on, or None to wait for ever")
    return float(seconds)


def _progress(session: Session, finished: int) -> Progress:
    from pilot.manager.progress import Progress  # brings rich: a fifth of the library's

    return Progress(session, finished)
