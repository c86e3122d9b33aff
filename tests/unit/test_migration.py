"""Sessions of other versions: refused with a sentence that says what to do, or brought to the layout of this one."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
import pytest

from pilot import PilotManager
from pilot.descriptions import PilotDescription
from pilot.errors import ErrorCode, SessionError
from pilot.manager.handles import Failed
from pilot.manager.migration import migrate
from pilot.manager.recorded import RecordedTasks
from pilot.manager.recovery import read
from pilot.manager.sqlite import SqliteJournal
from pilot.resources import PLAIN
from pilot.wire import payload
from pilot.worker.programs import run_executable

#: What the journal of version 0 had.
TABLES = """
CREATE TABLE session (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE pilots (id TEXT PRIMARY KEY, description BLOB, mark TEXT);
CREATE TABLE pilot_changes (pilot TEXT, state TEXT, reason TEXT, native_id TEXT, time REAL);
CREATE TABLE pilot_parents (pilot TEXT PRIMARY KEY, parent TEXT);
CREATE TABLE functions (id INTEGER PRIMARY KEY, digest TEXT, name TEXT, code BLOB);
CREATE TABLE terms (id INTEGER PRIMARY KEY, terms BLOB);
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, function INTEGER, payload BLOB, terms INTEGER, name TEXT, submitted REAL, needs BLOB);
CREATE TABLE attempts (task INTEGER, number INTEGER, pilot TEXT, worker TEXT, reason TEXT, ended REAL, batch INTEGER);
CREATE TABLE workers (worker TEXT PRIMARY KEY, node TEXT, host TEXT, gpus TEXT, qpu TEXT);
CREATE TABLE results (
    task INTEGER PRIMARY KEY, state TEXT, status INTEGER, pilot TEXT, worker TEXT, bound REAL, started REAL,
    seconds REAL, value BLOB, stdout TEXT, stderr TEXT, error TEXT);
"""


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session of version 0, with a pilot that was started again twice and taken away once."""
    folder = tmp_path / "session"
    PilotManager(folder).close()
    for file in folder.glob("journal.*"):
        file.unlink()
    code = b"\x80\x05\x8c\x11pilot.executables\x8c\x0erun_executable\x93."
    with contextlib.closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        db.executescript(TABLES)
        db.execute("INSERT INTO session VALUES ('path', ?)", (str(folder),))
        encode = msgspec.msgpack.encode
        description = msgspec.msgpack.decode(encode(PilotDescription(cores_per_node=1)))
        description["walltime"] = "PT90S"
        db.execute("INSERT INTO pilots VALUES ('pilot-1', ?, 'mark')", (encode(description),))
        for row in (("pilot-1+1", "4712"), ("pilot-1+2", "4713")):
            db.execute("INSERT INTO pilot_changes VALUES (?, 'queued', 'submitted', ?, 1.0)", row)
        db.execute("INSERT INTO pilot_changes VALUES ('pilot-1+2', 'done', 'over', NULL, 2.0)")
        for reason in (
            "submitted",
            "started again: lost",
            "started again: lost",
            "asked for again, the site took it: x",
        ):
            db.execute("INSERT INTO pilot_changes VALUES ('pilot-1', 'queued', ?, NULL, 1.0)", (reason,))
        db.execute("INSERT INTO functions VALUES (1, 'digest', 'run_executable', ?)", (code,))
        terms = msgspec.msgpack.decode(encode(PLAIN))
        terms.pop("duration")
        db.execute("INSERT INTO terms VALUES (1, ?)", (encode({**terms, "walltime": 60.0}),))
        for task, error in ((2, ("NoPilotError", "nobody")), (3, ("DependencyFailed", "it depends on 2", 2, 2, 1))):
            db.execute("INSERT INTO tasks VALUES (?, 1, x'', 1, 'date', 1.5, NULL)", (task,))
            row = (task, msgspec.json.encode(error).decode())
            db.execute("INSERT INTO results VALUES (?, 'failed', NULL, '', '', 0, NULL, NULL, NULL, '', '', ?)", row)
        db.execute("INSERT INTO tasks VALUES (1, 1, x'', 1, 'date', 1.5, NULL)")
        for number, reason in enumerate(("it raised", "worker w died", "it raised"), 1):
            row = (number, reason, None if number == 1 else number)
            db.execute("INSERT INTO attempts VALUES (1, ?, 'pilot-1', 'w', ?, 2.0, ?)", row)
        db.commit()
    return folder


def test_an_earlier_version_is_refused_until_it_is_migrated(session: Path) -> None:
    for _ in range(2):  # the refusal changes nothing
        with pytest.raises(
            SessionError, match=f"by an earlier version .*: `pilot sessions migrate {session}` prepares"
        ):
            PilotManager.attach(session)
    assert migrate(session)
    assert not migrate(session)
    journal = SqliteJournal(session / "journal.sqlite")
    restored = read(journal, session)
    failed = RecordedTasks(journal, WeakValueDictionary()).read(1, 99)
    journal.close()
    (pilot,), (task,), (function,) = restored.pilots, restored.tasks, restored.functions
    assert (pilot.started_again, pilot.taken, pilot.mark) == (2, 1, "mark")
    assert (pilot.description.walltime, pilot.further_jobs, task.terms.duration) == (90.0, {1: "4712"}, 60.0)
    assert [error for _, _, error, _ in failed] == [
        Failed(ErrorCode.NO_PILOT, "nobody"),
        Failed(ErrorCode.DEPENDENCY_FAILED, "it depends on 2", 2, 2, 1),
    ]
    assert (task.retries, [one.batch for one in task.attempts]) == (2, [0, 2, 3])
    assert (function.digest, payload.load(function.code)) == ("digest", run_executable)


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    PilotManager(tmp_path / "session").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "session/journal.sqlite")) as db:
        db.execute("UPDATE session SET value = '2' WHERE key = 'schema'")
        db.commit()
    for refused in (PilotManager.attach, migrate):
        with pytest.raises(SessionError, match="was made by a later version of quantum-pilot"):
            refused(tmp_path / "session")
