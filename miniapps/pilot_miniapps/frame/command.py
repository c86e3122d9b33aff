"""What `pilot run` does with a mini-app: checks, the run or the series of runs, and what is printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from pilot import DescriptionError, NoPilotError, PilotDescription, PilotError, PluginError
from pilot.interfaces.miniapps import RunRequest
from pilot_miniapps.frame import execution, needs, report, scaling
from pilot_miniapps.frame.folder import abandoned, beginning, check, opened
from pilot_miniapps.frame.host import versions
from pilot_miniapps.frame.progress import say

if TYPE_CHECKING:
    from pilot_miniapps.frame.miniapp import MiniApp


def run(app: MiniApp, request: RunRequest) -> int:
    """As `MiniApp.run`."""
    pilots = needs.pilots_of(app, request.pilots)
    runs = list(_runs(app, request, pilots))
    if request.plan:
        _show_plan(app, request, pilots, [its for _, its in runs])
    for one, its in runs:
        needs.check_memory(one, its)
        one.check(its)
    begun = beginning(request, app.settings, pilots, versions(app.packages))
    if request.plan:
        check(request.output, begun, resume=request.resume)
        return 0
    with opened(request.output, begun, resume=request.resume):
        written = _finished(app, request)
        if written is None:
            written = _run(app, request, pilots)
    report.show(written, request.output)
    failed = report.failures(written)
    for one in failed:
        say(f"{request.name}: {one}")
    return 1 if failed else 0


def wanted(app: MiniApp, request: RunRequest) -> list[PilotDescription]:
    """As `MiniApp.wanted`."""
    pilots = needs.pilots_of(app, request.pilots)
    return [pilot for _, its in _runs(app, request, pilots) for pilot in its]


def _runs(
    app: MiniApp, request: RunRequest, pilots: list[PilotDescription]
) -> Iterator[tuple[MiniApp, list[PilotDescription]]]:
    """The mini-app with its pilots; of a series, each step's."""
    if not request.scaling:
        yield app, pilots
    else:
        yield from ((step.app, step.pilots) for step in scaling.steps(app, request, pilots))


def _run(app: MiniApp, request: RunRequest, pilots: Sequence[PilotDescription]) -> dict[str, Any]:
    try:
        if request.scaling:
            return scaling.scale(app, request, pilots)
        return execution.execute(app, request.output, pilots, resume=request.resume, name=request.name)
    except BaseException as error:
        if not isinstance(error, DescriptionError | NoPilotError | PluginError):
            say(f"what is done is kept; to continue: {_to_resume(request)}")
            raise
        if not request.resume and abandoned(request.output):
            raise
        if isinstance(error, DescriptionError):  # the same settings would end in the same way
            say(f"what is done is kept in {request.output}; with other settings begin a run in another folder")
        else:
            say(f"what is done is kept; to continue: {_to_resume(request)}")
        raise PilotError(str(error)) from error  # something was started: that is no wrong input


def _finished(app: MiniApp, request: RunRequest) -> dict[str, Any] | None:
    """The report of a run that is continued and was at its end; its plots are drawn again."""
    written = report.read(request.output)
    if written is not None:
        say(f"the run in {request.output} was finished; nothing runs")
        if request.scaling:
            scaling.draw(request.output, written)
        else:
            return report.draw(app, request.output, written)
    return written


def _to_resume(request: RunRequest) -> str:
    """The command that continues the run."""
    words = shlex.split(request.command)
    words += [] if "--resume" in words else ["--resume"]
    given = any(word == "--output" or word.startswith("--output=") for word in words)
    return shlex.join([*words, *([] if given else ["--output", str(request.output)])])


def _show_plan(
    app: MiniApp, request: RunRequest, pilots: Sequence[PilotDescription], runs: Sequence[Sequence[PilotDescription]]
) -> None:
    """Print what would run; ``runs``: the pilots of each run."""
    table = Table(show_header=False, title=f"{request.name}: nothing is started", title_justify="left")
    for name, value in report.builtins(app.settings).items():
        table.add_row(f"--{name.replace('_', '-')}", _shown(value))
    table.add_section()
    for one in pilots:
        size = f"{one.number_of_nodes} x {one.cores} cores"
        table.add_row(f"pilot {one.name}", f"{one.resource} {one.engine}, {size}")
    for step in scaling.steps(app, request, pilots) if request.scaling else ():
        slots = sum(one.cores * one.number_of_nodes for one in step.pilots)
        table.add_row(f"{step.mode} scaling", f"{step.count} {scaling.counted(request, pilots)}, {slots} slots in all")
    here, most = needs.cores(), max(sum(one.cores for one in its if needs.is_here(one)) for its in runs)
    if most > here:
        table.add_row("cores", f"{here} on this host, which up to {most} slots share")
    table.add_row("memory", f"{app.memory() / needs.GIB:.2f} GiB, {needs.available() / needs.GIB:.1f} GiB free here")
    table.add_row("output", str(request.output))
    plan: Mapping[str, Any] = app.plan()
    if plan:
        table.add_section()
    for name, value in msgspec.to_builtins(plan, enc_hook=str).items():
        table.add_row(str(name), _shown(value))
    Console(width=None if Console().is_terminal else 120).print(table)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)
