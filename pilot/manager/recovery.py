"""What an attached manager takes over from the journal: pilots, functions and tasks, as one value."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from pilot.descriptions import PilotDescription
from pilot.errors import SessionError
from pilot.manager.journal import (
    NONSENSE,
    SCHEMA,
    AttemptRow,
    EstimateRow,
    FunctionRow,
    Journal,
    JournalReader,
    KeyRow,
    ObjectRow,
    PilotChangeRow,
    PilotParentRow,
    PilotRow,
    SessionRow,
    TermsRow,
    damaged,
    unpack,
    unpack_estimates,
    unpack_needs,
)
from pilot.manager.recorded import attempt_of
from pilot.manager.table import IdSet
from pilot.resources import Terms
from pilot.results import Value
from pilot.scheduling.records import Change, FunctionRecord, TaskRecord
from pilot.states import PilotState, is_final
from pilot.version import versions

log = logging.getLogger(__name__)

#: Seconds that the journal has to take its first row.
WRITE_SECONDS = 10.0


class RestoredPilot(NamedTuple):
    """A pilot, and what became of it."""

    id: str
    description: PilotDescription
    state: PilotState
    #: Why it is in its state.
    reason: str
    #: Ids and names of the pilots that it takes over from, oldest first.
    ancestors: tuple[str, ...]
    #: Of its agent; "": there is none that could join again.
    mark: str = ""
    #: Of its last job; None: not known.
    native_id: str | None = None
    #: What was known of its last job: it drained; its agent had reported.
    draining: bool = False
    reported: bool = False
    #: It has a successor; how often it was started again, and how often the site took its job.
    succeeded: bool = False
    started_again: int = 0
    taken: int = 0
    #: Jobs of further nodes that have not ended: number → native id.
    further_jobs: dict[int, str] = {}  # noqa: RUF012 - never changed
    #: When it was in each state first: wall clock, seconds since the epoch.
    times: dict[PilotState, float] = {}  # noqa: RUF012 - never changed


class Restored(NamedTuple):
    """All that the journal knows."""

    #: Functions, and terms by id.
    functions: list[FunctionRecord]
    terms: dict[int, Terms]
    #: Those of tasks that are in the journal; and keys of tasks that never came into it.
    keys: list[KeyRow]
    lost_keys: list[str]
    #: In order of their numbers.
    pilots: list[RestoredPilot]
    #: Those without a result, in order of their ids; and the ids of the others.
    tasks: list[TaskRecord]
    ended: IdSet
    #: Objects, and the large arguments of tasks that may be submitted again.
    objects: list[ObjectRow]
    kept_arguments: list[Value]
    #: The first task of each manager of the session, this one included.
    firsts: tuple[int, ...]
    #: The highest number in the id of a pilot, and the highest id given to a function.
    last_pilot: int
    last_function: int
    #: The highest id given to a task, and of a task that was forgotten; the highest number of a job of further nodes.
    last_task: int
    last_forgotten: int
    last_job: int
    #: Where the session was, when it was moved or copied since.
    moved_from: str | None
    #: The versions (`version.versions`) of the manager before; None: not known.
    versions: tuple[str, ...] | None


def read(journal: JournalReader, here: Path, *, rejoin: bool = True) -> Restored:
    """What the journal knows. Changes nothing.

    Args:
        journal: of the session.
        here: the session's folder.
        rejoin: pilots that are not over are as for a manager that attaches: they may join again, or are requested
            again. False: they are as they were last.

    Raises:
        SessionError: another version of the library has made it, which keeps other things in it; or it is damaged.
    """
    try:
        return _read(journal, here, rejoin)
    except NONSENSE as error:
        raise damaged(journal.name, error) from error


def _read(journal: JournalReader, here: Path, rejoin: bool) -> Restored:
    session = {row.key: row.value for row in journal.rows(SessionRow)}
    _check_schema(int(session.get("schema", 0)), here)
    functions = {row.id: FunctionRecord(row.id, row.digest, row.name, row.code) for row in journal.rows(FunctionRow)}
    terms = {row.id: msgspec.msgpack.decode(row.terms, type=Terms) for row in journal.rows(TermsRow)}
    tasks = _read_tasks(journal, functions, terms)
    last_forgotten = int(session.get("forgotten", 0))
    ended = journal.ended()
    last_task = max(tasks[-1].id if tasks else 0, ended[-1] if ended else 0, last_forgotten)
    unfinished, all_ended = {task.id for task in tasks}, IdSet(ended)
    keys, lost_keys = [], []
    for row in journal.rows(KeyRow):
        if row.task in unfinished or row.task in all_ended:
            keys.append(row)
        else:
            lost_keys.append(row.key)
    moved_from = _moved_from(session.get("path"), here)
    pilots, last_job = _read_pilots(journal, moved_from is not None, rejoin)
    return Restored(
        functions=list(functions.values()),
        last_pilot=max((_number(pilot.id) for pilot in pilots), default=0),
        last_function=max(functions, default=0),
        terms=terms,
        keys=keys,
        lost_keys=lost_keys,
        pilots=pilots,
        tasks=tasks,
        ended=all_ended,
        objects=journal.rows(ObjectRow),
        kept_arguments=journal.kept_arguments(),
        firsts=(*map(int, session.get("firsts", "1").split()), last_task + 1),
        last_task=last_task,
        last_forgotten=last_forgotten,
        last_job=last_job,
        moved_from=moved_from,
        versions=tuple(session["versions"].split()) if "versions" in session else None,
    )


def record(journal: Journal, restored: Restored, here: Path) -> None:
    """Write down that another manager has the session from now on.

    Its first task is in the journal then, before any task of its own can be: what agents have of tasks that never came
    into the journal must not be taken for these.

    Raises:
        SessionError: the journal cannot be written.
    """
    if restored.moved_from is not None:
        log.warning(
            "the session was at %s and is at %s now: its pilots are requested again; what still runs at the old place "
            "ends by itself, and what it has done since the manager before was gone is done again",
            restored.moved_from,
            here,
        )
        journal.extend(path_rows(here))
        for pilot in restored.pilots:
            if pilot.draining and is_final(pilot.state):
                journal.put(PilotChangeRow(pilot.id, pilot.state.value, pilot.reason, None, time.time()))
    for key in restored.lost_keys:  # their ids are given to other tasks
        journal.put(KeyRow(key, 0, b""))
    journal.put(SessionRow("firsts", " ".join(map(str, restored.firsts))))
    journal.put(versions_row())
    if not journal.flush(WRITE_SECONDS):
        why = f" ({journal.trouble})" if journal.trouble else ""
        raise SessionError(
            f"the journal {journal.name} cannot be written{why}: make room in its file system, or put it back from a "
            "copy, and attach again",
            path=journal.name,
        )


def path_rows(folder: Path) -> list[SessionRow]:
    """Where the session is. There is no row for a path that is no Unicode, which SQLite cannot keep: a copy of such a
    session is not noticed."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return []
    return [SessionRow("path", str(folder))]


