"""The figure, from the report alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: The times that the text of the paper gives (section V-B1, and the caption of its figure 3): label, colour, marker,
#: and qubits and seconds of each.
PAPER = (
    ("IonQ's simulator", "C4", "^", ((2, 175.8), (28, 4260.0))),
    ("IBM Eagle (8 circuits, scaled)", "C2", "s", ((28, 199.0),)),
    ("Aer (CPU), 1 Perlmutter node", "C0", "o", ((28, 469.7),)),
    ("Aer (GPU), 1 Perlmutter node", "C3", "D", ((28, 49.0),)),
)
_MARKERS = "oDsv^P"


def times(report: Mapping[str, Any]) -> Drawing:
    """The time of 1,024 circuits, and circuits per second, against their width."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    drawing = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    rows, labels = report["rows"], report["details"]["labels"]
    series = list(dict.fromkeys((row["device"], row["batch"]) for row in rows))
    for place, (device, batch) in enumerate(series):
        its = [row for row in rows if (row["device"], row["batch"]) == (device, batch)]
        label = labels[device] + (f", {batch} circuits a task" if batch > 1 else "")
        style = {"marker": _MARKERS[place % len(_MARKERS)], "color": f"C{_colour(device, place)}", "label": label}
        _curve(left, its, "seconds_for_1024", linestyle="--" if batch > 1 else "-", **style)
        _curve(right, its, "circuits_per_second", linestyle="--" if batch > 1 else "-", **style)
    for label, colour, marker, points in PAPER:
        qubits, seconds = zip(*points, strict=True)
        left.plot(qubits, seconds, marker, color=colour, markerfacecolor="none", label=f"paper: {label}")
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    for axes, what in ((left, "Time of 1,024 circuits (s)"), (right, "Circuits per second (1/s)")):
        axes.set(xlabel="Qubits", ylabel=what, yscale="log")
        axes.xaxis.set_major_locator(MultipleLocator(4 if axes is left else 2))
        axes.yaxis.set_major_formatter(plain)
        axes.set_ylim(bottom=axes.get_ylim()[0] / 1.5, top=axes.get_ylim()[1] * 1.5)
        axes.grid(True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = left.get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return drawing


def _colour(device: str, place: int) -> int:
    """The same for a device as for the paper's; others by their place."""
    return {"cpu": 0, "gpu": 3}.get(device, 2 if place < 3 else 4 + place)


def _curve(axes: Axes, rows: list[Mapping[str, Any]], column: str, **style: Any) -> None:
    """The median of the repetitions; bars from the least to the greatest."""
    widths = sorted({row["qubits"] for row in rows})
    values = [[row[column] for row in rows if row["qubits"] == width] for width in widths]
    middle = np.array([np.median(its) for its in values])
    bars = [middle - [min(its) for its in values], np.array([max(its) for its in values]) - middle]
    axes.errorbar(widths, middle, yerr=bars, capsize=3, markersize=5, linewidth=1.4, **style)
