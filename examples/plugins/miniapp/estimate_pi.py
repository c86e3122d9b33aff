"""``pilot run pi``: estimates pi with random points, in tasks that run side by side."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run

from pilot import plots


class PiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen: each field is a flag."""

    tasks: Annotated[int, msgspec.Meta(ge=1, description="how many tasks")] = 20
    points: Annotated[int, msgspec.Meta(ge=1, description="random points of each task")] = 100_000
    seed: Annotated[int, msgspec.Meta(ge=0, description="of the first task; the others count on from it")] = 1


class EstimatePi(MiniApp):
    """Estimate pi: the share of random points of a square that lie in a circle.

    The report has the value, its standard error and how far it is from pi.
    """

    Settings = PiSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"laptop": {}, "small": {"tasks": 4, "points": 1000}}

    def pilots(self) -> Sequence[str]:
        return ("process:2",)

    def scaled(self, times: int) -> PiSettings:
        return msgspec.structs.replace(self.settings, tasks=self.settings.tasks * times)

    def work(self, run: Run) -> Outcome:
        settings = self.settings
        tasks = [
            run.submit(f"points/{number}", count, settings.points, settings.seed + number)
            for number in range(settings.tasks)
        ]
        with run.progress(tasks, "points"):
            hits = run.manager.get_results(tasks)
        total = settings.tasks * settings.points
        share = sum(hits) / total
        error = 4 * math.sqrt(share * (1 - share) / total)
        run.figure("pi", 4 * share, "", spread=(4 * share - error, 4 * share + error), n=total)
        deviation = abs(4 * share - math.pi) / error if error else 0.0
        oracle = Oracle(deviation < 5, deviation, "standard errors", "The estimate was compared with pi.")
        rows = [
            {"points": settings.points * done, "estimate": estimate} for done, estimate in estimates(hits, settings)
        ]
        return Outcome(oracle=oracle, rows=rows)

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        figure, axes = plots.new()
        plots.lines(axes, [row["points"] for row in report["rows"]], [row["estimate"] for row in report["rows"]])
        plots.limit(axes, math.pi, "pi")
        plots.label(axes, x="random points", y="estimate of pi")
        plots.caption(
            figure, f"Points of {report['configuration']['tasks']} tasks, added up in the order of the tasks."
        )
        return {"pi": figure}


def estimates(hits: Sequence[int], settings: PiSettings) -> list[tuple[int, float]]:
    """The estimate after each task."""
    return [(done, 4 * sum(hits[:done]) / (done * settings.points)) for done in range(1, len(hits) + 1)]


def count(points: int, seed: int) -> int:
    """How many of so many random points of the unit square lie in the quarter circle. Runs in a worker."""
    dice = random.Random(seed)
    return sum(math.hypot(dice.random(), dice.random()) < 1 for _ in range(points))
