"""How fast tasks get to workers and back: table I of the Pilot-Quantum paper."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from pilot import plots
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

#: Tasks → seconds and tasks a second: table I of Mantha et al., "Pilot-Quantum: A quantum-HPC middleware for resource,
#: workload and task management" (2024), measured with Ray on four nodes of Perlmutter, 1,024 threads.
PUBLISHED = {
    256: (0.6, 418.1),
    512: (1.3, 406.5),
    1024: (2.6, 397.6),
    2048: (5.8, 358.6),
    4096: (11.4, 358.4),
    8192: (27.4, 298.2),
}
SOURCE = "Pilot-Quantum paper, table I: Ray on four nodes of Perlmutter, 1,024 threads; another machine than this one"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    tasks: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=10_000_000)], ...],
        msgspec.Meta(min_length=1, description="how many tasks at once; several numbers, one after another"),
    ] = tuple(PUBLISHED)
    seconds: Annotated[
        float, msgspec.Meta(ge=0, le=86_400, description="seconds that each task sleeps; 0: it does nothing")
    ] = 0.0
    repeat: Annotated[int, msgspec.Meta(ge=1, le=1000, description="rounds of all numbers; medians are reported")] = 3


class Dispatch(MiniApp):
    """Tasks without work: how many a second, and how long they take in all.

    By default table I of the Pilot-Quantum paper: 256 to 8,192 tasks that do nothing, each submitted by a call of its
    own, with the published values beside. With --seconds each task sleeps so long; the efficiency is the least time
    that this can take on so many slots, over the time that it took.
    """

    Settings = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "paper": {"repeat": 5},
        "scaling": {"tasks": (64,), "seconds": 1.0, "repeat": 1},
        "small": {"tasks": (64, 128), "seconds": 0.02, "repeat": 2},
    }

    def pilots(self) -> Sequence[str]:
        return ("ray:2",)

    def plan(self) -> Mapping[str, Any]:
        settings = self.settings
        in_all = settings.repeat * sum(settings.tasks)
        return {"tasks in all": in_all, "seconds of work in all": in_all * settings.seconds}

    def scaled(self, times: int) -> Settings:
        return msgspec.structs.replace(self.settings, tasks=tuple(count * times for count in self.settings.tasks))

    def scaling_bars(self) -> Mapping[str, str]:
        return {"efficiency_4": ">= .9"} if self.settings.seconds >= 1 else {}

    def work(self, run: Run) -> Outcome:
        settings = self.settings
        function = nap if settings.seconds else nothing
        times: dict[int, list[float]] = {count: [] for count in settings.tasks}
        wrong = done = 0
        for repetition in range(settings.repeat):
            for count in times:
                begun = time.perf_counter()
                tasks = [
                    run.submit(f"{repetition}/{count}/{number}", function, number, settings.seconds)
                    for number in range(count)
                ]
                with run.progress(tasks, f"{count} tasks"):
                    values = run.manager.get_results(tasks)
                times[count].append(time.perf_counter() - begun)
                wrong += sum(value != number for number, value in enumerate(values))
                done += len(values)
        for count, seconds in times.items():
            self._report(run, count, seconds)
        oracle = Oracle(wrong == 0, wrong, "tasks", f"{done:,} tasks returned their own numbers; {wrong:,} did not")
        note = "" if settings.seconds else f"Published: {SOURCE}."
        return Outcome(oracle=oracle, rows=[self._row(run, *one) for one in times.items()], note=note)

    def _report(self, run: Run, count: int, seconds: list[float]) -> None:
        rates = sorted(count / one for one in seconds)
        run.figure(f"rate_{count}", statistics.median(rates), "tasks/s", spread=(rates[0], rates[-1]), n=len(rates))

    def _row(self, run: Run, count: int, seconds: list[float]) -> dict[str, Any]:
        middle, nap = statistics.median(seconds), self.settings.seconds
        published = (None, None) if nap else PUBLISHED.get(count, (None, None))
        return {
            "tasks": count,
            "seconds": middle,
            "tasks_per_second": count / middle,
            "efficiency": math.ceil(count / run.slots) * nap / middle if nap else None,
            "published_seconds": published[0],
            "published_tasks_per_second": published[1],
        }

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        rows = report["rows"]
        figure, (left, right) = plots.new(1, 2, width="double", height=2.7)
        counts = [row["tasks"] for row in rows]
        slots = sum(
            one["description"]["cores_per_node"] * one["description"]["number_of_nodes"] for one in report["pilots"]
        )
        for axes, column, unit in (
            (left, "seconds", "time in all (s)"),
            (right, "tasks_per_second", "tasks per second"),
        ):
            spreads = [report["figures"][f"rate_{count}"]["spread"] for count in counts]
            ends = [(count / high, count / low) for count, (low, high) in zip(counts, spreads, strict=True)]
            spread = spreads if column == "tasks_per_second" else ends
            low, high = zip(*spread, strict=True)
            ours = [row[column] for row in rows]
            plots.lines(axes, counts, ours, label=f"this run, {slots} slots", spread=(low, high))
            published = [row for row in rows if row[f"published_{column}"] is not None]
            if published:
                plots.lines(
                    axes,
                    [row["tasks"] for row in published],
                    [row[f"published_{column}"] for row in published],
                    series=1,
                    label="published (another machine)",
                )
            with plots.style():
                axes.set_xscale("log", base=2)
                axes.set_yscale("log")
                axes.set_xticks(counts, [f"{count:,}" for count in counts])
                axes.xaxis.minorticks_off()
            plots.label(axes, x="tasks", y=unit)
        plots.legend(left, loc="upper left")
        nap = report["configuration"]["seconds"]
        work = f"that sleep {nap:g} s" if nap else "without work"
        plots.caption(figure, f"Tasks {work}, pilots warm. Medians; bars show least and greatest. {report['note']}")
        return {"dispatch": figure}


def nothing(number: int, seconds: float) -> int:
    """A task without work. Runs in a worker."""
    return number


def nap(number: int, seconds: float) -> int:
    """A task that sleeps. Runs in a worker."""
    time.sleep(seconds)
    return number
