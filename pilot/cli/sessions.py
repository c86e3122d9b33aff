"""`pilot sessions`: the sessions on this machine; what is in one; to go on with one whose manager is gone."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pilot import plots
from pilot.cli import session_files, streams, tables
from pilot.cli.qpus import age
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, SessionError, invalid, text_of
from pilot.manager import keeping
from pilot.manager.handles import Task
from pilot.manager.journal import SCHEMA
from pilot.manager.manager import PilotManager
from pilot.manager.migration import COPY, migrate
from pilot.manager.summary import Summary, find_sessions, summary
from pilot.states import TaskState
from pilot.wire import names
from pilot.wire.session import SESSIONS, default_parent

if TYPE_CHECKING:
    from pilot.cli.interruption import Interruption

#: Failed tasks that are listed after `pilot sessions attach`.
SHOWN = 10
#: Of a plot's file.
PLOT_ENDINGS = (".pdf", ".png", ".svg")
#: How often to check for a signal, in seconds.
LOOK_SECONDS = 0.1


def add_flags(parser: argparse.ArgumentParser, interruption: Interruption) -> None:
    """The commands of `pilot sessions`, with their arguments."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, text: str, call: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        description = f"{text[0].upper()}{text[1:]}."
        command = commands.add_parser(name, help=text, description=description, allow_abbrev=False)
        command.set_defaults(call=call)
        return command

    listing = add("ls", "list sessions", lambda options: list_all(options.folders, options.json))
    listing.add_argument(
        "folders",
        nargs="*",
        metavar="SESSION|DIR",
        help=f"a session, or a folder with sessions, to list as well; named ones, and those where sessions are made "
        f"(${SESSIONS}), are always listed",
    )
    showing = add(
        "show",
        "show the pilots, tasks and last errors of a session",
        lambda options: _show(options, interruption),
    )
    forms = showing.add_mutually_exclusive_group()
    forms.add_argument("--web", action="store_true", help="show it on a page in a browser, until Ctrl-C")
    forms.add_argument("--json", action="store_true", help="print JSON")
    forms.add_argument("--plot", metavar="FILE", help="draw it into FILE: a .pdf, .png or .svg")
    showing.add_argument("--port", type=int, help="with --web: the page's port (default: a free one)")
    attaching = add(
        "attach",
        "take over a session whose manager is gone, and wait until its tasks have ended",
        lambda options: attach(options.folder, options.pilot, interruption),
    )
    migrating = add(
        "migrate",
        "prepare a session of an earlier version of quantum-pilot for this one",
        lambda options: prepare(options.folder),
    )
    reading = add(
        "logs",
        "print the end of the logs of a session's pilots",
        lambda options: session_files.logs(options.folder, options.pilot, options.lines),
    )
    stopping = add(
        "stop",
        "end the pilots of a session whose manager is gone, and cancel its tasks",
        lambda options: session_files.stop(options.folder),
    )
    cleaning = add(
        "clean",
        "remove sessions that nobody uses any more",
        lambda options: session_files.clean(options.folders, options.older, options.dry_run),
    )
    for one in (showing, attaching, migrating, reading, stopping):
        one.add_argument("folder", metavar="SESSION", help="its name, or its folder")
    listing.add_argument("--json", action="store_true", help="print JSON")
    reading.add_argument("--pilot", metavar="NAME", help="of this pilot only")
    reading.add_argument("-n", "--lines", type=int, default=50, help="lines of each log (default: 50)")
    cleaning.add_argument(
        "folders", nargs="*", metavar="SESSION|DIR", help="a session, or a folder with sessions, as well"
    )
    cleaning.add_argument(
        "--older",
        metavar="AGE",
        help=f"not written for so long: 30m, 12h, 7d or 2w (default: ${keeping.KEEP}, or {keeping.DEFAULT})",
    )
    cleaning.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    attaching.add_argument(
        "--pilot", action="append", default=[], help="a further pilot for its tasks, such as ray:4; may be repeated"
    )


# ---- ls and show ----------------------------------------------------------------------------------------------------


def list_all(folders: Sequence[str], as_json: bool) -> int:
    """List the sessions below the folder where they are made, and these.

    Returns:
        0, or 1 when there is no session in one of the folders, or one cannot be read.
    """
    problems: dict[str, str] = {}
    paths = find_sessions(default_parent(make=False))
    paths += [path for path in names.known().values() if path not in paths]
    for folder in folders:
        try:
            found = find_sessions(names.find(folder))
        except SessionError as error:
            problems[folder] = str(error)
            continue
        paths += [path for path in found if path not in paths]
        if not found:
            problems[folder] = "there is no session in it"
    sessions = []
    for path in paths:
        try:
            sessions.append(summary(path))
        except SessionError as error:
            problems[str(path)] = str(error)
    if as_json:
        print(json.dumps(msgspec.to_builtins({"sessions": sessions, "problems": problems}), indent=2))
        return int(bool(problems))
    _show_table(sessions)
    for where, problem in problems.items():
        streams.say(f"{where}: {problem}")
    return int(bool(problems))


