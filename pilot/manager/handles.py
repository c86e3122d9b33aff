"""What a user holds of a task: `Task`, a future. `pilots.py` has the handles of pilots."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from functools import partial
from pathlib import Path
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from pilot import html
from pilot.errors import ERRORS, ErrorCode, NotPicklable, PilotError, SessionError, TaskTimeout, invalid
from pilot.manager.journal import Recorded
from pilot.manager.keeper import Keeper
from pilot.manager.sharing import files_of
from pilot.manager.waiting import wait_for
from pilot.publishing import publish
from pilot.resources import QPUEstimate
from pilot.results import CANCELLED, OK, TIMED_OUT, Outcome, Spooled, TaskInfo
from pilot.scheduling import events
from pilot.scheduling.records import TaskRecord
from pilot.states import TaskState
from pilot.wire import payload

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)  # `Task` alone is `Task[Any]`
else:
    from typing import TypeVar

    R = TypeVar("R")

log = logging.getLogger(__name__)
_making = Lock()


def _forked() -> None:
    """In a forked child: a thread that is not here may have held it."""
    global _making
    _making = Lock()


os.register_at_fork(after_in_child=_forked)


class Failed(NamedTuple):
    """Why a task has no outcome: an error, and why."""

    code: ErrorCode
    reason: str
    #: The task that it depends on and that failed; and the one whose end is the first cause, so many links away.
    cause: int | None = None
    first: int | None = None
    links: int = 1


class Task(Future[R], Generic[R]):
    """One submitted task: a `concurrent.futures.Future` that knows where it is.

    ``result()`` unpickles anew at each call, in the calling thread. Callbacks run in a thread of the manager's that
    does nothing else.

    A plain Future makes its condition, its waiters and its callbacks when it is made, 1 kB in all; this one when
    a thread waits. Under `_making` either a condition is made or a task without one is finished, never both at once.
    """

    _result = None
    _exception = None
    _made_condition: Condition | None = None
    _made_waiters: list[Any] | None = None
    _made_callbacks: list[Any] | None = None

    #: What the user has called it by, so that it is submitted once.
    key: str | None = None
    #: The tasks whose results it combines; they are cancelled with it. Not known after an attach.
    parts: tuple[Task, ...] = ()
    #: What estimates it before it is placed. Not known after an attach.
    estimate: Task | None = None

    def __init__(self, keeper: Keeper, entry: TaskRecord) -> None:  # not Future.__init__: see above
        self._keeper = keeper
        self._entry = entry
        self._state = PENDING
        self._outcome: Outcome | None = None
        self._error: Failed | None = None

    def _get_condition(self) -> Condition:
        if self._state in (PENDING, RUNNING):
            self._keeper.check_process()  # for `concurrent.futures.wait` and the like, which would wait for ever
        if self._made_condition is None:
            with _making:
                self._made_condition = self._made_condition or Condition()
        return self._made_condition

    def _get_waiters(self) -> list[Any]:  # who asks holds the condition
        if self._made_waiters is None:
            self._made_waiters = []
        return self._made_waiters

    def _get_callbacks(self) -> list[Any]:
        if self._made_callbacks is None:
            self._made_callbacks = []
        return self._made_callbacks

    # typed as the attributes that they are of a Future, else type checkers let `as_completed` take no tasks
    _condition: Condition = property(_get_condition)  # type: ignore[assignment]
    _waiters: list[Any] = property(_get_waiters)  # type: ignore[assignment]
    _done_callbacks: list[Any] = property(_get_callbacks)  # type: ignore[assignment]

    # ---- what the user asks -----------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """Its number in the session, from 1 on."""
        return self._entry.id

    @property
    def name(self) -> str:
        """What the description called it, or the function's name."""
        return self._entry.title

    @property
    def state(self) -> TaskState:
        """Where it is now."""
        return self._entry.state

    @property
    def info(self) -> TaskInfo:
        """Its record, as far as it is known now."""
        return self._keeper.info(self)

    @property
    def estimates(self) -> tuple[QPUEstimate, ...]:
        """What is expected on each QPU, where that was asked for (``min_fidelity``); of a task with parts, each has."""
        return (self.parts[0] if self.parts else self)._entry.estimates

    def done(self) -> bool:
        """True when it is over, however it ended. Takes no lock."""
        return self._state not in (PENDING, RUNNING)

    def cancelled(self) -> bool:
        """True when it was cancelled, and that is confirmed. Takes no lock."""
        return self._state == CANCELLED_AND_NOTIFIED

    def running(self) -> bool:
        """True while a worker is known to run it; short tasks are not reported."""
        return self._entry.state is TaskState.RUNNING

    def cancel(self) -> bool:
        """Cancel it, wherever it is; a running one is stopped with its worker.

        Blocks until that is confirmed (not in a callback: there it returns True at once).

        Returns:
            True when it is cancelled; False when it had ended before.
        """
        if not self.done():
            self._keeper.post(events.CancelAsked([*(part.id for part in self.parts), self.id]))
            if self._keeper.is_own_thread():
                return True
            wait_done(self, None)
        return self.cancelled()

    def result(self, timeout: float | None = None) -> R:
        """Its result; blocks until there is one.

        Args:
            timeout: seconds to wait at most; None: for ever.

        Raises:
            TimeoutError: it is not finished within that time.
            CancelledError: it was cancelled.
            Exception: what the task raised, with the remote traceback as its cause.
            TaskError: it ended without a result and without an exception of its own; or it raised StopIteration, which
                would end a loop or a coroutine of the caller without a word.
            NotPicklable: its result cannot be unpickled here.
            SessionError: its result is large, and the session folder is gone; or this process is a fork of the one that
                has the manager, and the task was not finished then.
        """
        wait_done(self, timeout)
        if self._state == FINISHED and self._outcome is not None and self._outcome.status == OK:
            result: R = self._load(self._outcome)
            return result
        error = self.exception()
        assert error is not None
        try:
            raise error
        finally:
            del error  # no cycle through the traceback

    def _load(self, outcome: Outcome) -> Any:
        value = self._keeper.value(outcome)
        try:
            return payload.load(value, spool=self._keeper.spool)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # what a class does when it is unpickled, sys.exit() included
            what = f"the result of task {self.id} ({self.name})"
            if isinstance(error, FileNotFoundError) and Path(str(error.filename)).name in files_of(value):
                raise SessionError(f"{what} is gone with its file {error.filename}", path=error.filename) from error
            message = f"{what} cannot be unpickled here: {type(error).__name__}: {error}"
            raise NotPicklable(message, task=self.id) from error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result()`` would raise, None when it has a result. Blocks as ``result()`` does.

        A result that cannot be had here (`NotPicklable`, `SessionError`) counts, so this unpickles it, although the
        task's state is "done". ``await`` ends with every end of the task.

        Raises:
            TimeoutError: it is not finished within that time.
            CancelledError: it was cancelled.
        """
        wait_done(self, timeout)
        if self._state == CANCELLED_AND_NOTIFIED:
            raise self._cancelled_error()
        if self._error is not None:
            return self._own_error(self._error)
        assert self._outcome is not None
        try:
            if self._outcome.status != OK:
                return self._remote_error(self._outcome)
            self._load(self._outcome)
        except PilotError as error:
            return error
        return None

    def committed(self) -> Future[None]:
        """A future that is done when the *submission* of the task is on disk: from then on the task survives an end of
        this process (`PilotManager.attach`). Does not block.

        It says nothing of the task's result; `PilotManager.flush` waits for results, too. The future's result is None,
        and it cannot be cancelled; its callbacks run in the same thread as a task's. While the disk is full it waits.
        When the manager is closed first, and what it had could not be written, its exception is a `SessionError`.

        Raises:
            SessionError: the manager is closed.
        """
        committed: Future[None] = Future()
        committed.set_running_or_notify_cancel()
        keeper = self._keeper
        # the journal's thread must not wait for what the user calls
        keeper.committed().add_done_callback(lambda done: keeper.callbacks.add(partial(_follow, committed, done)))
        return committed

    def __await__(self) -> Generator[Any, None, R]:
        """``await task`` with asyncio: its result, or its error. Cancelling the wait cancels the task."""
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def __reduce__(self) -> Any:
        return payload.refer(self.id, self.key, self)

    def _repr_html_(self) -> str:
        info = self.info
        row = self.id, self.name, self.state.value, info.pilot or "", info.qpu or "", info.seconds or ""
        return html.table(("task", "name", "state", "pilot", "QPU", "seconds"), [row])

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name!r} {self.state.value}>"

    # ---- how it ended -----------------------------------------------------------------------------------------

    def _own_error(self, failed: Failed) -> BaseException:
        for one in (*self.parts, *([self.estimate] if self.estimate is not None else [])):
            if one.id == failed.cause and one.done() and not one.cancelled():
                its = one.exception()
                if its is not None:
                    return its
        if failed.cause is None:
            return ERRORS[failed.code](f"task {self.id} ({self.name}): {failed.reason}", task=self.id)
        first = failed.cause if failed.first is None else failed.first
        other = self._keeper.tasks.get(first)
        text = failed.reason
        if failed.links > 1 and other is not None:
            how = "was cancelled" if other.cancelled() else "failed"
            text += f"; the first cause, {failed.links} links back, is task {first} ({other.name}), which {how}"
        error = ERRORS[failed.code](
            f"task {self.id} ({self.name}): {text}", task=self.id, dependency=failed.cause, first=first
        )
        if other is not None and other.done():  # not the links between: there may be 100,000 of them
            error.__cause__ = other._cancelled_error() if other.cancelled() else other.exception()
        return error

    def _cancelled_error(self) -> CancelledError:
        return CancelledError(f"task {self.id} ({self.name}) was cancelled")

    def _remote_error(self, outcome: Outcome) -> BaseException:
        info = self.info
        where = f"task {self.id} ({self.name}) on pilot {info.pilot}, worker {info.worker}"
        if outcome.status == TIMED_OUT:
            limit = self._entry.terms.timeout
            return TaskTimeout(f"{where} ran longer than its timeout of {limit:g} s", task=self.id, seconds=limit)
        value = self._keeper.value(outcome)
        assert isinstance(value, bytes)
        notes = [f"stderr: {info.stderr[-2000:].rstrip()}"] if info.stderr else []
        return payload.load_exception(value, where, where, *notes, task=self.id)


publish(Task)


# ---- what the manager does with a task ------------------------------------------------------------------------


def settle(task: Task, outcome: Outcome | None, error: Failed | None) -> bool:
    """A task has ended: its waiters go on. True when there are callbacks to call."""
    task._outcome, task._error = outcome, error
    ended = CANCELLED_AND_NOTIFIED if outcome is not None and outcome.status == CANCELLED else FINISHED
    with _making:
        if task._made_condition is None:
            task._state = ended
            return False
    with task._made_condition:
        task._state = ended
        for waiter in task._made_waiters or ():
            if ended is CANCELLED_AND_NOTIFIED:
                waiter.add_cancelled(task)
            elif error is None and outcome is not None and outcome.status == OK:
                waiter.add_result(task)
            else:
                waiter.add_exception(task)
        task._made_condition.notify_all()
    return bool(task._made_callbacks)


def call_back(task: Task) -> None:
    """Call the callbacks of a task. Whatever one raises, ``SystemExit`` included, the others are called."""
    for callback in task._done_callbacks:
        try:
            callback(task)
        except BaseException:
            log.exception("a callback of task %d (%s) failed", task.id, task.name)


def wait_done(task: Task, timeout: float | None) -> None:
    """Wait until a task has ended.

    Raises:
        TimeoutError: it has not within ``timeout`` seconds.
        SessionError: this process was forked from the manager's, and the task had not ended then.
    """
    if not task.done():
        with task._condition:
            if not wait_for(task._condition, task.done, timeout, task._keeper.interrupted):
                raise TimeoutError(
                    f"task {task.id} ({task.name}) is {task.state.value} after {round(timeout or 0, 3)} s"
                )


def interrupted(task: Task) -> None:
    """Ctrl-C came while somebody waited for this task among others."""
    task._keeper.interrupted()


def _follow(future: Future[None], done: Future[None]) -> None:
    """The future ends as the other one did."""
    if error := done.exception():
        future.set_exception(error)
    else:
        future.set_result(None)


def entry_of(task: Task) -> TaskRecord:
    """What the controller knows of a task."""
    return task._entry


def outcome_of(task: Task) -> Outcome | None:
    """The outcome of a task; None: it has none."""
    return task._outcome


def never_ran(task: Task) -> bool:
    """True for a task that is over through no fault of its own: it was cancelled, no pilot came for it, or what it
    depends on has failed."""
    error = task._error
    return task.cancelled() or (error is not None and error.code in (ErrorCode.NO_PILOT, ErrorCode.DEPENDENCY_FAILED))


def has_result(task: Task) -> bool:
    """True for a task that has ended well."""
    return task._state == FINISHED and task._outcome is not None and task._outcome.status == OK


def first_cause(task: Task) -> tuple[int, int]:
    """For what depends on a failed task: the task whose end is the first cause of its own, and how many links away."""
    error = task._error
    return (task.id, 1) if error is None or error.first is None else (error.first, error.links + 1)


def is_kept_by(task: Task, keeper: Keeper) -> bool:
    """True for a task of this session that was not forgotten."""
    return keeper.tasks.get(task.id) is task


def is_kept_in_memory(task: Task) -> bool:
    """True when the handle has the result of a finished task."""
    outcome = task._outcome
    return outcome is None or (not isinstance(outcome, Recorded) and not isinstance(outcome.value, Spooled))


def leave(task: Task) -> bool:
    """The end of a task is in the journal now: a large result leaves the memory. False: its handle knows more."""
    if (outcome := task._outcome) is not None and outcome.is_large:
        task._outcome = Recorded(outcome.task, outcome.status, outcome.started, outcome.seconds)
    return not task.parts


def forget(task: Task) -> None:
    """A finished task is forgotten: of its result the handle has what is in memory."""
    if not is_kept_in_memory(task):
        task._outcome, task._error = None, Failed(ErrorCode.SESSION_ERROR, "it was forgotten, and its result with it")


class Together:
    """Results that tasks have together: where tasks are wanted, it stands for these."""

    tasks: tuple[Task[Any], ...]


def tasks_of(method: str, given: Iterable[Task[R]] | Together) -> list[Task[R]]:
    """The list of tasks that a method was given.

    Raises:
        DescriptionError: it is something else, such as one task alone.
    """
    if isinstance(given, Together):  # to iterate over it would wait for the results
        return list(given.tasks)
    tasks: list[Any] = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(task, Task) for task in tasks):
        raise invalid(method, given, "a list of tasks or another iterable; for one task [task]")
    return tasks
