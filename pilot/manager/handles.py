"""What the caller holds: `Pilot` and `Task`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import (
    DescriptionError,
    NotPicklable,
    PilotError,
    PilotFailed,
    SessionError,
    TaskTimeout,
)
from pilot.manager.clients import Clients
from pilot.resources import QPUInfo
from pilot.results import CANCELLED, OK, TIMED_OUT, Outcome, Spooled, TaskInfo
from pilot.states import PilotState, TaskState, is_final
from pilot.wire import payload

if TYPE_CHECKING:
    from pathlib import Path

    from pilot.manager.manager import PilotManager
    from pilot.scheduling.policies import Scaling
    from pilot.scheduling.records import TaskRecord

log = logging.getLogger(__name__)

#: Seconds that whoever waits for a task or a pilot sleeps at a time.
STEP_SECONDS = 0.5

_making = Lock()


def _forked() -> None:
    """In a forked child: a thread that is not here may have held it."""
    global _making
    _making = Lock()


os.register_at_fork(after_in_child=_forked)


def _wait_for(condition: Condition, is_true: Callable[[], bool], timeout: float | None) -> bool:
    """`Condition.wait_for`, in steps: Python calls handlers of signals in the main thread between two of its calls, so
    one that sleeps without an end does not learn of a Ctrl-C that came just as it began to, or in another thread."""
    end = None if timeout is None else time.monotonic() + timeout
    while not condition.wait_for(is_true, STEP_SECONDS if end is None else min(STEP_SECONDS, end - time.monotonic())):
        if end is not None and time.monotonic() >= end:
            return False
    return True


class Failed(NamedTuple):
    """Why a task has no outcome."""

    kind: type[PilotError]
    reason: str
    #: The task that it depends on and that failed; and the one whose end is the first cause, so many links away.
    cause: int | None = None
    first: int | None = None
    links: int = 1


class Task(Future[Any]):
    """One submitted task: a `concurrent.futures.Future` that knows where it is.

    ``result()`` unpickles anew at each call, in the calling thread. Callbacks run in a thread of the manager's that
    does nothing else.

    A plain Future makes its condition, its waiters and its callbacks when it is made, 1 kB in all; this one when
    somebody waits. Under `_making` either a condition is made or a task without one is finished, never both at once.
    """

    _result = None
    _exception = None
    _made_condition: Condition | None = None
    _made_waiters: list[Any] | None = None
    _made_callbacks: list[Any] | None = None

    #: The tasks that it puts together; they serve nothing else, and are cancelled with it. Not known after an attach.
    parts: tuple[Task, ...] = ()

    def __init__(self, manager: PilotManager, entry: TaskRecord) -> None:  # not Future.__init__: see above
        self._manager = manager
        self._entry = entry
        self._state = PENDING
        self._outcome: Outcome | None = None
        self._error: Failed | None = None

    @property
    def _condition(self) -> Condition:  # type: ignore[override]
        if self._state in (PENDING, RUNNING):
            self._manager._check_process()  # for `concurrent.futures.wait` and the like, which would wait for ever
        if self._made_condition is None:
            with _making:
                self._made_condition = self._made_condition or Condition()
        return self._made_condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override] # who asks holds the condition
        if self._made_waiters is None:
            self._made_waiters = []
        return self._made_waiters

    @property
    def _done_callbacks(self) -> list[Any]:
        if self._made_callbacks is None:
            self._made_callbacks = []
        return self._made_callbacks

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
        return self._manager._info(self)

    def done(self) -> bool:
        """True when it is over, however it ended. Takes no lock."""
        return self._state not in (PENDING, RUNNING)

    def cancelled(self) -> bool:
        """True when it was cancelled, and that is confirmed. Takes no lock."""
        return self._state == CANCELLED_AND_NOTIFIED

    def running(self) -> bool:
        """True while a worker is known to run it (said of tasks that take longer than a moment)."""
        return self._entry.state is TaskState.RUNNING

    def cancel(self) -> bool:
        """Cancel it, wherever it is; a running one is stopped with its worker.

        Blocks until that is confirmed (not in a callback: there it returns True at once).

        Returns:
            True when it is cancelled; False when it had ended before.
        """
        return self._manager._cancel(self)

    def result(self, timeout: float | None = None) -> Any:
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
        self._await(timeout)
        if self._state == FINISHED and self._outcome is not None and self._outcome.status == OK:
            return self._load(self._outcome)
        error = self.exception()
        assert error is not None
        try:
            raise error
        finally:
            del error  # no cycle through the traceback

    def _load(self, outcome: Outcome) -> Any:
        value = self._manager._value(outcome)
        try:
            return payload.load(value, spool=self._manager._spool)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # what a class does when it is unpickled, sys.exit() included
            what = f"the result of task {self.id} ({self.name})"
            path = str(self._manager._spool.path(value)) if isinstance(value, Spooled) else None
            if isinstance(error, FileNotFoundError) and path is not None and error.filename == path:
                raise SessionError(f"{what} is gone with its file {path}", path=path) from error
            message = f"{what} cannot be unpickled here: {type(error).__name__}: {error}"
            raise NotPicklable(message, task=self.id) from error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result()`` would raise, None when it has a result. Blocks as ``result()`` does.

        A result that cannot be had here (`NotPicklable`, `SessionError`) counts, so this unpickles it, although the
        task's state is "done". Who waits by ``await`` is told of every end.

        Raises:
            TimeoutError: it is not finished within that time.
            CancelledError: it was cancelled.
        """
        self._await(timeout)
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

    def __reduce__(self) -> Any:
        return payload.refer(self.id, self)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name!r} {self.state.value}>"

    # ---- what the manager does --------------------------------------------------------------------------------

    def _settle(self, outcome: Outcome | None, error: Failed | None) -> bool:
        """It is over. True when there are callbacks to call."""
        self._outcome, self._error = outcome, error
        over = CANCELLED_AND_NOTIFIED if outcome is not None and outcome.status == CANCELLED else FINISHED
        with _making:
            if self._made_condition is None:
                self._state = over
                return False
        with self._made_condition:
            self._state = over
            for waiter in self._made_waiters or ():
                if over is CANCELLED_AND_NOTIFIED:
                    waiter.add_cancelled(self)
                elif error is None and outcome is not None and outcome.status == OK:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            self._made_condition.notify_all()
        return bool(self._made_callbacks)

    def _call_back(self) -> None:
        """Call the callbacks. Whatever one raises, ``SystemExit`` included, concerns none of the others."""
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:
                log.exception("a callback of task %d (%s) failed", self.id, self.name)

    def _await(self, timeout: float | None) -> None:
        if self._state in (PENDING, RUNNING):
            with self._condition:
                if not _wait_for(self._condition, lambda: self._state not in (PENDING, RUNNING), timeout):
                    raise TimeoutError(f"task {self.id} ({self.name}) is {self.state.value} after {timeout} s")

    def _first(self) -> tuple[int, int]:
        """For what depends on it: the task whose end is the first cause of its own, and how many links away."""
        error = self._error
        return (self.id, 1) if error is None or error.first is None else (error.first, error.links + 1)

    def _own_error(self, failed: Failed) -> BaseException:
        for part in self.parts:
            if part.id == failed.cause and part.done() and not part.cancelled():
                its = part.exception()
                if its is not None:
                    return its
        if failed.cause is None:
            return failed.kind(f"task {self.id} ({self.name}): {failed.reason}", task=self.id)
        first = failed.cause if failed.first is None else failed.first
        other = self._manager.tasks.get(first)
        text = failed.reason
        if failed.links > 1 and other is not None:
            how = "was cancelled" if other.cancelled() else "failed"
            text += f"; the first cause, {failed.links} links back, is task {first} ({other.name}), which {how}"
        error = failed.kind(f"task {self.id} ({self.name}): {text}", task=self.id, dependency=failed.cause, first=first)
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
        value = self._manager._value(outcome)
        assert isinstance(value, bytes)
        notes = [f"stderr: {outcome.stderr[-2000:].rstrip()}"] if outcome.stderr else []
        return payload.load_exception(value, where, where, *notes, task=self.id)


