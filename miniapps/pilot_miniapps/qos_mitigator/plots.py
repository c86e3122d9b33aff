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
#: QOS, figure 4b: the mean utilisation, in percent.
PUBLISHED_USE = 26.3
#: QOS, figure 10b: the probability of no error in the largest piece at 1,000 qubits, by the number of cuts.
PUBLISHED_SUCCESS = {"1": 0.247, "4": 0.572, "8": 0.731}


def drawings(report: Mapping[str, Any]) -> dict[str, Drawing]:
    """By file name."""
    studies = {
        "static": _static,
        "success": _success,
        "fidelity": _fidelity,
        "utilisation": _utilisation,
        "choice": _choice,
        "harm": _harm,
        "large": _large,
        "freezing": _freezing,
        "cost": _cost,
    }
    details = report["details"]
    return {f"qos-mitigator-{name}": draw(details[name]) for name, draw in studies.items() if name in details}


def _static(found: Sequence[Mapping[str, Any]]) -> Drawing:
    """Figure 8 of QOS."""
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
                axes.plot(
                    range(len(families)),
                    heights,
                    marker,
                    markersize=4,
                    color=plots.COLOURS[place % len(plots.COLOURS)],
                    label=label,
                )
        for name, value in PUBLISHED.items():
            plots.limit(axes, value, f"QOS, {'CX' if name == 'cx' else name}")
        axes.set_xticks(range(len(families)), families)
    plots.label(axes, y="reduction in the largest piece")
    _legend(drawing)
    plots.caption(
        drawing, "Beside the whole circuit at Qiskit's level 3; the best of several compilations on both sides."
    )
    return drawing


