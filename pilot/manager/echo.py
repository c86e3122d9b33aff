"""Writes what tasks write: to the terminal, or into the cell of a notebook."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TextIO

from pilot.interfaces import SessionEvent, TaskEnded, TaskOutput
from pilot.manager.handles import Task


class Echo:
    """An observer of a session. The output of a task comes while it runs, and what is left of it when it has ended."""

    kinds = (TaskOutput, TaskEnded)

    def __init__(self, tasks: Mapping[int, Task]) -> None:
        self._tasks = tasks
        #: Of tasks that run: characters of stdout and stderr that were written.
        self._written: dict[int, tuple[int, int]] = {}

    def __call__(self, events: list[SessionEvent]) -> None:
        for event in events:
            if isinstance(event, TaskOutput):
                out, err = self._written.get(event.task, (0, 0))
                self._written[event.task] = out + len(event.stdout), err + len(event.stderr)
                _write(sys.stdout, event.stdout)
                _write(sys.stderr, event.stderr)
            elif isinstance(event, TaskEnded):
                out, err = self._written.pop(event.task, (0, 0))
                if (task := self._tasks.get(event.task)) is not None:
                    _write(sys.stdout, task.info.stdout[out:])
                    _write(sys.stderr, task.info.stderr[err:])


def _write(stream: TextIO, text: str) -> None:
    if text:
        stream.write(text)
        stream.flush()
