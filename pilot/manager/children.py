"""Tasks that running tasks submit: their *children*."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, NoPilotError, SessionError
from pilot.manager.call_queue import CallQueue
from pilot.manager.handles import Task, entry_of, has_result, outcome_of
from pilot.manager.keys import Key
from pilot.manager.sharing import files_of
from pilot.manager.state import SessionState
from pilot.manager.submitting import Submitter
from pilot.resources import Terms
from pilot.results import CANCELLED, OK, RAISED
from pilot.scheduling import events
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.wire import children, messages, payload
from pilot.wire.children import NewDescription, NewTask, Reply

log = logging.getLogger(__name__)

#: Sends the answer to a call, by any thread: pilot, message, frames.
Send = Callable[[str, messages.TaskReply, list[bytes]], None]


class _Caller(NamedTuple):
    """A running task, and where it runs."""

    pilot: str
    worker: str
    task: int


class Children:
    """Carries out what running tasks ask. `called`, `task_ended`, `attempt_ended` and `stuck` are for the manager's
    thread, which they do not block: all else happens in a thread of its own.

    A child is a task of the session. It is cancelled when the task that has submitted it is cancelled or fails; when an
    attempt of that one ends without a result, unless the child has a key, by which the next attempt finds it.
    """

    def __init__(self, state: SessionState, submitter: Submitter, send: Send) -> None:
        """Make it.

        Args:
            state: the session.
            submitter: of the session.
            send: sends answers.
        """
        self._state = state
        self._submitter = submitter
        self._send = send
        self._queue = CallQueue("pilot-children")
        self._started = False
        #: The tasks that have asked for something. For the manager's thread.
        self._parents: set[int] = set()
        #: Task → the children of its present attempt, and those with keys. For the thread of the calls: as calls and
        #: ends come to it in order, these are never mistaken for those of another attempt.
        self._of: dict[int, set[int]] = {}
        #: Child → who waits for its end; and what guards this.
        self._watchers: dict[int, set[_Caller]] = {}
        self._lock = threading.Lock()

    # ---- the manager's thread ---------------------------------------------------------------------------------

    def called(self, pilot: str, message: messages.TaskCall, frames: Sequence[bytes]) -> None:
        """A running task asks for something."""
        if not self._started:
            self._started = True
            self._queue.start()
        self._parents.add(message.task)
        caller = _Caller(pilot, message.worker, message.task)
        self._queue.submit(self._handle, caller, message.number, frames[0])

    def task_ended(self, task: int) -> None:
        """A task is over: tell who waits for it, and cancel its own children unless it has ended well."""
        if not self._started:
            return
        with self._lock:
            watchers = self._watchers.pop(task, None)
        if watchers:
            self._queue.submit(self._tell, task, watchers)
        if task in self._parents:
            self._parents.discard(task)
            self._queue.submit(self._end_parent, task)

    def attempt_ended(self, task: int) -> None:
        """An attempt of a task has ended without a result that counts."""
        if task in self._parents:
            self._queue.submit(self._end_attempt, task)

    def stuck(self, command: events.EndWait) -> None:
        """A wait can never end."""
        error = NoPilotError(
            f"task {command.task} waits for ever: {command.reason}. A task that waits gives its cores back, and keeps "
            "its memory, its GPUs and its process: submit the waiting task with less, wait for fewer at a time, or "
            "make the tasks arguments of a further one"
        )
        reply = children.Stuck(payload.dump_exception(error))
        self._reply(_Caller(command.pilot, command.worker, command.task), command.number, reply)

    def close(self) -> None:
        """The manager ends: no call is carried out any more."""
        self._queue.shutdown(wait=self._started)

    # ---- the thread of the calls ------------------------------------------------------------------------------

    def _handle(self, caller: _Caller, number: int, frame: bytes) -> None:
        try:
            call = children.decode_call(frame)
            if isinstance(call, children.Submission):
                self._submit(caller, number, call)
            elif isinstance(call, children.Watching):
                self._watch(caller, call.tasks)
            elif isinstance(call, children.Owning):
                self._own(caller, (id for id in call.tasks if id in self._state.tasks))
            else:
                self._cancel(call.tasks)
        except Exception:
            log.exception("what task %d asks of its manager cannot be carried out", caller.task)

    def _end_parent(self, task: int) -> None:
        own, parent = self._of.pop(task, set()), self._state.tasks.get(task)
        if parent is None or not has_result(parent):
            self._cancel(own)

    def _end_attempt(self, task: int) -> None:
        own = self._of.pop(task, set())
        kept = {id for id in own if (child := self._state.tasks.get(id)) is not None and child.key is not None}
        if kept:
            self._of[task] = kept
        self._cancel(own - kept)

    def _cancel(self, tasks: Iterable[int]) -> None:
        known = [task for id in tasks if (task := self._state.tasks.get(id)) is not None and not task.done()]
        if known:
            self._submitter.cancel(known)

    def _reply(self, caller: _Caller, number: int, reply: Reply) -> None:
        head = messages.TaskReply(caller.worker, caller.task, number)
        self._send(caller.pilot, head, [children.encode(reply)])

    def _submit(self, caller: _Caller, number: int, call: children.Submission) -> None:
        parent = self._state.tasks.get(caller.task)
        if parent is None or parent.done():
            return  # the call was under way when it was cancelled
        terms, tasks = entry_of(parent).terms, list[Task]()
        newest = self._state.backlog.last  # what is older was found by its key, and belongs to who has submitted it
        reply: Reply
        try:
            functions = [self._function(*one) for one in call.functions]
            for new in call.tasks:
                tasks.append(self._add(functions[new.function], new, terms))
            for described in call.descriptions:
                tasks.append(self._add_described(described, terms))
            reply = children.Accepted([(task.id, task.name) for task in tasks])
        except BaseException as error:  # what a description does when it is unpickled, sys.exit() included
            for new in call.tasks[len(tasks) :]:
                self._state.spool.release(files_of(new.payload))
            self._submitter.cancel([task for task in tasks if task.id > newest])
            reply, tasks = children.Rejected(payload.dump_exception(error)), []
        self._own(caller, (task.id for task in tasks if task.id > newest))
        self._reply(caller, number, reply)

    def _function(self, name: str, code: bytes) -> FunctionRecord:
        digest = hashlib.blake2b(code, digest_size=16).hexdigest()
        with self._state.lock:
            known = self._state.functions.get(digest)
            return known if known is not None else self._state.add_function(digest, name, code)

    def _add(self, function: FunctionRecord, new: NewTask, parent: Terms) -> Task:
        """Submit a call, or find the task that has its key."""
        terms = self._submitter.admitted(msgspec.structs.replace(new.terms, priority=_priority(new.terms, parent)))
        needs: dict[int, bool | int] = dict.fromkeys(new.after, False)
        needs.update((id, True) for id in new.needs)
        self._check_known(needs)
        added: list[Task] = []

        def add(key: Key | None) -> Task:
            self._state.files.hold(files_of(new.payload))
            id = self._submitter.next_id()
            record = TaskRecord(id, function, new.payload, terms, new.name, time.time(), needs or None)
            record.has_key = key is not None
            added.append(self._submitter.add(record, key))
            return added[0]

        if new.key is None:
            return add(None)
        task = self._submitter.once(Key(new.key, new.digests), add, again=True)
        if not added:
            self._state.spool.release(files_of(new.payload))
        return task

    def _add_described(self, new: NewDescription, parent: Terms) -> Task:
        wanted: TaskDescription = payload.load(new.description)
        self._check_known(new.after)
        after = [self._state.tasks[id] for id in new.after]
        priority = _priority(wanted.terms(), parent)
        return self._submitter.submit_described(msgspec.structs.replace(wanted, depends_on=after, priority=priority))

    def _check_known(self, tasks: Sequence[int] | dict[int, bool | int]) -> None:
        for id in tasks:
            if id not in self._state.tasks:
                raise DescriptionError(f"task {id}, which a new task needs, is not known any more: it was forgotten")

    def _own(self, caller: _Caller, tasks: Iterable[int]) -> None:
        """These are the task's own."""
        self._of.setdefault(caller.task, set()).update(tasks)

    def _watch(self, caller: _Caller, tasks: Sequence[int]) -> None:
        for id in tasks:
            task = self._state.tasks.get(id)
            with self._lock:
                self._watchers.setdefault(id, set()).add(caller)
            if task is None or task.done():
                with self._lock:
                    watchers = self._watchers.pop(id, set())
                self._tell(id, watchers)

    def _tell(self, id: int, watchers: set[_Caller]) -> None:
        """Tell of the end of a task."""
        if not watchers:
            return
        try:
            end = self._end_of(id)
        except Exception as error:  # such as a result that cannot be read from the disk
            end = children.Ended(id, RAISED, payload.dump_exception(error), f"task {id}")
        for caller in watchers:
            self._reply(caller, 0, end)

    def _end_of(self, id: int) -> children.Ended:
        task = self._state.tasks.get(id)
        if task is None:
            text = f"task {id} is not known: it was forgotten, or its manager was killed before it was on disk"
            gone = SessionError(text, path=str(self._state.folder.path))
            return children.Ended(id, RAISED, payload.dump_exception(gone), f"task {id}")
        if task.cancelled():
            return children.Ended(id, CANCELLED, None, "")
        info = task.info
        where = f"task {id} ({task.name}) on pilot {info.pilot}, worker {info.worker}"
        outcome = outcome_of(task)
        if outcome is not None and outcome.status in (OK, RAISED):
            return children.Ended(id, outcome.status, self._state.value(outcome), where)
        error = task.exception()
        assert error is not None
        return children.Ended(id, RAISED, payload.dump_exception(error), where)


def _priority(own: Terms, parent: Terms) -> int:
    """Higher than that of the task that waits: the tasks at the bottom of a tree go first, so that few tasks wait."""
    return own.priority + parent.priority + 1
