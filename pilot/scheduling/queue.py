"""The unfinished tasks: those that wait for others, the queued ones, and how all of them end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from pilot.errors import ErrorCode
from pilot.resources import QPUEstimate, Terms
from pilot.results import AGAIN, CANCELLED, OK, RAISED, UNWRITTEN, Outcome, failure_of
from pilot.scheduling import events
from pilot.scheduling.checks import check_tasks
from pilot.scheduling.delays import Delays, has_retry, why_no_retry
from pilot.scheduling.dependents import Dependents
from pilot.scheduling.events import Command
from pilot.scheduling.index import Index
from pilot.scheduling.lanes import Lane, terms_of_lane
from pilot.scheduling.records import Change, Loss, TaskRecord
from pilot.states import TaskState

if TYPE_CHECKING:
    from pilot.scheduling.plans import Plan

#: A task whose worker died this often while it ran alone is taken to be the cause.
DEATHS_ALONE = 2
#: A task whose attempts were lost this often fails.
LOSSES = 10
#: Bits of a batch's number behind that of its manager in the session.
GENERATION_BITS = 32

_STATES = {OK: TaskState.DONE, CANCELLED: TaskState.CANCELLED}
_HELD = (TaskState.BOUND, TaskState.RUNNING)


class TaskQueue:
    """The unfinished tasks. Each waits for other tasks, is in a lane, waits for room for its result or for the time of
    its next attempt, or a pilot has it.

    Tasks that pilots are matched with by the same terms (`Terms.matched`) are in one lane, in order of submission
    unless the policy has an order of its own: also those that waited for other tasks, and those that come back since
    their attempt was lost. Tasks that raised and are tried again go to the end.
    """

    def __init__(self, index: Index) -> None:
        """Make it; ``index`` learns which lanes there are, and which task is the first of each."""
        #: All of them, by id.
        self.tasks: dict[int, TaskRecord] = {}
        self.lanes: dict[Terms, Lane] = {}
        #: Tasks whose results there was no room for, and how many bytes these have. Not in the lanes.
        self.without_room: dict[TaskRecord, int] = {}
        #: Tasks that raised and have a delay before they are tried again. Not in the lanes.
        self.delayed = Delays()
        #: Tasks that wait for the QPU that a policy has chosen for them, and its plan. Not in the lanes.
        self.planned: dict[TaskRecord, Plan] = {}
        #: A policy chooses QPUs by estimates: what is demanded of these is no matter of the lanes.
        self.has_planner = False
        self.closed = False
        #: As `events.Attached` says.
        self.firsts: tuple[int, ...] = (1,)
        self._dependents = Dependents()
        self._index = index

    # ---- tasks come and go ----------------------------------------------------------------------------------

    def submitted(self, event: events.TasksSubmitted, now: float, commands: list[Command]) -> None:
        """Take in new tasks."""
        if self.closed:  # while a user submits
            self._cancel_all(event.entries, commands)
            return
        tasks, terms = self.tasks, None
        run: list[TaskRecord] = []
        for record in event.entries:
            tasks[record.id] = record
            record.arrived = now
            if record.blockers:  # the tasks among its needs that are not finished
                record.state = TaskState.WAITING
                self._dependents.add(record)
                continue
            if record.terms is not terms:
                if run:
                    self._append(run, now)
                terms, run = record.terms, []
            run.append(record)
        if run:
            self._append(run, now)

    def tick(self, now: float) -> None:
        """Queue the tasks whose next attempt may begin."""
        for record in self.delayed.take(now):
            self._append([record], now)

    def _append(self, records: list[TaskRecord], now: float) -> None:
        """Tasks of equal terms that go to the end of their lane."""
        lane = self._lane(records[0].terms)
        lane.extend(records)
        lane.last_arrival = now
        self._index.moved(lane)

    def matched(self, terms: Terms) -> Terms:
        """The terms of the lane of tasks with these terms."""
        return terms_of_lane(terms, self.has_planner)

    def _lane(self, terms: Terms) -> Lane:
        """The lane of tasks with these terms, made when there is none."""
        terms = self.matched(terms)
        lane = self.lanes.get(terms)
        if lane is None:
            lane = self.lanes[terms] = Lane(terms)
            self._index.add(lane)
        return lane

    def lane_changed(self, lane: Lane) -> None:
        """Tasks were taken from a lane; an empty one is removed."""
        if lane:
            self._index.moved(lane)
        else:
            self._index.remove(lane)
            del self.lanes[lane.terms]

    def estimated(self, event: events.CircuitsEstimated, now: float, commands: list[Command]) -> None:
        """Keep what is expected of circuits; those with a least fidelity may fit other devices now."""
        for id, estimates in event.estimates.items():
            if (record := self.tasks.get(id)) is None:
                continue
            record.estimates = estimates
            if (terms := record.terms.expecting(estimates)) is not record.terms:
                self.change(record, terms)

    def change(self, record: TaskRecord, terms: Terms) -> None:
        """A task needs something else than before."""
        is_queued = record.state is TaskState.QUEUED and record not in self.without_room and record not in self.delayed
        if is_queued:
            self.remove([record.id])
        record.terms = terms
        if is_queued:
            self._insert(record)

    def started(self, event: events.TaskStarted, now: float, commands: list[Command]) -> None:
        """A task runs."""
        record = self.tasks.get(event.task)
        if record is not None and record.state is TaskState.BOUND and record.pilot == event.pilot:
            record.state = TaskState.RUNNING
            record.worker, record.began = event.worker, event.began

    def cancel(self, event: events.CancelAsked, now: float, commands: list[Command]) -> None:
        """Cancel tasks: those that no pilot has at once."""
        over: list[TaskRecord] = []
        sends: dict[str, list[int]] = {}
        for id in event.tasks:
            record = self.tasks.get(id)
            if record is None:
                continue
            if record.state is TaskState.RUNNING and not event.running:
                continue
            record.cancelling = True
            if record.state in _HELD:
                sends.setdefault(record.pilot or "", []).append(id)
                continue
            if record.state is TaskState.QUEUED and not self._is_outside(record):
                lane = self.lanes[self.matched(record.terms)]
                lane.remove((record,))
                self.lane_changed(lane)
            del self.tasks[id]
            over.append(record)
        if over:
            self._cancel_all(over, commands)
        commands.extend(events.SendCancel(pilot, tasks, event.running) for pilot, tasks in sends.items())

    def close(self, commands: list[Command], *, all_gone: bool) -> None:
        """Cancel the tasks that no pilot has, and those that come later. What pilots have ends by its outcome, or is
        cancelled when it is given back; ``all_gone``: at once, for there is no pilot any more."""
        self.closed = True
        unfinished = [record for record in self.tasks.values() if all_gone or record.state not in _HELD]
        self._index.clear()
        for plan in self.planned.values():
            plan.clear()
        for record in unfinished:
            del self.tasks[record.id]
        for record in self.tasks.values():
            record.cancelling = True
        self.lanes.clear()
        self.without_room.clear()
        self.delayed.clear()
        self.planned.clear()
        self._dependents = Dependents()
        self._cancel_all(unfinished, commands)

    def remove(self, tasks: Iterable[int]) -> None:
        """Remove these tasks from their lanes, if they are queued."""
        gone = {id for id in tasks if (record := self.tasks.get(id)) and record.state is TaskState.QUEUED}
        self.take_out([self.tasks[id] for id in gone])

    def take_out(self, records: Iterable[TaskRecord]) -> None:
        """Remove these tasks, which are queued, from their lanes."""
        by_lane: dict[Terms, list[TaskRecord]] = {}
        for record in records:
            if not self._is_outside(record):
                by_lane.setdefault(self.matched(record.terms), []).append(record)
        for terms, records in by_lane.items():
            self.lanes[terms].remove(records)
            self.lane_changed(self.lanes[terms])

    def _is_outside(self, record: TaskRecord) -> bool:
        """True for a queued task that was in no lane; where it was, it is no more."""
        if (plan := self.planned.pop(record, None)) is not None:
            plan.drop(record)
            return True
        return self.without_room.pop(record, None) is not None or self.delayed.remove(record)

    def fail_queued(self, failed: Sequence[TaskRecord], error: ErrorCode, reason: str, commands: list[Command]) -> None:
        """End queued tasks with an error of this class."""
        self.remove([record.id for record in failed])
        self.fail(failed, error, reason, commands)

    def reclaim(self, tasks: Iterable[int], pilot: str, batch: int) -> dict[int, TaskRecord]:
        """After an attach: a pilot's agent has these tasks; those of them that are unfinished, by id."""
        known = [id for id in tasks if id in self.tasks and not _is_other_task(self.firsts, id, batch)]
        self.remove(known)
        records = {id: self.tasks[id] for id in known}
        for record in records.values():
            record.state, record.pilot, record.batch = TaskState.BOUND, pilot, batch
        return records

    # ---- outcomes -------------------------------------------------------------------------------------------

    def take_outcomes(
        self, event: events.OutcomesArrived, pilot: str, is_sent: bool, now: float, commands: list[Command]
    ) -> list[tuple[TaskRecord, Outcome]]:
        """End tasks, or queue them again; returns the outcomes without those that were known. ``pilot``: its name;
        ``is_sent``: False when the batch was sent by a previous manager."""
        counted: list[tuple[TaskRecord, Outcome]] = []
        for outcome in event.outcomes:
            record = self.tasks.get(outcome.task)  # None: finished already, a result that was sent twice
            if record is not None and not _is_old(self.firsts, record, event.batch, outcome.status):
                counted.append((record, outcome))
        if not is_sent:
            self.remove(outcome.task for _, outcome in counted)
        pairs: list[tuple[TaskRecord, Outcome]] = []
        for record, outcome in counted:
            record.pilot, record.worker = event.pilot, event.worker
            if outcome.note:
                record.reason = f"{record.reason}; {outcome.note}"
            if record.moving and outcome.status == CANCELLED and not record.cancelling:
                record.moving = False
                self._insert(record)
                continue
            if outcome.status in AGAIN:
                if self._runs_again(record, outcome, pilot, event.batch, commands):
                    continue
                # again and again, or it was cancelled; a retry is no help
                outcome = msgspec.structs.replace(outcome, status=CANCELLED if record.cancelling else RAISED)
            elif outcome.status == RAISED and self.closed and has_retry(record, outcome):
                outcome = msgspec.structs.replace(outcome, status=CANCELLED, value=None)  # it would have another try
            elif outcome.status == RAISED and not record.cancelling and has_retry(record, outcome):
                record.retries += 1
                commands.append(_attempt(record, outcome, pilot, "it raised", event.batch, Change.RETRY))
                record.state, record.batch = TaskState.QUEUED, 0
                if not self.delayed.add(record, now):
                    self._append([record], now)
                continue
            elif outcome.status == RAISED and (why := why_no_retry(record, outcome)):
                record.reason = f"{record.reason}; {why}"
            del self.tasks[outcome.task]
            pairs.append((record, outcome))
        if pairs:
            self._settle(pairs, commands)
        return counted

    def _runs_again(
        self, record: TaskRecord, outcome: Outcome, pilot: str, batch: int, commands: list[Command]
    ) -> bool:
        """There was no room for its result, its QPU takes no jobs now, or is not good enough now: that is not the
        task's error. It is queued again, when there is room or now. False when this happened too often, or it is to be
        cancelled."""
        failure = failure_of(outcome)
        record.losses += not _expects(record, failure.offer)
        if record.cancelling or record.losses >= LOSSES:
            return False
        commands.append(_attempt(record, outcome, pilot, failure.message, batch))
        record.state, record.batch, record.bound = TaskState.QUEUED, 0, 0.0
        if outcome.status == UNWRITTEN:
            self.without_room[record] = failure.size
        else:
            self._insert(record)
        return True

    def room_seen(self, event: events.RoomSeen, now: float, commands: list[Command]) -> None:
        """The tasks that waited for room are queued again."""
        for record in self.without_room:
            self._insert(record)
        self.without_room.clear()

    def lose(
        self,
        lost: Sequence[TaskRecord],
        pilot: str,
        batch: int,
        reason: str,
        loss: Loss,
        commands: list[Command],
        error: ErrorCode = ErrorCode.WORKER_DIED,
    ) -> None:
        """Attempts ended without outcome: the tasks go back to their lanes, or end here.

        Each task of a dead worker may be the cause: these tasks run alone next, each in a worker without other work,
        which shows which task kills workers.

        Args:
            lost: the tasks of one batch, in the order in which they were queued.
            pilot: the pilot's name.
            error: of a task that is lost too often.
        """
        cancelled, failed = [], []
        for record in reversed(lost):
            if record.id not in self.tasks or record.batch != batch:
                continue  # it ended, or runs, elsewhere in the meantime
            if record.cancelling:
                cancelled.append(record)
                del self.tasks[record.id]
                continue
            if loss is not Loss.NOT_BEGUN:
                began = record.began if record.state is TaskState.RUNNING else None
                commands.append(events.RecordAttempt(record, pilot, reason, batch, started=began))
                record.losses += loss is not Loss.FREE
            if loss is Loss.BLAMED:
                record.deaths += record.runs_alone
                record.runs_alone = True
            if record.deaths >= DEATHS_ALONE or record.losses >= LOSSES:
                failed.append(record)
                continue
            record.bound = 0.0
            self._insert(record)
        if cancelled:
            self._cancel_all(cancelled, commands)
        if failed:
            self.fail(failed, error, reason, commands)

    # ---- ends -----------------------------------------------------------------------------------------------

    def fail(self, failed: Sequence[TaskRecord], error: ErrorCode, reason: str, commands: list[Command]) -> None:
        """End tasks with an error of this class, and with them all that depend on them. They are in no lane."""
        for record in failed:
            self.tasks.pop(record.id, None)
            record.state = TaskState.FAILED
            record.values = None
        commands.append(events.Fail(list(failed), error, reason))
        self._fail_dependents(failed, commands)

    def _cancel_all(self, cancelled: Sequence[TaskRecord], commands: list[Command]) -> None:
        self._settle([(record, Outcome(record.id, CANCELLED, 0.0, 0.0)) for record in cancelled], commands)

    def _settle(self, pairs: list[tuple[TaskRecord, Outcome]], commands: list[Command]) -> None:
        for record, outcome in pairs:
            record.state = _STATES.get(outcome.status, TaskState.FAILED)
            record.values = None
        commands.append(events.Settle(pairs))
        if not self._dependents.by_blocker:
            return
        for record, outcome in pairs:
            if outcome.status == OK and record.id in self._dependents.by_blocker:
                for dependent in self._dependents.release(record, outcome):
                    self._insert(dependent)
        self._fail_dependents([record for record, outcome in pairs if outcome.status != OK], commands)

    def _fail_dependents(self, ended: Sequence[TaskRecord], commands: list[Command]) -> None:
        if failed := self._dependents.fail(ended):
            for link in failed:
                self.tasks.pop(link.entry.id, None)
            commands.append(events.FailDependents(failed))

    def _insert(self, record: TaskRecord) -> None:
        """A task is queued again, or waits for no others any more: it has its place by its id."""
        record.state, record.batch = TaskState.QUEUED, 0
        lane = self._lane(record.terms)
        lane.insert(record)
        self._index.moved(lane)

    # ---- checks ---------------------------------------------------------------------------------------------

    def validate(self, held: Mapping[int, tuple[str, int]]) -> None:
        """Raise AssertionError unless each task is in exactly one place; ``held``: task → its pilot and batch."""
        outside = [*self.without_room, *self.planned, *self.delayed]
        check_tasks(self.tasks, self.lanes, self.matched, outside, self._dependents.by_blocker, held)


