"""Pilots and their tasks over time: when slots and QPUs were busy, and when pilots were queued, started, idle."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pilot.plots.figures import COLOURS, GREY, label, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    #: Begin and end, seconds since the first pilot was requested.
    Span = tuple[float, float]

#: Rows of all pilots together, at most; a pilot with more slots than its part is one band.
MOST_ROWS = 48
#: Names beside the rows, at most, and inches that the rows take.
MOST_NAMES, MOST_INCHES = 40, 8.0
#: Parts of the whole time that are seen; shorter gaps between tasks are closed.
RESOLUTION = 2000
#: The part of the whole time that a task that failed covers at least.
SEEN = 0.003
#: A worker begins its next task less than so many seconds before the end of the last one: clocks are read twice.
OVERLAP = 0.005
SINCE = "time since the first pilot was requested"
#: Of pilots; black is for tasks that failed.
_PILOTS = COLOURS[:-1]
FAILED = COLOURS[-1]
#: How lost attempts are drawn.
_LOST: dict[str, Any] = {"edgecolor": FAILED, "hatch": "xxxxx", "linewidth": 0.4}


class TaskSpan(NamedTuple):
    """When a task ran on a worker; times are seconds since any one moment."""

    #: As in `PilotSpan.pilot`.
    pilot: str
    worker: str
    started: float
    #: `math.inf`: it still runs.
    ended: float
    submitted: float | None = None
    #: All that it had, those of all its ranks together.
    cores: float = 1.0
    #: The device that ran it; "": none.
    qpu: str = ""
    failed: bool = False
    #: It is an attempt that did not count: its worker or pilot was lost, or it raised and the task was tried again.
    lost: bool = False


class PilotSpan(NamedTuple):
    """When a pilot was requested, took tasks for the first time, and ended; None: it did not, or it is not known."""

    #: Different for each pilot.
    pilot: str
    requested: float
    active: float | None
    ended: float | None
    #: When its agent reported; None: it is not known, or, of a pilot that was never active, it did not.
    started: float | None = None
    #: Its cores; 0: as many as its tasks had.
    slots: int = 0
    #: Stands behind its name: "failed".
    note: str = ""


class _Row(NamedTuple):
    """Spans that are drawn at one height: of a slot or a QPU."""

    busy: list[Span]
    failed: list[Span]
    lost: list[Span]


class _Group(NamedTuple):
    """A pilot's slots, its slots as one band, or one of its QPUs."""

    name: str
    rows: list[_Row]
    #: Share of the time in which slots or the QPU were busy; None: not known.
    share: float | None
    #: `(time, busy slots)` from then on, and the most; None: `rows` are drawn.
    band: tuple[list[tuple[float, float]], float] | None = None
    height: int = 1


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which such a time is shown: its seconds, and its name."""
    if seconds >= 3 * 3600.0:
        return 3600.0, "h"
    return (60.0, "min") if seconds >= 600.0 else (1.0, "s")


def time_limit(seconds: float) -> float:
    """Where an axis of so much time ends: a little later, and not at its beginning."""
    return seconds * 1.005 or 1.0


def timeline_height(pilots: Sequence[PilotSpan], tasks: Sequence[TaskSpan]) -> float:
    """Inches that a figure of `timeline` alone should be high."""
    rows = 0
    workers, qpus = (defaultdict[str, set[str]](set) for _ in range(2))
    for task in tasks:
        (qpus if task.qpu else workers)[task.pilot].add(task.qpu or task.worker)
    for pilot in pilots:
        slots, most = pilot.slots or len(workers[pilot.pilot]) or 1, _most_slots(pilots)
        rows += (slots if slots <= most else _band_height(most)) + len(qpus[pilot.pilot])
    return 1.1 + min(max(0.16 * rows, 0.3 * len(pilots)), MOST_INCHES)


def timeline(
    axes: Axes,
    pilots: Sequence[PilotSpan],
    tasks: Sequence[TaskSpan],
    *,
    begun: float | None = None,
    last: float | None = None,
    note: str = "",
) -> None:
    """When the slots and QPUs of each pilot ran tasks: a row for each. The time until a pilot's agent has reported is
    dotted, the start of its engine hatched, and what is light behind the tasks is time in which a slot had none. A task
    with several cores covers as many rows. A lost attempt is crossed. Beside each pilot stands the part of its
    slots' time that was busy. A pilot with very many slots is one band, which shows how many of them are busy.

    Args:
        axes: to draw in; its x axis is the time since the first pilot was requested.
        pilots: in the order of the rows.
        tasks: of these pilots, in any order.
        begun: where the x axis begins; None: when the first pilot was requested.
        last: where it ends, and with it pilots and tasks that have not ended; None: the last moment that is known.
        note: a second line below the axis.
    """
    if begun is None:
        begun = min([one.requested for one in pilots] or [task.started for task in tasks] or [0.0])
    last = (last_moment(pilots, tasks) if last is None else last) - begun
    unit, unit_name = time_unit(last)
    its: defaultdict[str, list[TaskSpan]] = defaultdict(list)
    for task in tasks:
        ended = min(max(task.ended - begun, task.started - begun), last)
        its[task.pilot].append(task._replace(started=task.started - begun, ended=ended))
    top, names, shares = 0, [], []
    with style():
        for series, pilot in enumerate(pilots):
            colour = _PILOTS[series % len(_PILOTS)]
            groups = _groups(pilot, its[pilot.pilot], begun, last, _most_slots(pilots))
            height = sum(group.height for group in groups)
            _draw_pilot(axes, pilot, (begun, last, unit), (top - 0.45, height - 0.1), colour)
            for group in groups:
                _draw_group(axes, group, top, (last, unit), colour)
                middle = top + (group.height - 1) / 2
                names.append((middle, plain(group.name)))
                shares.append((middle, group.share))
                top += group.height
        step = max(1, -(-len(names) // MOST_NAMES))
        axes.set_yticks([place for place, _ in names[::step]], [text for _, text in names[::step]])
        for place, share in shares[::step]:
            if share is not None:
                at = axes.get_yaxis_transform()
                axes.text(1.01, place, f"{share:.0%} busy", transform=at, size=6.5, va="center", color="#404040")
        axes.set_ylim(max(top, 1) - 0.4, -0.6)
        axes.set_xlim(0, time_limit(last) / unit)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        _legend(axes, pilots, tasks)
    label(axes, x=f"{SINCE} ({unit_name})\n{note}" if note else f"{SINCE} ({unit_name})")


def last_moment(pilots: Sequence[PilotSpan], tasks: Sequence[TaskSpan]) -> float:
    """The last one that is known; 0.0: none is."""
    moments = [task.ended if math.isfinite(task.ended) else task.started for task in tasks]
    return max(moments + [one.ended or one.active or one.started or one.requested for one in pilots], default=0.0)


def _most_slots(pilots: Sequence[PilotSpan]) -> int:
    """Slots of one pilot that have a row of their own each."""
    return max(2, MOST_ROWS // max(1, len(pilots)))


def _band_height(most: int) -> int:
    """Rows of a pilot that is one band."""
    return min(8, max(2, most // 4))


def _groups(pilot: PilotSpan, tasks: list[TaskSpan], begun: float, last: float, most: int) -> list[_Group]:
    """What is drawn of a pilot, from above. Times of the tasks are already those since ``begun``."""
    there = 0.0
    if pilot.active is not None:
        there = (last if pilot.ended is None else pilot.ended - begun) - (pilot.active - begun)
    name = f"{pilot.pilot} ({pilot.note})" if pilot.note else pilot.pilot
    on_cores = sorted((task for task in tasks if not task.qpu), key=lambda task: task.started)
    work = sum((task.ended - task.started) * _slots(task) for task in on_cores)
    groups = []
    by_qpu: defaultdict[str, list[TaskSpan]] = defaultdict(list)
    for task in tasks:
        if task.qpu:
            by_qpu[task.qpu].append(task)
    if on_cores or not by_qpu:
        steps = _busy(on_cores)
        peak = max((count for _, count in steps), default=1)  # more than slots, where tasks have a part of a core
        slots = pilot.slots or int(peak)
        share = min(1.0, work / (there * slots)) if there > 0 and on_cores else None
        if max(slots, peak) > most:
            band = _thinned(steps, last), max(slots, peak)
            groups.append(_Group(name, [], share, band, height=_band_height(most)))
        else:
            rows = _packed(on_cores, slots, last)
            groups.append(_Group(name, rows, share, height=len(rows)))
    for qpu, its in sorted(by_qpu.items()):
        row = _row(its, last)
        busy = sum(end - begin for begin, end in row.busy + row.lost)
        share = min(1.0, busy / there) if there > 0 else None
        groups.append(_Group(qpu if groups else f"{name}: {qpu}", [row], share))
    return groups


def _slots(task: TaskSpan) -> int:
    return max(1, math.ceil(task.cores - 1e-9))


def _packed(tasks: Iterable[TaskSpan], slots: int, last: float) -> list[_Row]:
    """The tasks on slots: each where its worker was before, or on the first ones that are free."""
    free, home = [-math.inf] * slots, dict[str, int]()
    on: list[list[TaskSpan]] = [[] for _ in free]
    for task in tasks:
        its, is_free = home.get(task.worker), task.started + OVERLAP
        # a worker has one task at a time, whatever clocks that step say
        if _slots(task) == 1 and its is not None and (free[its] <= is_free or on[its][-1].worker == task.worker):
            places = [its]
        else:
            places = [place for place, end in enumerate(free) if end <= is_free][: _slots(task)]
            for _ in range(_slots(task) - len(places)):  # tasks with a part of a core are more than there are slots
                places.append(len(free))
                free.append(-math.inf)
                on.append([])
        home[task.worker] = places[0]
        for place in places:
            free[place] = task.ended
            on[place].append(task)
    return [_row(its, last) for its in on]


def _row(tasks: list[TaskSpan], last: float) -> _Row:
    gap = last / RESOLUTION if len(tasks) > 200 else 0.0
    busy = joined([(task.started, task.ended) for task in tasks if not task.lost], gap)
    failed, lost = (
        joined([(min(task.started, task.ended - SEEN * last), task.ended) for task in its], gap)
        for its in ([task for task in tasks if task.failed], [task for task in tasks if task.lost])
    )
    return _Row(busy, failed, lost)


def joined(spans: list[Span], gap: float) -> list[Span]:
    """Spans in order; those that overlap, or are closer than this gap, are one: a plot of many tasks stays small."""
    found: list[list[float]] = []
    for begin, end in sorted(spans):
        if found and begin - found[-1][1] < gap:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([begin, end])
    return [(begin, end) for begin, end in found]


def _busy(tasks: Iterable[TaskSpan]) -> list[tuple[float, float]]:
    """How many slots are busy from each moment on."""
    changes: Counter[float] = Counter()
    for task in tasks:
        changes[task.started] += _slots(task)
        changes[task.ended] -= _slots(task)
    count, steps = 0, list[tuple[float, float]]()
    for moment, change in sorted(changes.items()):
        count += change
        steps.append((moment, count))
    return steps


def _thinned(steps: list[tuple[float, float]], last: float) -> list[tuple[float, float]]:
    """At most `RESOLUTION` steps, each with the mean of those that it stands for."""
    if len(steps) <= RESOLUTION:
        return steps
    width = last / RESOLUTION
    areas = [0.0] * (RESOLUTION + 1)
    for (begin, count), (end, _) in zip(steps, [*steps[1:], (last, 0)], strict=True):
        while begin < end:
            at = min(int(begin / width), RESOLUTION)
            until = min(end, max((at + 1) * width, math.nextafter(begin, math.inf)))
            areas[at] += count * (until - begin)
            begin = until
    return [(at * width, area / width) for at, area in enumerate(areas)]


# ---- drawing ---------------------------------------------------------------------------------------------------


def _draw_pilot(
    axes: Axes, pilot: PilotSpan, times: tuple[float, float, float], place: tuple[float, float], colour: str
) -> None:
    """Its queue, its start, and behind its tasks the time that it was there."""
    begun, last, unit = times
    end = last if pilot.ended is None else pilot.ended - begun
    requested = pilot.requested - begun
    active = end if pilot.active is None else pilot.active - begun
    started = min(_reported(pilot, begun + end) - begun, active)
    for begin, length, hatch in ((requested, started - requested, "...."), (started, active - started, "////")):
        if length > 0:
            look: dict[str, Any] = {"facecolors": "white", "edgecolor": GREY, "hatch": hatch, "linewidth": 0.4}
            axes.broken_barh([(begin / unit, length / unit)], place, **look)
    if pilot.active is not None:
        axes.broken_barh([(active / unit, (end - active) / unit)], place, facecolors=colour, alpha=0.18, linewidth=0)


def _reported(pilot: PilotSpan, end: float) -> float:
    """Until when its job was queued."""
    if pilot.started is not None:
        return pilot.started
    return end if pilot.active is None else pilot.requested


def _draw_group(axes: Axes, group: _Group, top: int, times: tuple[float, float], colour: str) -> None:
    last, unit = times
    if group.band is not None:
        steps, most = group.band
        scale = (group.height - 0.24) / most
        floor = top + group.height - 1 + 0.38
        moments = [moment / unit for moment, _ in steps] + [last / unit]
        heights = [floor - count * scale for _, count in steps] + [floor]
        axes.fill_between(moments, heights, floor, step="post", facecolor=colour, linewidth=0)
        return
    for number, row in enumerate(group.rows):
        place = (top + number - 0.38, 0.76)
        for spans, look in (
            (row.busy, {"facecolors": colour, "linewidth": 0}),
            (row.lost, {"facecolors": "white", **_LOST}),
            (row.failed, {"facecolors": FAILED, "linewidth": 0}),
        ):
            if spans:
                bars = [(begin / unit, (end - begin) / unit) for begin, end in spans]
                axes.broken_barh(bars, place, **look)


def _legend(axes: Axes, pilots: Sequence[PilotSpan], tasks: Sequence[TaskSpan]) -> None:
    from matplotlib.patches import Patch

    look: dict[str, Any] = {"facecolor": "white", "edgecolor": GREY, "linewidth": 0.4}
    shown = [Patch(hatch="////", label="pilot starts", **look)]
    if any(_reported(one, math.inf) > one.requested for one in pilots):
        shown.insert(0, Patch(hatch="....", label="pilot queued", **look))
    shown += [Patch(facecolor=COLOURS[0], label="task"), Patch(facecolor=COLOURS[0], alpha=0.18, label="idle")]
    if any(task.failed for task in tasks):
        shown.append(Patch(facecolor=FAILED, label="failed task"))
    if any(task.lost for task in tasks):
        shown.append(Patch(facecolor="white", label="lost attempt", **_LOST))
    axes.legend(handles=shown, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=6, borderaxespad=0.2)
