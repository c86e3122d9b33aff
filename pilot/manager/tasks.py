"""Tasks on the manager's side: new ones are recorded and their dependencies looked up, and they are ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from pilot.errors import ErrorCode
from pilot.manager.handles import Failed, first_cause, outcome_of
from pilot.manager.journal import AttemptRow, ResultRow, TaskRow, TermsRow, pack
from pilot.manager.log_lines import LogLines
from pilot.manager.state import SessionState
from pilot.resources import Terms
from pilot.results import CANCELLED, OK, Attempt, Spooled
from pilot.scheduling import events
from pilot.scheduling.records import TaskRecord
from pilot.states import TaskState

log = logging.getLogger(__name__)

_STATES = {OK: "done", CANCELLED: "cancelled"}
#: Different `Terms` whose ids are known, at most.
MOST_TERMS = 10_000
_encode = msgspec.msgpack.Encoder().encode


def _failed(link: events.Link) -> Failed:
    return Failed(ErrorCode.DEPENDENCY_FAILED, link.reason, link.cause, link.first, link.links)


def _failed_row(entry: TaskRecord, failed: Failed) -> ResultRow:
    row = ResultRow(entry.id, "failed", None, entry.pilot, entry.worker, entry.bound)
    code, reason, cause, first, links = failed
    return msgspec.structs.replace(row, error=int(code), reason=reason, cause=cause, first=first, links=links)


class TaskRecorder:
    """Writes tasks into the journal as they come and as they end. For the manager's thread."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._journal = state.journal
        #: Ids of the `Terms` in the journal.
        self._terms: dict[Terms, int] = {}
        self._last_terms = 0
        self._lines = LogLines(log)

    def take_over(self, terms: Mapping[int, Terms]) -> None:
        """Use the ids of the manager before, and others for what is new."""
        self._terms = {one: id for id, one in terms.items()}
        self._last_terms = max(terms, default=0)

    def record(self, entries: list[TaskRecord]) -> None:
        """Record new tasks."""
        self._record(entries)
        self._journal.mark(partial(self._state.backlog.reached, entries[-1].id))
        self._state.observers.submitted(entries)
        dependents = self._state.dependents
        for entry in entries:
            for id in entry.needs or ():
                dependents[id] = dependents.get(id, 0) + 1

    def resolve(self, entries: list[TaskRecord]) -> list[TaskRecord]:
        """Look up what recorded tasks depend on. Those that need a task that has failed end here; the others are
        returned."""
        new: list[TaskRecord] = []
        failed: list[events.Link] = []
        for entry in entries:
            if entry.needs and (link := self._resolve(entry)) is not None:
                self._state.end_task(entry, None, _failed(link))  # now, for those behind it may depend on it
                failed.append(link)
            else:
                new.append(entry)
        if failed:
            self._record_dependents(failed)
        return new

    def _resolve(self, entry: TaskRecord) -> events.Link | None:
        """Look up the tasks that a new one needs; how it fails when one of them did."""
        for id, reference in (entry.needs or {}).items():
            task = self._state.tasks.get(id)
            if task is None:
                entry.state = TaskState.FAILED
                return events.Link(entry, f"it depends on task {id}, which was forgotten", id, id, 1)
            outcome = outcome_of(task)
            if not task.done():
                entry.blockers = entry.blockers or set()
                entry.blockers.add(id)
            elif outcome is None or outcome.status != OK:
                entry.state = TaskState.FAILED
                how = "was cancelled" if task.cancelled() else "failed"
                reason = f"it depends on task {id} ({task.name}), which {how} before"
                return events.Link(entry, reason, id, *first_cause(task))
            elif reference:
                entry.take_value(id, self._state.value(outcome))
        return None

    def settle(self, command: events.Settle) -> None:
        """End tasks with their outcomes."""
        rows, spent = [], list[str]()
        for entry, outcome in command.pairs:
            if outcome.status == OK and isinstance(entry.payload, Spooled):
                spent += entry.payload.files
            self._state.end_task(entry, outcome, None)
            rows.append(
                ResultRow(
                    entry.id,
                    _STATES.get(outcome.status, "failed"),
                    outcome.status,
                    entry.pilot,
                    entry.worker,
                    entry.bound,
                    outcome.started,
                    outcome.seconds,
                    pack(outcome.value),
                    outcome.stdout,
                    outcome.stderr,
                )
            )
        self._journal.extend(rows)
        self._mark_recorded([row.task for row in rows])
        self._state.observers.ended(command.pairs)
        if spent:  # not before the results are safe: until then the tasks may have to run again
            self._journal.mark(partial(self._state.files.release, spent))

    def fail(self, command: events.Fail) -> None:
        """End tasks with an error."""
        self._lines.warn(len(command.entries), f": {command.error.name}: {command.reason}")
        failed = Failed(command.error, command.reason)
        # some have ended when this command stands for one that could not be carried out to its end
        entries = [entry for entry in command.entries if not self._state.tasks[entry.id].done()]
        for entry in entries:
            self._state.end_task(entry, None, failed)
        self._journal.extend([_failed_row(entry, failed) for entry in entries])
        self._mark_recorded([entry.id for entry in entries])
        self._state.observers.failed(entries)

    def fail_dependents(self, command: events.FailDependents) -> None:
        """End tasks with those that they depend on."""
        for link in command.failed:
            self._state.end_task(link.entry, None, _failed(link))
        self._record_dependents(command.failed)

    def _record_dependents(self, failed: Sequence[events.Link]) -> None:
        self._lines.warn(len(failed), f" with what they depend on: {failed[0].reason}")
        self._journal.extend([_failed_row(link.entry, _failed(link)) for link in failed])
        self._mark_recorded([link.entry.id for link in failed])
        self._state.observers.failed([link.entry for link in failed])

    def _mark_recorded(self, tasks: list[int]) -> None:
        """When the rows of now are on disk, the ends of these tasks are."""
        self._journal.mark(partial(self._state.tasks.recorded, tasks))

    def record_attempt(self, command: events.RecordAttempt) -> None:
        """An attempt did not count."""
        entry = command.entry
        number = len(entry.attempts) + 1
        attempt = Attempt(
            number=number,
            pilot=command.pilot,
            worker=entry.worker or "",
            reason=command.reason,
            ended=command.ended or time.time(),
            batch=command.batch,
            started=command.started,
        )
        entry.attempts = (*entry.attempts, attempt)
        self._state.observers.attempt_ended(entry, attempt)
        if self._state.children is not None:
            self._state.children.attempt_ended(entry.id)
        self._journal.put(
            AttemptRow(
                entry.id,
                number,
                attempt.pilot,
                attempt.worker,
                attempt.reason,
                attempt.ended,
                attempt.batch,
                int(command.change),
                attempt.started,
            )
        )

    def _record(self, entries: list[TaskRecord]) -> None:
        rows = []
        for entry in entries:
            terms = self._terms.get(entry.terms)
            if terms is None:
                if len(self._terms) >= MOST_TERMS:
                    self._terms.clear()
                self._last_terms += 1
                terms = self._terms[entry.terms] = self._last_terms
                self._journal.put(TermsRow(terms, _encode(entry.terms)))
            needs = _encode(entry.needs) if entry.needs else None
            payload = pack(entry.payload)
            rows.append(TaskRow(entry.id, entry.function.id, payload, terms, entry.name, entry.submitted, needs))
        self._journal.extend(rows)
