"""What tasks write and log while they run."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from pilot.wire.messages import LogRecord, TaskOutput

if TYPE_CHECKING:
    from pilot.manager.callbacks import Callbacks
    from pilot.manager.observers import Observers

#: Characters that are kept of each stream of a task that runs.
KEPT = 64 * 1024


class LiveOutput:
    """The output of the tasks that run, as far as it is known. For the manager's thread; others may look."""

    def __init__(self, observers: Observers, callbacks: Callbacks) -> None:
        self._observers = observers
        self._callbacks = callbacks
        #: Task → its last output: stdout, stderr.
        self._texts: dict[int, tuple[str, str]] = {}

    def add(self, output: TaskOutput, runs: bool) -> None:
        """A worker reports.

        Args:
            output: what is new.
            runs: the task is not over. Else what it has written came with its outcome.
        """
        if output.records:  # a handler of the user's may take its time
            self._callbacks.add(partial(_log, output.task, output.records))
        if runs and (output.stdout or output.stderr):
            stdout, stderr = self.of(output.task)
            self._texts[output.task] = (stdout + output.stdout)[-KEPT:], (stderr + output.stderr)[-KEPT:]
            self._observers.written(output.task, output.stdout, output.stderr)

    def of(self, task: int) -> tuple[str, str]:
        """What a task has written to stdout and stderr."""
        return self._texts.get(task, ("", ""))

    def remove(self, task: int) -> None:
        """A task is over, or runs again."""
        if self._texts:
            self._texts.pop(task, None)


def _log(task: int, records: list[LogRecord]) -> None:
    """Give records to the loggers of their names here, as if they had been made here; they have the task's number as
    ``record.task``."""
    for one in records:
        logger = logging.getLogger(one.name)
        if logger.isEnabledFor(one.level):
            about = (one.path, one.line, one.text, (), None, one.function, {"task": task})
            record = logger.makeRecord(one.name, one.level, *about)
            record.created, record.msecs = one.created, one.created % 1 * 1000
            logger.handle(record)
