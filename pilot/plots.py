"""Every figure's style, and the plots that results and mini-apps share. matplotlib is imported where it draws.

A plot is made from plain values, so that it can be made again from a file::

    figure, axes = plots.new(width="single")
    plots.lines(axes, qubits, seconds, label="Aer", spread=(low, high))
    plots.label(axes, x="qubits", y="time to solution (s)")
    plots.caption(figure, "Median of five runs; bars show the least and the greatest.")
    plots.save(figure, "runs/today", "qubits")        # qubits.pdf and qubits.png

For what these functions do not offer, draw with matplotlib inside ``with plots.style():``.
"""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


class TaskSpan(NamedTuple):
    """When a task ran on a worker; times are seconds since any one moment."""

    pilot: str
    worker: str
    started: float
    ended: float


class PilotSpan(NamedTuple):
    """When a pilot was requested, took tasks for the first time, and ended; None: it did not, or it is not known."""

    pilot: str
    requested: float
    active: float | None
    ended: float | None


@contextlib.contextmanager
def style() -> Iterator[None]:
    """What is drawn in the block has the style of all figures."""
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
    """
    from matplotlib.figure import Figure

    with style():
        inches = WIDTHS[width]
        figure = Figure(figsize=(inches, height or rows * 0.68 * inches / columns + 0.3), layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


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


def lines(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    *,
    series: int = 0,
    label: str | None = None,
    spread: tuple[Sequence[float], Sequence[float]] | None = None,
    **options: Any,
) -> None:
    """A line with markers.

    Args:
        axes: to draw in.
        x: where the points are.
        y: their values.
        series: its number in the plot, from 0 on: colour, marker and dashes go with it.
        label: for the legend.
        spread: the least and the greatest value at each point, shown as bars.
        **options: of matplotlib's `Axes.errorbar`.
    """
    import numpy

    heights = None
    if spread is not None:
        low, high = (numpy.asarray(side, dtype=float) for side in spread)
        heights = numpy.clip([numpy.asarray(y, dtype=float) - low, high - numpy.asarray(y, dtype=float)], 0, None)
    look = {
        "color": COLOURS[series % len(COLOURS)],
        "marker": MARKERS[series % len(MARKERS)],
        "linestyle": DASHES[series % len(DASHES)],
    }
    with style():
        axes.errorbar(x, y, yerr=heights, label=label, **{**look, **options})


def bars(
    axes: Axes,
    groups: Sequence[str],
    values: Mapping[str, Sequence[float]],
    *,
    spread: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    number: str | None = "{:.3g}",
) -> None:
    """Bars in groups, one bar of each series in each group.

    Args:
        axes: to draw in.
        groups: their names, below the axis.
        values: by series (for the legend), a value for each group.
        spread: by series, the least and the greatest value for each group.
        number: how a value is written above its bar; None: it is not.
    """
    import numpy

    places = numpy.arange(len(groups))
    width = 0.8 / max(len(values), 1)
    with style():
        for series, (name, heights) in enumerate(values.items()):
            left = places + (series - (len(values) - 1) / 2) * width
            axes.bar(
                left,
                heights,
                width * 0.94,
                label=name if len(values) > 1 else None,
                color=COLOURS[series % len(COLOURS)],
                hatch=HATCHES[series % len(HATCHES)],
                edgecolor="white",
                linewidth=0.4,
            )
            tops = numpy.asarray(heights, dtype=float)
            if spread is not None and name in spread:
                low, high = (numpy.asarray(side, dtype=float) for side in spread[name])
                ends = numpy.clip([tops - low, high - tops], 0, None)
                axes.errorbar(left, heights, yerr=ends, fmt="none", ecolor="black", elinewidth=0.7)
                tops = numpy.maximum(tops, high)
            for x, top, height in zip(left, tops, heights, strict=True) if number is not None else ():
                text = number.format(height)  # type: ignore[union-attr]
                axes.annotate(text, (x, top), (0, 1.5), textcoords="offset points", ha="center", va="bottom", size=6.5)
        axes.set_xticks(places, list(groups))
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.12)


def limit(axes: Axes, value: float, text: str, *, vertical: bool = False) -> None:
    """A thin line at a value that was asked for or published, with a text on it."""
    with style():
        look: dict[str, Any] = {"color": "#404040", "linewidth": 0.8, "linestyle": (0, (4, 2))}
        if vertical:
            axes.axvline(value, **look)
            place, at = (value, 0.98), axes.get_xaxis_transform()
            axes.text(*place, f" {text}", transform=at, fontsize=6.5, rotation=90, ha="left", va="top")
        else:
            axes.axhline(value, **look)
            place, at = (0.99, value), axes.get_yaxis_transform()
            box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}
            axes.text(*place, text, transform=at, fontsize=6.5, ha="right", va="bottom", bbox=box)


def scaling(
    axes: Axes,
    counts: Sequence[int],
    speedups: Mapping[str, Sequence[float]],
    *,
    what: str,
    spread: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> None:
    """Speed-up over the number of slots, nodes or pilots, with the ideal line; both axes are logarithmic to base 2.

    Args:
        axes: to draw in.
        counts: the numbers, the least one first; its speed-up is 1.
        speedups: by series, one for each count.
        what: is counted: "slots", "nodes" or "pilots".
        spread: by series, the least and the greatest one for each count.
    """
    with style():
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        ideal = [count / counts[0] for count in counts]
        axes.plot(counts, ideal, color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.0, label="ideal")
        for series, (name, values) in enumerate(speedups.items()):
            lines(axes, counts, values, series=series, label=name, spread=(spread or {}).get(name))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_yticks(ideal, [f"{one:g}" for one in ideal])
        axes.minorticks_off()
    label(axes, x=what, y=f"speed-up over {counts[0]} {what if counts[0] != 1 else what.removesuffix('s')}")
    legend(axes, loc="upper left")


def timeline(axes: Axes, pilots: Sequence[PilotSpan], tasks: Sequence[TaskSpan]) -> None:
    """When each worker of each pilot ran tasks: a row for each worker. The start of a pilot is hatched, and what is
    light behind the tasks is time in which a worker had none.

    Args:
        axes: to draw in; its x axis is seconds since the first pilot was requested.
        pilots: in the order of the rows.
        tasks: of these pilots, in any order.
    """
    begun = min([one.requested for one in pilots] or [task.started for task in tasks] or [0.0])
    last = max([task.ended for task in tasks] + [one.ended or one.active or one.requested for one in pilots] or [begun])
    rows = 0
    ticks: list[tuple[float, str]] = []
    with style():
        for series, pilot in enumerate(pilots):
            its = [task for task in tasks if task.pilot == pilot.pilot]
            workers = sorted({task.worker for task in its}) or [""]
            colour = COLOURS[series % len(COLOURS)]
            place = (rows - 0.45, len(workers) - 0.1)
            end = last if pilot.ended is None else pilot.ended
            _pilot_span(axes, pilot, begun, end, place, colour)
            for number, worker in enumerate(workers):
                spans = _joined([(one.started - begun, one.ended - begun) for one in its if one.worker == worker])
                axes.broken_barh(spans, (rows + number - 0.38, 0.76), facecolors=colour, linewidth=0)
            busy = sum(task.ended - task.started for task in its)
            whole = (end - pilot.active) * len(workers) if pilot.active is not None else 0.0
            share = f"\n{busy / whole:.0%} busy" if whole > 0 and its else ""
            ticks.append((rows + (len(workers) - 1) / 2, f"{pilot.pilot}{share}"))
            rows += len(workers)
        axes.set_yticks([place for place, _ in ticks], [text for _, text in ticks])
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_xlim(0, max(last - begun, 1e-9) * 1.01)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        _timeline_legend(axes)
    label(axes, x="time since the first pilot was requested (s)")


def _pilot_span(
    axes: Axes, pilot: PilotSpan, begun: float, end: float, place: tuple[float, float], colour: str
) -> None:
    """The start of a pilot, and behind its tasks the time that it was there."""
    active = end if pilot.active is None else pilot.active
    start = [(pilot.requested - begun, active - pilot.requested)]
    axes.broken_barh(start, place, facecolors="white", edgecolor=GREY, hatch="////", linewidth=0.4)
    if pilot.active is not None:
        axes.broken_barh([(active - begun, end - active)], place, facecolors=colour, alpha=0.18, linewidth=0)


def _timeline_legend(axes: Axes) -> None:
    from matplotlib.patches import Patch

    shown = [
        Patch(facecolor="white", edgecolor=GREY, hatch="////", linewidth=0.4, label="start of the pilot"),
        Patch(facecolor=COLOURS[0], label="task"),
        Patch(facecolor=COLOURS[0], alpha=0.18, label="idle"),
    ]
    axes.legend(handles=shown, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)


def _joined(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Begin and length of each span; spans closer than a thousandth of the whole are one, so that a plot of many
    tasks stays small."""
    spans.sort()
    if not spans:
        return []
    gap = (max(end for _, end in spans) - spans[0][0]) / 2000 if len(spans) > 200 else 0.0
    joined = [list(spans[0])]
    for begin, end in spans[1:]:
        if begin - joined[-1][1] < gap:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([begin, end])
    return [(begin, end - begin) for begin, end in joined]


def save(figure: Figure, folder: str | os.PathLike[str], name: str) -> list[Path]:
    """Write a figure as ``name.pdf`` and ``name.png`` (300 dpi). Equal figures make equal files.

    Returns:
        The files.

    Raises:
        OSError: they cannot be written.
    """
    paths = [Path(folder, f"{name}.pdf"), Path(folder, f"{name}.png")]
    with style():
        figure.savefig(paths[0], bbox_inches="tight", pad_inches=0.03, metadata={"CreationDate": None})
        figure.savefig(paths[1], bbox_inches="tight", pad_inches=0.03, dpi=DOTS_PER_INCH)
    return paths
