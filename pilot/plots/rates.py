"""How many tasks end, wait and run over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot.plots.figures import COLOURS, DASHES, label, legend, style
from pilot.plots.timelines import RESOLUTION, time_limit, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Parts of the time in which ends are counted.
BINS = 60


def throughput(axes: Axes, ended: Sequence[float], *, begun: float, last: float | None = None, **options: Any) -> None:
    """How many tasks ended in a unit of time, counted in sixty parts of the whole time.

    Args:
        axes: to draw in.
        ended: when each task ended: seconds since any one moment.
        begun: when the time on the x axis begins.
        last: when it ends; None: with the last end of a task.
        **options: of matplotlib's `Axes.stairs`.
    """
    import numpy
    from matplotlib.ticker import StrMethodFormatter

    whole = max((max(ended, default=begun) if last is None else last) - begun, 0.0) or 1.0
    counts, edges = numpy.histogram(numpy.asarray(ended, dtype=float) - begun, BINS, (0.0, whole))
    rates = counts / (whole / BINS)
    unit, unit_name = time_unit(whole)
    per, per_name = next(
        (one for one in ((1.0, "s"), (60.0, "min")) if rates.max(initial=0.0) * one[0] >= 0.5), (3600.0, "h")
    )
    with style():
        axes.stairs(rates * per, edges / unit, **{"fill": True, "color": COLOURS[0], **options})
        axes.set_xlim(0, time_limit(whole) / unit)
        axes.set_ylim(0, None if len(ended) else 1)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    label(axes, x=f"time ({unit_name})", y=f"tasks ended (1/{per_name})")


def counts_over_time(
    axes: Axes,
    spans: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    begun: float,
    last: float | None = None,
    y: str = "tasks",
    **options: Any,
) -> None:
    """How many spans of each name there are at a time.

    Args:
        axes: to draw in.
        spans: by name (for the legend), the beginnings and the ends: seconds since any one moment; an end that has not
            come is `math.inf`.
        begun: when the time on the x axis begins.
        last: when it ends; None: with the last beginning or end.
        y: what is counted.
        **options: of matplotlib's `Axes.step`.
    """
    import numpy
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    ends = [moment for pair in spans.values() for side in pair for moment in side if math.isfinite(moment)]
    whole = max((max(ends, default=begun) if last is None else last) - begun, 0.0) or 1.0
    unit, unit_name = time_unit(whole)
    with style():
        for series, (name, (starts, stops)) in enumerate(spans.items()):
            came, went = (numpy.sort(numpy.asarray(side, dtype=float)) - begun for side in (starts, stops))
            moments = numpy.unique(numpy.concatenate([[0.0], came, went[numpy.isfinite(went)]]).clip(0.0, whole))
            if len(moments) > RESOLUTION:
                moments = numpy.linspace(0.0, whole, RESOLUTION)
            count = numpy.searchsorted(came, moments, "right") - numpy.searchsorted(went, moments, "right")
            look = {"color": COLOURS[series % len(COLOURS)], "linestyle": DASHES[series % len(DASHES)]}
            at = numpy.append(moments, whole) / unit
            axes.step(at, numpy.append(count, count[-1]), where="post", **{"label": name, **look, **options})
        axes.set_xlim(0, time_limit(whole) / unit)
        axes.set_ylim(0, None if ends else 1)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    label(axes, x=f"time ({unit_name})", y=y)
    legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2)
