"""`execute`: one run of a mini-app, from its pilots to its report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pilot import (
    Pilot,
    PilotDescription,
    PilotError,
    PilotManager,
    PilotState,
    PluginError,
    SessionError,
    TaskDescription,
    TaskState,
    plots,
)
from pilot_miniapps.frame import metrics, report
from pilot_miniapps.frame.figures import Outcome
from pilot_miniapps.frame.folder import described, write_atomically
from pilot_miniapps.frame.host import reference_ms
from pilot_miniapps.frame.needs import named
from pilot_miniapps.frame.progress import say
from pilot_miniapps.frame.running import Run

if TYPE_CHECKING:
    from pilot_miniapps.frame.miniapp import MiniApp

#: The name of tasks that only warm the workers up.
WARM_UP = "warm-up"
#: Seconds that the nodes of a pilot have to join it after the first one.
NODES_SECONDS = 300.0
_OVER = (PilotState.DONE, PilotState.FAILED, PilotState.CANCELLED)


def execute(
    app: MiniApp, folder: Path, pilots: Iterable[PilotDescription], resume: bool = False, name: str = ""
) -> dict[str, Any]:
    """Run a mini-app, and write ``report.json``, ``metrics.csv`` and the plots. Blocks.

    Args:
        app: with its settings.
        folder: for the files, and the session in the folder ``session``.
        pilots: that it runs on.
        resume: the run in the folder is continued: what it has done is not done again.
        name: of the mini-app in the report.

    Returns:
        The report, as it is in the file.

    Raises:
        DescriptionError: the settings do not fit the pilots.
        SessionError: the folder holds a session, and it is not to be resumed.
        PilotFailed: a pilot does not start.
        PluginError: the mini-app's work returns no `Outcome`.
    """
    wanted = named(pilots)
    app.check(wanted)
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    manager, attached = _open(folder / "session", resume)
    with manager:
        spans = _Spans(folder / "pilots.json", resume)
        its = [_get(manager, one) for one in wanted]
        _forget_failed(manager)
        say(f"{', '.join(one.name for one in its)}: {'join again' if attached else 'start'}")
        run = Run(manager, its, folder, attached)
        _make_ready(app, run)
        spans.add(its)  # what their workers import belongs to the start of the pilots
        run.seconds["pilots"] = time.perf_counter() - begun
        with run.part("work"):
            outcome: Any = app.work(run)
        if not isinstance(outcome, Outcome):
            raise PluginError(f"{type(app).__name__}.work returned {outcome!r:.80}; expected an Outcome")
        tasks = [task for task in manager.tasks.values() if task.name != WARM_UP]
        rows = [metrics.row(task) for task in tasks]
        spans.end()
        drawn = manager.spans(tasks)
        drawn = drawn._replace(pilots=list(map(spans.warm, manager.pilots, drawn.pilots)), now=None)
    metrics.write(folder / "metrics.csv", rows)
    found = _report(app, run, outcome, rows, spans.pilots, name or _name(app))
    # first: with a report, a run is finished, and only the other plots are redrawn
    _draw_timeline(folder, found, drawn)
    return report.draw(app, folder, report.write(folder, found))


def _draw_timeline(folder: Path, written: Mapping[str, Any], drawn: plots.SessionSpans) -> None:
    height = plots.timeline_height(drawn.pilots, drawn.tasks) + 0.3
    figure, axes = plots.new(width="double", height=height)
    plots.timeline(axes, drawn.pilots, drawn.tasks, note=drawn.note)
    resumed = " The run was resumed." if written["resumed"] else ""
    plots.caption(
        figure,
        f"{written['name']}: {len(drawn.tasks):,} tasks on the slots and QPUs of each pilot. The start of a pilot ends "
        f"when every worker has imported what the tasks need.{resumed}",
    )
    plots.save(figure, folder, "timeline")


def _open(session: Path, resume: bool) -> tuple[PilotManager, bool]:
    """The manager, and whether it continues a session."""
    if not resume or not session.exists():
        return PilotManager(session), False
    try:
        return PilotManager.attach(session), True
    except SessionError as error:
        try:
            return PilotManager(session), False  # it was killed before there was anything in it
        except SessionError:
            raise error from None


def _get(manager: PilotManager, wanted: PilotDescription) -> Pilot:
    """The pilot of this name: one that is there, or may join again, or a new one."""
    for pilot in manager.pilots:
        if wanted.name in pilot.names and pilot.state not in _OVER:
            return pilot
    return manager.submit_pilot(wanted)


def _forget_failed(manager: PilotManager) -> None:
    """Tasks that were cancelled or failed when the run was stopped are submitted anew, under their keys."""
    failed = [task for task in manager.tasks.values() if task.state in (TaskState.FAILED, TaskState.CANCELLED)]
    if failed:
        manager.forget(failed)


def _make_ready(app: MiniApp, run: Run) -> None:
    """Wait until every pilot has all of its nodes, and each worker what its tasks import."""
    for pilot in run.pilots:
        pilot.wait()
        _wait_for_nodes(pilot)
    warm = app.warm_up() or _nothing
    tasks = [
        run.manager.submit_task(TaskDescription(function=warm, pilot=pilot.name, name=WARM_UP))
        for pilot in run.pilots
        for _ in range(pilot.description.cores * pilot.description.number_of_nodes)
    ]
    run.manager.get_results(tasks)


def _wait_for_nodes(pilot: Pilot) -> None:
    wanted, deadline = pilot.description.number_of_nodes, time.monotonic() + NODES_SECONDS
    while len(pilot.nodes) < wanted and pilot.state not in _OVER:
        if time.monotonic() > deadline:
            raise PilotError(
                f"pilot {pilot.name} has {len(pilot.nodes)} of {wanted} nodes after {NODES_SECONDS:g} s; "
                f"see {pilot.log_path}"
            )
        time.sleep(0.05)


def _nothing() -> None:
    """Runs in each worker of a mini-app that has nothing to import."""


class _Spans:
    """When each pilot was requested, was active, was warm, and was done with the work; kept in a file for a run that
    is resumed."""

    def __init__(self, path: Path, resume: bool) -> None:
        self._path = path
        self.pilots: list[dict[str, Any]] = []
        if resume and path.exists():
            self.pilots = msgspec.json.decode(path.read_bytes())

    def add(self, pilots: Iterable[Pilot]) -> None:
        """These are warm now."""
        known = {one["name"] for one in self.pilots}
        for pilot in pilots:
            if pilot.name in known:
                continue
            times = pilot.times
            ready = time.time()
            active = times.get(PilotState.ACTIVE, ready)
            self.pilots.append(
                {
                    "name": pilot.name,
                    "description": described(pilot.description),
                    "nodes": list(pilot.nodes),
                    "requested": min([*times.values(), active]),
                    "active": active,
                    "ready": ready,
                    "ended": None,
                }
            )
        write_atomically(self._path, msgspec.json.encode(self.pilots))

    def warm(self, pilot: Pilot, span: plots.PilotSpan) -> plots.PilotSpan:
        """When a pilot was there, with the time until it was warm as a part of its start."""
        ready = next((one["ready"] for one in self.pilots if one["name"] == pilot.name), None)
        is_its = ready is not None and span.active is not None and ready >= span.active
        return span._replace(active=ready) if is_its else span

    def end(self) -> None:
        """The work is done."""
        for pilot in self.pilots:
            pilot["ended"] = time.time()


def _report(
    app: MiniApp,
    run: Run,
    outcome: Outcome,
    rows: Sequence[Mapping[str, Any]],
    pilots: list[dict[str, Any]],
    name: str,
) -> dict[str, Any]:
    reference = reference_ms()
    oracle = report.builtins(outcome.oracle)
    results = {"oracle": oracle, "figures": run.untimed()} if outcome.results is None else outcome.results
    return {
        **report.heading(app, name, reference),
        "pilots": pilots,
        "resumed": run.resumed,
        "oracle": oracle,
        "figures": report.builtins(run.judged(reference)),
        "seconds": run.seconds,
        "makespan": metrics.makespan(rows),
        "tasks": len(rows),
        "rows": report.builtins([dict(row) for row in outcome.rows]),
        "note": outcome.note,
        "details": report.builtins(outcome.details),
        "results": report.builtins(results),
    }


def _name(app: MiniApp) -> str:
    return type(app).__name__
