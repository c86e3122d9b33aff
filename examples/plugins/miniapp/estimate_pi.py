"""``pilot run pi``: estimates pi with random points, in tasks that run side by side."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from pilot import PilotDescription, PilotManager


class PiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen: each field is a flag."""

    tasks: Annotated[int, msgspec.Meta(ge=1, description="how many tasks")] = 20
    points: Annotated[int, msgspec.Meta(ge=1, description="random points of each task")] = 100_000
    seed: Annotated[int, msgspec.Meta(ge=0, description="of the first task; the others count on from it")] = 1
    pilot: Annotated[str, msgspec.Meta(description=f"where it runs: {PilotDescription.text_forms}")] = "process:2"
    output: Annotated[str, msgspec.Meta(description="folder for the report")] = "runs/pi"

    def __post_init__(self) -> None:
        PilotDescription.from_text(self.pilot)  # a wrong one is refused before anything starts


class EstimatePi:
    """Estimate pi: the share of random points of a square that lie in a circle.

    The report has the value, its standard error and how far it is from pi.
    """

    Settings: ClassVar[type[msgspec.Struct]] = PiSettings

    def __init__(self, settings: PiSettings) -> None:
        self.settings = settings

    def run(self) -> None:
        """Run the tasks and write ``report.json``."""
        settings = self.settings
        with PilotManager() as manager:
            manager.submit_pilot(PilotDescription.from_text(settings.pilot))
            seeds = range(settings.seed, settings.seed + settings.tasks)
            hits = manager.get_results(manager.map(count, [settings.points] * settings.tasks, seeds))
        total = settings.tasks * settings.points
        share = sum(hits) / total
        error = 4 * math.sqrt(share * (1 - share) / total)
        folder = Path(settings.output)
        folder.mkdir(parents=True, exist_ok=True)
        report = {"value": 4 * share, "standard_error": error, "points": total, "difference": 4 * share - math.pi}
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        print(f"{4 * share:.5f} ± {error:.5f}")


def count(points: int, seed: int) -> int:
    """How many of so many random points of the unit square lie in the quarter circle. Runs in a worker."""
    dice = random.Random(seed)
    return sum(math.hypot(dice.random(), dice.random()) < 1 for _ in range(points))
