"""The journal of a session in an SQLite file.

One thread writes, and commits at most `COMMIT_SECONDS` after a row was handed over; others hand rows over without
waiting. Rows go in by statements of many rows: one that takes them one by one gives the interpreter lock back for each.
A full disk stops no task: the rows are kept and tried again, and what they would acknowledge is not acknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, get_args

from msgspec.structs import astuple, fields

from pilot.errors import SessionError
from pilot.manager.commit_count import CommitCount, read_count, tell_lost
from pilot.manager.journal import KINDS, OF_TASKS, SCHEMA, Journal, Row, SessionRow
from pilot.manager.sqlite_reader import INHERITED, SqliteReader

log = logging.getLogger(__name__)

#: Rows wait this long at most for others to be committed with.
COMMIT_SECONDS = 0.03
#: The same, when something waits for the commit.
SOON_SECONDS = 0.001
#: Seconds between two tries when the disk is full.
RETRY_SECONDS = 1.0
#: Rows of one statement.
_CHUNKS = (256, 32, 1)
#: What a row raises that no second try will write.
_NEVER = (UnicodeError, OverflowError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
_Item = TypeVar("_Item")
if sys.version_info < (3, 12):  # else it looks for their adapters by an AttributeError for each column of each row
    sqlite3.register_adapter(type(None), {None: None}.get)
    sqlite3.register_adapter(bytes, bytes)
_TYPES = {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}


def _columns(kind: type[Row]) -> dict[str, str]:
    """Name and SQL type of each column."""
    columns = {}
    for field in fields(kind):
        kinds = get_args(field.type) or (field.type,)
        columns[field.name] = "BLOB" if bytes in kinds else _TYPES[kinds[0]]
    return columns


class SqliteJournal(SqliteReader, Journal):
    """A `Journal` in a file."""

    def __init__(self, path: Path, *, is_there: bool = False) -> None:
        """Open or make the file.

        Args:
            path: the file.
            is_there: it has the journal of a session; else it is made when it is not there.

        Raises:
            SessionError: the file cannot be used; a journal that has to be there is empty, or has lost commits.
        """
        super().__init__(path, partial(sqlite3.connect, path, check_same_thread=False, isolation_level=None))
        self._rows: dict[type[Row], deque[Row]] = {kind: deque() for kind in KINDS}
        self._marks: deque[Any] = deque()
        #: Tasks whose rows are to be removed.
        self._forgotten: deque[int] = deque()
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        self.trouble: str | None = None
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            with contextlib.ExitStack() as undo:
                undo.callback(super().close)
                undo.callback(self._db.close)
                self._open(is_there)
                self._count = CommitCount(path)
                self._commits = self._db.execute("PRAGMA user_version").fetchone()[0]
                undo.callback(self._count.close)
                if is_there and (lost := tell_lost(path, read_count(path), self._commits)):
                    raise SessionError(lost, path=self.name)
                undo.pop_all()
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise SessionError(f"the journal {path} cannot be used: {error}", path=self.name) from error
        self._thread: threading.Thread | None = None

    def _open(self, is_there: bool) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=10000"):
            self._db.execute(f"PRAGMA {pragma}")
        present = {name for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if is_there and SessionRow.table not in present:
            raise SessionError(
                f"the journal {self.name} is empty or damaged: put it back from a copy, with the file {self.name}-wal "
                "of the same moment; or begin a new session",
                path=self.name,
            )
        if not present >= {kind.table for kind in KINDS}:
            self._make_tables(is_new=not present)
        self._add_columns(present)
        for kind, column in OF_TASKS.items():
            if not kind.keyed or kind.__struct_fields__[0] != column:  # else it is the key
                self._db.execute(f"CREATE INDEX IF NOT EXISTS {kind.table}_of ON {kind.table} (task)")

    def _make_tables(self, is_new: bool) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for kind in KINDS:
            key = " PRIMARY KEY" if kind.keyed else ""
            first, *others = (f"{name} {type}" for name, type in _columns(kind).items())
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {kind.table} ({', '.join([first + key, *others])})")
        if is_new:
            self._insert(SessionRow, [SessionRow("schema", str(SCHEMA))])
        self._db.execute("COMMIT")

    def _add_columns(self, tables: set[str]) -> None:
        """Those that an earlier version of this layout did not have. A journal of another layout stays as it is."""
        if SessionRow.table not in tables or self._is_of_another_layout():
            return
        for kind in KINDS:
            there = self.columns(kind)
            for name, type in _columns(kind).items():
                if name not in there:
                    self._db.execute(f"ALTER TABLE {kind.table} ADD COLUMN {name} {type}")
        self._found_columns.clear()

    def _is_of_another_layout(self) -> bool:
        found = self._db.execute("SELECT value FROM session WHERE key = 'schema'").fetchone()
        return found is None or found[0] != str(SCHEMA)

    def start(self, on_commit: Callable[[list[Any]], None]) -> None:
        self._on_commit = on_commit
        self._thread = threading.Thread(target=self._run, name="pilot-journal", daemon=True)
        self._thread.start()

    # ---- writing --------------------------------------------------------------------------------------------

    def put(self, row: Row) -> None:
        self._rows[type(row)].append(row)
        if not self._wake.is_set():
            self._wake.set()

    def extend(self, rows: Sequence[Row]) -> None:
        if rows:
            self._rows[type(rows[0])].extend(rows)
            if not self._wake.is_set():
                self._wake.set()

    def mark(self, mark: Any, *, soon: bool = False) -> None:
        self._marks.append(mark)
        if soon:
            self._hurry.set()
        self._wake.set()

    def forget(self, tasks: Sequence[int]) -> None:
        self._forgotten.extend(tasks)
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        done = threading.Event()
        self.mark(done.set)
        return done.wait(timeout)

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._db.close()
        self._count.close()
        super().close()

    def forked(self) -> None:
        super().forked()
        INHERITED.append(self._db)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._closing and self._hurry.wait(COMMIT_SECONDS):
                time.sleep(SOON_SECONDS)
            self._wake.clear()
            self._hurry.clear()
            marks = _drain(self._marks)
            forgotten = _drain(self._forgotten)
            # results before tasks before functions: others go on handing over, and no row may come before its parent
            rows = {kind: _drain(queue) for kind, queue in reversed(self._rows.items()) if queue}
            _leave_out(rows, forgotten)
            while not self._commit(rows, forgotten) and not self._closing:
                time.sleep(RETRY_SECONDS)
            if marks and self.trouble is None:
                self._hand_back(marks)
            rows, marks, forgotten = {}, [], []  # there may be 100,000 of them, and nothing may come for long
            if self._closing and not (self._forgotten or any(self._rows.values())):
                return

    def _hand_back(self, marks: list[Any]) -> None:
        """What comes before these marks is committed. Whatever one does, the others come, and further rows are
        written."""
        calls = [mark for mark in marks if callable(mark)]
        if others := [mark for mark in marks if not callable(mark)]:
            calls.insert(0, partial(self._on_commit, others))
        for call in calls:
            try:
                call()
            except BaseException:
                log.exception("what waited for a commit cannot be told of it")

    def _commit(self, rows: dict[type[Row], list[Row]], forgotten: list[int]) -> bool:
        try:
            if rows or forgotten:
                if self._db.in_transaction:  # the roll-back failed as well
                    self._db.execute("ROLLBACK")
                self._db.execute("BEGIN")
                for kind, values in rows.items():
                    self._insert(kind, values)
                self._delete(forgotten)
                self._db.execute(f"PRAGMA user_version = {self._commits + 1}")
                self._db.execute("COMMIT")
                self._commits += 1
                self._count.write(self._commits)
        except Exception as error:  # of SQLite; or there is no memory: whatever it is, the thread goes on
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # the next try says what is wrong
                    self._db.execute("ROLLBACK")
            if self.trouble is None:
                log.error(
                    "the journal %s cannot be written (%s): results are kept in memory until it can", self.name, error
                )
            self.trouble = str(error)
            return False
        if self.trouble is not None:
            log.warning("the journal %s can be written again", self.name)
        self.trouble = None
        return True

    def _insert(self, kind: type[Row], rows: list[Row]) -> None:
        names = kind.__struct_fields__
        at, one = 0, f"({','.join('?' * len(names))})"
        for size in _CHUNKS:
            sql = f"INSERT OR REPLACE INTO {kind.table} ({','.join(names)}) VALUES {','.join([one] * size)}"
            while len(rows) - at >= size:
                try:
                    self._db.execute(sql, tuple(chain.from_iterable(map(astuple, rows[at : at + size]))))
                except _NEVER as error:
                    if size > 1:
                        break  # one of them is it
                    log.error("a row of %s cannot be written and is left out: %s", kind.table, error)
                at += size

    def _delete(self, tasks: list[int]) -> None:
        for at in range(0, len(tasks), _CHUNKS[0]):
            chunk = tasks[at : at + _CHUNKS[0]]
            for kind, column in OF_TASKS.items():
                self._db.execute(f"DELETE FROM {kind.table} WHERE {column} IN ({','.join('?' * len(chunk))})", chunk)


def _leave_out(rows: dict[type[Row], list[Row]], tasks: list[int]) -> None:
    """Tasks that were forgotten before they were written: in a stream these are most."""
    if tasks:
        gone = set(tasks)
        for kind, column in OF_TASKS.items():
            if kind in rows:
                id_of = attrgetter(column)
                rows[kind] = [row for row in rows[kind] if id_of(row) not in gone]


def _drain(queue: deque[_Item]) -> list[_Item]:
    return [queue.popleft() for _ in range(len(queue))]
