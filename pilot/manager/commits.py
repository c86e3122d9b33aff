"""Who waits until something is on disk."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from pilot.errors import SessionError
from pilot.manager.journal import Journal


class Commits:
    """Futures that are done when all that the journal has got before is committed. Any thread may call it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._open: set[Future[None]] = set()
        self._is_over = False

    def new(self) -> Future[None]:
        """A future that cannot be cancelled; `mark` is still to be called."""
        commit: Future[None] = Future()
        commit.set_running_or_notify_cancel()
        with self._lock:
            self._open.add(commit)
            is_over = self._is_over
        if is_over:
            self.close()
        return commit

    def mark(self, commit: Future[None]) -> None:
        """From now on: when all that the journal has got is committed, this future is done."""
        self._journal.mark(lambda: self._done(commit))

    def _done(self, commit: Future[None]) -> None:
        """In the journal's thread."""
        with self._lock:
            is_open = commit in self._open
            self._open.discard(commit)
        if is_open:
            commit.set_result(None)

    def close(self) -> None:
        """The journal is closed: what is not committed never will be."""
        with self._lock:
            left, self._open, self._is_over = self._open, set(), True
        for commit in left:
            name = self._journal.name
            error = SessionError(f"the manager was closed before the journal {name} could be written", path=name)
            commit.set_exception(error)
