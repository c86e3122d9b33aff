"""The number of a journal's commits in a file beside it. SQLite takes a log (``-wal``) that is gone or was cut for a
short one, and says nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class CommitCount:
    """Writes the number."""

    def __init__(self, journal: Path) -> None:
        """Open the file, or make it.

        Raises:
            OSError: it cannot be opened.
        """
        self._file: int | None = os.open(_path(journal), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, commits: int) -> None:
        """The journal has been committed so often."""
        assert self._file is not None
        with contextlib.suppress(OSError):  # a number that is too low tells less
            os.pwrite(self._file, b"%020d" % commits, 0)

    def close(self) -> None:
        """Close the file; nothing happens the second time."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_count(journal: Path) -> int:
    """The number of commits that were counted; 0: not known."""
    with contextlib.suppress(OSError, ValueError):
        return int(_path(journal).read_bytes())
    return 0


def tell_lost(journal: Path, counted: int, commits: int) -> str | None:
    """What to say of a journal that has so many commits, when more had been counted before; else None."""
    if counted <= commits:
        return None
    return (
        f"the journal {journal} has lost its last {counted - commits} commit(s), since it or {journal}-wal is damaged "
        f"or older: put both back from a copy; or remove {_path(journal)} to go on with what is left"
    )


def _path(journal: Path) -> Path:
    return journal.with_suffix(".commits")
