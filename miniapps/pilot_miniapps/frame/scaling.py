"""`scale`: a mini-app with more and more slots, nodes or pilots; speed-up and efficiency of strong and weak scaling.

Strong scaling: the same work with N times the resources; the efficiency is T(1) / (N T(N)). Weak scaling: N times the
work with N times the resources; the efficiency is T(1) / T(N). T is the time from the first submission of a task to the
last end of one, with warm pilots; "1" stands for the least number of the series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pilot import DescriptionError, PilotDescription, plots
from pilot_miniapps.frame import report
from pilot_miniapps.frame.execution import execute
from pilot_miniapps.frame.figures import Figure, judged
from pilot_miniapps.frame.host import reference_ms
from pilot_miniapps.frame.needs import is_here
from pilot_miniapps.frame.progress import say

if TYPE_CHECKING:
    from pilot.interfaces.miniapps import RunRequest
    from pilot_miniapps.frame.miniapp import MiniApp


#: What a series can count.
COUNTED = ("slots", "nodes", "pilots")


class Step(NamedTuple):
    """One run of a series."""

    mode: str
    #: Of slots, nodes or pilots.
    count: int
    app: MiniApp
    pilots: list[PilotDescription]

    @property
    def folder(self) -> str:
        """Below the folder of the series."""
        return f"{self.mode}-{self.count}"


def steps(app: MiniApp, request: RunRequest, pilots: Sequence[PilotDescription]) -> list[Step]:
    """The runs of a series, those of strong scaling first. The first of them belongs to weak scaling, too.

    Raises:
        DescriptionError: the numbers are not a series, or the pilots cannot be scaled like this.
    """
    counts, of = request.scaling, counted(request, pilots)
    if len(counts) < 2 or list(counts) != sorted(set(counts)) or counts[0] < 1:
        shown = ",".join(map(str, counts))
        raise DescriptionError(f"--scaling: {shown} given; expected two or more numbers that grow, such as 1,2,4")
    series = [Step("strong", count, app, _resized(pilots, of, count)) for count in counts]
    for step in series[1:]:
        larger = _larger(app, step.count / counts[0])
        if larger is not None:
            series.append(step._replace(mode="weak", app=larger))
    return series


def counted(request: RunRequest, pilots: Sequence[PilotDescription]) -> str:
    """What the numbers of a series count: what was asked for; else nodes, where the pilots have nodes of a cluster."""
    of = request.scaling_of or ("slots" if any(is_here(one) for one in pilots) else "nodes")
    if of not in COUNTED:
        raise DescriptionError(f"--scaling-of: {of!r} given; expected one of {', '.join(COUNTED)}", given=of)
    return of


def scale(app: MiniApp, request: RunRequest, pilots: Sequence[PilotDescription]) -> dict[str, Any]:
    """Run the series, each run in a folder of its own, and write its report and plot. A run that has a report is not
    run again.

    Returns:
        The report, as it is in the file.
    """
    folder, series = request.output, steps(app, request, pilots)
    reports = []
    for step in series:
        its = report.read(folder / step.folder)
        if its is None:
            say(f"{step.mode} scaling, {step.count} {counted(request, pilots)}")
            its = execute(step.app, folder / step.folder, step.pilots, resume=request.resume, name=request.name)
        reports.append(its)
    written = report.write(folder, _report(app, request, series, reports, counted(request, pilots)))
    draw(folder, written)
    return written


def draw(folder: Path, written: Mapping[str, Any]) -> None:
    """Save the plot of a series: speed-up, and efficiency."""
    what, rows = written["details"]["of"], written["rows"]
    figure, (left, right) = plots.new(1, 2, width="double", height=2.6)
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    strong = [row for row in rows if row["mode"] == "strong"]
    counts = [row["count"] for row in strong]
    plots.scaling(left, counts, {"strong": [row["speedup"] for row in strong]}, what=what)
    for number, mode in enumerate(modes):
        its = [row for row in rows if row["mode"] == mode]
        plots.lines(right, [row["count"] for row in its], [row["efficiency"] for row in its], series=number, label=mode)
    with plots.style():
        right.set_xscale("log", base=2)
        right.set_xticks(counts, [str(count) for count in counts])
        right.minorticks_off()
        right.set_ylim(0, 1.1)
        right.axhline(1.0, color=plots.GREY, linestyle=(0, (1, 1.5)), linewidth=1.0)
    plots.label(right, x=what, y="efficiency")
    plots.legend(right, loc="lower left")
    plots.caption(figure, f"{written['name']}: {written['details']['about']}")
    plots.save(figure, folder, "scaling")


def _resized(pilots: Sequence[PilotDescription], of: str, count: int) -> list[PilotDescription]:
    """The pilots, each with so many slots on each node, each with so many nodes, or so many of each."""
    if of == "slots":
        return [msgspec.structs.replace(one, cores_per_node=count) for one in pilots]
    if of == "nodes":
        if here := next((one for one in pilots if is_here(one)), None):
            raise DescriptionError(
                f"--scaling-of nodes: the pilot {here.name} is on this machine, which is one node; give a --pilot of a "
                "cluster, or --scaling-of slots"
            )
        return [msgspec.structs.replace(one, number_of_nodes=count) for one in pilots]
    return [
        msgspec.structs.replace(one, name=f"{one.name}-{number}") for number in range(1, count + 1) for one in pilots
    ]


def _larger(app: MiniApp, times: float) -> MiniApp | None:
    """The mini-app with so many times the work; None where it does not say what that is."""
    if times != int(times):
        return None
    try:
        return type(app)(app.scaled(int(times)))
    except NotImplementedError:
        return None


def _rows(series: Sequence[Step], reports: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    base = reports[0]["makespan"]
    first = series[0].count
    whole = [("weak", series[0], reports[0])] if any(step.mode == "weak" for step in series) else []
    runs = [(step.mode, step, its) for step, its in zip(series, reports, strict=True)]
    runs[sum(step.mode == "strong" for step in series) : 0] = whole
    for mode, step, its in runs:
        times, ratio = step.count / first, base / its["makespan"] if its["makespan"] else 0.0
        yield {
            "mode": mode,
            "count": step.count,
            "slots": sum(one.cores * one.number_of_nodes for one in step.pilots),
            "tasks": its["tasks"],
            "seconds": its["makespan"],
            "speedup": ratio if mode == "strong" else ratio * times,
            "efficiency": ratio / times if mode == "strong" else ratio,
            "resumed": its["resumed"],
        }


def _report(
    app: MiniApp, request: RunRequest, series: Sequence[Step], reports: Sequence[Mapping[str, Any]], of: str
) -> dict[str, Any]:
    reference = reference_ms()
    rows = list(_rows(series, reports))
    bars = app.scaling_bars()
    figures = {}
    for row in rows:
        if row["count"] == series[0].count:
            continue
        prefix = "weak_" if row["mode"] == "weak" else ""
        comparable = not (row["resumed"] or reports[0]["resumed"])
        for name in ("efficiency", "speedup"):
            key = f"{prefix}{name}_{row['count']}"
            figures[key] = judged(Figure(row[name], "ratio", bars.get(key)), reference, comparable=comparable)
    oracles = [its["oracle"] for its in reports]
    worst = next((one for one in oracles if not one["passed"]), oracles[0])
    return {
        **report.heading(app, request.name, reference),
        "pilots": [pilot for its in reports for pilot in its["pilots"]],
        "resumed": any(its["resumed"] for its in reports),
        "oracle": {**worst, "passed": all(one["passed"] for one in oracles)},
        "figures": report.builtins(figures),
        "seconds": {step.folder: its["makespan"] for step, its in zip(series, reports, strict=True)},
        "makespan": sum(its["makespan"] for its in reports),
        "tasks": sum(its["tasks"] for its in reports),
        "rows": rows,
        "details": {"of": of, "folders": [step.folder for step in series], "about": _about(series, of)},
        "results": {step.folder: its["results"] for step, its in zip(series, reports, strict=True)},
    }


def _about(series: Sequence[Step], of: str) -> str:
    """The caption."""
    first = series[0].pilots
    pilots = ", ".join(f"{one.engine} on {one.resource}" for one in first)
    size = {"nodes": f", {first[0].cores} cores on each", "pilots": f", {first[0].cores} cores on each node"}.get(
        of, ""
    )
    weak = " Weak scaling: the work grows with the resources." if any(step.mode == "weak" for step in series) else ""
    return (
        f"{series[0].count} to {max(step.count for step in series)} {of} of {pilots}{size}. Time from the first "
        f"submission of a task to the last end of one, pilots warm; one run each.{weak}"
    )