def _success(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Drawing:
    """Figure 10b of QOS."""
    drawing, axes = plots.new(width="single", height=3.0)
    for series, (budget, by_width) in enumerate(found.items()):
        qubits = [int(width) for width in by_width]
        whole, largest = zip(*by_width.values(), strict=True)
        name = None if series else f"all pieces, {' or '.join(found)} cuts"
        plots.lines(axes, qubits, whole, label=name, color=plots.GREY, marker="", linestyle="-")
        plots.lines(axes, qubits, largest, series=series, label=f"largest piece, {budget} cuts", markersize=3)
        if budget in PUBLISHED_SUCCESS:
            star = {"color": plots.COLOURS[series % len(plots.COLOURS)], "marker": "*", "markersize": 8}
            label = "QOS, by colour" if budget == "1" else None
            plots.lines(axes, [1000], [PUBLISHED_SUCCESS[budget]], label=label, linestyle="none", **star)
    with plots.style():
        axes.set_yscale("log")
    _legend(drawing, 2)
    plots.label(axes, x="qubits", y="probability of no error")
    plots.caption(
        drawing,
        "VQE with one layer on a line, by a formula: errors of 1e-4 (gates on one qubit), 1e-3 (on two) and 1e-2 "
        "(readout). QOS shows the largest piece; a result needs all of them. Not drawn: its 2.4e-12 without a cut, of "
        "a circuit with 24,849 CX where 999 do on a line.",
    )
    return drawing


def _fidelity(found: Sequence[Mapping[str, Any]]) -> Drawing:
    """Figure 9 of QOS."""
    families = list(dict.fromkeys(one["family"] for one in found))
    drawing, axes = plots.new(width="double", height=2.8)
    kinds = {"plain": "as it is", "mitigated": "mitigated", "ceiling": "as it is, without noise"}
    values = {
        name: [fmean(fmean(one[kind]) for one in found if one["family"] == family) for family in families]
        for kind, name in kinds.items()
    }
    plots.bars(axes, families, values, number=None)
    plots.label(axes, y="Hellinger fidelity")
    _legend(drawing)
    plots.caption(
        drawing,
        "At equal numbers of shots. Without noise the shots alone limit the fidelity. QOS: 2.6 times the fidelity at "
        "12 qubits on hardware, with more shots for the mitigated circuits.",
    )
    return drawing


def _utilisation(found: Mapping[str, float]) -> Drawing:
    """Figure 4b of QOS."""
    drawing, axes = plots.new(width="double", height=2.4)
    plots.bars(axes, list(found), {"": [100 * value for value in found.values()]}, number="{:.0f}")
    plots.limit(axes, PUBLISHED_USE, "QOS, mean")
    plots.label(axes, y="qubits in use (%)")
    plots.caption(drawing, "The widest circuit of each family that has a fidelity of .75 or more without mitigation.")
    return drawing


def _harm(found: Sequence[Mapping[str, Any]]) -> Drawing:
    drawing, axes = plots.new(width="single", height=3.0)
    shots = sorted({one["shots"] for one in found})
    with plots.style():
        axes.axhline(1.0, color="black", linewidth=0.6)
        for place, number in enumerate(shots):
            its = sorted((one for one in found if one["shots"] == number), key=lambda one: one["ratio"])
            at = [place + 0.7 * ((rank + 0.5) / len(its) - 0.5) for rank in range(len(its))]
            ratios = [one["ratio"] for one in its]
            spread = [[one["ratio"] - one["low"] for one in its], [one["high"] - one["ratio"] for one in its]]
            axes.errorbar(
                *(at, ratios, [[max(0.0, value) for value in side] for side in spread]),
                fmt="o",
                markersize=2.5,
                color=plots.COLOURS[0],
                elinewidth=0.6,
                capsize=0,
            )
        axes.set_yscale("log")
        axes.set_xticks(range(len(shots)), [f"{number:,}" for number in shots])
        axes.grid(visible=False, axis="x")
    plots.label(axes, x="shots", y="mean square error, mitigated / not")
    plots.caption(
        drawing,
        "Values of observables; each point is a circuit, with the 95 % interval. Above 1 mitigation harms; exactly 1: "
        "the circuit was left as it is.",
    )
    return drawing


def _large(found: Sequence[Mapping[str, Any]]) -> Drawing:
    """Figure 9 of QOS at 24 qubits."""
    families = [one["family"] for one in found]
    drawing, axes = plots.new(width="single", height=2.8)
    kinds = {
        "plain": "as it is",
        "plain_noiseless": "as it is, without noise",
        "mitigated": "cut",
        "mitigated_noiseless": "cut, without noise",
    }
    plots.bars(axes, families, {name: [one[kind] for one in found] for kind, name in kinds.items()}, number="{:.2f}")
    plots.label(axes, y="Hellinger fidelity")
    _legend(drawing, 2)
    plots.caption(
        drawing, "At equal numbers of shots. What cutting gains without noise, too, is by the sampling alone."
    )
    return drawing


def _freezing(found: Sequence[Mapping[str, Any]]) -> Drawing:
    families = list(dict.fromkeys(one["family"] for one in found))
    drawing, axes = plots.new(width="single", height=2.8)
    kinds = {"full": "whole", "frozen": "frozen", "best": "best subproblem", "solved": "best outcome"}
    values = {
        name: [fmean(fmean(one[kind]) for one in found if one["family"] == family) for family in families]
        for kind, name in kinds.items()
    }
    plots.bars(axes, families, values, number="{:.2f}")
    plots.label(axes, y="approximation ratio")
    _legend(drawing, 2)
    plots.caption(drawing, "Mean energies of QAOA over the least energy, means over graphs, at equal numbers of shots.")
    return drawing


def _cost(found: Sequence[Mapping[str, Any]]) -> Drawing:
    """Figure 10a of QOS."""
    families = [one["family"] for one in found]
    drawing, (left, right) = plots.new(1, 2, width="double", height=2.8, width_ratios=(2, 1))
    kinds = {"decision": "decision", "knit": "merge of the pieces", "compiling": "compilation of the whole"}
    plots.bars(left, families, {name: [1000 * one[kind] for one in found] for kind, name in kinds.items()}, number=None)
    plots.bars(right, families, {"": [one["circuits"] for one in found]}, number="{:g}")
    left.set_yscale("log")
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=60)
    plots.label(left, y="CPU time (ms)", title="classical")
    plots.label(right, y="circuits that run", title="quantum")
    _legend(drawing)
    plots.caption(
        drawing,
        "Of the variant with most cuts. QOS at 12 qubits: 16.6 times the classical and 31.3 times the quantum work.",
    )
    return drawing


def _legend(drawing: Drawing, columns: int = 4) -> None:
    """Above the axes, so that it hides no bar."""
    with plots.style():
        drawing.legend(*drawing.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=columns)


def _choice(found: Sequence[Mapping[str, Any]]) -> Drawing:
    drawing, axes = plots.new(width="single", height=3.2)
    least = min(one["plain"] for one in found)
    with plots.style():
        axes.plot([least, 1], [least, 1], color="0.7", linewidth=0.8)
        for number, kind in enumerate(("plain", "chosen")):
            points = [(one["best"], one[kind]) for one in found]
            name = "as it is" if kind == "plain" else "chosen"
            axes.plot(
                *zip(*points, strict=True),
                plots.MARKERS[number],
                markersize=3,
                color=plots.COLOURS[number % len(plots.COLOURS)],
                label=name,
            )
    plots.label(axes, x="fidelity of the best variant", y="fidelity")
    plots.legend(axes, loc="upper left")
    plots.caption(drawing, "Each point is a circuit; all variants were run with the same number of shots.")
    return drawing
