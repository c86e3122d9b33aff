"""What an attached manager takes over from the journal: pilots, functions and tasks."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from pilot import errors
from pilot.errors import SessionError
from pilot.manager.handles import Failed, Pilot, Task
from pilot.manager.journal import Journal
from pilot.registry import devices
from pilot.resources import Terms
from pilot.results import Outcome
from pilot.scheduling import events
from pilot.scheduling.records import RAISED_REASON, STARTED_AGAIN, TAKEN_AWAY, FunctionRecord, TaskRecord
from pilot.states import PilotState, TaskState, is_final
from pilot.wire.session import memory_of

if TYPE_CHECKING:
    from pilot.manager.manager import PilotManager


log = logging.getLogger(__name__)

#: Seconds that the journal has to take its first row.
WRITE_SECONDS = 10.0


class Recorded(Outcome, frozen=True, array_like=True, gc=False):
    """An outcome whose value and output are in the journal only."""


def restore(manager: PilotManager) -> None:
    """Take over what the journal knows. Before the manager's thread runs."""
    conductor, journal = manager._conductor, manager._conductor.journal
    functions: dict[int, FunctionRecord] = {}
    for id, digest, name, code in journal.functions():
        functions[id] = manager._functions[digest] = FunctionRecord(id, digest, name)
        conductor.codes[digest] = code
    terms = journal.terms()
    conductor.workers = journal.workers()
    conductor.terms = {one: id for id, one in terms.items()}
    _restore_pilots(manager, journal, _is_moved(manager, journal))
    _restore_tasks(manager, journal, functions, terms)
    conductor.post(events.Attached(_begin_generation(manager, journal)))


def _is_moved(manager: PilotManager, journal: Journal) -> bool:
    """True when the session is elsewhere than its agents look for it."""
    before, here = journal.session().get("path"), manager.session_dir
    if before is None or before == str(here):
        return False
    with contextlib.suppress(OSError):
        if here.samefile(before):  # through a link, say
            return False
    log.warning(
        "the session was at %s and is at %s now: its pilots are asked for again; what still runs at the old place ends "
        "by itself, and what it has done since the manager before was gone is done again",
        before,
        here,
    )
    journal.put("session", ("path", str(here)))
    return True


def _begin_generation(manager: PilotManager, journal: Journal) -> tuple[int, ...]:
    """The first task of each manager of the session; that of this one is in the journal then, before any task of its
    own can be: what agents have of tasks that never came into the journal must not be taken for these."""
    firsts = (*map(int, journal.session().get("firsts", "1").split()), journal.last_task() + 1)
    journal.put("session", ("firsts", " ".join(map(str, firsts))))
    if not journal.flush(WRITE_SECONDS):
        raise SessionError(
            f"the journal {journal.path} cannot be written: make room in its file system and attach again",
            path=str(journal.path),
        )
    return firsts


def _restore_pilots(manager: PilotManager, journal: Journal, moved: bool) -> None:
    rows = list(journal.pilots())
    names = {id: description.name or id for id, description, *_ in rows}
    parents = journal.parents()
    manager._pilot_ids = itertools.count(len(rows) + 1)
    for id, description, mark, state, _ in sorted(rows, key=lambda row: int(row[0].rpartition("-")[2])):
        pilot = manager._add_pilot(id, description, _line(id, parents, names))
        if is_final(PilotState(state)):
            pilot._change(PilotState(state), "before this manager was attached")
        else:
            _restore_pilot(manager, pilot, "" if moved else mark, journal.changes(id), parents)


