"""What the user's threads and the manager's thread both see of a session."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Protocol

import msgspec

from pilot.descriptions import PilotDescription
from pilot.errors import SessionError
from pilot.manager.backlog import Backlog
from pilot.manager.callbacks import Callbacks
from pilot.manager.commits import Commits
from pilot.manager.handles import Failed, Task, call_back, settle
from pilot.manager.infos import task_info
from pilot.manager.jobs import PlaceholderJobs
from pilot.manager.journal import FunctionRow, Journal, KeyRow, PilotRow, Recorded, unpack
from pilot.manager.live import LiveOutput
from pilot.manager.mailbox import Mailbox
from pilot.manager.notebook import is_interactive
from pilot.manager.observers import Observers
from pilot.manager.pilots import Pilot, Scaler, change_pilot
from pilot.manager.recorded import RecordedTasks
from pilot.manager.recovery import Restored
from pilot.manager.sharing import SharedFiles, files_of
from pilot.manager.table import TaskTable
from pilot.manager.workers import Workers
from pilot.resources import Terms
from pilot.results import CANCELLED, Outcome, TaskInfo, Value
from pilot.scheduling import events
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import PilotState, TaskState, is_final
from pilot.wire.session import SessionFolder
from pilot.wire.spool import LOCAL_SPOOL_BYTES, SPOOL_BYTES, Spool

log = logging.getLogger(__name__)

#: Seconds that `Pilot.cancel` waits until the pilot's job is gone.
JOB_SECONDS = 10.0


class Parents(Protocol):
    """What is told of the ends of tasks that may have submitted others, in the manager's thread."""

    def task_ended(self, task: int) -> None:
        """A task is over."""

    def attempt_ended(self, task: int) -> None:
        """An attempt of a task has ended without a result that counts."""

    def close(self) -> None:
        """The manager ends."""


_sessions: weakref.WeakSet[SessionState] = weakref.WeakSet()


def _forked() -> None:
    for state in list(_sessions):
        state.forked()


os.register_at_fork(after_in_child=_forked)


