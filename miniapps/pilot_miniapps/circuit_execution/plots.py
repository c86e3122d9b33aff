"""The figure, from the report alone."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from pilot import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

#: The times that the text of the paper gives (section V-B1, and the caption of its figure 3): label, colour, marker,
#: and qubits and seconds of each.
PAPER = (
    ("IonQ's simulator", plots.COLOURS[3], "^", ((2, 175.8), (28, 4260.0))),
    ("IBM Eagle", plots.COLOURS[2], "s", ((28, 199.0),)),
    ("Aer (CPU)", plots.COLOURS[0], "o", ((28, 469.7),)),
    ("Aer (GPU)", plots.COLOURS[1], "D", ((28, 49.0),)),
)


def times(report: Mapping[str, Any]) -> Drawing:
    """The time of 1,024 circuits, and circuits per second, against their width."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    drawing, (left, right) = plots.new(1, 2, width="double", height=3.6)
    rows, labels = report["rows"], report["details"]["labels"]
    devices = list(labels)
    for device, batch in dict.fromkeys((row["device"], row["batch"]) for row in rows):
        its = [row for row in rows if (row["device"], row["batch"]) == (device, batch)]
        look = {
            "label": labels[device] + (f", {batch} circuits a task" if batch > 1 else ""),
            "series": {"cpu": 0, "gpu": 1}.get(device, 2 + devices.index(device)),
            "linestyle": "--" if batch > 1 else "-",
            "markerfacecolor": "white" if batch > 1 else None,
        }
        for axes, column in ((left, "seconds_for_1024"), (right, "circuits_per_second")):
            by_width: dict[int, list[float]] = {}
            for row in its:
                by_width.setdefault(row["qubits"], []).append(row[column])
            spread = ([min(one) for one in by_width.values()], [max(one) for one in by_width.values()])
            plots.lines(axes, list(by_width), list(map(median, by_width.values())), spread=spread, **look)
    with plots.style():
        for label, colour, marker, points in PAPER:
            qubits, seconds = zip(*points, strict=True)
            left.plot(
                qubits, seconds, marker, color=colour, markersize=6, markerfacecolor="none", label=f"paper: {label}"
            )
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    plots.label(left, x="Qubits", y="Time of 1,024 circuits (s)")
    plots.label(right, x="Qubits", y="Circuits per second (1/s)")
    for axes, distance in ((left, 4), (right, 2)):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(low / 1.5, high * 1.5)
        axes.xaxis.set_major_locator(MultipleLocator(distance))
        axes.yaxis.set_major_formatter(plain)
    with plots.style():
        drawing.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    plots.caption(drawing, _caption(report))
    return drawing


def _caption(report: Mapping[str, Any]) -> str:
    repetitions = 1 + max(row["repetition"] for row in report["rows"])
    fewest, most = (pick(row["circuits"] for row in report["rows"]) for pick in (min, max))
    measured = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    return (
        f"Random circuits with random Pauli observables. Median of {repetitions} measurements of {measured} circuits, "
        "from the first submission to the last result; bars show the least and the greatest. Times of fewer than 1,024 "
        "circuits are scaled. Open marks: the paper's numbers, on a Perlmutter node and on cloud services."
    )
