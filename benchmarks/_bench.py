"""What the benchmark scripts share: our side of a comparison, fresh processes, and the table.

A script has a function `measure(contestant, **settings)` that returns figures by name. `compare` runs it
for the bare engine and for ours, each time in a new interpreter and never both at once, in alternating
order, and takes the medians.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _bare import BARE, WORKERS

if TYPE_CHECKING:
    from pilot_miniapps.frame import Figure

Figures = dict[str, float]


def noop(number: int) -> int:
    """A task that does nothing, of a module that workers import."""
    return number


class Ours:
    """A manager with one pilot, on this machine unless told otherwise, spoken to like the bare engines."""

    #: For the session; None: a temporary folder.
    folder: str | None = None

    def __init__(self, engine: str, resource: str = "local://") -> None:
        self.engine, self.resource = engine, resource

    def __enter__(self) -> Ours:
        from pilot import PilotDescription, PilotManager

        self._folder = tempfile.TemporaryDirectory(prefix="pilot-bench-")
        self.manager = PilotManager(self.folder or self._folder.name)
        self.pilot = self.manager.submit_pilot(
            PilotDescription(resource=self.resource, engine=self.engine, cores_per_node=WORKERS)
        )
        self.submit = self.manager.submit_task
        return self

    def gather(self, tasks: Iterable[Any]) -> list[Any]:
        return [task.result() for task in tasks]

    def __exit__(self, *error: object) -> None:
        self.manager.close()
        self._folder.cleanup()


def contestant(name: str) -> Any:
    """The contestant called `bare ray`, `our dask` and so on."""
    side, engine = name.split()
    return BARE[engine]() if side == "bare" else Ours(engine)


def arguments(about: str | None, *, engines: Iterable[str] = BARE, repeat: int = 3) -> argparse.ArgumentParser:
    """A parser with the options that every script has."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    if engines:
        parser.add_argument("--engine", nargs="+", choices=BARE, default=list(engines), help="what to measure")
    parser.add_argument("--repeat", type=int, default=repeat, help="fresh starts of each; medians are shown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return parser


def measured(name: str, tree: Path | None = None, script: str | None = None, **settings: Any) -> Figures:
    """Runs `measure` of the calling script, or of another benchmark, for one contestant in a fresh interpreter, with
    the library in `tree`."""
    sys.stderr.write(f"  measuring {name}{f' in {tree}' if tree else ''}\n")
    environment = dict(os.environ)
    if tree is not None:
        environment["PYTHONPATH"] = os.pathsep.join(str(tree / folder) for folder in ("", "plugins", "miniapps"))
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        figures = Path(folder, "figures.json")
        file = Path(__file__).with_name(f"{script}.py") if script else sys.argv[0]
        command = [sys.executable, file, "--measure", name, json.dumps(settings), str(figures)]
        subprocess.run(command, check=True, env=environment)
        return json.loads(figures.read_text())


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The files of a commit in a folder of their own, with the entry points that it has."""
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=here.parent, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        _write_entry_points(Path(folder))
        yield Path(folder)


def _write_entry_points(tree: Path) -> None:
    """The metadata that an installation of this tree would have: found before the installed one of this checkout."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    folder = tree / f"quantum_pilot-{metadata.version('quantum-pilot')}.dist-info"
    folder.mkdir()
    version = f"Metadata-Version: 2.1\nName: quantum-pilot\nVersion: {metadata.version('quantum-pilot')}\n"
    (folder / "METADATA").write_text(version)
    with (folder / "entry_points.txt").open("w") as file:
        for group, entries in project["entry-points"].items():
            file.write(f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items()))


def median(runs: list[Figures]) -> Figures:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def compare(engine: str, *, repeat: int, **settings: Any) -> tuple[Figures, Figures]:
    """The bare engine's figures and ours: medians over `repeat` fresh starts, in alternating order."""
    sides = [f"bare {engine}", f"our {engine}"]
    runs: dict[str, list[Figures]] = {side: [] for side in sides}
    for attempt in range(repeat):
        for side in sides if attempt % 2 == 0 else reversed(sides):
            runs[side].append(measured(side, **settings))
    bare, ours = (median(runs[side]) for side in sides)
    return bare, ours