def versions_row() -> SessionRow:
    """The versions of this manager, which its agents have, too."""
    return SessionRow("versions", " ".join(versions()))


def _check_schema(schema: int, here: Path) -> None:
    if schema > SCHEMA:
        raise SessionError(
            f"the session {here} was made by a later version of quantum-pilot: attach to it with that version",
            path=str(here),
        )
    if schema < SCHEMA:
        raise SessionError(
            f"the session {here} was made by an earlier version of quantum-pilot: `pilot sessions migrate {here}` "
            "prepares it for this one",
            path=str(here),
        )


def _moved_from(before: str | None, here: Path) -> str | None:
    """Where agents look for the session, when that is elsewhere."""
    if before is None or before == str(here):
        return None
    with contextlib.suppress(OSError):
        if here.samefile(before):  # through a link, say
            return None
    return before


def _read_pilots(journal: JournalReader, moved: bool, rejoin: bool) -> tuple[list[RestoredPilot], int]:
    """Every pilot, and the highest number of a job of further nodes."""
    rows = sorted(journal.rows(PilotRow), key=lambda row: _number(row.id))
    descriptions = {row.id: msgspec.msgpack.decode(row.description, type=PilotDescription) for row in rows}
    names = {id: description.name or id for id, description in descriptions.items()}
    parents = {row.pilot: row.parent for row in journal.rows(PilotParentRow)}
    changes: dict[str, list[PilotChangeRow]] = {row.id: [] for row in rows}
    further: dict[str, dict[int, str]] = {row.id: {} for row in rows}
    last_job = 0
    for change in journal.rows(PilotChangeRow):
        id, number = change.pilot, change.job
        if not number:
            changes[id].append(change)
            continue
        last_job = max(last_job, number)
        further[id].pop(number, None)
        if change.native_id is not None:  # else it has ended
            further[id][number] = change.native_id
    pilots = []
    for row in rows:
        id = row.id
        pilot = RestoredPilot(
            id,
            descriptions[id],
            *_last_state(changes[id]),
            _ancestors(id, parents, names),
            succeeded=id in parents.values(),
            further_jobs=further[id],
            times={PilotState(change.state): change.time for change in reversed(changes[id])},
        )
        if rejoin and not is_final(pilot.state):
            pilot = _with_changes(pilot, "" if moved else row.mark, changes[id])
        pilots.append(pilot)
    return pilots, last_job


