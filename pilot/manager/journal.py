"""The SQLite record of a session: pilots, functions, tasks, attempts and results. What a restart reads.

One thread writes, and commits at most `COMMIT_SECONDS` after a row was handed over; others hand rows over without
waiting. Rows go in by statements of many rows: one that takes them one by one gives the interpreter lock back for each.
A full disk stops no task: the rows are kept and tried again, and what they would acknowledge is not acknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from pilot.descriptions import PilotDescription
from pilot.errors import SessionError
from pilot.resources import Terms
from pilot.results import Attempt, Outcome, Spooled, Value

log = logging.getLogger(__name__)

#: Rows wait this long at most for others to be committed with.
COMMIT_SECONDS = 0.03
#: Seconds between two tries when the disk is full.
RETRY_SECONDS = 1.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS pilots (id TEXT PRIMARY KEY, description BLOB, mark TEXT);
CREATE TABLE IF NOT EXISTS pilot_changes (pilot TEXT, state TEXT, reason TEXT, native_id TEXT, time REAL);
CREATE TABLE IF NOT EXISTS pilot_parents (pilot TEXT PRIMARY KEY, parent TEXT);
CREATE TABLE IF NOT EXISTS functions (id INTEGER PRIMARY KEY, digest TEXT, name TEXT, code BLOB);
CREATE TABLE IF NOT EXISTS terms (id INTEGER PRIMARY KEY, terms BLOB);
CREATE TABLE IF NOT EXISTS tasks (
    id INTEGER PRIMARY KEY, function INTEGER, payload BLOB, terms INTEGER, name TEXT, submitted REAL, needs BLOB);
CREATE TABLE IF NOT EXISTS attempts (
    task INTEGER, number INTEGER, pilot TEXT, worker TEXT, reason TEXT, ended REAL, batch INTEGER);
CREATE TABLE IF NOT EXISTS workers (worker TEXT PRIMARY KEY, node TEXT, host TEXT, gpus TEXT, qpu TEXT);
CREATE TABLE IF NOT EXISTS results (
    task INTEGER PRIMARY KEY, state TEXT, status INTEGER, pilot TEXT, worker TEXT, bound REAL, started REAL,
    seconds REAL, value BLOB, stdout TEXT, stderr TEXT, error TEXT);
"""

#: Columns that came later.
_ADDED = [("attempts", "batch INTEGER")]
#: Columns of each table, in the order of the rows that are handed over.
_COLUMNS = {
    "session": 2,
    "pilots": 3,
    "pilot_changes": 5,
    "pilot_parents": 2,
    "functions": 4,
    "terms": 2,
    "tasks": 7,
    "attempts": 7,
    "workers": 5,
    "results": 12,
}
_CHUNKS = (256, 32, 1)
#: What a row raises that no second try will write.
_NEVER = (UnicodeError, OverflowError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)

_encode = msgspec.msgpack.Encoder().encode
_decode_spooled = msgspec.msgpack.Decoder(Spooled).decode
_decode_needs = msgspec.msgpack.Decoder(dict[int, bool | int]).decode


class TaskRow(msgspec.Struct, frozen=True):
    """An unfinished task, as an attached manager needs it."""

    id: int
    function: int
    payload: Value
    terms: int
    name: str | None
    submitted: float
    needs: dict[int, bool | int] | None


class ResultRow(msgspec.Struct, frozen=True):
    """A finished task, with its description, for the record."""

    id: int
    function: int
    terms: int
    name: str | None
    submitted: float
    state: str
    status: int
    pilot: str | None
    worker: str | None
    bound: float
    started: float
    seconds: float
    error: str | None


class WorkerRow(msgspec.Struct, frozen=True):
    """Where a worker was, and the GPUs and the QPU that it had."""

    node: str
    host: str
    gpus: tuple[str, ...]
    qpu: str | None


class Recorded(Outcome, frozen=True, array_like=True, gc=False):
    """An outcome whose value and output are in the journal only."""


