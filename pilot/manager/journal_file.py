"""`JournalFile`: the SQLite file of a journal, as one who only reads it opens it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class JournalFile:
    """A file that nobody writes, or that another manager has, or opens meanwhile. Nothing in its folder changes.

    Without a log beside it (``-wal``) nobody writes it, and it is opened as immutable, which makes no log either. Then
    SQLite takes no lock, so that a manager may come and write: what was read meanwhile is read again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = path.with_name(f"{path.name}-wal")
        #: When it was written, where a connection was told that nobody writes it; None: SQLite looks itself.
        self._unchanged: tuple[int, int] | None = None

    def connect(self) -> sqlite3.Connection:
        """A connection that only reads. `is_current` is about the last one."""
        self._unchanged = self._mark_without_log()
        mode = "mode=ro" if self._unchanged is None else "immutable=1"
        return sqlite3.connect(f"{self.path.as_uri()}?{mode}", uri=True, check_same_thread=False, isolation_level=None)

    def is_current(self) -> bool:
        """False when a manager has come or gone since `connect`."""
        return self._mark_without_log() == self._unchanged

    def steady(self, read: Callable[[], T]) -> T:
        """What ``read`` returns, which reads from a connection that is current; it is called again when that was not
        current all the time."""
        while True:
            try:
                found = read()
            except Exception:
                if self.is_current():
                    raise
            else:
                if self.is_current():
                    return found

    def mark(self) -> tuple[int, int]:
        """When the file and its log were written last, in nanoseconds; 0: it is not there."""
        return _written(self.path), _written(self._log)

    def changed(self) -> float:
        """When one of them was written last: seconds since the epoch."""
        return max(self.mark()) / 1e9

    def _mark_without_log(self) -> tuple[int, int] | None:
        written = self.mark()
        return None if written[1] else written


def _written(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