def _show_table(sessions: Sequence[Summary]) -> None:
    from rich.table import Table

    if not sessions:
        print(f"no sessions in {default_parent(make=False)}")
        return
    named = any(one.name for one in sessions)
    table = Table(*["name"] * named, "session", "started", "last written", "manager", "pilots", "tasks")
    for one in sessions:
        table.add_row(
            *[one.name] * named,
            one.path,
            "" if one.started is None else _ago(one.started),
            _ago(one.changed),
            "runs" if one.in_use else "gone",
            _counted(Counter(pilot.state for pilot in one.pilots)),
            _counted(one.tasks),
        )
    tables.show(table, 200)


def _ago(moment: float) -> str:
    return f"{age(time.time() - moment)} ago"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {state}" for state, number in counts.items()) or "none"


def _show(options: argparse.Namespace, interruption: Interruption) -> int:
    if options.web:
        return show_page(options.folder, options.port or 0, interruption)
    if options.port is not None:
        raise DescriptionError(f"sessions show: --port {options.port}: it needs --web", field="--port")
    return plot(options.folder, options.plot) if options.plot else show(options.folder, options.json)


def show(folder: str, as_json: bool) -> int:
    """Show what is in a session. Changes nothing.

    Raises:
        SessionError: there is no session in the folder, or it cannot be read.
    """
    one = summary(names.find(folder))
    if as_json:
        print(json.dumps(msgspec.to_builtins(one), indent=2))
        return 0
    named = f"{one.name} ({one.path})" if one.name else one.path
    print(f"{named}: {'a manager uses it' if one.in_use else 'its manager is gone'}")
    if one.schema < SCHEMA:
        print(f"made by an earlier version: `pilot sessions migrate {one.path}` prepares it for this one")
    if one.started is not None:
        print(f"started {_ago(one.started)}, last written {_ago(one.changed)}")
    print(f"tasks: {_counted(one.tasks)}")
    print(f"spool: {one.spool_files} files, {one.spool_bytes / 2**20:.1f} MiB")
    for pilot in one.pilots:
        print(f"pilot {pilot.name}: {pilot.resource} {pilot.engine} {pilot.state}: {pilot.reason}".rstrip(": "))
    for failed in one.errors:
        print(f"task {failed.task} ({failed.name}) failed: {failed.error}")
    return 0


def plot(folder: str, file: str) -> int:
    """Draw a session: when slots and QPUs were busy; how many tasks waited, ran and ended. Changes nothing.

    Raises:
        DescriptionError: the file has another ending.
        SessionError: there is no session in the folder, or it cannot be read.
        PluginError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    path = Path(file).expanduser()
    if path.suffix.lower() not in PLOT_ENDINGS:
        raise invalid("--plot", file, f"a file that ends in {', '.join(PLOT_ENDINGS)}")
    with PilotManager.read(names.find(folder)) as session:
        plots.save_as(plots.session_figure(session.spans()), path)
    print(f"in {path}")
    return 0


def show_page(folder: str, port: int, interruption: Interruption) -> int:
    """Serve a page that shows a session, until a signal comes.

    Raises:
        PluginError, DescriptionError, SessionError: as `dashboard.open`.
    """
    from pilot import dashboard

    with interruption.put_off(), dashboard.open(names.find(folder), port=port) as page:
        print(f"{page.url}\nOpen this address in a browser of this machine. Ctrl-C ends it.", flush=True)
        while interruption.number is None:
            time.sleep(LOOK_SECONDS)
    return 0


# ---- attach and migrate ---------------------------------------------------------------------------------------------


def attach(folder: str, pilots: Sequence[str], interruption: Interruption) -> int:
    """Take over a session, wait until its tasks have ended, and show how they ended. A signal that tells this process
    to end cancels those that have not, and closes the session in order.

    Returns:
        0, or 1 when a task failed.

    Raises:
        DescriptionError: a text describes no pilot.
        SessionError: the session cannot be taken over.
        Interrupted: a signal came before all tasks had ended.
    """
    wanted = [PilotDescription.from_text(text) for text in pilots]
    path = names.find(folder)
    summary(path)  # refuses what is no session before anything is changed
    interruption.check()
    with (
        interruption.put_off(),
        contextlib.closing(PilotManager.attach(path, progress=sys.stderr.isatty())) as manager,
    ):
        for description in wanted:
            manager.submit_pilot(description)
        left = [task for task in manager.tasks.values() if not task.done()]
        while left and interruption.number is None:
            left = manager.wait_tasks(left, LOOK_SECONDS)[1]
        counts, failed = Counter[str](), list[Task]()
        for task in manager.tasks.values():  # those that are done are not held: there may be millions
            if task.done():
                counts[task.state.value] += 1
                failed += [task] * (task.state is TaskState.FAILED)
        text = _counted(counts)
        lines = [f"{manager.session_dir}: {text}", *map(_failure, failed[:SHOWN])]
    if len(failed) > SHOWN:
        lines.append(f"… and {len(failed) - SHOWN:,} more failed")
    print("\n".join(lines))
    interruption.check()
    return int(bool(failed))


def _failure(task: Task) -> str:
    error = task.exception()
    return f"task {task.id} ({task.name}) failed: {type(error).__name__}: {text_of(error) if error else ''}"


def prepare(folder: str) -> int:
    """Bring the journal of a session to the layout of this version.

    Raises:
        SessionError: as `migrate`.
    """
    path = names.find(folder)
    if migrate(path):
        print(f"{path} can be attached now; the journal as it was is in {path / COPY}")
    else:
        print(f"{path}: nothing to do, this version has made it")
    return 0
