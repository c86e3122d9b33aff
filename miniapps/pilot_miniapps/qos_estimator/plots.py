"""The figure, from the report alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


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
                axes.plot(*zip(*points, strict=True), marker, markersize=3, color=f"C{number}", label=name)
    plots.label(axes, x="Fidelity", y="Estimate")
    plots.legend(axes, loc="upper left")
    plots.caption(
        drawing, "Each point is a circuit on a device. The formula puts devices in order; its values are rough."
    )
    return drawing
