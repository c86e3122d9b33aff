"""The usual charts: lines, bars, speed-up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot.plots.figures import COLOURS, DASHES, GREY, HATCHES, MARKERS, label, legend, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

#: Width of a letter above a bar: points.
LETTER = 3.8


def lines(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    series: int = 0,
    label: str | None = None,
    spread: tuple[ArrayLike, ArrayLike] | None = None,
    **options: Any,
) -> None:
    """A line with markers.

    Args:
        axes: to draw in.
        x: where the points are.
        y: their values.
        series: its number in the plot, from 0 on: colour, marker and dashes go with it.
        label: for the legend.
        spread: the least and the greatest value at each point, shown as bars.
        **options: of matplotlib's `Axes.errorbar`.
    """
    import numpy

    heights = None
    if spread is not None:
        low, high = (numpy.asarray(side, dtype=float) for side in spread)
        heights = numpy.clip([numpy.asarray(y, dtype=float) - low, high - numpy.asarray(y, dtype=float)], 0, None)
    look = {
        "color": COLOURS[series % len(COLOURS)],
        "marker": MARKERS[series % len(MARKERS)],
        "linestyle": DASHES[series % len(DASHES)],
    }
    with style():
        axes.errorbar(x, y, yerr=heights, label=label, **{**look, **options})


def _above(axes: Axes, x: Iterable[float], tops: Iterable[float], texts: Sequence[str], share: float) -> None:
    """Write texts above bars, each with room of this share of the width of the axes."""
    figure = axes.get_figure()
    assert figure is not None
    points = 72 * figure.get_figwidth() * axes.get_position().width * share  # type: ignore[union-attr]
    is_upright = max(map(len, texts), default=0) * LETTER > points
    options: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom", "size": 6.5}
    for place, top, text in zip(x, tops, texts, strict=True):
        axes.annotate(text, (place, top), (0, 1.5), rotation=90 if is_upright else 0, **options)


def bars(
    axes: Axes,
    groups: Sequence[str],
    values: Mapping[str, Sequence[float]],
    *,
    spread: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    number: str | None = "{:.3g}",
    **options: Any,
) -> None:
    """Bars in groups, one bar of each series in each group.

    Args:
        axes: to draw in.
        groups: their names, below the axis; one that is empty has no mark there.
        values: by series (for the legend), a value for each group.
        spread: by series, the least and the greatest value for each group.
        number: how a value is written above its bar, upright where it is wider than that; None: it is not.
        **options: of matplotlib's `Axes.bar`.
    """
    import numpy

    places = numpy.arange(len(groups))
    width = 0.8 / max(len(values), 1)
    with style():
        for series, (name, heights) in enumerate(values.items()):
            left = places + (series - (len(values) - 1) / 2) * width
            look = {
                "label": name if len(values) > 1 else None,
                "color": COLOURS[series % len(COLOURS)],
                "hatch": HATCHES[series % len(HATCHES)],
                "edgecolor": "white",
                "linewidth": 0.4,
            }
            axes.bar(left, heights, width * 0.94, **{**look, **options})
            tops = numpy.asarray(heights, dtype=float)
            if spread is not None and name in spread:
                low, high = (numpy.asarray(side, dtype=float) for side in spread[name])
                ends = numpy.clip([tops - low, high - tops], 0, None)
                axes.errorbar(left, heights, yerr=ends, fmt="none", ecolor="black", elinewidth=0.7)
                tops = numpy.maximum(tops, high)
            if number is not None:
                share = (width if len(values) > 1 else 1.0) / len(groups)
                _above(axes, left, tops, [number.format(height) for height in heights], share)
        named = [place for place, group in enumerate(groups) if group]
        axes.set_xticks(named, [groups[place] for place in named])
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.3 if any(text.get_rotation() for text in axes.texts) else 0.12)


def limit(axes: Axes, value: float, text: str, *, vertical: bool = False) -> None:
    """A thin line at a value that was asked for or published, with a text on it."""
    with style():
        look: dict[str, Any] = {"color": "#404040", "linewidth": 0.8, "linestyle": (0, (4, 2))}
        if vertical:
            axes.axvline(value, **look)
            place, at = (value, 0.98), axes.get_xaxis_transform()
            axes.text(*place, f" {text}", transform=at, fontsize=6.5, rotation=90, ha="left", va="top")
        else:
            axes.axhline(value, **look)
            place, at = (0.99, value), axes.get_yaxis_transform()
            box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}
            axes.text(*place, text, transform=at, fontsize=6.5, ha="right", va="bottom", bbox=box)


def scaling(
    axes: Axes,
    counts: Sequence[int],
    speedups: Mapping[str, Sequence[float]],
    *,
    what: str,
    spread: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> None:
    """Speed-up over the number of slots, nodes or pilots, with the ideal line; both axes are logarithmic to base 2.

    Args:
        axes: to draw in.
        counts: the numbers, the least one first; its speed-up is 1.
        speedups: by series, one for each count.
        what: is counted: "slots", "nodes" or "pilots".
        spread: by series, the least and the greatest one for each count.
    """
    with style():
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        ideal = [count / counts[0] for count in counts]
        axes.plot(counts, ideal, color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.0, label="ideal")
        for series, (name, values) in enumerate(speedups.items()):
            lines(axes, counts, values, series=series, label=name, spread=(spread or {}).get(name))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_yticks(ideal, [f"{one:g}" for one in ideal])
        axes.minorticks_off()
    label(axes, x=what, y=f"speed-up over {counts[0]} {what if counts[0] != 1 else what.removesuffix('s')}")
    legend(axes, loc="upper left")