def tasks_of(method: str, given: Any) -> list[Task]:
    """The list of tasks that a method was given.

    Raises:
        DescriptionError: it is something else, such as one task alone.
    """
    tasks: list[Any] = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(task, Task) for task in tasks):
        raise DescriptionError(
            f"{method}: {given!r} was given; allowed: tasks, as a list or another iterable: [task] for one", given=given
        )
    return tasks


class Pilot:
    """One pilot that was asked for."""

    def __init__(self, manager: PilotManager, id: str, description: PilotDescription, log_path: Path) -> None:
        self._manager = manager
        self._changed = Condition()
        self._state = PilotState.NEW
        self.id = id
        #: As it was asked for.
        self.description = description
        #: The agent's log.
        self.log_path = log_path
        #: Why it is in its state.
        self.reason = ""
        #: Names of the nodes where its workers run, as they come and go.
        self.nodes: tuple[str, ...] = ()
        #: What its devices say of themselves, as far as they have reported.
        self.qpus: tuple[QPUInfo, ...] = ()
        self._client: dict[str, str] = {}
        self._clients = Clients()
        self._job = ""
        #: Wall clock of each state it was in first, seconds since the epoch.
        self.times: dict[PilotState, float] = {}

    @property
    def name(self) -> str:
        """What the description called it, or its id."""
        return self.description.name or self.id

    @property
    def state(self) -> PilotState:
        """Where it is now."""
        return self._state

    @property
    def job(self) -> str:
        """What the resource manager says of its job, such as "Slurm job 17: pending: Priority"; "" until it does.

        A job that will never start as it was asked for says so, and what to change; it stays in the queue until the
        pilot is cancelled. `PilotManager.explain` of a task and the progress display have the same words.
        """
        return self._job

    def wait(self, timeout: float | None = None) -> PilotState:
        """Block until it takes tasks and each of its devices has said what it is or why it cannot be used, or until it
        is over.

        Args:
            timeout: seconds to wait at most; None: for ever.

        Returns:
            The state then; after a timeout the one it is in.

        Raises:
            PilotFailed: it failed; the message says why and names the log.
        """
        self._manager._check_process()
        devices = set(registry.devices(self.description))
        with self._changed:
            _wait_for(self._changed, lambda: not self._is_starting(devices), timeout)
        if self._state is PilotState.FAILED:
            raise PilotFailed(
                f"pilot {self.name} failed: {self.reason}; see {self.log_path}",
                pilot=self.id,
                log_path=str(self.log_path),
            )
        return self._state

    def _is_starting(self, devices: set[str]) -> bool:
        if self._state in (PilotState.NEW, PilotState.QUEUED, PilotState.STARTING):
            return True
        return self._state is PilotState.ACTIVE and not devices <= {info.name for info in self.qpus}

    def _devices_said(self, qpus: tuple[QPUInfo, ...]) -> None:
        with self._changed:
            self.qpus = qpus
            self._changed.notify_all()

    def drain(self) -> None:
        """Let it finish what runs, then end it; what was not begun goes to other pilots. Does not block."""
        self._manager._stop_pilot(self, drain=True)

    def add_nodes(self, count: int) -> None:
        """Ask for a further job of so many nodes, which join this pilot as they come. Does not block.

        They end with the pilot; its walltime is the agent's job's.

        Raises:
            DescriptionError: its launcher has no further nodes (local:// is one machine).
        """
        self._manager._add_nodes(self, count)

    def remove_nodes(self, count: int) -> None:
        """Give back so many nodes, those that came last first, each when it has finished what it runs. Does not block.

        The agent's node always stays. A job ends, and costs nothing any more, when all of its nodes are given back.
        """
        self._manager._remove_nodes(self, count)

    def cancel(self) -> None:
        """End it now; its tasks go to other pilots. Blocks until its processes are gone."""
        self._clients.close()
        self._manager._stop_pilot(self, drain=False)

    def get_client(self) -> Any:
        """The engine's native client: a ``distributed.Client``, or the module ``ray``, connected. Blocks until active.

        A Dask client is Dask's default until it is closed: collections, ``dask.delayed`` and joblib's backend "dask"
        compute on the pilot. Of several the last one is; ``with client.as_current()`` takes another one. A process is
        connected to one Ray cluster at a time.

        This process is disconnected when the pilot ends, at the latest when its manager is closed.

        Raises:
            PilotFailed: the pilot failed.
            PilotError: it has ended; or this process is connected to another Ray cluster.
            NotImplementedError: the engine has no native client.
        """
        if is_final(state := self.wait()):
            raise PilotError(f"pilot {self.name} is {state.value}: it has no client any more; submit another pilot")
        return self._clients.open(registry.load("pilot.engines", self.description.engine), self._client)

    def __repr__(self) -> str:
        return f"<Pilot {self.name!r} {self.description.engine} {self.state.value}>"

    def _change(self, state: PilotState, reason: str) -> None:
        with self._changed:
            self._state, self.reason = state, reason
            self.times.setdefault(state, time.time())
            self._changed.notify_all()
        if state not in (PilotState.ACTIVE, PilotState.DRAINING):  # its cluster has ended
            self._clients.close_soon()

    def _wait_over(self, timeout: float) -> None:
        with self._changed:
            _wait_for(self._changed, lambda: is_final(self._state), timeout)


class Scaler:
    """An autoscaler: asks for pilots when much is queued, and gives them back when they are idle."""

    def __init__(self, manager: PilotManager, id: str, scaling: Scaling) -> None:
        self._manager = manager
        self.id = id
        #: As it was asked for.
        self.scaling = scaling
        #: Why it asks for no more pilots: it was stopped, or its pilots do not start. None while it works.
        self.over: str | None = None

    def stop(self, drain: bool = False) -> None:
        """Ask for no more pilots; those that are there go on, or are drained. Does not block."""
        self._manager._stop_scaler(self, drain)

    def __repr__(self) -> str:
        return f"<Scaler {self.id} {self.scaling.minimum} to {self.scaling.maximum} pilots>"

    def _pause(self, reason: str) -> None:
        self.over = self.over or reason
