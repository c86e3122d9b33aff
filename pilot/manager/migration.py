"""Prepares the journal of a session that an earlier version of the library has made."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sqlite3
from datetime import timedelta
from typing import Any

import msgspec

from pilot.errors import ERRORS, SessionError
from pilot.manager.journal import SCHEMA
from pilot.scheduling.records import Change
from pilot.wire import payload
from pilot.wire.session import SessionFolder

#: How the reasons began, or what they were, that version 0 counted.
_RESTART, _TAKEN, _RETRY = "started again: %", "asked for again, the site took it: %", "it raised"
#: Functions of the library in version 0, and their modules now.
_MOVED = {
    ("pilot.worker", "run_executable"): "pilot.worker.programs",
    ("pilot.mpi", "run_program"): "pilot.worker.mpi",
    ("pilot.mpi", "run_function"): "pilot.worker.mpi",
}


class _Unpickler(pickle.Unpickler):
    """Finds functions of the library where they are now."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(_MOVED.get((module, name), module), name)


def migrate(session_dir: str | os.PathLike[str]) -> bool:
    """Bring a session's journal to the layout of this version. Its pilots must have ended, or end: their agents do not
    join a manager of this version.

    Returns:
        False when nothing was to be done.

    Raises:
        SessionError: there is no session in this folder, a manager uses it, a later version has made it, or its journal
            cannot be changed.
    """
    folder = SessionFolder.open(session_dir)
    try:
        with contextlib.closing(sqlite3.connect(folder.journal_path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            found = db.execute("SELECT value FROM session WHERE key = 'schema'").fetchone()
            schema = int(found[0]) if found else 0
            if schema > SCHEMA:
                raise SessionError(
                    f"the session {folder.path} was made by a later version of quantum-pilot", path=str(folder.path)
                )
            if schema < SCHEMA:
                _to_schema_1(db)
            db.execute("COMMIT")
    except sqlite3.Error as error:
        path = str(folder.journal_path)
        raise SessionError(f"the journal {path} cannot be changed: {error}", path=path) from error
    finally:
        folder.release()
    return schema < SCHEMA


def _to_schema_1(db: sqlite3.Connection) -> None:
    if "batch" not in {row[1] for row in db.execute("PRAGMA table_info(attempts)")}:
        db.execute("ALTER TABLE attempts ADD COLUMN batch INTEGER DEFAULT 0")
    db.execute("UPDATE attempts SET batch = 0 WHERE batch IS NULL")
    for table in ("pilot_changes", "attempts"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN change INTEGER DEFAULT 0")
    for change, reason in ((Change.RESTART, _RESTART), (Change.TAKEN, _TAKEN)):
        db.execute("UPDATE pilot_changes SET change = ? WHERE reason LIKE ?", (int(change), reason))
    db.execute("UPDATE attempts SET change = ? WHERE reason = ?", (int(Change.RETRY), _RETRY))
    db.execute("ALTER TABLE pilot_changes ADD COLUMN job INTEGER DEFAULT 0")
    plus = "instr(pilot, '+')"
    job, pilot = f"substr(pilot, {plus} + 1)", f"substr(pilot, 1, {plus} - 1)"
    db.execute(f"UPDATE pilot_changes SET job = {job}, pilot = {pilot} WHERE {plus}")
    _to_seconds(db)
    _to_error_columns(db)
    for id, code in db.execute("SELECT id, code FROM functions").fetchall():
        if any(name.encode() in code and module.encode() in code for module, name in _MOVED):
            moved = payload.dump_function(_Unpickler(io.BytesIO(code)).load())
            db.execute("UPDATE functions SET code = ? WHERE id = ?", (moved, id))
    db.execute("INSERT INTO session VALUES ('schema', ?)", (str(SCHEMA),))


def _to_seconds(db: sqlite3.Connection) -> None:
    """Version 0 had walltimes as durations (ISO 8601), and called a task's expected duration its walltime."""
    for id, encoded in db.execute("SELECT id, description FROM pilots").fetchall():
        description = msgspec.msgpack.decode(encoded)
        if isinstance(walltime := description.get("walltime"), str):
            description["walltime"] = msgspec.convert(walltime, timedelta).total_seconds()
            db.execute("UPDATE pilots SET description = ? WHERE id = ?", (msgspec.msgpack.encode(description), id))
    for id, encoded in db.execute("SELECT id, terms FROM terms").fetchall():
        terms = msgspec.msgpack.decode(encoded)
        terms["duration"] = terms.pop("walltime", None)
        db.execute("UPDATE terms SET terms = ? WHERE id = ?", (msgspec.msgpack.encode(terms), id))


def _to_error_columns(db: sqlite3.Connection) -> None:
    """Version 0 had errors as JSON: the name of the class, the reason, and where it came from."""
    db.execute("ALTER TABLE results RENAME COLUMN error TO json")
    for column in ("error INTEGER", "reason TEXT", "cause INTEGER", "first INTEGER", "links INTEGER"):
        db.execute(f"ALTER TABLE results ADD COLUMN {column}")
    for task, encoded in db.execute("SELECT task, json FROM results WHERE json IS NOT NULL").fetchall():
        name, *rest = msgspec.json.decode(encoded)
        code = next(code for code, kind in ERRORS.items() if kind.__name__ == name)
        db.execute(
            "UPDATE results SET error = ?, reason = ?, cause = ?, first = ?, links = ? WHERE task = ?",
            (int(code), *rest, *(None, None, 1)[len(rest) - 1 :], task),
        )
    db.execute("ALTER TABLE results DROP COLUMN json")
