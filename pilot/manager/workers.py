"""`Workers`: where the workers of a session were, and the GPUs and the QPU that each had."""

from __future__ import annotations

import contextlib

from pilot.errors import SessionError
from pilot.manager.journal import JournalReader, WorkerRow

#: Workers that are kept in memory: those that were written down, or asked for, last.
MOST = 10_000


class Workers:
    """The rows of workers, by name. A pilot may replace its workers without end: only some are kept in memory, and the
    others are read from the journal when somebody asks for them. Any thread may call it."""

    def __init__(self, journal: JournalReader) -> None:
        """``journal``: has the rows of all that have run something."""
        self._journal = journal
        self._rows: dict[str, WorkerRow] = {}

    def has(self, name: str) -> bool:
        """True for one that is in memory. Does not block."""
        return name in self._rows

    def add(self, row: WorkerRow) -> None:
        """Keep the row of a worker, which its caller gives the journal."""
        self._rows[row.worker] = row
        while len(self._rows) > MOST:
            with contextlib.suppress(KeyError, RuntimeError):  # another thread does the same
                del self._rows[next(iter(self._rows))]

    def get(self, name: str | None) -> WorkerRow | None:
        """The row of a worker; None: nothing is known of it, or not any more, as when the session was removed."""
        if name is None:
            return None
        if (row := self._rows.get(name)) is None:
            with contextlib.suppress(SessionError):
                row = self._journal.row(WorkerRow, name)
            if row is not None:
                self.add(row)
        return row