class SessionState:
    """The tables of one session; the `Keeper` of its handles.

    The rule of the lock: one operation on one table (look up, add, ``list(...)``) is atomic and needs none. Who looks
    and then writes what must be there once (a pilot's name, a function's number) holds `lock` meanwhile. The
    manager's thread takes it too, so who holds it must not wait for that thread.

    Who writes: the user's threads add tasks, pilots, scalers and functions; the manager's thread adds pilots
    and workers, ends tasks, and changes pilots and scalers.
    """

    def __init__(self, folder: SessionFolder, journal: Journal, jobs: PlaceholderJobs) -> None:
        self.folder = folder
        self.journal = journal
        self.jobs = jobs
        self.spool = Spool(folder.spool, LOCAL_SPOOL_BYTES)
        self.files = SharedFiles(self.spool)
        self.mailbox = Mailbox()
        self.commits = Commits(journal)
        self.backlog = Backlog(journal)
        self.callbacks = Callbacks()
        self.observers = Observers()
        self.live = LiveOutput(self.observers, self.callbacks)
        #: What running tasks have submitted; set when the manager is made.
        self.children: Parents | None = None
        self.lock = threading.Lock()
        self.tasks = TaskTable(self._read_ended)
        self.pilots: dict[str, Pilot] = {}
        self.scalers: dict[str, Scaler] = {}
        #: By digest, while some task or the submitter has it.
        self.functions: weakref.WeakValueDictionary[str, FunctionRecord] = weakref.WeakValueDictionary()
        self.function_ids = itertools.count(1)
        self._recorded = RecordedTasks(journal, self.functions)
        #: Task → how many unfinished tasks depend on it. For the manager's thread; others may look.
        self.dependents: dict[int, int] = {}
        #: By the key that a user gave: the task, and what was submitted.
        self.keys: dict[str, KeyRow] = {}
        #: The workers of which an outcome came.
        self.workers = Workers(journal)
        #: Terms that some pilot can run, as far as is known, each as itself; emptied when that may have changed.
        self.servable: dict[Terms, Terms] = {}
        #: The last of the tasks that were forgotten: an attached manager gives none of their ids to others.
        self.last_forgotten = 0
        self.task_ids = itertools.count(1)
        self.pilot_ids = itertools.count(1)
        self.is_closed = False
        #: The tasks that were not over when the manager began to close.
        self.unfinished: list[Task] = []
        #: True in a process that was forked from the manager's.
        self.is_foreign = False
        _sessions.add(self)

    # ---- may it be used -----------------------------------------------------------------------------------------

    def check_process(self) -> None:
        """Raise SessionError in a process that was forked from the manager's: none of its threads are here."""
        if self.is_foreign:
            raise SessionError(
                "this process was forked from the one that has the manager: only that one can use it. Submit and wait "
                "there, or make a manager of its own here",
                path=str(self.folder.path),
            )

    def check_open(self) -> None:
        """The same, and when the manager is closed."""
        self.check_process()
        if self.is_closed:
            raise SessionError(
                "the manager is closed: make a new one, or attach to the session", path=str(self.folder.path)
            )

    def forked(self) -> None:
        """In a forked child, which must not keep the session from others."""
        self.is_foreign = True
        self.servable = {}  # the next submit looks closer
        self.lock = threading.Lock()
        for part in (self.files, self.tasks, self._recorded):
            part.forked()
        self.journal.forked()
        self.folder.lock.release()

    def note_unfinished(self) -> None:
        """The manager begins to close. Takes no lock, for a signal's handler."""
        if not self.unfinished:
            self.unfinished = [task for task in self.tasks.not_recorded() if not task.done()]

    # ---- what handles ask ---------------------------------------------------------------------------------------

    def post(self, item: events.Event | events.Command) -> None:
        """Leave it for the manager's thread; not in a forked process."""
        self.check_process()
        if not isinstance(item, events.CancelAsked):
            self.servable.clear()
        self.mailbox.put(item)

    def is_own_thread(self) -> bool:
        """True in a thread that must not wait for the manager's."""
        return self.mailbox.is_own_thread()

    def value(self, outcome: Outcome) -> Value:
        """What the outcome of a task has, which may be in the journal only."""
        return self.journal.value(outcome.task) if isinstance(outcome, Recorded) else outcome.value

    def info(self, task: Task) -> TaskInfo:
        """The record of a task."""
        return task_info(task, self.pilots, self.workers, self.journal, self.live)

    def committed(self) -> Future[None]:
        """Done when all that the manager's thread hears of before this is on disk. Callbacks must not block."""
        self.check_open()
        commit = self.commits.new()
        self.mailbox.put(partial(self.commits.mark, commit))
        return commit

    def add_nodes(self, pilot: str, count: int) -> None:
        """Ask for a further job of so many nodes, which join this pilot."""
        self.check_open()
        wanted = self.pilots[pilot].description
        # behind the start of the pilot, which writes what its nodes read
        self.mailbox.ask(lambda: self.jobs.add_nodes(pilot, wanted, count))

    def wait_job_ended(self, pilot: str) -> None:
        """Wait, for some seconds at most, until the pilot's job is gone."""
        self.jobs.wait_ended(pilot, JOB_SECONDS)

    # ---- tasks and pilots ---------------------------------------------------------------------------------------

    def new_pilot(self, wanted: PilotDescription, ancestors: tuple[str, ...] = (), *, by_user: bool = False) -> Pilot:
        """A pilot with a new id, written into the journal. `PilotAsked` is still to be posted.

        Raises:
            DescriptionError: the user asks for it (``by_user``), and another pilot that is not over has its name.
        """
        with self.lock:
            present = (pilot for pilot in self.pilots.values() if not is_final(pilot.state))
            if by_user and any(wanted.name in (pilot.name, pilot.id) for pilot in present):
                raise wanted.wrong("name", "a name that no other pilot of this manager has")
            pilot = self._add_pilot(f"pilot-{next(self.pilot_ids)}", wanted, ancestors)
            self._look_far(wanted)
            self.journal.put(PilotRow(pilot.id, msgspec.msgpack.encode(wanted)))
        return pilot

    def _add_pilot(self, id: str, description: PilotDescription, ancestors: tuple[str, ...]) -> Pilot:
        log_path = self.folder.path / "pilots" / id / "agent.log"
        pilot = self.pilots[id] = Pilot(self, id, description, log_path, ancestors)
        self.servable.clear()
        return pilot

    def _look_far(self, wanted: PilotDescription) -> None:
        """From now on, arguments may have to travel to another host than this one."""
        if self.jobs.launcher(wanted).remote:
            self.spool.limit = SPOOL_BYTES

    def interrupted(self) -> None:
        """Ctrl-C came while somebody waited for a task. Where a person goes on after it, what is queued is cancelled;
        if nothing is, what runs. Elsewhere the program ends, and its managers with it."""
        if not is_interactive() or self.is_foreign or self.is_closed:
            return
        open = [task for task in self.tasks.not_recorded() if not task.done()]
        queued = [task.id for task in open if task.state in (TaskState.WAITING, TaskState.QUEUED)]
        self.mailbox.put(events.CancelAsked(queued or [task.id for task in open]))
        what = f"{len(queued)} queued task(s) were cancelled" if queued else f"{len(open)} task(s) were ended"
        left = len(open) - len(queued) if queued else 0
        log.warning("interrupted: %s%s", what, f"; {left} still run: interrupt once more to end them" if left else "")

    def add_task(self, entry: TaskRecord) -> Task:
        """A new task, left for the manager's thread; cancelled at once when that has ended."""
        task = Task(self, entry)
        self.tasks.add(task)
        self.mailbox.put_task(entry)
        if self.mailbox.is_over:
            self.cancel_late_tasks()
        return task

    def cancel_late_tasks(self) -> None:
        """Cancel the tasks that were submitted while the manager was being closed."""
        for entry in self.mailbox.take_late_tasks():
            entry.state = TaskState.CANCELLED
            self.files.release(files_of(entry.payload))  # it is in no journal
            outcome = Outcome(entry.id, CANCELLED, 0.0, 0.0)
            self.end_task(entry, outcome, None)
            self.observers.submitted([entry])
            self.observers.ended([(entry, outcome)])

    def end_task(self, entry: TaskRecord, outcome: Outcome | None, failed: Failed | None) -> None:
        """A task has ended. Whatever goes wrong here concerns no other task."""
        self.live.remove(entry.id)
        entry.payload = None  # its file stays: a task that has failed may be submitted again
        if entry.needs:
            self._release(entry.needs)
        try:
            task = self.tasks[entry.id]
            if settle(task, outcome, failed):
                self.callbacks.add(partial(call_back, task))
            if self.children is not None:
                self.children.task_ended(entry.id)
        except Exception:
            log.exception("the end of task %d cannot be announced", entry.id)

    def _read_ended(self, first: int, last: int) -> list[Task]:
        """The handles of ended tasks, made from the journal."""
        return self._recorded.handles(self, first, last)

    def _release(self, needs: Iterable[int]) -> None:
        """An unfinished task less depends on these."""
        for id in needs:
            left = self.dependents.get(id, 0) - 1  # a task that came too late was not counted
            if left > 0:
                self.dependents[id] = left
            else:
                self.dependents.pop(id, None)

    def add_function(self, digest: str, name: str, code: bytes) -> FunctionRecord:
        """A function that is new; who calls this holds the lock."""
        function = self.functions[digest] = FunctionRecord(next(self.function_ids), digest, name, code)
        self.journal.put(FunctionRow(function.id, digest, name, code))
        return function

    # ---- an attached session ------------------------------------------------------------------------------------

    def take_over(self, restored: Restored) -> None:
        """Take over what the previous manager's journal has. Before the manager's thread runs."""
        for function in restored.functions:
            self.functions[function.digest] = function
        self.function_ids = itertools.count(restored.last_function + 1)
        self.pilot_ids = itertools.count(restored.last_pilot + 1)
        self.last_forgotten = restored.last_forgotten
        self.observers.first_task = restored.last_task + 1
        self.task_ids = itertools.count(restored.last_task + 1)
        self.backlog.begin(restored.last_task)
        self.jobs.numbers = itertools.count(restored.last_job + 1)
        for pilot in restored.pilots:
            handle = self._add_pilot(pilot.id, pilot.description, pilot.ancestors)
            handle.times.update(pilot.times)
            if pilot.state is not PilotState.NEW:
                change_pilot(handle, pilot.state, pilot.reason)
            if not is_final(pilot.state):
                self._look_far(pilot.description)
        self.tasks.add_ended(restored.ended)
        for entry in restored.tasks:
            self.tasks.add(Task(self, entry))
            self.mailbox.put_task(entry)
        objects = [unpack(row.value) for row in restored.objects]
        self.files.take_over([*(entry.payload for entry in restored.tasks), *restored.kept_arguments, *objects])
        for row in restored.keys:
            self.keys[row.key] = row
            if row.task not in restored.ended:
                self.tasks[row.task].key = row.key
