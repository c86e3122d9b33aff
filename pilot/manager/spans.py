"""When the pilots of a session were there, and when its tasks ran: what `SessionView.plot` draws."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence, Set
from contextlib import closing
from functools import partial
from math import inf

import msgspec

from pilot.manager.handles import Task, entry_of, outcome_of
from pilot.manager.journal import TermsRow, WorkerRow
from pilot.manager.pilots import Pilot
from pilot.manager.sqlite_reader import SqliteReader, connect_to_read
from pilot.plots.sessions import SessionSpans
from pilot.plots.timelines import PilotSpan, TaskSpan
from pilot.resources import Terms
from pilot.states import PilotState, TaskState, is_final
from pilot.wire.session import SessionFolder


def read(
    folder: SessionFolder, pilots: Sequence[Pilot], unrecorded: Sequence[Task] | None, only: Set[int] | None
) -> SessionSpans:
    """The pilots and tasks of a session. Blocks: 100,000 tasks take about half a second.

    Args:
        folder: of the session.
        pilots: of the session.
        unrecorded: tasks whose end may not be in the journal; None: the session does not go on in this process.
        only: ids of the tasks that count; None: all.

    Raises:
        SessionError: the journal cannot be read.
    """
    now = time.time()
    names = _names(pilots)
    handles = {task.id: task for task in unrecorded or () if only is None or task.id in only}
    journal = SqliteReader(folder.journal_path, partial(connect_to_read, folder.journal_path))
    with closing(journal), journal.frozen():
        runs = journal.runs()
        cores = {
            row.id: msgspec.msgpack.decode(row.terms, type=Terms).resources.cores for row in journal.rows(TermsRow)
        }
        qpus = {row.worker: row.qpu or "" for row in journal.rows(WorkerRow)}
    tasks, waiting, never_ran = list[TaskSpan](), list[float](), 0
    for id, submitted, pilot, worker, started, seconds, terms, state in runs:
        if (only is not None and id not in only) or (state is None and id in handles):
            continue
        handles.pop(id, None)
        where, slots, failed = worker or "", cores.get(terms, 1.0), state == TaskState.FAILED.value
        if started and seconds is not None:
            end, qpu = started + seconds, qpus.get(where, "")
            tasks.append(TaskSpan(names.get(pilot or "", ""), where, started, end, submitted, slots, qpu, failed))
        elif state is not None:
            never_ran += 1
        else:
            waiting.append(submitted)
    for task in handles.values():
        entry, run = entry_of(task), _run(task)
        pilot, where, slots = names.get(entry.pilot or "", ""), entry.worker or "", entry.terms.resources.cores
        failed, qpu = entry.state is TaskState.FAILED, qpus.get(where, "")
        if run is not None:
            tasks.append(TaskSpan(pilot, where, *run, entry.submitted, slots, qpu, failed))
        elif is_final(entry.state):
            never_ran += 1
        else:
            waiting.append(entry.submitted)
    spans = [_pilot_span(pilot, names[pilot.id], now) for pilot in pilots]
    goes_on = unrecorded is not None and not all(is_final(pilot.state) for pilot in pilots)
    return SessionSpans(spans, tasks, waiting, never_ran, now if goes_on else None)


def _run(task: Task) -> tuple[float, float] | None:
    """When a task began and ended; None: it has not run."""
    entry, outcome = entry_of(task), outcome_of(task)
    if outcome is not None and outcome.started:
        return outcome.started, outcome.started + outcome.seconds
    return (entry.bound, inf) if entry.state is TaskState.RUNNING else None


def _names(pilots: Sequence[Pilot]) -> dict[str, str]:
    """By id, names that are different; "": of a task that no pilot had."""
    count = Counter(pilot.name for pilot in pilots)
    return {one.id: one.name if count[one.name] == 1 else f"{one.name}, {one.id}" for one in pilots}


def _pilot_span(pilot: Pilot, name: str, now: float) -> PilotSpan:
    times = pilot.times
    ended = [moment for state, moment in times.items() if is_final(state)]
    return PilotSpan(
        pilot=name,
        requested=min(times.values(), default=now),
        active=times.get(PilotState.ACTIVE),
        ended=min(ended, default=None),
        started=times.get(PilotState.STARTING),
        slots=pilot.description.cores * pilot.description.number_of_nodes,
        note="failed" if pilot.state is PilotState.FAILED else "",
    )
