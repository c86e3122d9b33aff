"""Reads the journal of a session in an SQLite file; ``sqlite.py`` writes it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pilot.errors import ErrorCode, SessionError
from pilot.manager.journal import (
    AnyRow,
    AttemptRow,
    EndedRows,
    JournalReader,
    Needs,
    ResultRow,
    Row,
    TaskRow,
    unpack,
    unpack_needs,
)
from pilot.manager.journal_file import JournalFile
from pilot.results import OK, Value
from pilot.states import TaskState

T = TypeVar("T")


#: In a forked child, the connections of its parent: they would be closed when nothing refers to them.
INHERITED: list[sqlite3.Connection] = []
#: Of a task that has ended: all columns but the large ones.
_LARGE = ("payload", "value", "stdout", "stderr")
_ENDED = "SELECT {} FROM results JOIN tasks ON tasks.id = task".format(
    ",".join(
        "NULL" if name in _LARGE else f"{kind.table}.{name}"
        for kind in (TaskRow, ResultRow)
        for name in kind.__struct_fields__
    )
)


#: True for a task that has ended and cannot be read: its handle is made when somebody asks for it.
_IS_DAMAGED = "coalesce({}, 0)".format(
    " OR ".join(
        (
            f"results.state NOT IN ({','.join(repr(state.value) for state in TaskState)})",
            "function NOT IN (SELECT id FROM functions)",
            "terms NOT IN (SELECT id FROM terms)",
            f"error NOT IN ({','.join(str(int(code)) for code in ErrorCode)})",
            "error IS NULL AND typeof(status) != 'integer'",
            "error IS NULL AND (typeof(started) != 'real' OR typeof(seconds) != 'real')",
            "typeof(bound) != 'real' OR typeof(submitted) != 'real'",
        )
    )
)


class SqliteReader(JournalReader):
    """Reads over a connection of its own, which is made when it is needed. Any thread may call it."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self.name = str(path)
        self._connect = connect
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        #: By kind of rows, the columns that were found.
        self._found_columns: dict[type[Row], list[str]] = {}

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()  # made after `close`

    def forked(self) -> None:
        """A child must not use, nor close, a connection of its parent (sqlite.org, How To Corrupt, 2.6)."""
        self._lock = threading.RLock()
        if self._connection is not None:
            INHERITED.append(self._connection)
        self._connection = None

    def close(self) -> None:
        """Close the connection. What is asked for afterwards gets another one: results are read as long as there are
        handles and the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def query(self, sql: str, *values: Any) -> list[Any]:
        """All rows of a statement.

        Raises:
            SessionError: the journal cannot be read.
        """
        with self._lock:
            try:
                self._connection = self._connection or self._connect()
                return self._connection.execute(sql, values).fetchall()
            except (sqlite3.Error, UnicodeError) as error:
                text = f"the journal {self.name} cannot be read, or is damaged: {error}"
                if not Path(self.name).exists():
                    text = (
                        f"the session {Path(self.name).parent} is not there any more; that of a manager without a "
                        "session_dir is removed by close(): ask for results before, or keep the task"
                    )
                raise SessionError(text, path=self.name) from error

    def commits(self) -> int:
        """How often the journal was committed."""
        commits: int = self.query("PRAGMA user_version")[0][0]
        return commits

    # ---- all rows -----------------------------------------------------------------------------------------------

    def columns(self, kind: type[Row]) -> list[str]:
        """The columns that there are for rows of a kind: an earlier version kept no such rows, or not the last ones."""
        if not (known := self._found_columns.get(kind)):
            there = {name for (name,) in self.query("SELECT name FROM pragma_table_info(?)", kind.table)}
            known = self._found_columns[kind] = [name for name in kind.__struct_fields__ if name in there]
        return known

    def _some(self, kind: type[AnyRow], condition: str = "TRUE", *values: Any) -> list[AnyRow]:
        """The rows of a kind for which something is true, in the order in which they were handed over."""
        if not (names := self.columns(kind)):
            return []
        found = self.query(f"SELECT {','.join(names)} FROM {kind.table} WHERE {condition} ORDER BY rowid", *values)
        return [kind(*row) for row in found]

    def rows(self, kind: type[AnyRow]) -> list[AnyRow]:
        return self._some(kind)

    def unfinished(self) -> list[TaskRow]:
        columns = ",".join(TaskRow.__struct_fields__)
        found = self.query(f"SELECT {columns} FROM tasks WHERE id NOT IN (SELECT task FROM results) ORDER BY id")
        return [TaskRow(*row) for row in found]

    def ended(self) -> list[int]:
        both = "FROM results JOIN tasks ON id = task"
        for (id,) in self.query(f"SELECT task {both} WHERE {_IS_DAMAGED} LIMIT 1"):
            raise SessionError(f"the journal {self.name} is damaged: the rows of task {id}", path=self.name)
        return [id for (id,) in self.query(f"SELECT task {both} ORDER BY task")]

    def not_done(self) -> list[tuple[int, TaskState]]:
        found = self.query(f"SELECT task, state FROM results WHERE state != '{TaskState.DONE.value}'")
        return [(id, TaskState(state)) for id, state in found]

    def kept_arguments(self) -> list[Value]:
        failed = f"SELECT task FROM results WHERE status IS NOT {OK}"
        found = self.query(f"SELECT payload FROM tasks WHERE id IN ({failed}) AND typeof(payload) = 'text'")
        return [unpack(payload) for (payload,) in found]

    def needs(self) -> dict[int, tuple[int, ...]]:
        """Of each task that needs others, their ids."""
        found = self.query("SELECT id, needs FROM tasks WHERE needs IS NOT NULL")
        return {id: tuple(unpack_needs(needs)) for id, needs in found}

    def runs(self) -> list[tuple[int, float, str | None, str | None, float | None, float | None, int, str | None]]:
        """Of each task: id, when it was submitted, pilot, worker, when it began, seconds that it ran, the number of its
        terms, and its state; what is not known is None. In the order of ids."""
        return self.query(
            "SELECT id, submitted, results.pilot, results.worker, started, seconds, terms, state "
            "FROM tasks LEFT JOIN results ON task = id ORDER BY id"
        )

    # ---- single rows and values -----------------------------------------------------------------------------------

    def row(self, kind: type[AnyRow], key: int | str) -> AnyRow | None:
        names = kind.__struct_fields__
        found = self.query(f"SELECT {','.join(names)} FROM {kind.table} WHERE {names[0]} = ?", key)
        return kind(*found[0]) if found else None

    def ended_between(self, first: int, last: int) -> list[EndedRows]:
        attempts: dict[int, list[AttemptRow]] = {}
        for one in self._some(AttemptRow, "task BETWEEN ? AND ?", first, last):
            attempts.setdefault(one.task, []).append(one)
        keys = dict(self.query("SELECT task, key FROM keys WHERE task BETWEEN ? AND ?", first, last))
        width = len(TaskRow.__struct_fields__)
        return [
            EndedRows(TaskRow(*row[:width]), ResultRow(*row[width:]), attempts.get(row[0], []), keys.get(row[0]))
            for row in self.query(f"{_ENDED} WHERE task BETWEEN ? AND ? ORDER BY task", first, last)
        ]

    def value(self, task: int) -> Value:
        found = self.query("SELECT value FROM results WHERE task = ?", task)
        return unpack(found[0][0]) if found else None

    def output(self, task: int) -> tuple[str, str]:
        found = self.query("SELECT stdout, stderr FROM results WHERE task = ?", task)
        return (found[0][0] or "", found[0][1] or "") if found else ("", "")

    def work(self, task: int) -> tuple[Value, Needs] | None:
        found = self.query("SELECT payload, needs FROM tasks WHERE id = ?", task)
        return (unpack(found[0][0]), unpack_needs(found[0][1])) if found else None


class FileReader(SqliteReader):
    """Reads the journal of a session that another manager may have, or open meanwhile; changes nothing."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFile(path)
        super().__init__(path, self._file.connect)

    def query(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            if self._connection is not None and self._connection.in_transaction:
                return super().query(sql, *values)
            return self._steady(partial(super().query, sql, *values))

    def at_one_moment(self, read: Callable[[], T]) -> T:
        """What ``read`` returns. All that it reads is as it is at one moment, whatever is written meanwhile; it is
        called again when a manager comes meanwhile."""
        with self._lock:
            return self._steady(partial(self._in_transaction, read))

    def mark(self) -> tuple[int, int]:
        """As `JournalFile.mark`."""
        return self._file.mark()

    def _in_transaction(self, read: Callable[[], T]) -> T:
        super().query("BEGIN")
        try:
            return read()
        finally:
            super().query("ROLLBACK")

    def _steady(self, read: Callable[[], T]) -> T:
        return self._file.steady(partial(self._anew, read))

    def _anew(self, read: Callable[[], T]) -> T:
        """When a manager has come or gone, the file has to be opened anew: SQLite keeps the pages of one that it was
        told nobody writes."""
        if not self._file.is_current():
            self.close()
        return read()
