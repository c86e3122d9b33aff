"""Reads the journal of a session in an SQLite file; ``sqlite.py`` writes it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pilot.errors import SessionError
from pilot.manager.journal import AnyRow, JournalReader, Needs, ResultRow, TaskRow, unpack, unpack_needs
from pilot.results import Value


def connect_to_read(journal: Path) -> sqlite3.Connection:
    """A connection that only reads. Without a log beside it (``-wal``) nobody writes the file; to open it as immutable
    makes no log either."""
    mode = "mode=ro" if journal.with_name(f"{journal.name}-wal").exists() else "immutable=1"
    return sqlite3.connect(f"{journal.as_uri()}?{mode}", uri=True, check_same_thread=False, isolation_level=None)


class SqliteReader(JournalReader):
    """Reads over a connection of its own, which is made when it is needed. Any thread may call it."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self.name = str(path)
        self._connect = connect
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """In the block all is read as it is at one moment, whatever is written meanwhile."""
        with self._lock:
            self._execute("BEGIN")
            try:
                yield
            finally:
                self._execute("ROLLBACK")

    def forked(self) -> None:
        """A child must not use, nor close, a connection of its parent (sqlite.org, How To Corrupt, 2.6)."""
        self._lock = threading.RLock()
        self._inherited, self._connection = self._connection, None

    def close(self) -> None:
        """Close the connection. What is asked for afterwards gets another one: results are read as long as there are
        handles and the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _execute(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            try:
                self._connection = self._connection or self._connect()
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                text = f"the journal {self.name} cannot be read, or is damaged: {error}"
                raise SessionError(text, path=self.name) from error

    def commits(self) -> int:
        """How often the journal was committed."""
        commits: int = self._execute("PRAGMA user_version")[0][0]
        return commits

    # ---- all rows -----------------------------------------------------------------------------------------------

    def rows(self, kind: type[AnyRow]) -> list[AnyRow]:
        return self._select(kind, kind.__struct_fields__, "rowid")

    def tasks(self) -> list[TaskRow]:
        payload = "CASE WHEN id IN (SELECT task FROM results) THEN NULL ELSE payload END"
        columns = [payload if name == "payload" else name for name in TaskRow.__struct_fields__]
        return self._select(TaskRow, columns, "id")

    def results(self) -> list[ResultRow]:
        large = ("value", "stdout", "stderr")
        columns = ["NULL" if name in large else name for name in ResultRow.__struct_fields__]
        return self._select(ResultRow, columns, "task")

    def _select(self, kind: type[AnyRow], columns: Sequence[str], order: str) -> list[AnyRow]:
        found = self._execute(f"SELECT {','.join(columns)} FROM {kind.table} ORDER BY {order}")
        return [kind(*row) for row in found]

    # ---- single values ------------------------------------------------------------------------------------------

    def value(self, task: int) -> Value:
        found = self._execute("SELECT value FROM results WHERE task = ?", task)
        return unpack(found[0][0]) if found else None

    def output(self, task: int) -> tuple[str, str]:
        found = self._execute("SELECT stdout, stderr FROM results WHERE task = ?", task)
        return (found[0][0] or "", found[0][1] or "") if found else ("", "")

    def work(self, task: int) -> tuple[Value, Needs] | None:
        found = self._execute("SELECT payload, needs FROM tasks WHERE id = ?", task)
        return (unpack(found[0][0]), unpack_needs(found[0][1])) if found else None