class Journal:
    """Writes and reads the record of one session."""

    def __init__(self, path: Path) -> None:
        """Open or make the journal.

        Raises:
            SessionError: the file cannot be used.
        """
        self.name = str(path)
        self._rows: dict[str, deque[tuple[Any, ...]]] = {table: deque() for table in _COLUMNS}
        self._marks: deque[Any] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._trouble: str | None = None
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=10000"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
            for table, column in _ADDED:  # the session may be of a version that did not have them
                if column.split()[0] not in {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}:
                    self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
        except sqlite3.Error as error:
            raise SessionError(f"the journal {path} cannot be used: {error}", path=str(path)) from error
        self._reader = _Reader(path)
        self._thread: threading.Thread | None = None

    def start(self, on_commit: Callable[[list[Any]], None]) -> None:
        """Start the thread that writes.

        Args:
            on_commit: called in that thread with the marks (see `mark`) whose rows are committed.
        """
        self._on_commit = on_commit
        self._thread = threading.Thread(target=self._run, name="pilot-journal", daemon=True)
        self._thread.start()

    # ---- writing --------------------------------------------------------------------------------------------

    def put(self, table: str, row: tuple[Any, ...]) -> None:
        """Hand over a row of one table."""
        self._rows[table].append(row)
        if not self._wake.is_set():
            self._wake.set()

    def extend(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """Hand over many rows of one table."""
        self._rows[table].extend(rows)
        if not self._wake.is_set():
            self._wake.set()

    def mark(self, mark: Any) -> None:
        """Hand over a mark: when every row before it is committed it is called in the journal's thread, if it can be
        called, else handed to ``on_commit``."""
        self._marks.append(mark)
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Block until all that was handed over is committed; False when that takes longer. Not in the thread that
        `on_commit` waits for."""
        done = threading.Event()
        self.mark(done.set)
        return done.wait(timeout)

    def close(self) -> None:
        """Commit what was handed over (one try) and close. Blocks."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._db.close()
        self._reader.close()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._closing:
                time.sleep(COMMIT_SECONDS)
            self._wake.clear()
            marks = [self._marks.popleft() for _ in range(len(self._marks))]
            # results before tasks before functions: others go on handing over, and no row may come before its parent
            rows = {table: _drain(queue) for table, queue in reversed(self._rows.items()) if queue}
            while not self._commit(rows) and not self._closing:
                time.sleep(RETRY_SECONDS)
            if marks and self._trouble is None:
                if others := [mark for mark in marks if not callable(mark)]:
                    self._on_commit(others)
                for mark in marks:
                    if callable(mark):
                        mark()
            if self._closing and not any(self._rows.values()):
                return

    def _commit(self, rows: dict[str, list[tuple[Any, ...]]]) -> bool:
        try:
            if rows:
                if self._db.in_transaction:  # the roll-back failed as well
                    self._db.execute("ROLLBACK")
                self._db.execute("BEGIN")
                for table, values in rows.items():
                    self._insert(table, values)
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # the next try says what is wrong
                    self._db.execute("ROLLBACK")
            if self._trouble is None:
                log.error(
                    "the journal %s cannot be written (%s): results are kept in memory until it can",
                    self.name,
                    error,
                )
            self._trouble = str(error)
            return False
        if self._trouble is not None:
            log.warning("the journal %s can be written again", self.name)
        self._trouble = None
        return True

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        at, one = 0, f"({','.join('?' * _COLUMNS[table])})"
        for size in _CHUNKS:
            sql = f"INSERT OR REPLACE INTO {table} VALUES {','.join([one] * size)}"
            while len(rows) - at >= size:
                try:
                    self._db.execute(sql, tuple(chain.from_iterable(rows[at : at + size])))
                except _NEVER as error:
                    if size > 1:
                        break  # one of them is it
                    log.error("a row of %s cannot be written and is left out: %s", table, error)
                at += size

    # ---- reading (an attach, a record; never on the way of a task) -------------------------------------------

    def pilots(self) -> Iterator[tuple[str, PilotDescription, str, str, str | None]]:
        """Every pilot: id, description, mark, last state, native id of its last job."""
        for id, data, mark in self._db.execute("SELECT id, description, mark FROM pilots ORDER BY rowid").fetchall():
            changes = self._db.execute(
                "SELECT state, native_id FROM pilot_changes WHERE pilot = ? ORDER BY rowid", (id,)
            ).fetchall()
            natives = [native for _, native in changes if native]
            description = msgspec.msgpack.decode(data, type=PilotDescription)
            yield (
                id,
                description,
                mark,
                changes[-1][0] if changes else "new",
                natives[-1] if natives else None,
            )

    def parents(self) -> dict[str, str]:
        """The pilots that others take over from: successor → predecessor."""
        return dict(self._db.execute("SELECT pilot, parent FROM pilot_parents").fetchall())

    def changes(self, pilot: str) -> list[tuple[str, str, str | None]]:
        """What became of a pilot: states with their reasons, and the native ids of jobs as they became known."""
        sql = "SELECT state, reason, native_id FROM pilot_changes WHERE pilot = ? ORDER BY rowid"
        return self._db.execute(sql, (pilot,)).fetchall()

    def further_jobs(self, pilot: str) -> dict[str, str | None]:
        """The jobs of nodes that were added to a pilot (``PILOT+1``): native ids, None for those that have ended."""
        sql = "SELECT pilot, native_id FROM pilot_changes WHERE pilot GLOB ? ORDER BY rowid"
        return dict(self._db.execute(sql, (f"{pilot}+*",)).fetchall())

    def functions(self) -> list[tuple[int, str, str, bytes]]:
        """Every function: id, digest, name, code."""
        return self._db.execute("SELECT id, digest, name, code FROM functions").fetchall()

    def terms(self) -> dict[int, Terms]:
        """Every `Terms` by id."""
        rows = self._db.execute("SELECT id, terms FROM terms").fetchall()
        return {id: msgspec.msgpack.decode(data, type=Terms) for id, data in rows}

    def unfinished(self) -> list[TaskRow]:
        """Every task without a result, by id."""
        rows = self._db.execute(
            "SELECT id, function, payload, terms, name, submitted, needs FROM tasks "
            "WHERE id NOT IN (SELECT task FROM results) ORDER BY id"
        )
        return [
            TaskRow(id, function, unpack(payload), terms, name, submitted, _decode_needs(needs) if needs else None)
            for id, function, payload, terms, name, submitted, needs in rows
        ]

    def finished(self) -> list[ResultRow]:
        """Every task that has a result, by id."""
        rows = self._db.execute(
            "SELECT id, function, terms, name, submitted, state, status, pilot, worker, bound, started, seconds, error "
            "FROM tasks JOIN results ON id = task ORDER BY id"
        )
        return [ResultRow(*row) for row in rows]

    def attempts(self) -> dict[int, list[Attempt]]:
        """The attempts that did not count, by task."""
        found: dict[int, list[Attempt]] = {}
        for id, number, pilot, worker, reason, ended, batch in self._db.execute(
            "SELECT task, number, pilot, worker, reason, ended, batch FROM attempts ORDER BY rowid"
        ):
            attempt = Attempt(number=number, pilot=pilot, worker=worker, reason=reason, ended=ended, batch=batch or 0)
            found.setdefault(id, []).append(attempt)
        return found

    def workers(self) -> dict[str, WorkerRow]:
        """Every worker of which an outcome came, by name."""
        rows = self._db.execute("SELECT worker, node, host, gpus, qpu FROM workers")
        return {worker: WorkerRow(node, host, tuple(gpus.split()), qpu) for worker, node, host, gpus, qpu in rows}

    def session(self) -> dict[str, str]:
        """What is known of the session itself."""
        return dict(self._db.execute("SELECT key, value FROM session").fetchall())

    def last_task(self) -> int:
        """The highest id given to a task."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM tasks").fetchone()[0])

    # ---- reading single rows, from any thread -----------------------------------------------------------------

    def value(self, task: int) -> Value:
        """The value of a finished task.

        Raises:
            SessionError: the journal cannot be read, also in `output` and `work`.
        """
        row = self._reader.fetch("SELECT value FROM results WHERE task = ?", task)
        return unpack(row[0]) if row else None

    def output(self, task: int) -> tuple[str, str]:
        """What a finished task wrote: stdout, stderr."""
        row = self._reader.fetch("SELECT stdout, stderr FROM results WHERE task = ?", task)
        return (row[0] or "", row[1] or "") if row else ("", "")

    def work(self, task: int) -> tuple[Value, dict[int, bool | int]] | None:
        """The arguments of a task, and what it needs, as in `TaskRow`; None when it is not committed."""
        row = self._reader.fetch("SELECT payload, needs FROM tasks WHERE id = ?", task)
        return (unpack(row[0]), _decode_needs(row[1]) if row[1] else {}) if row else None

    def forked(self) -> None:
        """In a forked child, which must not use a connection of before (sqlite.org, How To Corrupt, 2.6)."""
        self._reader.forked()


class _Reader:
    """Reads single rows, from any thread, over a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = self._connect()
        self._inherited: sqlite3.Connection | None = None

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)

    def forked(self) -> None:
        self._lock = threading.Lock()
        self._inherited, self._db = self._db, None  # not closed either

    def fetch(self, sql: str, task: int) -> Any:
        try:
            with self._lock:
                self._db = self._db or self._connect()
                return self._db.execute(sql, (task,)).fetchone()
        except sqlite3.Error as error:
            path = str(self._path)
            raise SessionError(f"task {task} cannot be read from the journal {path}: {error}", path=path) from error

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()


def pack(value: Value) -> bytes | str | None:
    """A value as one column: a file's path and size go in as text, so that they differ from a pickle."""
    return _encode(value).hex() if isinstance(value, Spooled) else value


def unpack(column: bytes | str | None) -> Value:
    """What `pack` took."""
    return _decode_spooled(bytes.fromhex(column)) if isinstance(column, str) else column


def _drain(queue: deque[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [queue.popleft() for _ in range(len(queue))]
