"""The figure, from the report alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilot import plots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure as Drawing


def bars(report: Mapping[str, Any]) -> Drawing:
    """The mean deviation from the exact values: a group of bars for each method, a bar for each QPU."""
    rows, recommended = report["rows"], report["details"]["recommended"]
    qpus = list(dict.fromkeys(row["qpu"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    by_place = {(row["qpu"], row["method"]): row for row in rows}
    drawing, axes = plots.new(width="double", height=3.2)
    width = 0.8 / len(qpus)
    with plots.style():
        for place, qpu in enumerate(qpus):
            its = [by_place[qpu, method] for method in methods]
            at = [number + (place - (len(qpus) - 1) / 2) * width for number in range(len(methods))]
            axes.bar(
                at,
                [row["deviation"] for row in its],
                width,
                yerr=[row["error"] for row in its],
                color=plots.COLOURS[place % len(plots.COLOURS)],
                hatch=plots.HATCHES[place % len(plots.HATCHES)],
                edgecolor="white",
                error_kw={"linewidth": 0.8},
                label=qpu.partition("?")[0],
            )
            noise = [row["shot_noise"] for row in its]
            axes.plot(at, noise, "_", color="black", label=None if place else "errors of the shots alone")
        axes.set_xticks(range(len(methods)), [method.replace("+", " +\n") for method in methods])
        for label, method in zip(axes.get_xticklabels(), methods, strict=True):
            label.set_fontweight("bold" if method == recommended else "normal")
        axes.grid(False, axis="x")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    plots.label(axes, y="Mean deviation from the exact value")
    plots.legend(axes, ncols=len(qpus) + 1, loc="upper center")
    number = rows[0]["circuits"]
    plots.caption(
        drawing,
        f"Mean over {number} circuits of the distance between the measured and the exact value, which is between -1 "
        "and 1; bars of error are standard errors of the mean. The documentation recommends the method in bold.",
    )
    return drawing
