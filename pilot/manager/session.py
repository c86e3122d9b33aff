"""`Session`: pilots and tasks of an open session. Read next: ``manager.py``, which adds them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from pilot.errors import invalid, text_of
from pilot.fields import whole
from pilot.interfaces import Observer, SessionEvent
from pilot.manager.forgetting import Forgetter
from pilot.manager.handles import Task, Together, entry_of, is_kept_by, tasks_of
from pilot.manager.loop import ManagerLoop
from pilot.manager.objects import ObjectRef, Objects
from pilot.manager.observers import KINDS, MOST_WAITING, Subscription, kinds_of
from pilot.manager.state import SessionState
from pilot.manager.view import SessionView
from pilot.manager.waiting import end_of
from pilot.states import TaskState

R = TypeVar("R")


class Session(SessionView):
    """Pilots and tasks of an open session: to be looked at, waited for, observed and forgotten.

    All methods may be called from any thread.
    """

    _state: SessionState
    _loop: ManagerLoop
    _forgetter: Forgetter
    _objects: Objects

    # ---- objects ----------------------------------------------------------------------------------------------

    @property
    def objects(self) -> Mapping[int, ObjectRef]:
        """What `PilotManager.put` has stored and nobody has released, by id; read only. After an attach these are the
        objects that the manager before had."""
        return MappingProxyType(self._objects)

    def put(self, value: R) -> ObjectRef[R]:
        """Store a value once, for any number of tasks: give the tasks the reference that this returns.

        The value is as it is now, however it changes later. Each task that gets the reference reads the same files,
        which stay in the memory of its host: large arrays are mapped, and read-only. Blocks while the files are
        written.

        Args:
            value: any picklable value without tasks and references in it; arrays and bytes cost least.

        Raises:
            NotPicklable: it cannot be pickled.
            SessionError: the manager is closed, or the session folder has no room.
        """
        return self._objects.put(value)

    def _waited(self) -> list[Task]:
        return self._state.tasks.not_recorded()

    def _counts(self) -> Counter[TaskState]:
        return self._state.tasks.counts(self._state.journal.not_done)

    def _unrecorded(self) -> list[Task]:
        return self._state.tasks.not_recorded()

    # ---- asking and writing ------------------------------------------------------------------------------------------

    def explain(self, task: Task | int) -> str:
        """Why a task went where it went, or why it waits.

        Raises:
            KeyError: no task of this manager has this id.
            DescriptionError: it is not a task, or it is another manager's.
            SessionError: this process was forked from the manager's.
        """
        self._state.check_process()
        task = self._state.tasks[task] if isinstance(task, int) else task
        if not isinstance(task, Task) or not is_kept_by(task, self._state):
            raise invalid("explain", task, "a task of this manager, or its id")
        return _explain(task, self._loop.explain(entry_of(task)))

    def flush(self, timeout: float | None = None) -> None:
        """Block until all that has happened until now is on disk: what was submitted, and the results of tasks that are
        done. An end of this process loses none of it (see `PilotManager.attach`).

        Args:
            timeout: seconds to wait at most; None: for ever, as when the disk is full.

        Raises:
            TimeoutError: it is not on disk within that time.
            SessionError: the manager is closed, or was before all was on disk.
        """
        end_of(timeout)
        try:
            self._state.committed().result(timeout)
        except TimeoutError:
            raise TimeoutError(f"after {timeout:g} s not all that has happened is on disk") from None

    def forget(self, tasks: Iterable[Task] | Together) -> None:
        """Remove finished tasks, and the parts that they put together, from the session, as if they had never been.

        `tasks` does not have them any more, nor has a manager that attaches later; their keys may be given to others,
        and files of their large values are removed. So a session may take any number of tasks with the same memory.
        A handle that the caller still has keeps its state, and a result up to 4 KiB of a task that ended since the
        manager was made or attached; asked for any other result, it raises a `SessionError`: read results before. Tasks
        that were forgotten before are left out. Blocks for a moment; not in a task's callback.

        Raises:
            DescriptionError: a task is not over, another one that is not over depends on it, or it is another
                manager's; none is forgotten then.
            SessionError: the manager is closed, or the journal cannot be read.
        """
        self._forgetter.forget(tasks)

    # ---- observing --------------------------------------------------------------------------------------------

    def subscribe(
        self,
        observer: Observer,
        *,
        kinds: Iterable[type[SessionEvent]] | None = None,
        tasks: Iterable[Task] | None = None,
        limit: int = MOST_WAITING,
    ) -> Subscription:
        """Call an observer for events of tasks, attempts, pilots and QPUs from now on. Does not block.

        `pilot.interfaces.Observer` describes thread, order and errors.

        Args:
            observer: a callable; it gets lists of events.
            kinds: classes of events, of `pilot.interfaces`: ``[TaskEnded, PilotChanged]``, say. None: all.
            tasks: of events about tasks only those about these; None: about all.
            limit: when so many events wait for the observer, what comes is left out, and counted in
                `Subscription.dropped`; an `EventsDropped` says so.

        Raises:
            DescriptionError: an argument is not valid.
            SessionError: the manager is closed.
        """
        self._state.check_open()
        if not callable(observer):
            raise invalid("observer", observer, "a callable")
        limit = whole("limit", limit, "a number of events from 1 on")
        wanted = KINDS if kinds is None else kinds_of(kinds)
        ids = None if tasks is None else frozenset(task.id for task in tasks_of("subscribe", tasks))
        subscription = Subscription(observer, wanted, ids, limit)
        self._state.observers.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop calling an observer.

        It still gets what has happened until now: blocks until then, 5 s at most; not when the observer calls it.
        Nothing happens the second time.
        """
        self._state.check_process()
        # in the manager's thread, which has then reported all that it knows
        self._state.mailbox.ask(lambda: self._state.observers.remove(subscription))
        subscription.close()

    # ---- faults -----------------------------------------------------------------------------------------------

    def write_events(self, path: str | os.PathLike[str]) -> None:
        """Write the last events of the session, without arguments and results, to a file for the report of a fault.
        After an error of the manager's own they are in ``events-1.msgpack`` in `session_dir`. Blocks.

        Raises:
            SessionError: it cannot be written.
        """
        self._state.check_process()
        self._loop.write_events(Path(path))


def _explain(task: Task, why: str) -> str:
    """Why a task went where it went, or why it waits; ``why`` is what the controller says of it."""
    info = task.info
    text = [f"task {task.id} ({task.name}) is {task.state.value}", why]
    if task.parts:
        done = sum(part.done() for part in task.parts)
        first, last = task.parts[0].id, task.parts[-1].id
        text.append(f"it puts the results of tasks {first} to {last} together, {done} of {len(task.parts)} are over")
    text += [f"attempt {one.number} on {one.pilot} did not count: {one.reason}" for one in info.attempts]
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        text.append(f"it ended with {type(error).__name__}: {text_of(error)}")
    elif info.seconds is not None:
        text.append(f"it ran for {info.seconds:.3f} s on worker {info.worker}")
    return "; ".join(part for part in text if part)
