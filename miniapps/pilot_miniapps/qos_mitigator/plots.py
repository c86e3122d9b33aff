"""The figures, from the report alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pilot import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

#: QOS, figure 8: reductions of gates and depth at 12 and 24 qubits together.
PUBLISHED = {"cx": 0.705, "depth": 0.46}


def drawings(report: Mapping[str, Any]) -> dict[str, Drawing]:
    """By file name."""
    details = report["details"]
    found = {}
    if "static" in details:
        found["qos-mitigator-static"] = _static(details["static"])
    if "fidelity" in details:
        found["qos-mitigator-fidelity"] = _fidelity(details["fidelity"])
    if "choice" in details:
        found["qos-mitigator-choice"] = _choice(details["choice"])
    return found


def _static(found: Sequence[Mapping[str, Any]]) -> Drawing:
    families = list(dict.fromkeys(one["family"] for one in found))
    widths = sorted({one["qubits"] for one in found})
    drawing, axes = plots.new(width="double", height=2.8)
    with plots.style():
        for place, width in enumerate(widths):
            for name, marker in (("cx", "o"), ("depth", "s")):
                heights = [
                    fmean(
                        1 - one[f"largest_{name}"] / max(1, one[name])
                        for one in found
                        if one["family"] == family and one["qubits"] == width
                    )
                    for family in families
                ]
                label = f"{'CX' if name == 'cx' else name}, {width} qubits"
                axes.plot(range(len(families)), heights, marker, markersize=4, color=f"C{place}", label=label)
        for name, value in PUBLISHED.items():
            plots.limit(axes, value, f"QOS, {'CX' if name == 'cx' else name}")
        axes.set_xticks(range(len(families)), families)
    plots.label(axes, y="Reduction in the largest piece")
    plots.legend(axes, loc="lower right", ncol=2)
    plots.caption(
        drawing, "Beside the whole circuit at Qiskit's level 3; the best of several compilations on both sides."
    )
    return drawing


def _fidelity(found: Sequence[Mapping[str, Any]]) -> Drawing:
    families = list(dict.fromkeys(one["family"] for one in found))
    drawing, axes = plots.new(width="double", height=2.8)
    with plots.style():
        for number, kind in enumerate(("plain", "mitigated", "ceiling")):
            heights = [fmean(fmean(one[kind]) for one in found if one["family"] == family) for family in families]
            places = [place + 0.27 * (number - 1) for place in range(len(families))]
            axes.bar(places, heights, 0.25, color=plots.COLOURS[number], hatch=plots.HATCHES[number], label=kind)
        axes.set_xticks(range(len(families)), families)
    plots.label(axes, y="Hellinger fidelity")
    plots.legend(axes, loc="lower left", ncol=3)
    plots.caption(drawing, "At equal numbers of shots. The ceiling is the whole circuit without noise at these shots.")
    return drawing


def _choice(found: Sequence[Mapping[str, Any]]) -> Drawing:
    drawing, axes = plots.new(width="single", height=3.2)
    least = min(one["plain"] for one in found)
    with plots.style():
        axes.plot([least, 1], [least, 1], color="0.7", linewidth=0.8)
        for number, kind in enumerate(("plain", "chosen")):
            points = [(one["best"], one[kind]) for one in found]
            name = "as it is" if kind == "plain" else "chosen"
            axes.plot(*zip(*points, strict=True), plots.MARKERS[number], markersize=3, color=f"C{number}", label=name)
    plots.label(axes, x="Fidelity of the best variant", y="Fidelity")
    plots.legend(axes, loc="upper left")
    plots.caption(drawing, "Each point is a circuit; all variants were run with the same number of shots.")
    return drawing
