"""The figures, from the report alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from pilot import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: QOS (arXiv 2406.19120): loss of fidelity in percent and times less wait, of figures 12a and 12b.
FORMULA, GENETIC = (2.0, 5.0), (4.0, 2.0)
#: The greatest difference of load, of figure 12c.
LOAD_DIFFERENCE = 0.152
NOTE = "Simulated: fidelities are estimates, not measured."


def drawings(report: Mapping[str, Any]) -> dict[str, Drawing]:
    """By file name."""
    rows, figures = report["rows"], report["figures"]
    by_study = {name: [row for row in rows if row["study"] == name] for name in ("load", "front", "trace", "joint")}
    drawn = {}
    if by_study["load"] or by_study["joint"]:
        drawn["scheduler"] = _policies(by_study["load"], by_study["joint"])
    if by_study["load"]:
        drawn["load-difference"] = _load_difference(by_study["load"], figures)
    if by_study["front"]:
        drawn["front"] = _front(figures)
    if by_study["trace"]:
        drawn["trace"] = _trace(by_study["trace"])
    return drawn


def _policies(load: Sequence[Mapping[str, Any]], joint: Sequence[Mapping[str, Any]]) -> Drawing:
    """Wait over the loss of fidelity, a line for each policy (figure 12a of the QOS paper)."""
    panels = [
        (load, "QPUs of one's own", "times less wait than best fidelity first", "times_less_wait"),
        (joint, "queues of others", "wait over that in the shortest queue", "over_shortest_queue"),
    ]
    panels = [panel for panel in panels if panel[0]]
    figure, grid = plots.new(1, len(panels), width="double", height=3.2, squeeze=False)
    for axes, (rows, title, y, column) in zip(grid[0], panels, strict=True):
        _curves(axes, rows, column)
        if rows is load:
            look = {"color": "black", "marker": "*", "markersize": 8, "linestyle": "none", "label": "QOS, on a trace"}
            plots.lines(axes, *([value] for value in FORMULA), **look)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        plots.label(axes, x="loss of fidelity (%)", y=y, title=title)
        plots.legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    plots.caption(figure, f"{NOTE} Means over the jobs; the points of a policy are its settings.")
    return figure


def _curves(axes: Axes, rows: Sequence[Mapping[str, Any]], column: str) -> None:
    for series, family in enumerate(sorted({_family(row["policy"]) for row in rows})):
        mine = [(row["loss_percent"], row.get(column)) for row in rows if _family(row["policy"]) == family]
        mine = sorted(one for one in mine if None not in one and all(map(isfinite, one)))
        if mine:
            losses, values = zip(*mine, strict=True)
            plots.lines(axes, losses, values, series=series, label=family)


def _load_difference(load: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> Drawing:
    """How evenly the QPUs are used (figure 12c of the QOS paper)."""
    drawing, axes = plots.new(width="single", height=2.8)
    _curves(axes, load, "load_difference")
    if (value := figures["load_difference"]["value"]) is not None:  # infinite: a QPU had no job
        plots.limit(axes, value, "formula, overload")
    plots.limit(axes, LOAD_DIFFERENCE, "QOS")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    plots.label(axes, x="loss of fidelity (%)", y="longest busy time / shortest, less 1")
    with plots.style():
        drawing.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    plots.caption(
        drawing,
        f"{NOTE} Where less work comes than QPUs can do, bad ones are rightly avoided.",
    )
    return drawing


def _front(figures: Mapping[str, Any]) -> Drawing:
    """The front of one batch, mean over the batches (figure 12b of the QOS paper)."""
    prefix = "front.wait_ratio_at_"
    by_loss = {
        float(key.removeprefix(prefix)): one
        for key, one in figures.items()
        if key.startswith(prefix) and not key.endswith("_half")
    }
    found = list(by_loss.values())
    values = [one["value"] for one in found]
    low, high = ([one.get("spread", [one["value"]] * 2)[end] for one in found] for end in (0, 1))
    drawing, axes = plots.new(width="single", height=2.8)
    plots.lines(axes, list(by_loss), values, label="front", spread=(low, high))
    half = [figures[f"front.{key}_at_half"]["value"] for key in ("loss", "wait_ratio")]
    plots.lines(axes, half[:1], half[1:], series=1, label="chosen, c=0.5", linestyle="none", markersize=6)
    plots.lines(axes, *([value] for value in GENETIC), series=2, label="QOS", linestyle="none", markersize=6)
    plots.label(axes, x="loss of fidelity (%)", y="times less wait than best fidelity first")
    with plots.style():
        drawing.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    plots.caption(drawing, f"{NOTE} Means over batches of circuits with 95 % intervals.")
    return drawing


def _trace(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """Waits in the recorded queues."""
    drawing, axes = plots.new(width="double", height=2.8)
    columns = {"wait_mean": "mean", "wait_p50": "median", "wait_p95": "95 %", "wait_p99": "99 %"}
    waits = {name: [row[column] / 3600 for row in rows] for column, name in columns.items()}
    plots.bars(axes, [row["policy"] for row in rows], waits, number="{:.2g}")
    plots.label(axes, y="wait (h)")
    with plots.style():
        drawing.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    plots.caption(
        drawing,
        "Means and percentiles over the jobs, on a virtual clock with the queues that were recorded. In a trace, nazca "
        "takes the snapshot of cusco and cairo that of hanoi; the readout errors of lagos are .17 to .46.",
    )
    return drawing


def _family(policy: str) -> str:
    """A policy without its settings: "formula c=0.9" is "formula"."""
    words = policy.partition(" ")
    return words[0] + (", moving" if policy.endswith("moving") else "")
