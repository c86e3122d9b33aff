"""`report.json`: what a run found, and what it was measured on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from pilot import DescriptionError, plots
from pilot_miniapps.frame import host as measured_on
from pilot_miniapps.frame.folder import write_atomically

if TYPE_CHECKING:
    from pilot_miniapps.frame.miniapp import MiniApp


def builtins(value: Any) -> Any:
    """A value as JSON has it; arrays and numbers of NumPy become lists and numbers."""
    return msgspec.to_builtins(value, enc_hook=_plain, str_keys=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a report cannot hold a {type(value).__name__}: turn it into numbers, texts, lists or mappings")


def heading(app: MiniApp, name: str, reference_ms: float) -> dict[str, Any]:
    """The start of a report: which mini-app with which settings, and what it was measured on."""
    return {
        "name": name,
        "configuration": builtins(app.settings),
        "versions": measured_on.versions(app.packages),
        "host": measured_on.host(reference_ms),
        "commit": measured_on.commit(Path(inspect.getfile(type(app)))),
    }


def write(folder: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``report.json``; the report as it is in the file."""
    encoded = msgspec.json.encode(report)
    write_atomically(folder / "report.json", msgspec.json.format(encoded))
    return msgspec.json.decode(encoded)


def read(folder: Path) -> dict[str, Any] | None:
    """The report in a folder; None: there is none.

    Raises:
        DescriptionError: it cannot be read.
    """
    path = folder / "report.json"
    try:
        return msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise DescriptionError(f"{path} is not a report: {error}") from error


def draw(app: MiniApp, folder: Path, report: Mapping[str, Any]) -> None:
    """Save the mini-app's own plots, as PDF and PNG."""
    with plots.style():
        drawings = app.draw(report)
    for name, drawing in drawings.items():
        plots.save(drawing, folder, name)


def failures(report: Mapping[str, Any]) -> list[str]:
    """What is wrong with a run, in words: its result, and bars that were missed."""
    found = [] if report["oracle"]["passed"] else [f"the result is wrong: {report['oracle']['text']}"]
    for key, figure in report["figures"].items():
        if figure.get("met") is False:
            bar = figure.get("scaled_bar") or figure["bar"]
            value = f"{figure['value']:.4g} {figure['unit']}".rstrip()
            found.append(f"{key} is {value}; its bar is {bar}")
    return found


def show(report: Mapping[str, Any], folder: Path) -> None:
    """Print the figures, the table and where the files are."""
    console = Console(width=None if Console().is_terminal else 120)
    rows = report["rows"]
    if rows:
        console.print(_table(rows))
    if report.get("note"):
        console.print(report["note"], highlight=False)
    table = Table(show_header=False, title=report["name"], title_justify="left")
    for key, figure in report["figures"].items():
        table.add_row(key, *_figure(figure))
    oracle = report["oracle"]
    passed = "passed" if oracle["passed"] else "FAILED"
    table.add_row("oracle", f"{number(oracle['deviation'])} {oracle['unit']}", passed)
    for part, seconds in report["seconds"].items():
        table.add_row(part, f"{seconds:.2f} s", "")
    console.print(table)
    console.print(oracle["text"], highlight=False)
    if report.get("resumed"):
        console.print("This run was resumed: figures that depend on times are not comparable with those of other runs.")
    console.print(f"in {folder}: {', '.join(sorted(files(folder)))}", highlight=False, soft_wrap=True)


def files(folder: Path) -> list[str]:
    """What a user looks for in the folder of a run."""
    return [path.name for path in folder.iterdir() if path.suffix in (".json", ".csv", ".pdf", ".png")]


def number(value: Any) -> str:
    """Four significant digits; whole numbers in groups of thousands."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) or (value == int(value) and abs(value) < 1e15) else f"{value:.4g}"


def _figure(figure: Mapping[str, Any]) -> tuple[str, str]:
    text = f"{number(figure['value'])} {figure['unit']}"
    if "spread" in figure:
        low, high = figure["spread"]
        text += f" ({number(low)} to {number(high)})"
    if not figure.get("comparable", True):
        return text, "not comparable: the run was resumed"
    bar = figure.get("bar")
    if bar is None:
        return text, ""
    scaled = f", here {figure['scaled_bar']}" if "scaled_bar" in figure else ""
    return text, f"{bar}{scaled} {'met' if figure['met'] else 'MISSED'}"


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(str(column).replace("_", " "), justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(number(row.get(column)) for column in columns))
    return table
