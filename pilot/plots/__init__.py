"""Every figure's style, and the plots that results and mini-apps share. matplotlib is imported where it draws.

A plot is made from plain values, so that it can be made again from a file::

    figure, axes = plots.new(width="single")
    plots.lines(axes, qubits, seconds, label="Aer", spread=(low, high))
    plots.label(axes, x="qubits", y="time to solution (s)")
    plots.caption(figure, "Median of five runs; bars show the least and the greatest.")
    plots.save(figure, "runs/today", "qubits")        # qubits.pdf and qubits.png

For what these functions do not offer, draw with matplotlib inside ``with plots.style():``. The method `plot` of results
and sessions draws with `histogram`, `values`, `matrix`, `timeline`, `throughput` and `counts_over_time`.
"""

from pilot.plots.charts import bars, limit, lines, scaling
from pilot.plots.figures import (
    COLOURS,
    DASHES,
    DOTS_PER_INCH,
    GREY,
    HATCHES,
    MARKERS,
    WIDTHS,
    axes_for,
    caption,
    label,
    legend,
    new,
    save,
    save_as,
    style,
)
from pilot.plots.rates import counts_over_time, throughput
from pilot.plots.results import histogram, matrix, values
from pilot.plots.sessions import SESSION_PLOTS, SessionSpans, session, session_figure
from pilot.plots.timelines import PilotSpan, TaskSpan, timeline, timeline_height

__all__ = [
    "COLOURS",
    "DASHES",
    "DOTS_PER_INCH",
    "GREY",
    "HATCHES",
    "MARKERS",
    "SESSION_PLOTS",
    "WIDTHS",
    "PilotSpan",
    "SessionSpans",
    "TaskSpan",
    "axes_for",
    "bars",
    "caption",
    "counts_over_time",
    "histogram",
    "label",
    "legend",
    "limit",
    "lines",
    "matrix",
    "new",
    "save",
    "save_as",
    "scaling",
    "session",
    "session_figure",
    "style",
    "throughput",
    "timeline",
    "timeline_height",
    "values",
]
