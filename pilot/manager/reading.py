"""`SessionReader`: a session as its journal has it, to be read and nothing else."""

from __future__ import annotations

import logging
import os
from collections import Counter
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from pilot.errors import SessionError
from pilot.manager import recovery
from pilot.manager.callbacks import Callbacks
from pilot.manager.commit_count import read_count, tell_lost
from pilot.manager.handles import Task
from pilot.manager.infos import task_info
from pilot.manager.journal import Recorded
from pilot.manager.pilots import Pilot, change_pilot
from pilot.manager.recorded import RecordedTasks
from pilot.manager.sqlite_reader import FileReader
from pilot.manager.table import TaskTable
from pilot.manager.view import SessionView
from pilot.manager.workers import Workers
from pilot.publishing import publish
from pilot.results import Outcome, TaskInfo, Value
from pilot.states import TaskState
from pilot.wire.session import SessionFolder
from pilot.wire.spool import Spool

log = logging.getLogger(__name__)


class _ReadState:
    """The tables of a session that is read; the `Keeper` of its handles, which cannot do anything."""

    def __init__(self, folder: SessionFolder) -> None:
        path = folder.journal_path
        self.folder = folder
        self.spool = Spool(folder.spool)
        self.callbacks = Callbacks()
        self.pilots: dict[str, Pilot] = {}
        self.journal = FileReader(path)
        counted = read_count(path)
        restored, commits = self.journal.at_one_moment(self._read)  # a manager may write meanwhile
        if lost := tell_lost(path, counted, commits):
            log.warning("%s", lost)
        self._workers = Workers(self.journal)
        self._functions = restored.functions
        known = WeakValueDictionary({one.digest: one for one in restored.functions})
        #: Handles of those that had ended are made from the journal when they are asked for.
        self.tasks = TaskTable(partial(RecordedTasks(self.journal, known).handles, self))
        self.tasks.add_ended(restored.ended)
        for pilot in restored.pilots:
            log_path = folder.path / "pilots" / pilot.id / "agent.log"
            handle = Pilot(self, pilot.id, pilot.description, log_path, pilot.ancestors)
            handle.times.update(pilot.times)
            change_pilot(handle, pilot.state, pilot.reason)
            self.pilots[pilot.id] = handle
        keys = {row.task: row.key for row in restored.keys}
        for entry in restored.tasks:
            entry.payload = None
            task: Task = Task(self, entry)
            task.key = keys.get(entry.id)
            self.tasks.add(task)

    def _read(self) -> tuple[recovery.Restored, int]:
        return recovery.read(self.journal, self.folder.path, rejoin=False), self.journal.commits()

    def check_process(self) -> NoReturn:
        raise SessionError(
            f"the session {self.folder.path} was opened for reading, and is as it was then: read it again to see what "
            "has happened since; to submit, cancel or wait, use its manager, or PilotManager.attach when that is gone",
            path=str(self.folder.path),
        )

    def interrupted(self) -> None:
        """Nothing is waited for."""

    def check_open(self) -> NoReturn:
        self.check_process()

    def post(self, item: object) -> NoReturn:
        self.check_process()

    def committed(self) -> Future[None]:
        self.check_process()

    def add_nodes(self, pilot: str, count: int) -> NoReturn:
        self.check_process()

    def wait_job_ended(self, pilot: str) -> NoReturn:
        self.check_process()

    def is_own_thread(self) -> bool:
        return False

    def info(self, task: Task) -> TaskInfo:
        return task_info(task, self.pilots, self._workers, self.journal)

    def value(self, outcome: Outcome) -> Value:
        if not isinstance(outcome, Recorded):
            return outcome.value
        value = self.journal.value(outcome.task)
        if value is None and self.journal.work(outcome.task) is None:
            text = f"task {outcome.task} was forgotten since the session {self.folder.path} was read"
            raise SessionError(text, path=str(self.folder.path))
        return value


class SessionReader(SessionView):
    """A session as its journal had it at one moment: pilots, tasks, states and results. `PilotManager.read` makes it.

    What was not over then has the last state that is in the journal (a task is QUEUED, wherever it is). To wait for it
    raises `SessionError`, as does all that would change something.
    """

    _state: _ReadState

    def __init__(self, session_dir: str | os.PathLike[str]) -> None:
        """Read a session.

        Raises:
            SessionError: there is no session in this folder; it is damaged, or other users can write to it.
        """
        folder = SessionFolder.find(session_dir)
        folder.check_private()
        self._state = _ReadState(folder)

    def _counts(self) -> Counter[TaskState]:
        return self._state.tasks.counts(self._state.journal.not_done)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._state.check_process()

    submit_task = submit_tasks = map = resubmit = submit_pilot = autoscale = _refuse
    cancel = put = forget = flush = subscribe = unsubscribe = explain = write_events = _refuse

    def close(self) -> None:
        """Close the journal: what was not read until then cannot be read any more."""
        self._state.journal.close()

    def __enter__(self) -> SessionReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


publish(SessionReader)
