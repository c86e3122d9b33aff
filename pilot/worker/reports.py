"""What tasks write and log, on its way to the manager while they run."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilot.wire.marks import LOG_LEVEL
from pilot.wire.messages import LogRecord, TaskOutput

if TYPE_CHECKING:
    from pilot.worker.capture import Capture

#: Seconds between two reports on what a task has written.
REPORT_SECONDS = 0.5
#: Records that wait at most: a task that logs more loses the later ones, and a record says how many.
MOST_RECORDS = 1000

_TRACEBACKS = logging.Formatter()


class Records(logging.Handler):
    """Takes what tasks log. A program that gives a logger handlers of its own keeps its records for itself."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[LogRecord] = []
        self._dropped = 0

    def install(self) -> None:
        """Take the records of loggers without handlers, from now on. Warnings go to stderr as well, as they do in plain
        Python."""
        level = int(os.environ.get(LOG_LEVEL, logging.WARNING))
        logging.getLogger().setLevel(level)
        self._stderr, logging.lastResort = logging.lastResort, self
        logging.basicConfig = _only_on_purpose(logging.basicConfig)
        self.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and self._stderr is not None:
            self._stderr.handle(record)
        try:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + _TRACEBACKS.formatException(record.exc_info)
        except Exception as error:  # of the arguments' own classes
            text = f"a record that cannot be formatted: {type(error).__name__}"
        one = LogRecord(
            _unicode(record.name),
            record.levelno,
            _unicode(text),
            record.created,
            _unicode(record.pathname),
            record.lineno,
            record.funcName,
        )
        if len(self._waiting) < MOST_RECORDS:  # who calls this holds the handler's lock
            self._waiting.append(one)
        else:
            self._dropped += 1

    def take(self) -> list[LogRecord]:
        """The records since the last time."""
        if not self._waiting:
            return []
        self.acquire()  # the handler's own lock, which is free in a forked child
        try:
            taken, self._waiting = self._waiting, []
            dropped, self._dropped = self._dropped, 0
        finally:
            self.release()
        if dropped:
            text = f"{dropped} more record(s) were dropped"
            taken.append(LogRecord(__name__, logging.WARNING, text, taken[-1].created))
        return taken


def _only_on_purpose(configure: Callable[..., None]) -> Callable[..., None]:
    """`logging.basicConfig`, which does nothing without arguments: `logging.warning` and the like call it so, and the
    records of all later tasks of this worker would stay in the worker."""

    @functools.wraps(configure)
    def basic_config(**options: Any) -> None:
        if options:
            configure(**options)

    return basic_config


def _unicode(text: str) -> str:
    """Without what a message cannot have: surrogates, as in names of files that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


class Reports:
    """What is to be told of the tasks of a worker."""

    def __init__(self, worker: str, capture: Capture) -> None:
        self._worker = worker
        self._capture = capture
        self._records = Records()
        self._records.install()
        self._last = 0.0
        #: What tasks logged that have ended.
        self.ended: list[TaskOutput] = []

    def task_ended(self, task: int) -> None:
        """Keep what a task has logged; what it has written goes with its outcome."""
        if records := self._records.take():
            self.ended.append(TaskOutput(self._worker, task, "", "", records))

    def running(self, task: int, now: float) -> TaskOutput | None:
        """What the running task has written and logged since the last report; None: nothing, or it is too early."""
        if now - self._last < REPORT_SECONDS:
            return None
        self._last = now
        stdout, stderr = self._capture.peek()
        records = self._records.take()
        return TaskOutput(self._worker, task, stdout, stderr, records) if stdout or stderr or records else None
