"""The style of every figure; figures are made here, labelled and saved."""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot.errors import PluginError, invalid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that readers with a colour vision deficiency tell apart, and that differ in grey: Okabe and Ito,
#: https://jfly.uni-koeln.de/color/ (its yellow is left out: too light for lines on paper).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: One for each series, so that a print in grey can be read.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "oo")
#: Inches: a column and a page of usual journals.
WIDTHS = {"single": 3.5, "double": 7.2}
#: Of PNG files.
DOTS_PER_INCH = 300
GREY = "#8C8C8C"

_STYLE: dict[str, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.0,
    "errorbar.capsize": 2.0,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # text stays text, which journals ask for
    "savefig.dpi": DOTS_PER_INCH,
    "svg.fonttype": "none",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """What is drawn in the block has the style of all figures.

    Raises:
        PluginError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        message = "plots need matplotlib, which is not installed: pip install 'quantum-pilot[plots]'"
        raise PluginError(message, name="matplotlib")
    from matplotlib import rc_context
    from matplotlib.rcsetup import cycler

    settings: Any = {**_STYLE, "axes.prop_cycle": cycler(color=COLOURS)}  # its keys are literals to type checkers
    with rc_context(settings):
        yield


def new(
    rows: int = 1, columns: int = 1, *, width: str = "single", height: float | None = None, **options: Any
) -> tuple[Figure, Any]:
    """An empty figure and its axes.

    Args:
        rows: of axes.
        columns: of axes.
        width: "single" (a column) or "double" (a page).
        height: in inches; None: by the number of rows.
        **options: of matplotlib's `Figure.subplots`, such as ``sharex=True``.

    Returns:
        The figure, and the axes: one, or an array as `Figure.subplots` gives it.

    Raises:
        DescriptionError: there is no such width.
    """
    if width not in WIDTHS:
        raise invalid("width", width, " or ".join(map(repr, WIDTHS)))
    with style():
        from matplotlib.figure import Figure

        inches = WIDTHS[width]
        figure = Figure(figsize=(inches, height or rows * 0.68 * inches / columns + 0.3), layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def axes_for(ax: Axes | None, *, width: str = "single", height: float = 2.6) -> Axes:
    """Where a result draws itself: the axes that it was given, or those of a new figure of pyplot, as pandas does it. A
    notebook shows that figure below the cell; ``matplotlib.pyplot.show()`` shows it in a window.

    Args:
        ax: that were given; None: none were.
        width: of a new figure: "single" or "double".
        height: of a new figure, in inches.

    Raises:
        DescriptionError: they are no axes.
    """
    if ax is not None:
        if not hasattr(ax, "get_xlabel"):
            raise invalid("ax", ax, "matplotlib's axes: one of those that subplots returns", shown=type(ax).__name__)
        return ax
    with style():
        from matplotlib import pyplot

        return pyplot.figure(figsize=(WIDTHS[width], height), layout="constrained").add_subplot()


def plain(name: str) -> str:
    """A name as a text in which $ is no formula."""
    return name.replace("$", r"\$")


def label(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Name the axes, each with its unit: ``"time to solution (s)"``."""
    with style():
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if title:
            axes.set_title(title, loc="left")


def legend(axes: Axes, **options: Any) -> None:
    """A legend, where there is something to tell apart; ``options`` are those of `Axes.legend`."""
    with style():
        if axes.get_legend_handles_labels()[0]:
            axes.legend(**options)


def caption(figure: Figure, text: str) -> None:
    """A text below the figure, in lines that fit."""
    letters = int(figure.get_figwidth() * 19)
    figure.supxlabel("\n".join(textwrap.wrap(text, letters)), x=0.01, ha="left", fontsize=7, color="#404040")


def save(figure: Figure, folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Write a figure as ``name.pdf`` and ``name.png`` (300 dpi). Equal figures make equal files.

    Returns:
        The files.

    Raises:
        OSError: they cannot be written.
    """
    paths = [Path(folder, f"{name}.pdf"), Path(folder, f"{name}.png")]
    for path in paths:
        save_as(figure, path)
    return paths


def save_as(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as one file of the kind that its ending says: pdf, png (300 dpi) or svg.

    Raises:
        OSError: it cannot be written.
    """
    dated = {".pdf": "CreationDate", ".svg": "Date"}.get(Path(path).suffix.lower())
    with style():
        figure.savefig(
            path, bbox_inches="tight", pad_inches=0.03, dpi=DOTS_PER_INCH, metadata={dated: None} if dated else None
        )
