"""`Writer`: one thread that writes for all, and commits together what came together."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.exc import OperationalError

from pilot.errors import SessionError
from pilot.service.problems import cause

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

log = logging.getLogger(__name__)

#: Jobs of one transaction at most.
MOST = 4096

#: Writes for several calls at once, and gives for each what it returns, or its error.
Job = Callable[["Connection", list[Any]], list[Any]]


class _Call(NamedTuple):
    job: Job
    argument: Any
    future: Future[Any]


class Writer:
    """Writes to a database in a thread of its own.

    What is asked for while a transaction is being committed makes up the next one. So a disk that takes 5 ms for a
    commit takes thousands of submissions a second, and each is on disk before it is acknowledged.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        #: Held to leave a call, so that none comes after the end.
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="pilot-service-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job, argument: Any) -> Future[Any]:
        """Ask for a write; the future is done when it is on disk. Does not block. What is cancelled before the
        transaction begins is not written.

        Args:
            job: called with the connection and the arguments of all calls of the transaction for this job.
            argument: of this call.

        Raises:
            SessionError: the store is closed.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._is_closed:
                raise SessionError("the service's store is closed")
            self._calls.put(_Call(job, argument, future))
        return future

    def close(self) -> None:
        """Write what was asked for, and end the thread. Blocks."""
        with self._lock:
            self._is_closed = True
            self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            calls: list[_Call | None] = [self._calls.get()]
            while len(calls) < MOST and not self._calls.empty():
                calls.append(self._calls.get())
            # from here on a future cannot be cancelled: to answer one that was would end this thread
            wanted = [call for call in calls if call is not None and call.future.set_running_or_notify_cancel()]
            if wanted:
                self._write(wanted)
            if None in calls:
                return

    def _write(self, calls: list[_Call]) -> None:
        by_job: dict[Job, list[_Call]] = {}
        for call in calls:
            by_job.setdefault(call.job, []).append(call)
        answers: list[tuple[Future[Any], Any]] = []
        try:
            with self._engine.begin() as connection:
                for job, its in by_job.items():
                    found = job(connection, [call.argument for call in its])
                    answers += zip((call.future for call in its), found, strict=True)
        except Exception as error:
            self._fail(calls, error)
            return
        for future, answer in answers:
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _fail(self, calls: list[_Call], error: Exception) -> None:
        """Nothing of the transaction was written. One that cannot be written does not fail the others."""
        if len(calls) > 1 and not isinstance(error, OperationalError):
            for call in calls:
                self._write([call])
            return
        log.error("%d write(s) failed: %s", len(calls), error)
        for call in calls:
            call.future.set_exception(SessionError(f"the service's store cannot be written: {cause(error)}"))
