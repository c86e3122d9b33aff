"""Tasks that have ended, read from the journal when they are asked for."""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

import msgspec

from pilot.errors import ErrorCode, SessionError
from pilot.manager.handles import Failed, Task, settle
from pilot.manager.journal import (
    NONSENSE,
    AnyRow,
    AttemptRow,
    EndedRows,
    FunctionRow,
    JournalReader,
    Recorded,
    TermsRow,
    damaged,
)
from pilot.manager.keeper import Keeper
from pilot.resources import Terms
from pilot.results import Attempt, Outcome
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import TaskState

#: Different `Terms` that are kept, at most.
MOST_TERMS = 10_000

_decode_terms = msgspec.msgpack.Decoder(Terms).decode


class RecordedTasks:
    """Makes records of rows. Any thread may call it."""

    def __init__(self, journal: JournalReader, functions: WeakValueDictionary[str, FunctionRecord]) -> None:
        """Make it.

        Args:
            journal: has the rows.
            functions: those that are known, by digest; the ones that are read are added.
        """
        self._journal = journal
        self._functions = functions
        self._lock = threading.RLock()
        self._by_id: WeakValueDictionary[int, FunctionRecord] = WeakValueDictionary()
        self._terms: dict[int, Terms] = {}

    def forked(self) -> None:
        """In a forked child: a thread that is not here may have held the lock."""
        self._lock = threading.RLock()

    def read(self, first: int, last: int) -> list[tuple[TaskRecord, Outcome | None, Failed | None, str | None]]:
        """The tasks from the first id to the last one that have ended: what is known of each, its outcome or its error,
        and its key.

        Raises:
            SessionError: the journal cannot be read.
        """
        with self._lock:
            try:
                return self._read(first, last)
            except NONSENSE as error:
                raise damaged(self._journal.name, error) from error

    def handles(self, keeper: Keeper, first: int, last: int) -> list[Task]:
        """The handles of these tasks, new ones, as those of ``keeper``; SessionError: the journal cannot be read."""
        tasks = []
        for entry, outcome, failed, key in self.read(first, last):
            task: Task = Task(keeper, entry)
            task.key = key
            settle(task, outcome, failed)
            tasks.append(task)
        return tasks

    def _read(self, first: int, last: int) -> list[tuple[TaskRecord, Outcome | None, Failed | None, str | None]]:
        found = []
        for rows in self._journal.ended_between(first, last):
            task = rows.task
            entry = TaskRecord(
                task.id, self._function(task.function), None, self._terms_of(task.terms), task.name, task.submitted
            )
            found.append((entry, *take_result(entry, rows), rows.key))
        return found

    def _function(self, id: int) -> FunctionRecord:
        function = self._by_id.get(id)
        if function is None:
            row = self._row(FunctionRow, id)
            function = self._functions.get(row.digest)
            if function is None:
                function = self._functions[row.digest] = FunctionRecord(row.id, row.digest, row.name, row.code)
            self._by_id[id] = function
        return function

    def _terms_of(self, id: int) -> Terms:
        terms = self._terms.get(id)
        if terms is None:
            if len(self._terms) >= MOST_TERMS:
                self._terms.clear()
            terms = self._terms[id] = _decode_terms(self._row(TermsRow, id).terms)
        return terms

    def _row(self, kind: type[AnyRow], id: int) -> AnyRow:
        row = self._journal.row(kind, id)
        if row is None:
            name = self._journal.name
            raise SessionError(f"the journal {name} is damaged: it lacks row {id} of {kind.table}", path=name)
        return row


def attempt_of(row: AttemptRow) -> Attempt:
    """The record of an attempt that did not count."""
    return Attempt(
        number=row.number,
        pilot=row.pilot,
        worker=row.worker,
        reason=row.reason,
        ended=row.ended,
        batch=row.batch,
        started=row.started,
    )


def take_result(entry: TaskRecord, rows: EndedRows) -> tuple[Outcome | None, Failed | None]:
    """The outcome or the error of a task that has ended; its record is completed."""
    result = rows.result
    entry.attempts = tuple(map(attempt_of, rows.attempts))
    entry.state, entry.bound = TaskState(result.state), result.bound
    entry.pilot, entry.worker = result.pilot, result.worker
    entry.reason = "why it went there is not in the journal"
    if result.error is not None:
        code, reason = ErrorCode(result.error), result.reason or ""
        return None, Failed(code, reason, result.cause, result.first, result.links or 1)
    assert result.status is not None and result.started is not None and result.seconds is not None
    return Recorded(result.task, result.status, result.started, result.seconds), None
