"""`Run`: what a mini-app gets for its work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pilot import Pilot, PilotManager, Task, TaskDescription
from pilot_miniapps.frame.figures import Figure, is_time, judged, met
from pilot_miniapps.frame.progress import shown


class Run:
    """What a mini-app gets for its work: a manager with pilots that are warm, a folder, and a stopwatch.

    Attributes:
        manager: the manager; of a resumed run, the one of the session that was killed.
        pilots: the pilots, active and warm.
        slots: cores of all pilots together.
        folder: where the report goes.
        resumed: the run continues one that was killed; its times are not fit for a comparison.
        seconds: how long each part took, by name.
        figures: the figures so far, by the keys that the report shall have.
    """

    def __init__(self, manager: PilotManager, pilots: Sequence[Pilot], folder: Path, resumed: bool) -> None:
        self.manager, self.pilots, self.folder, self.resumed = manager, pilots, folder, resumed
        self.slots = sum(pilot.description.cores * pilot.description.number_of_nodes for pilot in pilots)
        self.seconds: dict[str, float] = {}
        self.figures: dict[str, Figure] = {}
        self.tasks: list[Task] = []
        self._timed: set[str] = set()

    def submit(self, key: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
        """Submit a call under a key of this run: a resumed run finds the task, and its result, by the key."""
        return self.submit_task(key, TaskDescription(function=function, args=args, kwargs=kwargs, name=key))

    def submit_task(self, key: str, wanted: TaskDescription) -> Task:
        """Submit any task under a key of this run."""
        task = self.manager.submit_task(wanted, key=key)
        self.tasks.append(task)
        return task

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block as a part of the run, in `seconds`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    @contextlib.contextmanager
    def progress(self, tasks: Sequence[Task], what: str) -> Iterator[None]:
        """Show how many of the tasks are done while the block runs: as a bar on a terminal, else as lines."""
        with shown(tasks, what):
            yield

    def figure(
        self,
        key: str,
        value: float,
        unit: str,
        bar: str | None = None,
        spread: tuple[float, float] | None = None,
        n: int | None = None,
        *,
        timed: bool | None = None,
    ) -> None:
        """Report a figure under this key; `bar` is an operator and a number: ``"<= 1.6"``. A bar in time or in a rate
        holds for the reference machine, and is scaled to this one.

        Args:
            key: of the figure.
            value: of the figure.
            unit: of the value: "s", "tasks/s", "ratio".
            bar: what it must reach.
            spread: the least and the greatest of the values behind it.
            n: how many these are.
            timed: the figure depends on how long something took, so that a resumed run cannot give it. None: where the
                unit is one of time or of a rate; say True for a ratio of two times.
        """
        if key in self.figures:
            raise ValueError(f"figure: {key!r} was reported before: two figures of a run need two keys")
        self.figures[key] = Figure(float(value), unit, bar, met(value, bar), spread, n)
        if is_time(unit) if timed is None else timed:
            self._timed.add(key)

    def judged(self, reference_ms: float) -> dict[str, Figure]:
        """The figures with what became of their bars on a machine of this speed; of a resumed run, those of times are
        not comparable."""
        return {
            key: judged(figure, reference_ms, comparable=not (self.resumed and key in self._timed))
            for key, figure in self.figures.items()
        }

    def untimed(self) -> dict[str, float]:
        """The values of the figures that do not depend on how long something took."""
        return {key: figure.value for key, figure in self.figures.items() if key not in self._timed}
