"""`pilot report`: the reports of several runs side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pilot.cli import streams, tables
from pilot.cli.output_files import write
from pilot.errors import DescriptionError


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A figure, as far as it is compared."""

    value: float | None
    unit: str = ""
    bar: str | None = None
    met: bool | None = None
    scaled_bar: str | None = None
    spread: tuple[float | None, float | None] | None = None
    comparable: bool = True


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """What the oracle said."""

    passed: bool
    deviation: float | None = None
    unit: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a ``report.json``."""

    name: str
    figures: dict[str, Measured]
    configuration: dict[str, Any] = {}
    versions: dict[str, str] = {}
    host: dict[str, Any] = {}
    commit: str | None = None
    oracle: Passed | None = None
    seconds: dict[str, float] = {}
    pilots: list[dict[str, Any]] = []
    resumed: bool = False


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pilot report`."""
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folder of a run, with its report.json")
    parser.add_argument("--json", metavar="FILE", help="write the comparison to FILE; - writes it to standard output")
    parser.set_defaults(call=lambda options: compare(options.folders, options.json))


def compare(folders: Sequence[str], file: str | None) -> int:
    """Show the figures of runs side by side, and what else is different between them.

    Returns:
        0, also where a bar is missed: that is said in the table; 1 when the file cannot be written.

    Raises:
        DescriptionError: a folder has no report, or is given twice.
    """
    _check_different(folders)
    reports = {folder: read(Path(folder)) for folder in folders}
    content = {
        "runs": {folder: msgspec.to_builtins(one) for folder, one in reports.items()},
        "differences": differences(reports),
    }
    text = json.dumps(content, indent=2) + "\n"
    if file == "-" or (file is not None and streams.is_output(file)):
        print(text, end="")
        return 0
    written = file is None or write(Path(file), text, "report: --json")
    _show(reports, content["differences"])
    return int(not written)


def _check_different(folders: Sequence[str]) -> None:
    known: dict[Path, str] = {}
    for folder in folders:
        path = _file(Path(folder)).resolve()
        if path in known:
            names = folder if known[path] == folder else f"{known[path]} and {folder}"
            raise DescriptionError(f"report: {names}: one run is given twice; give each run once", given=folder)
        known[path] = folder


def _file(folder: Path) -> Path:
    return folder if folder.name == "report.json" else folder / "report.json"


def read(folder: Path) -> Report:
    """The report in a folder.

    Raises:
        DescriptionError: there is none, or it is not a report.
    """
    path = _file(folder)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except (FileNotFoundError, NotADirectoryError):
        unfinished = (folder / "run.json").exists()
        advice = "its run has not finished: --resume continues it" if unfinished else "`pilot run` writes one"
        raise DescriptionError(f"{folder} has no report.json: {advice}", given=str(folder)) from None
    except OSError as error:
        raise DescriptionError(f"{path} cannot be read: {error.strerror or error}", given=str(folder)) from error
    except msgspec.MsgspecError as error:
        raise DescriptionError(f"{path} is not a report: {error}", given=str(folder)) from error


def differences(reports: Mapping[str, Report]) -> dict[str, list[Any]]:
    """What is not the same in all of them, with its value in each: settings, versions, the machine, the commit."""
    found: dict[str, list[Any]] = {}

    def look(key: str, values: list[Any]) -> None:
        if any(value != values[0] for value in values):
            found[key] = values

    several = list(reports.values())
    look("mini-app", [one.name for one in several])
    for kind in ("configuration", "versions", "host"):
        parts: list[dict[str, Any]] = [getattr(one, kind) for one in several]
        for name in sorted({name for part in parts for name in part} - {"load", "reference_ms"}):
            look(f"{kind}: {name}", [part.get(name) for part in parts])
    look("pilots", [[_pilot(pilot) for pilot in one.pilots] for one in several])
    look("commit", [one.commit for one in several])
    look("resumed", [one.resumed for one in several])
    return found


def _show(reports: Mapping[str, Report], different: Mapping[str, list[Any]]) -> None:
    from rich.table import Table  # only here: other commands load this file, too

    width = 60 + 30 * len(reports)
    table = Table(title="figures", title_justify="left")
    table.add_column("")
    for folder, one in reports.items():
        table.add_column(f"{one.name}\n{folder}", overflow="fold")
    keys = dict.fromkeys(key for one in reports.values() for key in one.figures)
    table.add_row("oracle", *(_oracle(one.oracle) for one in reports.values()))
    for key in keys:
        table.add_row(key, *(_figure(one.figures.get(key)) for one in reports.values()))
    for part in dict.fromkeys(part for one in reports.values() for part in one.seconds):
        table.add_row(f"time: {part}", *(_seconds(one.seconds.get(part)) for one in reports.values()))
    references = [one.host.get("reference_ms") for one in reports.values()]
    table.add_row("reference_ms", *("" if one is None else f"{one:.3g} ms" for one in references))
    tables.show(table, width)
    if not different:
        if len(reports) > 1:
            print("The runs have the same settings, versions, machine and commit.")
        return
    others = Table(title="what else is different", title_justify="left")
    others.add_column("")
    for folder in reports:
        others.add_column(folder, overflow="fold")
    for key, values in different.items():
        others.add_row(key, *("" if value is None else _text(value) for value in values))
    tables.show(others, width)


def _oracle(oracle: Passed | None) -> str:
    if oracle is None:
        return ""
    off = "" if oracle.deviation is None else f", {oracle.deviation:.4g} {oracle.unit}"
    return f"{'passed' if oracle.passed else 'FAILED'}{off}"


def _figure(figure: Measured | None) -> str:
    if figure is None:
        return ""
    text = "none" if figure.value is None else f"{figure.value:.4g} {figure.unit}".rstrip()
    if figure.spread is not None and None not in figure.spread:
        text += " ({:.4g} to {:.4g})".format(*figure.spread)
    if not figure.comparable:
        return f"{text}; resumed: not comparable"
    if figure.bar is None:
        return text
    here = "" if figure.scaled_bar is None else f", there {figure.scaled_bar}"
    return f"{text}; {figure.bar}{here} {'met' if figure.met else 'MISSED'}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"


def _pilot(pilot: Mapping[str, Any]) -> str:
    """A pilot in one word, as on a command line."""
    wanted = {"resource": "", "engine": "", "cores_per_node": "", "number_of_nodes": "", **pilot.get("description", {})}
    return "{resource}{engine}:{cores_per_node}:{number_of_nodes}".format(**wanted)


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