def _restore_pilot(
    manager: PilotManager, pilot: Pilot, mark: str, changes: list[tuple[str, str, str | None]], parents: dict[str, str]
) -> None:
    """A pilot that was not over: its agent may join again. Without one (no ``mark``) it is submitted now, unless it was
    about to end."""
    conductor, id, description = manager._conductor, pilot.id, pilot.description
    reasons = [reason for _, reason, _ in changes]
    native_id, draining, reported = None, False, False  # of its last job
    for state, reason, native in changes:
        if reason.startswith((STARTED_AGAIN, TAKEN_AWAY)):
            native_id, draining, reported = None, False, False
        native_id = native or native_id
        draining = draining or state == PilotState.DRAINING.value
        reported = reported or state in (PilotState.STARTING.value, PilotState.ACTIVE.value)
    if draining and not mark:
        reason = "the session was moved while it drained"
        conductor.journal.put("pilot_changes", (id, PilotState.DONE.value, reason, None, time.time()))
        pilot._change(PilotState.DONE, reason)
        return
    if mark:
        pilot._change(PilotState.QUEUED, "waits for its agent to join again")
        conductor.adopt(id, mark)
        if native_id is None and (native_id := conductor.fleet.find(id, description, mark)) is not None:
            changed = (id, PilotState.QUEUED.value, "its job was found", native_id, time.time())
            conductor.journal.put("pilot_changes", changed)
        if native_id is not None:
            conductor.fleet.adopt(id, description, native_id, mark, manager._folder.pilot(id))
        for job, native in conductor.journal.further_jobs(id).items():
            number = int(job.rpartition("+")[2])
            manager._jobs = itertools.count(max(next(manager._jobs), number + 1))
            if native is not None:
                conductor.fleet.adopt(job, description, native, mark, manager._folder.pilot(f"{id}/nodes-{number}"))
    conductor.post(
        events.PilotAsked(
            id,
            description,
            memory_of(description),
            devices=devices(description),
            rejoins=bool(mark),
            ancestors=manager._ancestors[id],
            draining=draining,
            succeeded=id in parents.values(),
            started_again=sum(reason.startswith(STARTED_AGAIN) for reason in reasons),
            taken=sum(reason.startswith(TAKEN_AWAY) for reason in reasons),
            job_known=native_id is not None,
            reported=reported,
        )
    )


def _restore_tasks(
    manager: PilotManager, journal: Journal, functions: dict[int, FunctionRecord], terms: dict[int, Terms]
) -> None:
    tasks: dict[int, Task] = {}
    attempts = journal.attempts()
    for row in journal.finished():
        entry = TaskRecord(row.id, functions[row.function], None, terms[row.terms], row.name, row.submitted)
        entry.state, entry.pilot, entry.worker, entry.bound = (
            TaskState(row.state),
            row.pilot,
            row.worker,
            row.bound,
        )
        entry.attempts = tuple(attempts.get(row.id, ()))
        entry.reason = "it went there before this manager was attached"
        task = tasks[row.id] = Task(manager, entry)
        if row.error is not None:
            name, *rest = msgspec.json.decode(row.error)
            task._settle(None, Failed(getattr(errors, name), *rest))
        else:
            task._settle(Recorded(row.id, row.status, row.started, row.seconds), None)
    entries = []
    for unfinished in journal.unfinished():
        entry = TaskRecord(
            unfinished.id,
            functions[unfinished.function],
            unfinished.payload,
            terms[unfinished.terms],
            unfinished.name,
            unfinished.submitted,
            unfinished.needs,
        )
        entry.attempts = tuple(attempts.get(entry.id, ()))
        entry.retries = sum(attempt.reason == RAISED_REASON for attempt in entry.attempts)
        tasks[entry.id] = Task(manager, entry)
        entries.append(entry)
    manager._conductor.tasks.update(sorted(tasks.items()))
    manager._task_ids = itertools.count(journal.last_task() + 1)
    for entry in entries:
        manager._conductor.submit(entry)


def _line(id: str, parents: dict[str, str], names: dict[str, str]) -> tuple[str, ...]:
    """Ids and names of the pilots that this one takes over from, oldest first."""
    found: tuple[str, ...] = ()
    while (parent := parents.get(id)) is not None:
        found = (parent, names.get(parent, parent), *found)
        id = parent
    return found
