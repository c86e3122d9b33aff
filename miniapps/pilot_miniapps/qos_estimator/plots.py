"""The figures, from the report alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pilot import plots
from pilot_miniapps.frame.intervals import interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

#: Standard errors of half a 95 % interval.
HALF = 1.96
#: The device that those chosen by the estimator are compared with in the QOS paper (arXiv 2406.19120, figure 10c).
COMPARED = "auckland"

Rows = Sequence[Mapping[str, Any]]


def estimated(report: Mapping[str, Any]) -> Drawing:
    """Estimated fidelities over the true ones: computed, and by the formula; wide circuits by trajectories."""
    cases: Sequence[Mapping[str, Any]] = report["details"].get("cases", [])
    rungs: Sequence[Mapping[str, Any]] = report["details"].get("rungs", [])
    groups = [
        ("computed", [(one["truth"], one["estimate"]) for one in cases], "o"),
        ("formula", [(one["truth"], one["formula"]) for one in cases], "s"),
        ("formula, wide circuits", [(one["truth"], one["estimate"]) for one in rungs], "^"),
    ]
    drawing, axes = plots.new(width="single", height=3.2)
    with plots.style():
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        for number, (name, points, marker) in enumerate(groups):
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    marker,
                    markersize=3,
                    color=plots.COLOURS[number % len(plots.COLOURS)],
                    label=name,
                )
    plots.label(axes, x="Fidelity", y="Estimate")
    plots.legend(axes, loc="upper left")
    plots.caption(
        drawing, "Each point is a circuit on a device. The formula puts devices in order; its values are rough."
    )
    return drawing


def sizes(found: Rows) -> Drawing:
    """Fidelity by the number of qubits on one device, mean over the families, and what its shots allow (figure 3a of
    the QOS paper)."""
    first = found[0]["snapshot"]
    its = [one for one in found if one["snapshot"] == first]
    widths = sorted({one["qubits"] for one in its})
    drawing, axes = plots.new(width="single", height=2.6)
    for series, (key, name) in enumerate((("fidelity", "fidelity"), ("ceiling", "ceiling by 8,192 shots"))):
        values = [interval([one[key] for one in its if one["qubits"] == width]) for width in widths]
        means = [mean for mean, _ in values]
        spread = [span or (mean, mean) for mean, span in values]
        low, high = ([max(0.0, min(1.0, one[end])) for one in spread] for end in (0, 1))
        plots.lines(axes, widths, means, series=series, label=name, spread=(low, high))
    plots.label(axes, x="Qubits", y="Hellinger fidelity", title=f"nine families on {first}")
    with plots.style():
        drawing.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    plots.caption(
        drawing,
        "Means over the families with 95 % intervals, of Aer's probabilities, without the scatter of shots. What 8,192 "
        "shots of a device without errors would reach limits every measured fidelity.",
    )
    return drawing


def devices(found: Rows) -> Drawing:
    """The widest GHZ state on each device (figure 3b of the QOS paper)."""
    widest = max(one["qubits"] for one in found)
    its = sorted(
        (one for one in found if (one["family"], one["qubits"]) == ("ghz", widest)), key=lambda one: -one["fidelity"]
    )
    drawing, axes = plots.new(width="single", height=2.6)
    names, values = [one["snapshot"] for one in its], [one["fidelity"] for one in its]
    low, high = ([one["fidelity"] + sign * HALF * one["error"] for one in its] for sign in (-1, 1))
    plots.bars(axes, names, {"fidelity": values}, spread={"fidelity": (low, high)}, number="{:.2f}")
    axes.tick_params(axis="x", rotation=60)
    plots.limit(axes, fmean(one["ceiling"] for one in its), "ceiling by 8,192 shots")
    plots.label(axes, y="Hellinger fidelity", title=f"GHZ state of {widest} qubits")
    plots.caption(drawing, "By Aer's trajectories, with 95 % intervals.")
    return drawing


def days(times: Sequence[float], fidelities: Sequence[float]) -> Drawing:
    """A GHZ state of six qubits day by day (figure 4a of the QOS paper)."""
    drawing, axes = plots.new(width="single", height=2.4)
    plots.lines(axes, times, fidelities, marker=".", linewidth=0.7)
    mean, span = interval(fidelities)
    with plots.style():
        axes.axhspan(*(span or (mean, mean)), color="0.85", linewidth=0)
    plots.limit(axes, mean, "")
    plots.label(axes, x="Days", y="Hellinger fidelity", title=f"GHZ state of 6 qubits, mean {mean:.3f}")
    plots.caption(
        drawing,
        "Computed by each day's calibration, for which the circuit is compiled; grey: 95 % interval of the mean. On "
        "the hardware the QOS paper has 20 days with a fall of more than 5 %.",
    )
    return drawing


def chosen(cases: Rows) -> Drawing:
    """Each family on one device, and on the device that the estimator chooses (figure 10c of the QOS paper)."""
    families = list(dict.fromkeys(one["family"] for one in cases))
    fixed = COMPARED if any(one["snapshot"] == COMPARED for one in cases) else cases[0]["snapshot"]
    values: dict[str, list[float]] = {fixed: [], "chosen": []}
    low, high = ({name: list[float]() for name in values} for _ in range(2))
    for family in families:
        its = {one["snapshot"]: one for one in cases if one["family"] == family}
        best = max(its, key=lambda name: its[name]["estimate"])
        for name, snapshot in ((fixed, fixed), ("chosen", best)):
            mean, span = interval(its[snapshot]["jittered"] or [its[snapshot]["truth"]])
            values[name].append(mean)
            low[name].append((span or (mean, mean))[0])
            high[name].append((span or (mean, mean))[1])
    drawing, axes = plots.new(width="double", height=2.6)
    plots.bars(axes, families, values, spread={name: (low[name], high[name]) for name in values}, number="{:.2f}")
    plots.label(axes, y="Hellinger fidelity")
    plots.legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    plots.caption(
        drawing,
        "The estimator sees the calibration that devices report; the true errors differ from it at random. Means with "
        "95 % intervals, without the scatter of shots.",
    )
    return drawing
