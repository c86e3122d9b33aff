"""`JournalFollower`: a session's tasks and pilots as lines, read from the journal again and again while it grows."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import msgspec

from pilot.descriptions import PilotDescription
from pilot.errors import ERRORS, ErrorCode
from pilot.manager.journal import AttemptRow, EndedRows, PilotChangeRow, PilotRow
from pilot.manager.sqlite_reader import FileReader
from pilot.results import OK, TIMED_OUT, Failure
from pilot.states import PilotState, TaskState, is_final
from pilot.wire import payload
from pilot.wire.session import SessionFolder
from pilot.wire.spool import Spool


class TaskLine(NamedTuple):
    """One task in a few columns. Times are wall clocks, seconds since the epoch; None: there is none yet."""

    id: int
    name: str
    state: TaskState
    #: Id of the pilot that has or had it; "": none.
    pilot: str
    submitted: float | None
    #: When the last attempt began, and how many seconds it ran.
    started: float | None
    seconds: float | None
    ended: float | None
    #: When attempts that did not count began and ended; those whose beginning is not known have no length.
    lost: tuple[tuple[float, float], ...] = ()


class PilotLine(NamedTuple):
    """One pilot of a session."""

    id: str
    description: PilotDescription
    state: PilotState
    reason: str
    #: Wall clock of each state it was in first.
    times: dict[PilotState, float]


_NAME = "coalesce(tasks.name, functions.name) FROM tasks JOIN functions ON functions.id = function"
_NEW = f"SELECT tasks.id, submitted, {_NAME} WHERE tasks.id > ? ORDER BY tasks.id"
_ENDED = (
    f"SELECT tasks.id, results.state, results.pilot, submitted, nullif(started, 0.0), seconds, bound, {_NAME} "
    "JOIN results ON results.task = tasks.id WHERE tasks.id BETWEEN ? AND ? ORDER BY tasks.id"
)


class JournalFollower:
    """Reads the journal of a session; changes nothing, and holds no lock of the session. Any thread may call it.

    What is written later is seen by the next call. Each method blocks while it reads.
    """

    def __init__(self, session_dir: str | os.PathLike[str]) -> None:
        """Open it.

        Raises:
            SessionError: there is no session in this folder, or other users can write to it.
        """
        folder = SessionFolder.find(session_dir)
        folder.check_private()
        self.folder = folder
        self._spool = Spool(folder.spool)
        self._reader = FileReader(folder.journal_path)

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    # ---- all of a session -----------------------------------------------------------------------------------------

    @property
    def is_in_use(self) -> bool:
        """True while a manager has the session."""
        return self.folder.lock.is_held()

    def mark(self) -> tuple[int, int]:
        """A value that differs as soon as something was written."""
        return self._reader.mark()

    def submitted(self, after: int) -> list[tuple[int, str, float]]:
        """The tasks with larger ids, in order: id, name, and when each was submitted."""
        return [(id, name, submitted) for id, submitted, name in self._reader.query(_NEW, after)]

    def ended(self, first: int, last: int) -> list[TaskLine]:
        """The tasks from the first id to the last one that are over, in order."""
        lines = []
        for id, state, pilot, submitted, started, seconds, bound, name in self._reader.query(_ENDED, first, last):
            over = started + seconds if started is not None else bound or submitted
            ran = None if started is None else seconds
            lines.append(TaskLine(id, name, TaskState(state), pilot or "", submitted, started, ran, over))
        return lines

    def attempts(self) -> list[AttemptRow]:
        """All attempts that did not count, in order."""
        return self._reader.rows(AttemptRow)

    def pilots(self) -> list[PilotLine]:
        """Every pilot that was requested, in that order."""
        changes: dict[str, list[PilotChangeRow]] = {}
        for change in self._reader.rows(PilotChangeRow):
            if not change.job:
                changes.setdefault(change.pilot, []).append(change)
        lines = []
        for row in self._reader.rows(PilotRow):
            description = msgspec.msgpack.decode(row.description, type=PilotDescription)
            its = changes.get(row.id, [])
            final = [one for one in its if is_final(PilotState(one.state))]
            state, reason = PilotState.NEW, ""
            for one in final[:1] or its[-1:]:  # that a job was submitted may have been recorded after its end
                state, reason = PilotState(one.state), one.reason
            times = {PilotState(one.state): one.time for one in reversed(its)}
            lines.append(PilotLine(row.id, description, state, reason, times))
        return lines

    # ---- one task -------------------------------------------------------------------------------------------------

    def rows(self, task: int) -> EndedRows | None:
        """The rows about a task that is over; None: it is not, or was forgotten."""
        found = self._reader.ended_between(task, task)
        return found[0] if found else None

    def output(self, task: int) -> tuple[str, str]:
        """What a task that is over has written: stdout and stderr."""
        return self._reader.output(task)

    def value(self, task: int) -> Any:
        """The result of a task that is done. Unpickles it.

        Raises:
            Exception: it cannot be unpickled here, or its file is gone.
        """
        return payload.load(self._reader.value(task), spool=self._spool)

    def error(self, rows: EndedRows) -> str:
        """Why a task failed; "": it did not. The exception itself is not loaded: it may need packages that are not
        here."""
        result = rows.result
        if result.error is not None:
            return f"{ERRORS[ErrorCode(result.error)].__name__}: {result.reason}"
        if result.status in (OK, None):
            return ""
        if result.status == TIMED_OUT:
            return "it ran longer than its timeout"
        value = self._reader.value(rows.task.id)
        if not isinstance(value, bytes):
            return "its error is large: PilotManager.read has it"
        failure = msgspec.msgpack.decode(value, type=Failure)
        return f"{failure.kind}: {failure.message}"
