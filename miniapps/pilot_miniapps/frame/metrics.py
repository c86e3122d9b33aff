"""`metrics.csv`: one row for each task of a run, those included that ended before it was resumed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pilot import Task, TaskInfo, TaskState
from pilot.pilot_compute_service.metrics import PILOT_QUANTUM_COLUMNS

#: Columns that Pilot-Quantum does not have: the task's name, where it ran, by which clock times (seconds since 1970),
#: and how many attempts it took, those included that did not count.
OUR_COLUMNS = ("name", "host", "node", "worker", "submitted", "started", "finished", "attempts")
_STATUS = {TaskState.DONE: "SUCCESS", TaskState.FAILED: "FAILED", TaskState.CANCELLED: "CANCELLED"}


def row(task: Task) -> dict[str, Any]:
    """What the table has of a task; times are in UTC."""
    info, state = task.info, task.state
    error = task.exception() if state is TaskState.FAILED else None
    return {
        "completion_time": _clock(info.finished),
        "error_msg": "" if error is None else f"{type(error).__name__}: {error}",
        "execution_secs": _rounded(info.seconds),
        "input_staging_data_size_bytes": 0,
        "pilot_scheduled": info.pilot,
        "staging_time_secs": 0,
        "status": _STATUS.get(state, state.value.upper()),
        "submit_time": _clock(info.submitted),
        "task_id": info.id,
        "wait_time_secs": _rounded(_wait(info)),
        "name": info.name,
        "host": info.host,
        "node": info.node,
        "worker": info.worker,
        "submitted": info.submitted,
        "started": info.started,
        "finished": info.finished,
        "attempts": len(info.attempts) + (info.started is not None),
    }


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """The table as a file; one that is there is replaced."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, (*PILOT_QUANTUM_COLUMNS, *OUR_COLUMNS))
        writer.writeheader()
        writer.writerows(rows)


def makespan(rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds from the first submission of a task to the last end of one."""
    ended = [row["finished"] for row in rows if row["finished"] is not None]
    return max(0.0, max(ended) - min(row["submitted"] for row in rows)) if ended else 0.0


def _wait(info: TaskInfo) -> float | None:
    if info.started is None or info.submitted is None:
        return None
    return max(0.0, info.started - info.submitted)  # the clocks of two hosts may differ


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="microseconds")


def _rounded(seconds: float | None) -> float | str:
    return "" if seconds is None else round(seconds, 6)
