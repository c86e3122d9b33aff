"""What a mini-app is: one frozen configuration, a function that makes tasks, an oracle, and a figure.

A mini-app is a subclass of `MiniApp`, registered as an entry point of the group ``pilot.miniapps``. `execute` runs it.
"""

from __future__ import annotations

import contextlib
import operator
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pilot import Pilot, PilotDescription, PilotManager, Task, TaskDescription

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_COMPARE: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


class Oracle(msgspec.Struct, frozen=True):
    """What an independent calculation says about the result.

    Attributes:
        passed: the result is right.
        deviation: how far it is from what the oracle says; `unit` says in what.
        unit: of the deviation, such as "standard errors" or "Ha".
        text: one sentence: what was compared with what.
    """

    passed: bool
    deviation: float
    unit: str
    text: str


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measured figure, as `report.json` holds it: ``bar`` is such as "<= 1.6", ``met`` is None without one."""

    value: float
    unit: str
    bar: str | None = None
    met: bool | None = None
    spread: tuple[float, float] | None = None
    n: int | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a mini-app found.

    Attributes:
        oracle: whether the result is right.
        rows: the table: one mapping from column to value for each configuration that was measured; all with the same
            columns.
        details: what else the report shall hold; anything that `msgspec.to_builtins` can turn into JSON.
    """

    oracle: Oracle
    rows: Sequence[Mapping[str, Any]] = ()
    details: Mapping[str, Any] = {}


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
        self.slots = sum(_cores(pilot.description) for pilot in pilots)
        self.seconds: dict[str, float] = {}
        self.figures: dict[str, Figure] = {}
        self.tasks: list[Task] = []

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
        """Show how many of the tasks are done while the block runs."""
        yield

    def figure(
        self,
        key: str,
        value: float,
        unit: str,
        bar: str | None = None,
        spread: tuple[float, float] | None = None,
        n: int | None = None,
    ) -> None:
        """Report a figure under this key; `bar` is an operator and a number: ``"<= 1.6"``."""
        self.figures[key] = Figure(float(value), unit, bar, met(value, bar), spread, n)


class MiniApp(ABC):
    """A whole workload. The first line of the docstring is what ``pilot run --list`` shows; the rest, its help.

    Attributes:
        Settings: a frozen `msgspec.Struct`; each field is a flag, its `msgspec.Meta` has a `description`, bounds are
            checked. Defaults are of laptop size.
        presets: by name ("laptop", "paper"), the values of the settings that differ from the defaults.
        packages: modules that it imports and which the core does not need; one that is missing is named with its extra.
    """

    Settings: ClassVar[type[msgspec.Struct]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"laptop": {}}
    packages: ClassVar[Sequence[str]] = ()

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def pilots(self) -> Sequence[str | PilotDescription]:
        """The pilots that it runs on unless the user names others: descriptions, or texts such as "ray:2"."""
        return ("ray:1", "dask:1")

    def memory(self) -> int:
        """Bytes that this host must have for the settings, for all slots together; 0: next to nothing."""
        return 0

    def plan(self) -> Mapping[str, Any]:
        """What ``--plan`` shows: what would run, from the settings alone: tasks, sizes, predicted times."""
        return {}

    def warm_up(self) -> Callable[[], object] | None:
        """A function that each worker runs before the clock starts: it imports what the tasks need."""
        return None

    def scaled(self, times: int) -> Any:
        """Settings with `times` the work, for weak scaling."""
        raise NotImplementedError

    @abstractmethod
    def work(self, run: Run) -> Outcome:
        """Submit the tasks, each under its key, wait for them, compare with the oracle.

        Must be repeatable: after a kill it is called again with the same settings, and finds tasks by their keys.
        """

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        """The plots, by file name without suffix, from `report.json` alone."""
        return {}


def met(value: float, bar: str | None) -> bool | None:
    """True where the value holds the bar; None without a bar."""
    if bar is None:
        return None
    sign, number = re.fullmatch(r"\s*(<=|>=|==)\s*(\S+)\s*", bar).groups()  # type: ignore[union-attr]
    return _COMPARE[sign](value, float(number))


def execute(app: MiniApp, folder: Path, pilots: Iterable[PilotDescription], resume: bool = False) -> dict[str, Any]:
    """Run a mini-app; the report."""
    folder.mkdir(parents=True, exist_ok=True)
    session = folder / "session"
    begun = time.perf_counter()
    with PilotManager.attach(session) if resume else PilotManager(session) as manager:
        its = manager.pilots if resume else [manager.submit_pilot(one) for one in pilots]
        run = Run(manager, its, folder, resume)
        warm = app.warm_up()
        for task in [
            manager.submit_task(TaskDescription(function=warm, pilot=pilot.name, name="warm-up"))
            for pilot in its
            for _ in range(_cores(pilot.description) if warm else 0)
        ]:
            task.result()
        run.seconds["pilots"] = time.perf_counter() - begun
        outcome = app.work(run)
    report = {
        "oracle": msgspec.to_builtins(outcome.oracle),
        "figures": msgspec.to_builtins(run.figures),
        "seconds": run.seconds,
        "rows": [dict(row) for row in outcome.rows],
        "details": msgspec.to_builtins(outcome.details),
    }
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    for name, drawing in app.draw(report).items():
        drawing.savefig(folder / f"{name}.png", dpi=300)
    return report


def _cores(wanted: PilotDescription) -> int:
    return (wanted.cores_per_node or 1) * (wanted.number_of_nodes or 1)
