"""What ran in a session, and on which pilots: read from its journal, to be simulated with another policy, say."""

from __future__ import annotations

import os
from contextlib import closing
from typing import NamedTuple
from weakref import WeakValueDictionary

from pilot.manager import recovery
from pilot.manager.journal import EstimateRow, WorkerRow, unpack_estimates
from pilot.manager.recorded import RecordedTasks
from pilot.manager.recovery import RestoredPilot
from pilot.manager.sqlite_reader import FileReader
from pilot.resources import QPUEstimate, Terms
from pilot.results import OK
from pilot.wire.session import SessionFolder


class Ran(NamedTuple):
    """A task that was done."""

    id: int
    #: What its description called it, or its function's name.
    title: str
    #: The digest of its function.
    function: str
    terms: Terms
    #: Wall clock, seconds since the epoch.
    submitted: float
    #: Seconds that it ran, and the QPU that its worker had.
    seconds: float
    qpu: str | None
    #: Ids of the tasks that it waited for.
    needs: tuple[int, ...]
    estimates: tuple[QPUEstimate, ...]
    #: When its run ended: wall clock.
    ended: float


class History(NamedTuple):
    """A session as its journal has it now."""

    #: By id.
    tasks: list[Ran]
    #: How many tasks have no result, or failed.
    left_out: int
    pilots: list[RestoredPilot]


def read(session_dir: str | os.PathLike[str]) -> History:
    """What has run in a session. Changes nothing; a manager may use the session at the same time.

    Raises:
        SessionError: there is no session in this folder; it is damaged, or other users can write to it.
    """
    folder = SessionFolder.find(session_dir)
    folder.check_private()
    journal = FileReader(folder.journal_path)
    with closing(journal):
        return journal.at_one_moment(lambda: _read(folder, journal))


def _read(folder: SessionFolder, journal: FileReader) -> History:
    restored = recovery.read(journal, folder.path, rejoin=False)
    ended = RecordedTasks(journal, WeakValueDictionary()).read(1, restored.last_task)
    estimates = {row.task: unpack_estimates(row.estimates) for row in journal.rows(EstimateRow)}
    needs = journal.needs()
    qpus = {row.worker: row.qpu for row in journal.rows(WorkerRow)}
    tasks = []
    for entry, outcome, *_ in ended:
        if outcome is None or outcome.status != OK:
            continue
        tasks.append(
            Ran(
                id=entry.id,
                title=entry.title,
                function=entry.function.digest,
                terms=entry.terms,
                submitted=entry.submitted,
                seconds=outcome.seconds,
                qpu=qpus.get(entry.worker or ""),
                needs=needs.get(entry.id, ()),
                estimates=estimates.get(entry.id, ()),
                ended=outcome.started + outcome.seconds,
            )
        )
    return History(tasks, len(restored.tasks) + len(ended) - len(tasks), restored.pilots)
