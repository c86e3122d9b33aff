"""Prepares the journal of a session that an earlier version of the library has made."""

from __future__ import annotations

import contextlib
import os
import pickletools
import sqlite3
import struct
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec

from pilot.errors import ERRORS, SessionError
from pilot.manager.journal import SCHEMA, Packed, pack, unpack
from pilot.results import RAISED, Failure, Spooled
from pilot.scheduling.records import Change
from pilot.wire.session import SessionFolder
from pilot.wire.spool import Spool

#: In the session's folder: the journal as it was before.
COPY = "journal.before-migration.sqlite"
#: How the reasons began, or what they were, that version 0 counted.
_RESTART, _TAKEN, _RETRY = "started again: %", "asked for again, the site took it: %", "it raised"
#: Modules of version 0 that pickles name, and where their functions and classes are now.
_MODULES = {
    "pilot.callables": "pilot.wire.callables",
    "pilot.exceptions": "pilot.wire.exceptions",
    "pilot.executables": "pilot.worker.programs",
    "pilot.mpi": "pilot.worker.mpi",
    "pilot.payload": "pilot.wire.payload",
    "pilot.pickles": "pilot.wire.pickles",
    "pilot.quantum.quasi": "pilot.quantum.outcomes",
}
_OLD_NAMES = [name.encode() for name in _MODULES]
_LENGTH = struct.Struct("<I")


def migrate(session_dir: str | os.PathLike[str]) -> bool:
    """Bring a session's journal to the layout of this version; `COPY` has it as it was. Its pilots must have ended, or
    end: their agents do not join a manager of this version.

    Returns:
        False when nothing was to be done.

    Raises:
        SessionError: there is no session in this folder, a manager uses it, a later version has made it, or its journal
            cannot be changed.
    """
    folder = SessionFolder.open(session_dir)
    try:
        with contextlib.closing(sqlite3.connect(folder.journal_path, isolation_level=None)) as db:
            found = db.execute("SELECT value FROM session WHERE key = 'schema'").fetchone()
            schema = int(found[0]) if found else 0
            if schema > SCHEMA:
                raise SessionError(
                    f"the session {folder.path} was made by a later version of quantum-pilot", path=str(folder.path)
                )
            if schema < SCHEMA:
                with contextlib.closing(sqlite3.connect(folder.path / COPY)) as copy:
                    db.backup(copy)
                db.execute("BEGIN IMMEDIATE")
                _to_schema_1(db, Spool(folder.spool))
                db.execute("COMMIT")
    except (sqlite3.Error, OSError, ValueError) as error:
        path = str(folder.journal_path)
        raise SessionError(f"the journal {path} cannot be changed: {error}", path=path) from error
    finally:
        folder.lock.release()
    return schema < SCHEMA


def _to_schema_1(db: sqlite3.Connection, spool: Spool) -> None:
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
    _to_error_columns(db)
    _rewrite(db, "pilots", "description", _with_seconds)
    _rewrite(db, "terms", "terms", _with_duration)
    _rewrite(db, "functions", "code", _moved)
    _rewrite(db, "tasks", "payload", lambda value: _moved_value(value, spool))
    _rewrite(db, "results", "value", lambda value: _moved_value(value, spool), f"status IS NOT {RAISED}")
    _rewrite(db, "results", "value", _moved_failure, f"status = {RAISED}")
    db.execute("INSERT INTO session VALUES ('schema', ?)", (str(SCHEMA),))


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


def _rewrite(
    db: sqlite3.Connection, table: str, column: str, change: Callable[[Any], Any], condition: str = "TRUE"
) -> None:
    """Change the values of a column that are there, one at a time: they may be large, and many."""
    wanted = f"SELECT rowid FROM {table} WHERE {column} IS NOT NULL AND {condition}"
    for (row,) in db.execute(wanted).fetchall():
        (before,) = db.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)).fetchone()
        after = change(before)
        if after != before:
            db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (after, row))


# ---- values ---------------------------------------------------------------------------------------------------------


def _with_seconds(description: bytes) -> bytes:
    """A pilot's walltime was a text of ISO 8601."""
    fields = msgspec.msgpack.decode(description)
    if isinstance(fields["walltime"], str):
        fields["walltime"] = msgspec.convert(fields["walltime"], timedelta).total_seconds()
    return msgspec.msgpack.encode(fields)


def _with_duration(terms: bytes) -> bytes:
    """A task's duration was called walltime."""
    fields = msgspec.msgpack.decode(terms)
    return msgspec.msgpack.encode({"duration" if name == "walltime" else name: fields[name] for name in fields})


def _moved_value(value: Packed, spool: Spool) -> Packed:
    """A pickle, or the file that has one. The copy of the journal still names the file as it was."""
    if not isinstance(value, str):
        return None if value is None else _moved(value)
    file = unpack(value)
    assert isinstance(file, Spooled)
    if not spool.path(file.path).exists():
        return value
    data, *buffers = spool.read(file)
    after = _moved(bytes(data))
    return value if after == data else pack(Spooled(spool.write([memoryview(after), *buffers]), file.size))


def _moved_failure(value: bytes) -> bytes:
    failure = msgspec.msgpack.decode(value, type=Failure)
    if failure.pickled is None:
        return value
    return msgspec.msgpack.encode(msgspec.structs.replace(failure, pickled=_moved(failure.pickled)))


def _moved(data: bytes) -> bytes:
    """A pickle that names the modules of now. Nothing of it is loaded."""
    if not any(name in data for name in _OLD_NAMES):
        return data
    return b"".join(_parts(data))


def _parts(data: bytes) -> Iterator[bytes]:
    operations = [(code.name, argument, at or 0) for code, argument, at in pickletools.genops(data)]
    ends = [at for _, _, at in operations[1:]] + [len(data)]
    for (name, argument, at), end in zip(operations, ends, strict=True):
        if name in ("SHORT_BINUNICODE", "BINUNICODE") and argument in _MODULES:
            text = _MODULES[argument].encode()
            yield b"X" + _LENGTH.pack(len(text)) + text
        elif name != "FRAME":  # its length would not be right any more, and none is needed
            yield data[at:end]
