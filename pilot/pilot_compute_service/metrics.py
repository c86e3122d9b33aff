"""`metrics.csv` with Pilot-Quantum's columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition
from typing import Any

from pilot.errors import text_of
from pilot.interfaces import SessionEvent, TaskEnded
from pilot.manager.handles import Task
from pilot.manager.manager import PilotManager
from pilot.manager.observers import NO_LIMIT
from pilot.states import TaskState

#: Pilot-Quantum's columns, in its order.
PILOT_QUANTUM_COLUMNS = (
    "completion_time",
    "error_msg",
    "execution_secs",
    "input_staging_data_size_bytes",
    "pilot_scheduled",
    "staging_time_secs",
    "status",
    "submit_time",
    "task_id",
    "wait_time_secs",
)
#: What the file has: one column more.
COLUMNS = (*PILOT_QUANTUM_COLUMNS, "worker")
#: Seconds that a task's row is waited for.
WAIT_SECONDS = 30.0
_STATUS = {TaskState.DONE: "SUCCESS", TaskState.FAILED: "FAILED", TaskState.CANCELLED: "CANCELLED"}


class MetricsFile:
    """Writes a row for each task of a manager as it ends, in a thread of its own.

    ``pilot_scheduled`` is the name of the pilot that ran it; times are UTC; ``worker`` is in its pilot.
    """

    def __init__(self, manager: PilotManager, names: Mapping[str, str], path: Path) -> None:
        """Begin. ``names``: of the pilots, by their ids in the manager."""
        self._manager = manager
        self._names = names
        #: Ids of the tasks that have a row.
        self._written: set[int] = set()
        self._more = Condition()
        # whatever the locale is, and whatever an error says: a row that cannot be written would be waited for
        self._file = path.open("w", newline="", encoding="utf-8", errors="backslashreplace")
        self._rows = csv.DictWriter(self._file, COLUMNS, restval="")
        self._rows.writeheader()
        self._file.flush()
        self._subscription = manager.subscribe(self._write, kinds=[TaskEnded], limit=NO_LIMIT)

    def wait(self, tasks: Iterable[Future[Any]]) -> None:
        """Block until those of these tasks that are over have their rows; some seconds at most."""
        awaited = {task.id for task in tasks if isinstance(task, Task) and task.done()}
        if not awaited <= self._written:
            self._subscription.hurry()
            with self._more:
                self._more.wait_for(lambda: self._file.closed or awaited <= self._written, WAIT_SECONDS)

    def close(self) -> None:
        """Close the file, when the manager was closed: that reports all that has ended."""
        with self._more:
            self._file.close()
            self._more.notify_all()

    def _write(self, events: list[SessionEvent]) -> None:
        ended = [event for event in events if isinstance(event, TaskEnded)]
        self._rows.writerows(map(self._row, ended))
        self._file.flush()
        with self._more:
            self._written.update(event.task for event in ended)
            self._more.notify_all()

    def _row(self, event: TaskEnded) -> dict[str, Any]:
        row: dict[str, Any] = {
            "status": _STATUS[event.state],
            "submit_time": _iso(event.submitted),
            "task_id": event.name,
            "pilot_scheduled": self._names.get(event.pilot, event.pilot) if event.pilot is not None else "",
            "worker": event.worker or "",
            "completion_time": _iso(event.time),
        }
        if event.started is not None:
            seconds = event.seconds or 0.0
            row |= {
                "completion_time": _iso(event.started + seconds),
                "execution_secs": seconds,
                "wait_time_secs": max(0.0, event.started - event.submitted),
            }
        if event.state is TaskState.FAILED and (task := self._manager.tasks.get(event.task)) is not None:
            error = task.exception()
            row["error_msg"] = f"{type(error).__name__}: {'' if error is None else text_of(error)}"
        return row


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
