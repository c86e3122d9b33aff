"""What happened in a session: its timeline, and how many tasks ended, waited and ran."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pilot.plots.figures import WIDTHS, axes_for, style
from pilot.plots.rates import counts_over_time, throughput
from pilot.plots.timelines import SINCE, PilotSpan, TaskSpan, last_moment, time_unit, timeline, timeline_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class SessionSpans(NamedTuple):
    """The pilots and tasks of a session; times are seconds since any one moment."""

    pilots: Sequence[PilotSpan]
    #: Those that ran or run.
    tasks: Sequence[TaskSpan]
    #: When those were submitted that have neither run nor ended.
    waiting: Sequence[float]
    #: How many ended without having run.
    never_ran: int
    #: The time on the x axis ends then at the earliest; None: with the last that is known.
    now: float | None = None
    #: Attempts that did not count, of any of the tasks; one whose beginning is not known has no length.
    lost: Sequence[TaskSpan] = ()

    @property
    def begun(self) -> float:
        """When the first pilot was requested, or the first task was submitted."""
        submitted = [task.started if task.submitted is None else task.submitted for task in self.tasks]
        return min([*(one.requested for one in self.pilots), *submitted, *self.waiting], default=0.0)

    @property
    def last(self) -> float:
        """When what is known ends."""
        known = last_moment(self.pilots, [*self.tasks, *self.lost])
        return max(known, self.now or 0.0, self.begun, *self.waiting)

    @property
    def note(self) -> str:
        """What no row of the timeline shows."""
        still = sum(task.ended == math.inf for task in self.tasks)
        said = [(len(self.waiting), "waiting"), (still, "running"), (self.never_ran, "never ran")]
        found = [f"{number:,} {what}" for number, what in said if number]
        return f"tasks: {', '.join(found)}" if found else ""


def draw_timeline(spans: SessionSpans, axes: Axes) -> None:
    """When slots and QPUs were busy."""
    tasks = [*spans.tasks, *spans.lost]
    timeline(axes, spans.pilots, tasks, begun=spans.begun, last=spans.last, note=spans.note)


def draw_throughput(spans: SessionSpans, axes: Axes, **options: Any) -> None:
    """Tasks that ended in a unit of time."""
    ended = [task.ended for task in spans.tasks if math.isfinite(task.ended)]
    throughput(axes, ended, begun=spans.begun, last=spans.last, **options)


def draw_tasks(spans: SessionSpans, axes: Axes, **options: Any) -> None:
    """How many tasks waited, and how many ran: those whose attempt was lost waited before and after it."""
    ran = [(task.started, task.ended) for task in (*spans.tasks, *spans.lost)]
    lost = [(task.started, task.ended) for task in spans.lost if task.submitted is not None]
    waits_begin, waits_end = _waits(spans.tasks, spans.waiting)
    counts = {
        "waiting": (waits_begin + [ended for _, ended in lost], waits_end + [started for started, _ in lost]),
        "running": ([started for started, _ in ran], [ended for _, ended in ran]),
    }
    counts_over_time(axes, counts, begun=spans.begun, last=spans.last, **options)


def draw_qpu_queues(spans: SessionSpans, axes: Axes, **options: Any) -> None:
    """How many tasks waited for each QPU that they ran on later."""
    by_qpu: defaultdict[str, list[TaskSpan]] = defaultdict(list)
    for task in spans.tasks:
        if task.qpu:
            by_qpu[task.qpu].append(task)
    counts = {qpu: _waits(its, ()) for qpu, its in sorted(by_qpu.items())}
    counts_over_time(axes, counts, begun=spans.begun, last=spans.last, y="tasks waiting", **options)


def _waits(tasks: Sequence[TaskSpan], still: Sequence[float]) -> tuple[list[float], list[float]]:
    known = [(task.submitted, task.started) for task in tasks if task.submitted is not None]
    begins, ends = [submitted for submitted, _ in known], [started for _, started in known]
    return begins + list(still), ends + [math.inf] * len(still)


#: By name: what draws it, and the height of a figure with nothing else.
SESSION_PLOTS: Mapping[str, Callable[..., None]] = {
    "timeline": draw_timeline,
    "throughput": draw_throughput,
    "tasks": draw_tasks,
    "qpus": draw_qpu_queues,
}


def session(spans: SessionSpans, kind: str, ax: Axes | None = None, **options: Any) -> Axes:
    """One plot of a session.

    Args:
        spans: what happened.
        kind: one of `SESSION_PLOTS`.
        ax: to draw in; None: those of a new figure.
        **options: of matplotlib's method that draws.
    """
    height = timeline_height(spans.pilots, spans.tasks) if kind == "timeline" else 2.4
    ax = axes_for(ax, width="double", height=height)
    SESSION_PLOTS[kind](spans, ax, **options)
    return ax


def session_figure(spans: SessionSpans) -> Figure:
    """A session on one page: its timeline, how many tasks waited and ran, how many ended, and the queues of QPUs where
    there are any."""
    kinds = [kind for kind in SESSION_PLOTS if kind != "qpus" or any(task.qpu for task in spans.tasks)]
    heights = [timeline_height(spans.pilots, spans.tasks), *(1.6 for _ in kinds[1:])]
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTHS["double"], sum(heights)), layout="constrained")
        panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for kind, axes in zip(kinds, panels, strict=True):
            SESSION_PLOTS[kind](spans, axes)
            axes.set_xlabel("")
        unit = time_unit(spans.last - spans.begun)[1]
        panels[-1].set_xlabel(f"{SINCE} ({unit})\n{spans.note}" if spans.note else f"{SINCE} ({unit})")
    return figure
