"""The unfinished tasks: those that wait for others, the queued ones, and how all of them end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

import msgspec

from pilot.errors import ErrorCode
from pilot.resources import Capacity, Terms
from pilot.results import CANCELLED, OK, RAISED, UNWRITTEN, Outcome, unwritten
from pilot.scheduling import events
from pilot.scheduling.events import Command
from pilot.scheduling.fitting import unservable
from pilot.scheduling.records import Change, TaskRecord
from pilot.states import TaskState

#: A task whose worker died this often while it ran alone is taken to be the cause.
DEATHS_ALONE = 2
#: A task whose attempts were lost this often fails.
LOSSES = 10
#: Bits of a batch's number behind that of its manager in the session.
GENERATION_BITS = 32

_STATES = {OK: TaskState.DONE, CANCELLED: TaskState.CANCELLED}
_ENDED = {TaskState.FAILED: "failed", TaskState.CANCELLED: "was cancelled"}
_HELD = (TaskState.BOUND, TaskState.RUNNING)


class Loss(Enum):
    """What the end of an attempt without outcome means for its task."""

    BLAMED = "its worker died, and it may be the cause"
    COUNTED = "it counts as one of the losses that a task may have"
    FREE = "it is recorded, and does not count"
    NOT_BEGUN = "it was given back before it had begun"


class TaskQueue:
    """The unfinished tasks. Each waits for other tasks, is in a lane, waits for room for its result, or a pilot has it.

    Tasks with equal `Terms` are in one lane, in order of submission unless the policy has an order of its own. Tasks
    that come back, since their attempt was lost, go to the front.
    """

    def __init__(self, wait_for_pilot: float | None) -> None:
        """Make it.

        Args:
            wait_for_pilot: seconds that queued tasks wait for another pilot when none can run them any more, before
                they fail; None: for ever.
        """
        self.wait_for_pilot = wait_for_pilot
        #: All of them, by id.
        self.tasks: dict[int, TaskRecord] = {}
        self.lanes: dict[Terms, deque[TaskRecord]] = {}
        #: When the last task for QPUs came, by lane.
        self.last_arrivals: dict[Terms, float] = {}
        #: Since when no pilot can run the tasks of these lanes.
        self.unservable_since: dict[Terms, float] = {}
        #: Tasks whose results there was no room for, and how many bytes these have. Not in the lanes.
        self.without_room: dict[TaskRecord, int] = {}
        self.closed = False
        #: As `events.Attached` says.
        self.firsts: tuple[int, ...] = (1,)
        self._dependents = _Dependents()

    # ---- tasks come and go ----------------------------------------------------------------------------------

    def submitted(self, event: events.TasksSubmitted, now: float, commands: list[Command]) -> None:
        """Take in new tasks."""
        if self.closed:  # while a user submits
            self._cancel_all(event.entries, commands)
            return
        tasks, lanes = self.tasks, self.lanes
        terms, lane = None, None
        for record in event.entries:
            tasks[record.id] = record
            record.arrived = now
            if record.blockers:  # the tasks among its needs that are not finished
                record.state = TaskState.WAITING
                self._dependents.add(record)
                continue
            if record.terms is not terms:
                terms = record.terms
                lane = lanes.get(terms)
                if lane is None:
                    lane = lanes[terms] = deque()
                if terms.resources.qpu:
                    self.last_arrivals[terms] = now
            lane.append(record)  # type: ignore[union-attr]

    def estimated(self, event: events.CircuitsEstimated, now: float, commands: list[Command]) -> None:
        """Keep what is expected of circuits, for the policy."""
        for id, estimates in event.estimates.items():
            if (record := self.tasks.get(id)) is not None:
                record.estimates = estimates

    def started(self, event: events.TaskStarted, now: float, commands: list[Command]) -> None:
        """A task runs."""
        record = self.tasks.get(event.task)
        if record is not None and record.state is TaskState.BOUND and record.pilot == event.pilot:
            record.state = TaskState.RUNNING
            record.worker = event.worker

    def cancel(self, event: events.CancelAsked, now: float, commands: list[Command]) -> None:
        """Cancel tasks: those that no pilot has at once."""
        over: list[TaskRecord] = []
        sends: dict[str, list[int]] = {}
        for id in event.tasks:
            record = self.tasks.get(id)
            if record is None:
                continue
            record.cancelling = True
            if record.state in _HELD:
                sends.setdefault(record.pilot or "", []).append(id)
                continue
            if record.state is TaskState.QUEUED and self.without_room.pop(record, None) is None:
                self.lanes[record.terms].remove(record)
                self._drop_empty(record.terms)
            del self.tasks[id]
            over.append(record)
        if over:
            self._cancel_all(over, commands)
        commands.extend(events.SendCancel(pilot, tasks) for pilot, tasks in sends.items())

    def close(self, commands: list[Command]) -> None:
        """Cancel all tasks, and those that come later."""
        self.closed = True
        unfinished = list(self.tasks.values())
        for each in (self.tasks, self.lanes, self.last_arrivals, self.unservable_since, self.without_room):
            each.clear()
        self._dependents = _Dependents()
        self._cancel_all(unfinished, commands)

    def remove(self, tasks: Iterable[int]) -> None:
        """Remove these tasks from their lanes, if they are queued."""
        gone = {id for id in tasks if (record := self.tasks.get(id)) and record.state is TaskState.QUEUED}
        for id in gone:
            self.without_room.pop(self.tasks[id], None)
        for terms in {self.tasks[id].terms for id in gone} & self.lanes.keys():
            self.lanes[terms] = deque(record for record in self.lanes[terms] if record.id not in gone)
            self._drop_empty(terms)

    def _drop_empty(self, terms: Terms) -> None:
        if not self.lanes[terms]:
            del self.lanes[terms]
            self.last_arrivals.pop(terms, None)

    def reclaim(self, tasks: Iterable[int], pilot: str, batch: int) -> dict[int, TaskRecord]:
        """After an attach: a pilot's agent has these tasks; those of them that are unfinished, by id."""
        known = [id for id in tasks if id in self.tasks and not self._is_other_task(id, batch)]
        self.remove(known)
        records = {id: self.tasks[id] for id in known}
        for record in records.values():
            record.state, record.pilot, record.batch = TaskState.BOUND, pilot, batch
        return records

    # ---- outcomes -------------------------------------------------------------------------------------------

    def take_outcomes(
        self, event: events.OutcomesArrived, pilot: str, is_sent: bool, commands: list[Command]
    ) -> list[tuple[TaskRecord, Outcome]]:
        """End tasks, or queue them again; returns the outcomes without those that were known. ``pilot``: its name;
        ``is_sent``: False when the batch was sent by a previous manager."""
        counted: list[tuple[TaskRecord, Outcome]] = []
        for outcome in event.outcomes:
            record = self.tasks.get(outcome.task)  # None: finished already, a result that was sent twice
            if record is not None and not self._is_old(record, event.batch, outcome.status):
                counted.append((record, outcome))
        if not is_sent:
            self.remove(outcome.task for _, outcome in counted)
        pairs: list[tuple[TaskRecord, Outcome]] = []
        for record, outcome in counted:
            record.pilot, record.worker = event.pilot, event.worker
            if outcome.status == UNWRITTEN and self._waits_for_room(record, outcome, pilot, event.batch, commands):
                continue
            if outcome.status == UNWRITTEN:  # again and again, or it was cancelled meanwhile; a retry is no help
                outcome = msgspec.structs.replace(outcome, status=CANCELLED if record.cancelling else RAISED)
            elif outcome.status == RAISED and record.retries < record.terms.retries and not record.cancelling:
                record.retries += 1
                commands.append(events.RecordAttempt(record, pilot, "it raised", event.batch, Change.RETRY))
                self._enqueue(record)
                continue
            del self.tasks[outcome.task]
            pairs.append((record, outcome))
        if pairs:
            self._settle(pairs, commands)
        return counted

    def _is_old(self, record: TaskRecord, batch: int, status: int) -> bool:
        """True when an outcome is of an earlier attempt."""
        if record.batch == batch:
            return False
        if self._is_other_task(record.id, batch):
            return True
        if status == OK:  # a result is right, though the attempt counts as lost
            return False
        return record.batch != 0 or any(attempt.batch == batch for attempt in record.attempts)

    def _is_other_task(self, task: int, batch: int) -> bool:
        """True when a previous manager gave this id to another task, which never came into the journal."""
        following = (batch >> GENERATION_BITS) + 1
        return following < len(self.firsts) and task >= self.firsts[following]

    def _waits_for_room(
        self, record: TaskRecord, outcome: Outcome, pilot: str, batch: int, commands: list[Command]
    ) -> bool:
        """Its result could not be written, which is not the task's error: it runs again when there is room. False when
        this happened too often, or it is to be cancelled."""
        record.losses += 1
        if record.cancelling or record.losses >= LOSSES:
            return False
        reason, size = unwritten(outcome)
        commands.append(events.RecordAttempt(record, pilot, reason, batch))
        record.state, record.batch, record.bound = TaskState.QUEUED, 0, 0.0
        self.without_room[record] = size
        return True

    def room_seen(self, event: events.RoomSeen, now: float, commands: list[Command]) -> None:
        """The tasks that waited for room are queued again."""
        for record in reversed(self.without_room):
            self.lanes.setdefault(record.terms, deque()).appendleft(record)
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
        """Attempts ended without outcome: the tasks go back to the front of their lanes, or end here.

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
                commands.append(events.RecordAttempt(record, pilot, reason, batch))
                record.losses += loss is not Loss.FREE
            if loss is Loss.BLAMED:
                record.deaths += record.runs_alone
                record.runs_alone = True
            if record.deaths >= DEATHS_ALONE or record.losses >= LOSSES:
                failed.append(record)
                continue
            record.state, record.batch, record.bound = TaskState.QUEUED, 0, 0.0
            self.lanes.setdefault(record.terms, deque()).appendleft(record)
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

    def fail_unservable(self, capacities: Sequence[Capacity], now: float, commands: list[Command]) -> None:
        """Tasks that none of these pilots can run wait for another one, and fail when none comes in time."""
        before, self.unservable_since = self.unservable_since, {}
        wait, waiting, why = self.wait_for_pilot, 0, ""
        for terms in list(self.lanes):
            lane = self.lanes[terms]
            reason = unservable(terms, capacities) if lane else None
            if reason is None:
                continue
            since = before.get(terms, now)
            if wait is not None and now - since >= wait:
                del self.lanes[terms]
                waited = f"; no other pilot came within {wait:g} s" if wait else ""
                self.fail(lane, ErrorCode.NO_PILOT, reason + waited, commands)
                continue
            self.unservable_since[terms] = since
            waiting, why = waiting + len(lane), why or reason
        if waiting and not before:
            commands.append(events.WarnUnservable(waiting, why, wait))

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
                    self._enqueue(dependent)
        self._fail_dependents([record for record, outcome in pairs if outcome.status != OK], commands)

    def _fail_dependents(self, ended: Sequence[TaskRecord], commands: list[Command]) -> None:
        if failed := self._dependents.fail(ended):
            for link in failed:
                self.tasks.pop(link.entry.id, None)
            commands.append(events.FailDependents(failed))

    def _enqueue(self, record: TaskRecord) -> None:
        record.state, record.batch = TaskState.QUEUED, 0
        self.lanes.setdefault(record.terms, deque()).append(record)

    # ---- checks ---------------------------------------------------------------------------------------------

    def validate(self, held: Mapping[int, tuple[str, int]]) -> None:
        """Raise AssertionError unless each task is in exactly one place.

        Args:
            held: task → the pilot and the batch that it is in, of all batches.
        """
        queued = [record for lane in self.lanes.values() for record in lane] + list(self.without_room)
        ids = {record.id for record in queued}
        waiting = self._dependents.by_blocker
        known = {(blocker, record.id) for blocker, records in waiting.items() for record in records}
        assert len(ids) == len(queued), "a task is queued twice"
        for record in queued:
            assert self.tasks.get(record.id) is record, f"task {record.id} is queued and over"
            assert record.state is TaskState.QUEUED, f"task {record.id} is queued and {record.state.value}"
        for terms, lane in self.lanes.items():
            assert all(record.terms == terms for record in lane), f"a lane has tasks of other terms: {terms}"
        for id, record in self.tasks.items():
            what = f"task {id} ({record.state.value})"
            assert (id in ids) == (record.state is TaskState.QUEUED), f"{what} is in no lane"
            if record.state in _HELD:
                assert held.get(id) == (record.pilot, record.batch), f"{what} is in {held.get(id)}, not its batch"
            else:
                assert id not in held, f"{what} is in the batch {held[id]}"
            if record.state is TaskState.WAITING:
                assert record.blockers, f"{what} waits for nothing"
                for blocker in record.blockers:
                    assert (blocker, id) in known, f"{what} is not known to wait for {blocker}"
        over = waiting.keys() - self.tasks.keys()
        assert not over, f"tasks are known to wait for {over}, which are over"


class _Dependents:
    """Tasks that wait for others."""

    def __init__(self) -> None:
        #: Id of a task → those that wait for it.
        self.by_blocker: dict[int, list[TaskRecord]] = {}

    def add(self, record: TaskRecord) -> None:
        """A task waits for its blockers."""
        for id in record.blockers or ():
            self.by_blocker.setdefault(id, []).append(record)

    def release(self, record: TaskRecord, outcome: Outcome) -> list[TaskRecord]:
        """A task is done: those that wait for nothing more."""
        released = []
        for dependent in self.by_blocker.pop(record.id):
            if dependent.state is TaskState.WAITING:
                assert dependent.blockers is not None
                dependent.take_value(record.id, outcome.value)
                dependent.blockers.discard(record.id)
                if not dependent.blockers:
                    released.append(dependent)
        return released

    def fail(self, ended: Sequence[TaskRecord]) -> list[events.Link]:
        """All that waits for these tasks fails with them, the nearest first; a loop, for chains may be long."""
        failed: list[events.Link] = []
        open = deque((record, record.id, 1) for record in ended)
        while open:
            record, first, links = open.popleft()
            if (dependents := self.by_blocker.pop(record.id, None)) is None:
                continue
            reason = f"it depends on task {record.id} ({record.title}), which {_ENDED[record.state]}"
            for dependent in dependents:
                if dependent.state is TaskState.WAITING:
                    dependent.state = TaskState.FAILED
                    dependent.values = dependent.blockers = None
                    failed.append(events.Link(dependent, reason, record.id, first, links))
                    open.append((dependent, first, links + 1))
        return failed
