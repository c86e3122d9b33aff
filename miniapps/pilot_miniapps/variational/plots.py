"""The figure, from the report alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: Hartree.
_CHEMICAL_ACCURACY = 1.6e-3
#: Where legends stand: they hide nothing there.
_BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.25)}
_LABELS = {"exact/h2": "H2 (VQE)", "exact/lih": "LiH (VQE)"}


def overview(report: Mapping[str, Any]) -> Drawing:
    """The energy of H2 by its length, the error by step, and when the QPU worked for which loop."""
    drawing, (curve, errors, occupation) = plots.new(1, 3, width="double", height=3.7)
    with plots.style():
        _curve(curve, report)
        _errors(errors, report["details"])
        _occupation(occupation, report)
    plots.caption(
        drawing,
        "Left: energies of H2 as the QPU measured them, errors of the shots as bars, and the energies of the states "
        "that its loops found, computed without noise. Middle: loops whose values are exact; of max-cut the share of "
        "the greatest cut that is missing. Right: when the QPU worked for which loop.",
    )
    return drawing


def _curve(axes: Axes, report: Mapping[str, Any]) -> None:
    its = sorted(report["details"]["curve"], key=lambda one: one["length"])
    lengths = [one["length"] for one in its]
    axes.plot(lengths, [one["ground"] for one in its], color="black", label="exact")
    axes.plot(lengths, [one["hartree_fock"] for one in its], color="gray", linestyle=":", label="Hartree-Fock")
    rows = {row["loop"]: row for row in report["rows"]}
    found = [rows[f"qpu/h2-{length:g}"] for length in lengths]
    axes.errorbar(
        lengths,
        [row["measured"] for row in found],
        yerr=[row["standard_error"] for row in found],
        fmt="s",
        color=plots.COLOURS[1],
        markerfacecolor="none",
        capsize=3,
        label="measured by the QPU",
    )
    axes.plot(lengths, [row["energy"] for row in found], "o", color=plots.COLOURS[0], label="its state, without noise")
    axes.set(xlabel="Bond length of H2 (Å)", ylabel="Energy (Ha)", title="Loops on one QPU")
    axes.legend(**_BELOW)


def _errors(axes: Axes, details: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    for place, (loop, energies) in enumerate(details["energies"].items()):
        ground = details["ground"][loop]
        # what is left may be 0, and has no place on the axis then
        left = [max(energy - ground, 1e-12) / (1.0 if loop in _LABELS else -ground) for energy in energies]
        label = _LABELS.get(loop, "max-cut (QAOA)")
        axes.plot(
            range(len(left)),
            left,
            f"{'osD'[place % 3]}-",
            color=plots.COLOURS[(place + 2) % len(plots.COLOURS)],
            markersize=4,
            label=label,
        )
    axes.axhline(_CHEMICAL_ACCURACY, color="black", linestyle="--", linewidth=1, label="chemical accuracy, 1.6 mHa")
    axes.set(xlabel="Step of the optimiser", ylabel="Error (Ha)", yscale="log", title="Loops with exact values")
    axes.set_ylim(bottom=1e-6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(**_BELOW)


def _occupation(axes: Axes, report: Mapping[str, Any]) -> None:
    timeline: Sequence[Mapping[str, Any]] = report["details"]["timeline"]
    for row, one in enumerate(timeline):
        bars = [(first, last - first) for first, last in one["jobs"]]
        axes.broken_barh(bars, (row - 0.4, 0.8), facecolors=plots.COLOURS[row % len(plots.COLOURS)], linewidth=0)
    names = [f"H2 {one['loop'].rpartition('-')[2]} Å" for one in timeline]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    share = report["figures"]["qpu_busy"]["value"]
    alone = report["figures"]["qpu_busy_one_loop"]["value"]
    axes.set(xlabel="Time (s)", title=f"QPU {share:.1%} busy\n(one loop: {alone:.1%})")
