"""`report.json`: what a run found, and what it was measured on."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from pilot import DescriptionError, plots
from pilot_miniapps.frame import host as measured_on
from pilot_miniapps.frame.figures import Bar
from pilot_miniapps.frame.folder import write_atomically

if TYPE_CHECKING:
    from pilot_miniapps.frame.miniapp import MiniApp


#: Columns of the output where it is no terminal, and of a word that is not broken.
WIDTH, LONGEST_WORD = 140, 20


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


def draw(app: MiniApp, folder: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """Save the mini-app's own plots, as PDF and PNG. Where it cannot draw them, the results stand all the same.

    Returns:
        The report; one whose plots cannot be drawn says why, for `failures`.
    """
    try:
        with plots.style():
            drawings = app.draw(report)
        for name, drawing in drawings.items():
            plots.save(drawing, folder, name)
    except Exception as error:  # a fault of the mini-app, after all of its work
        traceback.print_exc()
        return {**report, "undrawn": f"{type(error).__name__}: {error}"}
    return dict(report)


def failures(report: Mapping[str, Any]) -> list[str]:
    """What is wrong with a run, in words: its result, and bars that were missed."""
    found = [] if report["oracle"]["passed"] else [f"the result is wrong: {report['oracle']['text']}"]
    if "undrawn" in report:
        found.append(f"its plots cannot be drawn: {report['undrawn']}")
    for key, figure in report["figures"].items():
        if figure.get("met") is False:
            bar = _bar(figure.get("scaled_bar") or figure["bar"])
            value = f"{figure['value']:.4g} {figure['unit']}".rstrip()
            found.append(f"{key} is {value}; its bar is {bar}")
    return found


def show(report: Mapping[str, Any], folder: Path) -> None:
    """Print the figures, the table and where the files are."""
    console = Console(width=None if Console().is_terminal else WIDTH)
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
    table.add_row("oracle", f"{number(oracle['deviation'])} {oracle['unit']}".strip(), passed)
    for part, seconds in report["seconds"].items():
        table.add_row(f"time: {part}", f"{seconds:.2f} s", "")
    console.print(table)
    console.print(oracle["text"], highlight=False)
    if report.get("resumed"):
        console.print("This run was resumed: figures that depend on times are not comparable with those of other runs.")
    console.print(f"in {folder}: {', '.join(sorted(files(folder)))}", highlight=False, soft_wrap=True)


def files(folder: Path) -> list[str]:
    """What a user looks for in the folder of a run."""
    return [path.name for path in folder.iterdir() if path.suffix in (".json", ".csv", ".pdf", ".png")]


def number(value: Any) -> str:
    """Four significant digits; whole numbers, and those of a thousand and more, in groups of thousands."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, float) and (not 1e3 <= abs(value) < 1e15) and value != round(value, 0):
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"


def _figure(figure: Mapping[str, Any]) -> tuple[str, str]:
    text = f"{number(figure['value']) or 'none'} {figure['unit']}".rstrip()
    if None not in figure.get("spread", (None,)):
        low, high = figure["spread"]
        text += f" ({number(low)} to {number(high)})"
    if not figure.get("comparable", True):
        return text, "not comparable: the run was resumed"
    if figure.get("bar") is None:
        return text, ""
    scaled = f", here {_bar(figure['scaled_bar'])}" if "scaled_bar" in figure else ""
    return text, f"{_bar(figure['bar'])}{scaled} {'met' if figure['met'] else 'MISSED'}"


def _bar(text: str) -> str:
    bar = Bar.from_text(text)
    return f"{bar.relation} {number(bar.limit)}"


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table()
    names = dict.fromkeys(column for row in rows for column in row)
    columns = [name for name in names if any(row.get(name) is not None for row in rows)]
    cells = [[number(row.get(column)) for column in columns] for row in rows]
    for at, column in enumerate(columns):
        name, is_text = str(column).replace("_", " "), any(isinstance(row.get(column), str) for row in rows)
        longest = max(len(word) for text in (name, *(row[at] for row in cells)) for word in text.split() or [""])
        justify: Any = "left" if is_text else "right"
        table.add_column(name, justify=justify, overflow="fold", min_width=min(longest, LONGEST_WORD))
    for row in cells:
        table.add_row(*row)
    return table
