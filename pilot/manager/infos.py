"""`task_info`: what is put together when a user reads the record of a task."""

from __future__ import annotations

from collections.abc import Mapping

from pilot.manager.handles import Task, entry_of, outcome_of
from pilot.manager.journal import JournalReader, Recorded
from pilot.manager.live import LiveOutput
from pilot.manager.pilots import Pilot
from pilot.manager.workers import Workers
from pilot.results import TaskInfo


def task_info(
    task: Task,
    pilots: Mapping[str, Pilot],
    workers: Workers,
    journal: JournalReader,
    live: LiveOutput | None = None,
) -> TaskInfo:
    """The record of a task.

    Args:
        task: which.
        pilots: of the session, by id.
        workers: of the session.
        journal: has what the outcome of an earlier manager's task wrote.
        live: has what a task that runs has written; None: that is not known.
    """
    entry, outcome = entry_of(task), outcome_of(task)
    pilot, worker = pilots.get(entry.pilot or ""), workers.get(entry.worker)
    stdout: str | None = None
    stderr: str | None = None
    if outcome is not None:
        stdout, stderr = outcome.stdout, outcome.stderr
    elif live is not None:
        stdout, stderr = live.of(task.id)
    if stdout is None and stderr is None and isinstance(outcome, Recorded):
        stdout, stderr = journal.output(task.id)
    ran = outcome if outcome is not None and outcome.started > 0 else None
    return TaskInfo(
        id=entry.id,
        name=task.name,
        state=entry.state.value,
        pilot=pilot.name if pilot is not None else None,
        host=worker.host if worker is not None else None,
        node=worker.node if worker is not None else None,
        gpus=tuple(worker.gpus.split()) if worker is not None else (),
        qpu=worker.qpu if worker is not None else None,
        worker=entry.worker,
        submitted=entry.submitted,
        bound=entry.bound or None,
        started=ran.started if ran is not None else None,
        finished=ran.started + ran.seconds if ran is not None else None,
        seconds=ran.seconds if ran is not None else None,
        attempts=entry.attempts,
        stdout=stdout or "",
        stderr=stderr or "",
    )
