"""Reads a session from its folder, without a manager: `pilot sessions ls` and `show`."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from pilot.errors import ERRORS, ErrorCode, SessionError
from pilot.manager.journal import SCHEMA, unpack
from pilot.manager.journal_file import JournalFile
from pilot.results import TIMED_OUT, Failure
from pilot.states import PilotState, TaskState, is_final
from pilot.wire import names
from pilot.wire.session import SessionFolder

#: A task whose end is not in the journal; it does not say how far such a task is.
UNFINISHED = "unfinished"
#: Errors that `summary` reads, the last ones.
ERRORS_SHOWN = 5
_FINAL = [state.value for state in PilotState if is_final(state)]
#: The order in which tasks are counted.
_ORDER = (UNFINISHED, *(state.value for state in TaskState))


class PilotSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A pilot, as the journal has it."""

    id: str
    name: str
    resource: str
    engine: str
    state: str
    reason: str


class FailedTask(msgspec.Struct, frozen=True, kw_only=True):
    """How a task failed, in one line."""

    task: int
    name: str
    error: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A session. Times are wall clocks, seconds since the epoch."""

    path: str
    #: What its user calls it; "": it has no name.
    name: str
    #: Of the journal; `SCHEMA` is that of this version.
    schema: int
    #: True while a manager has the session.
    in_use: bool
    #: When its first pilot or task was submitted; None: there is none.
    started: float | None
    #: When the journal was written last.
    changed: float
    pilots: list[PilotSummary]
    #: How many tasks there are in each state; `UNFINISHED` ones have none in the journal.
    tasks: dict[str, int]
    #: The last `ERRORS_SHOWN` tasks that failed, the last one first; those that failed with another one at the end.
    errors: list[FailedTask]
    #: Files with large values, and their bytes.
    spool_files: int
    spool_bytes: int


def find_sessions(folder: Path) -> list[Path]:
    """The sessions in a folder: itself, or else those that are directly below it, by name; those of others are left
    out."""
    below: list[Path] = []
    with contextlib.suppress(OSError):
        below = sorted(folder.iterdir())
    return [path for path in (folder, *below) if is_session(path)]


def is_session(path: Path) -> bool:
    """Whether a folder holds a session."""
    try:
        return SessionFolder(path).journal_path.exists()
    except OSError:
        return False


def summary(path: Path) -> Summary:
    """The content of a session's journal. Changes nothing; a manager may use the session at the same time.

    Raises:
        SessionError: there is no session in this folder, a later version has made it, or its journal cannot be read.
    """
    folder = SessionFolder.find(path)
    journal = JournalFile(folder.journal_path)
    try:
        return journal.steady(lambda: _summary(folder, journal))
    except (sqlite3.Error, msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        where = str(journal.path)
        raise SessionError(f"{where} is not the journal of a session, or is damaged: {error}", path=where) from error


def _summary(folder: SessionFolder, journal: JournalFile) -> Summary:
    in_use = folder.lock.is_held()
    with contextlib.closing(journal.connect()) as db:
        db.execute("BEGIN")  # all of it at one moment
        schema = _schema(db)
        if schema > SCHEMA:
            raise SessionError(
                f"the session {folder.path} was made by a later version of quantum-pilot: use that version",
                path=str(folder.path),
            )
        first = "SELECT min(time) FROM (SELECT time FROM pilot_changes UNION ALL SELECT submitted FROM tasks)"
        files = [about.st_size for about in _present(folder.spool.glob("*"))]
        return Summary(
            path=str(folder.path),
            name=next((name for name, named in names.known().items() if named == folder.path), ""),
            schema=schema,
            in_use=in_use,
            started=db.execute(first).fetchone()[0],
            changed=journal.changed(),
            pilots=_pilots(db, schema),
            tasks=_tasks(db),
            errors=_errors(db),
            spool_files=len(files),
            spool_bytes=sum(files),
        )


def _present(files: Iterable[Path]) -> Iterator[os.stat_result]:
    """What the system says of files; of those that a manager removes meanwhile nothing."""
    with contextlib.suppress(FileNotFoundError):  # their folder is removed
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                yield file.stat()


def _schema(db: sqlite3.Connection) -> int:
    found = db.execute("SELECT value FROM session WHERE key = 'schema'").fetchone()
    return int(found[0]) if found else 0


def _pilots(db: sqlite3.Connection, schema: int) -> list[PilotSummary]:
    own = "AND job = 0" if schema else ""  # before, the jobs of further nodes had names of their own
    last = (  # that a job was submitted may have been recorded after the end of its pilot
        f"SELECT state, reason FROM pilot_changes WHERE pilot = ? {own} "
        f"ORDER BY state IN ({','.join('?' * len(_FINAL))}) DESC, rowid DESC LIMIT 1"
    )
    pilots = []
    for id, encoded in db.execute("SELECT id, description FROM pilots ORDER BY rowid").fetchall():
        wanted = msgspec.msgpack.decode(encoded)
        state, reason = db.execute(last, (id, *_FINAL)).fetchone() or (PilotState.NEW.value, "")
        pilots.append(
            PilotSummary(
                id=id,
                name=wanted["name"] or id,
                resource=wanted["resource"],
                engine=wanted["engine"],
                state=state,
                reason=reason,
            )
        )
    return pilots


def _tasks(db: sqlite3.Connection) -> dict[str, int]:
    counted = Counter(dict(db.execute("SELECT state, count(*) FROM results GROUP BY state").fetchall()))
    left = "SELECT count(*) FROM tasks WHERE id NOT IN (SELECT task FROM results)"
    counted[UNFINISHED] = db.execute(left).fetchone()[0]
    return {state: counted[state] for state in _ORDER if counted[state]}


def _errors(db: sqlite3.Connection) -> list[FailedTask]:
    db.row_factory = sqlite3.Row
    rows = db.execute(
        "SELECT results.*, coalesce(tasks.name, functions.name) AS name FROM results JOIN tasks ON tasks.id = task "
        "JOIN functions ON functions.id = function WHERE results.state = 'failed' "
        "ORDER BY coalesce(started + seconds, bound) DESC, task DESC LIMIT ?",
        (ERRORS_SHOWN,),
    )
    return [FailedTask(task=row["task"], name=row["name"], error=_error(row)) for row in rows]


def _error(row: sqlite3.Row) -> str:
    """What a task failed with. The exception itself is not loaded: it may need packages that are not here."""
    error = row["error"]
    if row["status"] == TIMED_OUT:
        return "it ran longer than its timeout"
    if isinstance(error, str):  # of schema 0
        kind, message, *_ = msgspec.json.decode(error)
    elif error is not None:
        kind, message = ERRORS[ErrorCode(error)].__name__, row["reason"]
    elif isinstance(value := unpack(row["value"]), bytes):
        failure = msgspec.msgpack.decode(value, type=Failure)
        kind, message = failure.kind, failure.message
    else:
        return "its error is large: attach to the session to read it"
    return f"{kind}: {message}".partition("\n")[0]
