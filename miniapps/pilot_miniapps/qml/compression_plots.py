"""The plots of `qml-compression`, from its report: figure 6 of the Pilot-Quantum paper, and the images."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EDGE = 32


def times(report: Mapping[str, Any]) -> Figure:
    """Time by phase with the parallel efficiency, images a second, and the fidelity of each image."""
    figure, (time, rate, fidelity) = plots.new(1, 3, width="double", height=2.9)
    rows = report["rows"]
    _time(time, rows)
    _throughput(rate, rows)
    _fidelities(fidelity, report)
    count, settings = len(report["details"]["images"]), report["configuration"]
    plots.caption(
        figure,
        f"{count:,} images as circuits of 13 qubits, depth {settings['layers']}, "
        f"{report['figures']['parameters']['value']:.0f} parameters; one task an image, one thread a task. "
        f"Rounds: {settings['repeat']}, of which medians are shown, with warm pilots. Per cent: parallel efficiency, "
        "the time on the fewest slots over that on more, and over how many times more these are.",
    )
    return figure


def _time(axes: Axes, rows: list[Mapping[str, Any]]) -> None:
    places = list(range(len(rows)))
    shares = [row["sweep_seconds"] / (row["sweep_seconds"] + row["bfgs_seconds"]) for row in rows]
    sweeps = [row["seconds"] * share for row, share in zip(rows, shares, strict=True)]
    rest = [row["seconds"] - part for row, part in zip(rows, sweeps, strict=True)]
    with plots.style():
        axes.bar(places, sweeps, 0.6, label="sweeps", color=plots.COLOURS[1], edgecolor="white", linewidth=0.4)
        axes.bar(
            places,
            rest,
            0.6,
            sweeps,
            label="BFGS",
            color=plots.COLOURS[0],
            hatch="///",
            edgecolor="white",
            linewidth=0.4,
        )
        axes.set_xticks(places, [str(row["slots"]) for row in rows])
        axes.grid(visible=False, axis="x")
        axes.set_ylim(0, max(row["seconds"] for row in rows) * 1.3)
        for place, row in zip(places, rows, strict=True):
            text = f"{row['seconds']:.3g} s\n{row['efficiency']:.0%}"
            axes.annotate(text, (place, row["seconds"]), (0, 2), textcoords="offset points", ha="center", size=6.5)
    plots.label(axes, x="slots", y="time for all images (s)", title="time and efficiency")
    plots.legend(axes, loc="upper right", ncols=2)


def _throughput(axes: Axes, rows: list[Mapping[str, Any]]) -> None:
    slots = [row["slots"] for row in rows]
    ideal = [rows[0]["images_per_second"] * count / slots[0] for count in slots]
    with plots.style():
        axes.plot(slots, ideal, color=plots.GREY, linestyle=":", label="ideal")
    plots.lines(axes, slots, [row["images_per_second"] for row in rows], label="measured")
    with plots.style():
        axes.set_xticks(slots, [str(count) for count in slots])
        axes.set_ylim(bottom=0)
    plots.label(axes, x="slots", y="throughput (images/s)", title="throughput")
    plots.legend(axes, loc="lower right")


def _fidelities(axes: Axes, report: Mapping[str, Any]) -> None:
    images = report["details"]["images"]
    steps = {"fidelity_mps": "product states", "fidelity_sweeps": "+ sweeps", "fidelity": "+ BFGS"}
    order = sorted(range(len(images)), key=lambda number: images[number]["fidelity"])
    with plots.style():
        for series, (column, name) in enumerate(steps.items()):
            values = [1 - images[number][column] for number in order]
            look = {"color": plots.COLOURS[2 - series], "marker": plots.MARKERS[series], "markersize": 3}
            axes.plot(range(1, len(order) + 1), values, linestyle="none", label=name, **look)
        axes.set_yscale("log")
        axes.margins(y=0.2)
    plots.limit(axes, 1 - report["figures"]["fidelity_mean"]["value"], "mean")
    plots.label(axes, x="image, the worst one first", y="infidelity: 1 - fidelity", title="infidelity")
    plots.legend(axes, loc="upper right")


def images(report: Mapping[str, Any]) -> Figure:
    """Some images, and below each what its circuit gives."""
    import numpy as np

    shown = report["details"]["shown"]
    figure, axes = plots.new(2, len(shown), width="single", height=2.5, squeeze=False)
    with plots.style():
        for column, one in enumerate(shown):
            for row, name in enumerate(("original", "restored")):
                pixels = np.frombuffer(base64.b64decode(one[name]), np.uint8).reshape(EDGE, EDGE, 3)
                its = axes[row, column]
                its.imshow(pixels, interpolation="nearest")
                its.set_xticks([])
                its.set_yticks([])
                its.grid(visible=False)
                its.spines[:].set_visible(False)
            axes[0, column].set_title(f"image {one['image']}", fontsize=7)
            axes[1, column].set_xlabel(f"fidelity\n{one['fidelity']:.4f}", fontsize=7)
        axes[0, 0].set_ylabel("original")
        axes[1, 0].set_ylabel("circuit")
    number = f"{report['figures']['parameters']['value']:.0f}"
    plots.caption(figure, f"Images, and what a circuit with {number} parameters gives. From the worst to the best.")
    return figure
