"""What every mini-app shows and leaves behind: progress, `metrics.csv`, `report.json` and plots."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes

    from pilot import Task

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
#: Columns that Pilot-Quantum does not have: the task's name, where it ran, and by which clock times (seconds since
#: 1970).
OUR_COLUMNS = ("name", "host", "worker", "started", "finished")


class Stopwatch:
    """How many seconds each part of a run took. Parts may overlap."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block as part `name`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    @property
    def elapsed(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self.begun


@contextmanager
def task_progress(tasks: Sequence[Task], what: str, console: Console) -> Iterator[None]:
    """Show how many of `tasks` are done, how many a second, and on which pilots, while the block runs."""
    done_by: Counter[str] = Counter()
    begun = time.perf_counter()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what, total=len(tasks), rate="")

        def show(done_by: Counter[str]) -> None:
            rate = done_by.total() / (time.perf_counter() - begun)
            shares = ", ".join(f"{pilot} {number}" for pilot, number in sorted(done_by.items()))
            progress.update(bar, completed=done_by.total(), rate=f"{rate:.0f}/s · {shares}")

        def finished(task: Task) -> None:
            if not task.cancelled():
                done_by[task.info.pilot] += 1
                show(done_by)

        for task in tasks:
            task.add_done_callback(finished)
        yield
        # the callbacks of the last tasks may come a little later than their results
        show(Counter(str(task.info.pilot) for task in tasks if task.done() and not task.cancelled()))


def write_metrics(path: Path, tasks: Sequence[Task]) -> None:
    """One row a task: Pilot-Quantum's columns, then ours."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, (*PILOT_QUANTUM_COLUMNS, *OUR_COLUMNS))
        writer.writeheader()
        writer.writerows(_metrics(task) for task in tasks)


def _metrics(task: Task) -> dict[str, Any]:
    info = task.info
    error = None if task.cancelled() else task.exception()
    return {
        "completion_time": _clock(info.finished),
        "error_msg": "" if error is None else f"{type(error).__name__}: {error}",
        "execution_secs": _between(info.started, info.finished),
        "input_staging_data_size_bytes": 0,
        "pilot_scheduled": info.pilot,
        "staging_time_secs": 0,
        "status": "CANCELLED" if task.cancelled() else "SUCCESS" if error is None else "FAILED",
        "submit_time": _clock(info.submitted),
        "task_id": task.id,
        "wait_time_secs": _between(info.submitted, info.started),
        "name": info.name,
        "host": info.host,
        "worker": info.worker,
        "started": info.started,
        "finished": info.finished,
    }


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).isoformat(sep=" ")


def _between(begin: float | None, end: float | None) -> float | str:
    return "" if begin is None or end is None else round(end - begin, 6)


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """`report` as JSON, with the versions of the packages behind it."""
    path.write_text(json.dumps({**report, "versions": versions()}, indent=2) + "\n")


def versions() -> dict[str, str]:
    """The versions of the packages that a run's numbers depend on, of those installed."""
    packages = (
        "quantum-pilot",
        "qiskit",
        "qiskit-aer",
        "qiskit-addon-cutting",
        "numpy",
        "ray",
        "distributed",
    )
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def tasks_by_pilot(tasks: Sequence[Task]) -> dict[str, dict[str, float]]:
    """For each pilot that ran some: how many, and how many a second from first start to last finish."""
    by_pilot: dict[str, list[Task]] = {}
    for task in tasks:
        by_pilot.setdefault(task.info.pilot, []).append(task)
    shares = {}
    for pilot, its in sorted(by_pilot.items()):
        span = max(task.info.finished for task in its) - min(task.info.started for task in its)
        shares[pilot] = {"tasks": len(its), "tasks_per_second": round(len(its) / span, 2) if span else 0.0}
    return shares


def plot_timeline(axes: Axes, tasks: Sequence[Task]) -> None:
    """Draw when each worker was busy: a row a worker, a colour a pilot."""
    begin = min(task.info.started for task in tasks)
    rows = sorted({(task.info.pilot, str(task.info.worker)) for task in tasks})
    pilots = sorted({pilot for pilot, _ in rows})
    for row, (pilot, worker) in enumerate(rows):
        bars = [
            (task.info.started - begin, task.info.finished - task.info.started)
            for task in tasks
            if (task.info.pilot, str(task.info.worker)) == (pilot, worker)
        ]
        axes.broken_barh(bars, (row - 0.4, 0.8), facecolors=f"C{pilots.index(pilot)}", edgecolor="white", linewidth=0.3)
    axes.set_yticks(range(len(rows)), [f"{pilot}\n{worker}" for pilot, worker in rows], fontsize=8)
    axes.set_xlabel("seconds since the first task began")
    axes.set_title("tasks on each worker")
