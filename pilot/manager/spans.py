"""When the pilots of a session were there, and when its tasks ran: what `SessionView.plot` draws."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from math import inf
from typing import Any, NamedTuple

import msgspec

from pilot.manager.handles import Task, entry_of, outcome_of
from pilot.manager.journal import AttemptRow, TermsRow, WorkerRow
from pilot.manager.pilots import Pilot
from pilot.manager.sqlite_reader import FileReader
from pilot.plots.sessions import SessionSpans
from pilot.plots.timelines import PilotSpan, TaskSpan
from pilot.resources import Terms
from pilot.results import Attempt
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
    journal = FileReader(folder.journal_path)
    with closing(journal):
        rows = journal.at_one_moment(lambda: _rows(journal))
    found = _Found(names, rows.qpus)
    for id, submitted, pilot, worker, started, seconds, terms, ended in rows.runs:
        if (only is not None and id not in only) or (ended is None and id in handles):
            continue
        handles.pop(id, None)
        run = (started, started + seconds) if started and seconds is not None else None
        where = (pilot, worker, run, submitted, rows.cores.get(terms, 1.0))
        found.add(None if ended is None else TaskState(ended), *where, rows.attempts.get(id, ()))
    for task in handles.values():
        entry = entry_of(task)
        state = entry.state if is_final(entry.state) else None
        where = (entry.pilot, entry.worker, _run(task), entry.submitted, entry.terms.resources.cores)
        found.add(state, *where, entry.attempts)
    spans = [_pilot_span(pilot, names[pilot.id], now) for pilot in pilots]
    goes_on = unrecorded is not None and not all(is_final(pilot.state) for pilot in pilots)
    return SessionSpans(spans, found.tasks, found.waiting, found.never_ran, now if goes_on else None, found.lost)


class _Rows(NamedTuple):
    """What a journal has, at one moment."""

    runs: list[Any]
    #: By the number of terms.
    cores: dict[int, float]
    #: By worker.
    qpus: dict[str, str]
    #: By task, those that did not count.
    attempts: dict[int, list[AttemptRow]]


def _rows(journal: FileReader) -> _Rows:
    terms = journal.rows(TermsRow)
    cores = {row.id: msgspec.msgpack.decode(row.terms, type=Terms).resources.cores for row in terms}
    qpus = {row.worker: row.qpu or "" for row in journal.rows(WorkerRow)}
    attempts: defaultdict[int, list[AttemptRow]] = defaultdict(list)
    for row in journal.rows(AttemptRow):
        attempts[row.task].append(row)
    return _Rows(journal.runs(), cores, qpus, attempts)


class _Found:
    """What `SessionSpans` has of tasks."""

    def __init__(self, names: Mapping[str, str], qpus: Mapping[str, str]) -> None:
        """``names``: of pilots by id; ``qpus``: by worker."""
        self.tasks: list[TaskSpan] = []
        self.lost: list[TaskSpan] = []
        self.waiting: list[float] = []
        self.never_ran = 0
        self._names, self._qpus = names, qpus

    def add(
        self,
        state: TaskState | None,
        pilot: str | None,
        worker: str | None,
        run: tuple[float, float] | None,
        submitted: float,
        cores: float,
        attempts: Sequence[Attempt | AttemptRow],
    ) -> None:
        """Take in a task; ``state``: its last one, None: it is not over; ``run``: when its last attempt began and
        ended; ``attempts``: those that did not count."""
        failed = state is TaskState.FAILED
        lost = [self._lost(one, submitted, cores) for one in attempts if one.worker]
        if run is not None:
            where = worker or ""
            name, qpu = self._names.get(pilot or "", ""), self._qpus.get(where, "")
            self.tasks.append(TaskSpan(name, where, *run, submitted, cores, qpu, failed))
        elif failed and lost:  # that attempt was one too many
            self.tasks.append(lost.pop()._replace(failed=True, lost=False))
        elif state is None:
            self.waiting.append(submitted)
        else:
            self.never_ran += not lost
            lost = [one._replace(submitted=None) for one in lost]
        self.lost += lost

    def _lost(self, attempt: Attempt | AttemptRow, submitted: float, cores: float) -> TaskSpan:
        """One whose beginning is not known has no length."""
        worker, ended = attempt.worker, attempt.ended
        pilot = self._names.get(worker.partition(".")[0], "")  # workers' names begin with their pilot's id
        started = ended if attempt.started is None else min(attempt.started, ended)
        return TaskSpan(pilot, worker, started, ended, submitted, cores, self._qpus.get(worker, ""), lost=True)


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