def _number(pilot: str) -> int:
    """What the id of a pilot ends with."""
    return int(pilot.rpartition("-")[2])


def _last_state(changes: list[PilotChangeRow]) -> tuple[PilotState, str]:
    """Where it is, and why. Nothing follows a final state; that its job was submitted may have been recorded later."""
    states = [(PilotState(change.state), change.reason) for change in changes] or [(PilotState.NEW, "")]
    return next((one for one in states if is_final(one[0])), states[-1])


def _with_changes(pilot: RestoredPilot, mark: str, changes: list[PilotChangeRow]) -> RestoredPilot:
    """A pilot that was not over, with what became of it: its agent may join again. Without one (no ``mark``) it is
    submitted again, unless it was about to end."""
    native_id, draining, reported = None, False, False  # of its last job
    for change in changes:
        if change.change in (Change.RESTART, Change.TAKEN):
            native_id, draining, reported = None, False, False
        native_id = change.native_id or native_id
        draining = draining or change.state == PilotState.DRAINING.value
        reported = reported or change.state in (PilotState.STARTING.value, PilotState.ACTIVE.value)
    state, reason = PilotState.NEW, ""
    if mark:
        state, reason = PilotState.QUEUED, "waits for its agent to join again"
    elif draining:
        state, reason = PilotState.DONE, "the session was moved while it drained"
    return pilot._replace(
        state=state,
        reason=reason,
        mark=mark,
        native_id=native_id,
        draining=draining,
        reported=reported,
        started_again=sum(change.change == Change.RESTART for change in changes),
        taken=sum(change.change == Change.TAKEN for change in changes),
    )


def _ancestors(id: str, parents: dict[str, str], names: dict[str, str]) -> tuple[str, ...]:
    """Ids and names of the pilots that this one takes over from, oldest first."""
    found: tuple[str, ...] = ()
    while (parent := parents.get(id)) is not None:
        found = (parent, names.get(parent, parent), *found)
        id = parent
    return found


def _read_tasks(
    journal: JournalReader, functions: dict[int, FunctionRecord], terms: dict[int, Terms]
) -> list[TaskRecord]:
    attempts: dict[int, list[AttemptRow]] = {}
    for one in journal.rows(AttemptRow):
        attempts.setdefault(one.task, []).append(one)
    estimates = {one.task: unpack_estimates(one.estimates) for one in journal.rows(EstimateRow)}
    tasks = []
    for row in journal.unfinished():
        entry = TaskRecord(row.id, functions[row.function], None, terms[row.terms], row.name, row.submitted)
        entry.payload, entry.needs = unpack(row.payload), unpack_needs(row.needs) or None
        before = attempts.get(row.id, [])
        entry.attempts = tuple(map(attempt_of, before))
        entry.retries = sum(one.change == Change.RETRY for one in before)
        entry.estimates = estimates.get(row.id, ())
        entry.terms = entry.terms.expecting(entry.estimates)
        tasks.append(entry)
    return tasks