def show(title: str, rows: list[dict[str, Any]], file: Path | None) -> None:
    """Prints the rows as a table, and writes them to `file` together with what they were measured on."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(rows[0]):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(figure(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if file:
        _write(file, {"name": file.stem, "title": title, "figures": {}, "rows": rows})


#: Options for files and folders that a script writes.
_WRITES = ("--json", "--logs", "--output")


def _arguments(words: list[str]) -> list[str]:
    """What a script was called with, but for what it writes: paths of one machine say nothing elsewhere."""
    written = {at for at, word in enumerate(words) if word in _WRITES}
    return [word for at, word in enumerate(words) if at not in written and at - 1 not in written]


def _write(file: Path, content: dict[str, Any], reference: float | None = None) -> None:
    """Writes a benchmark's results, with what they were measured on."""
    from pilot_miniapps.frame import host  # not at the top: an older tree, whose measurements this file runs, has none

    content = {
        **content,
        "arguments": _arguments(sys.argv[1:]),
        "versions": host.versions(),
        "host": host.host(reference),
        "commit": host.commit(Path(__file__).resolve()) or "",
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")


@dataclass(frozen=True)
class Bar:
    """What a figure must reach: ``Bar("<=", 1.1, "ratio")``. `unit` "s", "ms" or "1/s" is scaled to the machine."""

    relation: str
    limit: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:g}"

    def judged(self, value: float, reference: float) -> Figure:
        """The value with what became of the bar on a machine whose `reference_ms` is this one."""
        from pilot_miniapps.frame import figures

        return figures.judged(figures.Figure(value, self.unit, str(self)), reference)

    def is_met(self, value: float, reference: float) -> bool:
        return bool(self.judged(value, reference).met)


#: By key, a value or the values of several runs, and the bar, if any.
Written = dict[str, tuple[float | list[float], Bar | None]]


def report(
    name: str,
    figures: Written,
    *,
    rows: list[dict[str, Any]],
    configuration: dict[str, Any],
    file: Path | None,
) -> None:
    """Prints each figure with its bar, writes them to `file`, and ends the script with 1 where a bar is missed.

    Args:
        name: of the benchmark.
        figures: of several runs their median is the figure.
        rows: what the figures were made from.
        configuration: what the script was called with.
        file: JSON; None: none is written.
    """
    from pilot_miniapps.frame.host import reference_ms

    reference = reference_ms()
    written = {}
    for key, (value, bar) in figures.items():
        runs = value if isinstance(value, list) else [value]
        middle = statistics.median(runs)
        entry: dict[str, Any] = {"value": middle, "n": len(runs), "spread": [min(runs), max(runs)]}
        if bar is not None:
            judged = bar.judged(middle, reference)
            entry |= {"bar": judged.bar, "unit": bar.unit, "met": judged.met}
            if judged.scaled_bar is not None:
                entry["scaled_bar"] = judged.scaled_bar
        written[key] = entry
        state = "" if bar is None else f"   {entry['bar']} {bar.unit} {'met' if entry['met'] else 'MISSED'}"
        sys.stdout.write(f"{key} = {middle:.6g}{state}\n")
    if file:
        content = {"name": name, "configuration": configuration, "figures": written, "rows": rows}
        _write(file, content, reference)
    missed = [key for key, entry in written.items() if not entry.get("met", True)]
    if missed:
        sys.exit(f"{name}: the bar is missed: {', '.join(missed)}")


def figure(value: Any) -> str:
    """Three significant digits; thousands in groups."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def run(main: Callable[[], None], measure: Callable[..., Figures]) -> None:
    """A script's last line: the whole comparison, or the one measurement that a parent has asked for."""
    if sys.argv[1:2] == ["--measure"]:
        name, settings, figures = sys.argv[2:]
        Path(figures).write_text(json.dumps(measure(contestant(name), **json.loads(settings))))
    else:
        main()
