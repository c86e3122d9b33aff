"""The plot of a report, in the form of the paper's figure 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: The parts of a cut run, one after another, with their names and the numbers of their looks.
PARTS = {"plan": ("plan", 2), "run": ("subexperiments", 0), "combine": ("reconstruction", 1)}
GIB = 2**30


def drawn(report: Mapping[str, Any]) -> Drawing:
    """Times by slots and size of pieces; times by width, cut and whole; and the values beside the exact one."""
    cut = [row for row in report["rows"] if row["circuit"] == "cut"]
    rounds = report["details"]["rounds"]
    qubits = cut[0]["qubits"]
    figure, (left, middle, right) = plots.new(1, 3, width="double", height=3.2, width_ratios=(1.2, 1.15, 0.85))
    _times(left, [pair for pair in zip(cut, rounds, strict=True) if pair[0]["qubits"] == qubits])
    _by_width(middle, report["rows"], report["details"]["state_vector"])
    _values(right, [one for one in rounds if one["qubits"] == qubits])
    plots.caption(figure, _caption(report["configuration"], [one for one in rounds if one["qubits"] == qubits]))
    return figure


def _times(axes: Axes, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
    """Stacked bars: a group for each number of slots, a bar for each size of pieces."""
    slots = sorted({row["slots"] for row, _ in pairs})
    sizes = sorted({row["piece"] for row, _ in pairs}, reverse=True)
    width = 0.84 / len(sizes)
    ticks = {}
    with plots.style():
        for row, rounds in pairs:
            place = slots.index(row["slots"]) + (sizes.index(row["piece"]) - (len(sizes) - 1) / 2) * width
            _bar(axes, place, 0.92 * width, row, rounds["seconds"])
            ticks[place] = str(row["piece"])
        axes.set_xticks(list(ticks), list(ticks.values()))
        below = axes.secondary_xaxis(-0.09)
        below.set_xticks(range(len(slots)), [f"{count} slot{'s' if count != 1 else ''}" for count in slots])
        below.tick_params(length=0)
        below.spines["bottom"].set_visible(False)
        below.set_xlabel("most qubits of a piece, and slots")
        axes.grid(visible=False, axis="x")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.5)
        axes.legend(handles=_handles(), loc="upper left", ncols=2, columnspacing=1.0, handlelength=1.6)
    qubits = pairs[0][0]["qubits"]
    plots.label(axes, y="time from plan to value (s)", title=f"(a) {qubits} qubits in pieces")


def _bar(axes: Axes, place: float, width: float, row: Mapping[str, Any], seconds: Sequence[float]) -> None:
    """One stacked bar, with the spread of its rounds, the work in it, and what was predicted."""
    base = 0.0
    for part, (_, look) in PARTS.items():
        axes.bar(place, row[part], width, bottom=base, **_look(look))
        base += row[part]
    low, high = min(*seconds, base), max(*seconds, base)
    if len(seconds) > 1:
        axes.errorbar(place, base, yerr=[[base - low], [high - base]], fmt="none", ecolor="black", elinewidth=0.7)
    if row["work"] is not None:
        ideal = row["work"] / row["slots"]
        axes.plot([place - width / 2, place + width / 2], [ideal, ideal], color="black", linewidth=1.3)
    axes.plot(place, row["predicted"], **_diamond())
    inside = row["plan"] + 0.15 * row["run"]
    axes.text(place, inside, f"{base:.2f}", ha="center", va="center", fontsize=6.5, color="white")


def _look(number: int) -> dict[str, Any]:
    return {
        "facecolor": plots.COLOURS[number],
        "hatch": plots.HATCHES[number],
        "edgecolor": "white",
        "linewidth": 0.4,
    }


def _diamond() -> dict[str, Any]:
    return {"color": "black", "marker": "D", "linestyle": "", "markerfacecolor": "white", "markersize": 3.5}


def _handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    parts: list[Any] = [Patch(label=name, **_look(look)) for name, look in reversed(PARTS.values())]
    work = Line2D([], [], color="black", linewidth=1.3, label="work / slots")
    return [*parts, work, Line2D([], [], label="predicted", **_diamond())]


def _by_width(axes: Axes, rows: Sequence[Mapping[str, Any]], curve: Sequence[Sequence[float]]) -> None:
    """Time over the circuit's width: whole, and cut in two on all slots; dotted: as predicted."""
    halves = [row for row in rows if row["circuit"] == "cut" and row["piece"] == row["qubits"] - row["qubits"] // 2]
    slots = max((row["slots"] for row in halves), default=1)
    halves = sorted((row for row in halves if row["slots"] == slots), key=lambda row: row["qubits"])
    _series(axes, [row for row in rows if row["circuit"] == "state vector"], 1, "state vector, 1 slot")
    _series(axes, halves, 0, f"cut in two, {slots} slots")
    _series(axes, [row for row in rows if row["circuit"] == "product state"], 2, "matrix product state")
    _dotted(axes, [(row["qubits"], row["predicted"]) for row in halves], 0)
    _dotted(axes, curve, 1)
    axes.plot([], [], color=plots.GREY, linestyle=":", linewidth=1.0, label="predicted")
    with plots.style():
        if curve:
            width, seconds = curve[-1]
            text = f"{16 * 2**width / GIB:,.3g} GiB of memory"
            axes.annotate(
                text, (width, seconds), (-4, 0), textcoords="offset points", fontsize=6.5, ha="right", va="center"
            )
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.6)
        axes.xaxis.get_major_locator().set_params(integer=True)
    plots.legend(axes, loc="upper left")
    plots.label(axes, x="qubits of the circuit", y="time to the value (s)", title="(b) whole, and in two pieces")


