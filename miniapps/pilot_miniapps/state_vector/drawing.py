"""The plots of the state vector's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot import plots
from pilot_miniapps.state_vector import memory

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def times(report: Mapping[str, Any]) -> Drawing:
    """Time to solution over qubits, without and with gradient, a line for each device and number of ranks."""
    figure, panels = plots.new(1, 2, width="double", height=2.9, sharey=True)
    rows = report["rows"]
    qubits = sorted({row["qubits"] for row in rows})
    names = list(dict.fromkeys(_name(row) for row in rows))
    kinds = (("seconds", "values only"), ("gradient_seconds", "values and adjoint gradient"))
    for kind, (axes, (column, title)) in enumerate(zip(panels, kinds, strict=True)):
        for series, name in enumerate(names):
            points = [
                (row["qubits"], row[column], *spread[kind])
                for row, spread in zip(rows, report["details"]["spreads"], strict=True)
                if _name(row) == name and spread[kind]
            ]
            if points:
                sizes, seconds, least, greatest = zip(*sorted(points), strict=True)
                plots.lines(axes, sizes, seconds, series=series, label=name, spread=(least, greatest))
        with plots.style():
            axes.set_yscale("log")
            axes.set_xticks(qubits)
            axes.set_xlim(qubits[0] - 0.5, qubits[-1] + 0.5)
        plots.label(axes, x="qubits", y="time to solution (s)" if axes is panels[0] else "", title=title)
    plots.legend(panels[0], loc="upper left")
    settings = report["configuration"]
    plots.caption(
        figure,
        f"Z on each qubit after {settings['layers']} strongly entangling layers. Median of {settings['repeat']} rounds "
        "in which all devices ran in turn; bars show the least and the greatest.",
    )
    return figure


def model(report: Mapping[str, Any]) -> Drawing:
    """Ranks of 80 GB over qubits for the kernel and for one vector in single precision, with the paper's points."""
    figure, (left, right) = plots.new(1, 2, width="double", height=2.9)
    rows = report["details"]["model"]
    batch = report["configuration"]["batch"]
    kinds = (
        ("values", "kernel, values"),
        ("gradient", "kernel, gradient"),
        ("one_single_state", "one vector, single precision"),
    )
    for series, (column, name) in enumerate(kinds):
        _line(left, rows, f"ranks_{column}", series, name)
        if f"sent_by_rank_{column}" in rows[0]:
            _line(right, rows, f"sent_by_rank_{column}", series, name, 1e-9)
    with plots.style():
        paper = [memory.PAPER_GRADIENT_QUBITS, memory.PAPER_QUBITS]
        name = f"paper: gradient to {paper[0]}, values to {paper[1]}"
        left.plot(paper, [memory.PAPER_GPUS] * 2, "*", color="black", markersize=8, zorder=5, label=name)
        left.set_yscale("log", base=2)
        left.set_ylim(top=2**20)
        right.set_yscale("log")
        right.set_ylim(10, 1000)
        right.yaxis.set_major_formatter("{x:g}")
    plots.label(left, x="qubits", y="ranks needed", title="memory")
    plots.label(right, x="qubits", y="sent by each rank (GB)", title="traffic")
    plots.legend(left, loc="upper left")
    plots.caption(
        figure,
        f"Model. Each rank has {report['details']['model_memory'] / 1e9:g} GB. The kernel works in double precision "
        f"with {memory.states(None)} state vectors for values and {memory.states(batch)} for the gradient. "
        f"Stars: the largest circuits of the Pilot-Quantum paper on {memory.PAPER_GPUS} GPUs.",
    )
    return figure


def _line(
    axes: Any, rows: Sequence[Mapping[str, Any]], column: str, series: int, label: str, factor: float = 1.0
) -> None:
    qubits = [row["qubits"] for row in rows]
    plots.lines(axes, qubits, [row[column] * factor for row in rows], series=series, label=label)


def _name(row: Mapping[str, Any]) -> str:
    if row["ranks"] > 1 or row["device"] == "kernel":
        return f"{row['device']}, {row['ranks']} rank{'s' if row['ranks'] > 1 else ''}"
    return f"{row['device']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