def _attempt(
    record: TaskRecord, outcome: Outcome, pilot: str, reason: str, batch: int, change: Change = Change.OTHER
) -> Command:
    """An attempt that ended with an outcome which does not count."""
    ran = (outcome.started, outcome.started + outcome.seconds) if outcome.started else (None, None)
    return events.RecordAttempt(record, pilot, reason, batch, change, *ran)


def _expects(record: TaskRecord, offer: QPUEstimate | None) -> bool:
    """A QPU has estimated the circuit of a task itself, by its calibration of now; None: it has not. True where the
    task may go elsewhere for that."""
    if offer is None:
        return False
    known = {one.qpu: one for one in record.estimates}
    before = known.get(offer.qpu, offer)
    known[offer.qpu] = msgspec.structs.replace(
        before, fidelity=offer.fidelity, fidelity_spread=offer.fidelity_spread, calibrated=offer.calibrated
    )
    record.estimates = tuple(known.values())
    terms = record.terms.expecting(record.estimates)
    record.terms, is_new = terms, terms is not record.terms
    return is_new


def _is_other_task(firsts: Sequence[int], task: int, batch: int) -> bool:
    """True when a previous manager gave this id to another task, which never came into the journal.

    Args:
        firsts: as `events.Attached` says.
        task: its id.
        batch: the batch in which a pilot has it.
    """
    following = (batch >> GENERATION_BITS) + 1
    return following < len(firsts) and task >= firsts[following]


def _is_old(firsts: Sequence[int], record: TaskRecord, batch: int, status: int) -> bool:
    """True when an outcome is of an earlier attempt."""
    if record.batch == batch:
        return False
    if _is_other_task(firsts, record.id, batch):
        return True
    if status == OK:  # a result is right, though the attempt counts as lost
        return False
    return record.batch != 0 or any(attempt.batch == batch for attempt in record.attempts)