def _series(axes: Axes, rows: Sequence[Mapping[str, Any]], series: int, name: str) -> None:
    if rows:
        linestyle = "-" if len(rows) > 1 else ""
        x, y = [row["qubits"] for row in rows], [row["seconds"] for row in rows]
        plots.lines(axes, x, y, series=series, label=name, linestyle=linestyle)


def _dotted(axes: Axes, points: Sequence[Sequence[float]], series: int) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), color=plots.COLOURS[series], linestyle=":", linewidth=1.0)


def _values(axes: Axes, rounds: Sequence[Mapping[str, Any]]) -> None:
    """The value of each round with one standard error, beside the exact one."""
    slots = max(one["slots"] for one in rounds)
    sizes = sorted({one["piece"] for one in rounds}, reverse=True)
    exact = rounds[0]["exact"]
    with plots.style():
        line = axes.axhline(exact, color="black", linewidth=0.9, label=f"exact: {exact:.4f}".replace("-", "−"))
        axes.margins(y=0.2)  # room for the legend
        axes.legend(handles=[line], loc="lower left")
        for series, size in enumerate(sizes):
            its = next(one for one in rounds if one["piece"] == size and one["slots"] == slots)
            count = len(its["values"])
            places = [series + 0.6 * ((number + 0.5) / count - 0.5) for number in range(count)]
            axes.errorbar(
                places, its["values"], yerr=its["errors"], fmt=plots.MARKERS[series], color=plots.COLOURS[series]
            )
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set_xlim(-0.6, len(sizes) - 0.4)
        axes.grid(visible=False, axis="x")
    plots.label(axes, x="most qubits of a piece", y="expectation value", title="(c) value of each round")


def _caption(settings: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> str:
    by_size = {one["piece"]: one for one in rounds}
    cuts = "; ".join(
        f"{size} qubits: {one['pieces']} pieces, {one['cuts']} cuts, overhead {one['overhead']:,.0f}, "
        f"{one['subexperiments']:,} subexperiments, {one['distinct']:,} of them distinct"
        for size, one in by_size.items()
    )
    count = settings["repeat"]
    medians = f"Medians of {count} rounds on all slots, bars from least to greatest. " if count > 1 else ""
    observable = settings["observable"] or "Z on the top qubit"
    return (
        f"Pieces of at most {cuts}. {settings['shots']:,} shots each; {observable}. "
        f"{medians}Work: the distinct subexperiments alone, one after another in one process. Values with one standard "
        "error."
    )
