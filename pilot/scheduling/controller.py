"""Decides: events in, commands out. No clock, no thread, no I/O; the time comes with each event.

Tasks with equal `Terms` queue in one *lane*, in order of submission. A batch is cut off the front of a lane only when
a pilot has *credit* for it (late binding), so a slow or late pilot never hoards tasks. How many tasks make a batch
follows from the measured time of each function; the pilot is the policy's choice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import count, islice
from typing import Any

import msgspec

from pilot.interfaces import JobState, Policy
from pilot.resources import Capacity, Terms
from pilot.results import CANCELLED, OK, RAISED, UNWRITTEN, Outcome, unwritten
from pilot.scheduling import events
from pilot.scheduling.fitting import concrete, described, misfit, unservable
from pilot.scheduling.placing import Placement
from pilot.scheduling.records import NEWEST, Entry, Function, PilotLedger, Sent
from pilot.scheduling.scalers import FAILED_STARTS, Autoscaler, Demand, Member, Scaling
from pilot.states import PilotState, TaskState, advance, is_final

#: A task whose worker died this often while it ran alone is held to be the cause.
DEATHS_ALONE = 2
#: A task whose attempts were lost this often, for whatever reason, fails.
LOSSES = 10
#: Seconds that an attached manager waits for agents of before.
REJOIN_SECONDS = 30.0
#: Bits of a batch's number behind that of its manager in the session.
GENERATION_BITS = 32
#: Reason of an attempt that counts as one of the user's retries.
RAISED_REASON = "it raised"
#: Seconds between two looks at what an autoscaler should do, and how many tasks of each lane it looks at.
SCALING_SECONDS = 1.0
SCALING_SAMPLE = 32
#: Resource managers announce a job's end by so many seconds too early.
EARLY_SECONDS = 60.0
#: A pilot whose job the site took away is started again so often at no cost.
TIMES_TAKEN = 20
#: How the reasons begin why a pilot is queued again; an attach counts them.
STARTED_AGAIN, TAKEN_AWAY = "started again: ", "asked for again, the site took it: "
#: Reasons of pilots that end as their walltime does, and of the attempts that end with them.
WALLTIME_OVER = "its walltime is over"
ATTEMPT_OVER = "the pilot's walltime was over"

_UP = (PilotState.ACTIVE, PilotState.DRAINING)
_ENDED = {TaskState.FAILED: "failed", TaskState.CANCELLED: "was cancelled"}


class _Scaler:
    """An autoscaler, and what a pilot of its template has."""

    def __init__(self, id: str, scaling: Scaling, memory: int, devices: tuple[str, ...]) -> None:
        self.id = id
        self.decider = Autoscaler(scaling)
        name = scaling.description.name
        names = (name,) if name else ()
        self.ancestors = names
        self.template = described(scaling.description, memory, names, f"another {name or 'pilot'}", devices)


class Controller:
    """The state of all pilots and unfinished tasks, and what to do next."""

    def __init__(self, policy: Policy, wait_for_pilot: float | None = 0.0) -> None:
        """Make it.

        Args:
            policy: which of the pilots with room gets a task.
            wait_for_pilot: seconds that queued tasks wait for another pilot when none can serve them any more, before
                they fail; None: for ever.
        """
        self._wait_for_pilot = wait_for_pilot
        #: Since when no pilot can serve the tasks of these lanes.
        self._stranded: dict[Terms, float] = {}
        self._placement = Placement(policy)
        self.pilots: dict[str, PilotLedger] = {}
        #: Unfinished tasks by id.
        self.entries: dict[int, Entry] = {}
        self._lanes: dict[Terms, deque[Entry]] = {}
        self._dependents: dict[int, list[Entry]] = {}
        #: Tasks whose results there was no room for, by id; and how many bytes the largest one has. Not in the lanes.
        self._aside: dict[int, Entry] = {}
        self.lacks_room = 0
        self._hold_until: float | None = None
        #: Until then tasks that no pilot can serve do not fail: a pilot may be asked for.
        self._patient_until = float("-inf")
        #: Pilots that were asked for and are not among the pilots yet, and what they will have.
        self._coming: list[tuple[events.AskPilot, Capacity]] = []
        self._scalers: dict[str, _Scaler] = {}
        self._is_closed = False
        self._next_scaling = float("-inf")
        #: As `Attached` says. The number of a batch begins with that of its manager, from 0 on, in the session.
        self._firsts: tuple[int, ...] = (1,)
        self._handlers = {
            events.PilotAsked: self._pilot_asked,
            events.AgentJoined: self._agent_joined,
            events.PilotReady: self._pilot_ready,
            events.PilotExpiring: self._pilot_expiring,
            events.JobSeen: self._job_seen,
            events.ScalingAsked: self._scaling_asked,
            events.ScalingStopAsked: self._scaling_stop_asked,
            events.Attached: self._attached,
            events.TasksSubmitted: self._tasks_submitted,
            events.OutcomesArrived: self._outcomes_arrived,
            events.TaskStarted: self._task_started,
            events.AttemptsLost: self._attempts_lost,
            events.RoomSeen: self._room_seen,
            events.CancelAsked: self._cancel_asked,
            events.PilotStopAsked: self._pilot_stop_asked,
            events.PilotEnded: self._pilot_ended,
            events.Closed: self._closed,
        }

    def handle(
        self, event: events.Event, now: float, commands: list[events.Command] | None = None
    ) -> list[events.Command]:
        """Take in one event.

        Args:
            event: what happened.
            now: seconds by a clock that never steps.
            commands: where the commands go; what was decided before an error is there then.

        Returns:
            What to do, in order.
        """
        commands = [] if commands is None else commands
        self._handlers[type(event)](event, now, commands)  # type: ignore[operator]
        self._assign(now, commands)
        return commands

    def tick(self, now: float) -> list[events.Command]:
        """Call this now and then: time alone changes what can be placed."""
        commands: list[Any] = []
        for pilot in self.pilots.values():
            if pilot.ends_at is not None and pilot.state in _UP:
                self._watch_walltime(pilot, now, commands)
            elif pilot.report_by is not None and now >= pilot.report_by:
                self._give_up(pilot, now, commands)
        self._scale(now, commands)
        self._fail_hopeless(now, commands)
        self._assign(now, commands)
        return commands

    # ---- pilots ---------------------------------------------------------------------------------------------

    def _pilot_asked(self, event: events.PilotAsked, now: float, commands: list[Any]) -> None:
        pilot = PilotLedger(event.id, event.description, event.memory, event.ancestors, now, event.devices)
        self.pilots[event.id] = pilot
        pilot.scaler, pilot.succeeded, pilot.drains_then = event.scaler, event.succeeded, event.draining
        pilot.restarts = max(0, pilot.restarts - event.started_again)
        pilot.taken = event.taken
        for one in self._coming:
            if (one[0].parent, one[0].scaler, one[0].description) == (event.parent, event.scaler, event.description):
                self._coming.remove(one)
                break
        if self._is_closed:
            self._change(pilot, PilotState.DONE, "the manager was closed", commands)
        elif event.scaler is not None and event.scaler not in self._scalers:
            self._change(pilot, PilotState.DONE, "its autoscaler was stopped", commands)
        elif event.rejoins:
            pilot.state = PilotState.QUEUED
            if event.reported:  # else it cannot have any task
                pilot.rejoins = True
                self._hold_until = now + REJOIN_SECONDS
            if not event.job_known:
                pilot.report_by = now + REJOIN_SECONDS
        else:
            commands.append(events.StartPilot(pilot.id))
            self._change(pilot, PilotState.QUEUED, "submitted", commands)

    def _agent_joined(self, event: events.AgentJoined, now: float, commands: list[Any]) -> None:
        pilot = self.pilots[event.pilot]
        pilot.report_by = None
        if pilot.state is PilotState.QUEUED:
            self._change(pilot, PilotState.STARTING, "the agent has reported", commands)

    def _job_seen(self, event: events.JobSeen, now: float, commands: list[Any]) -> None:
        self.pilots[event.pilot].words = event.words

    def _attached(self, event: events.Attached, now: float, commands: list[Any]) -> None:
        self._patient_until = now + REJOIN_SECONDS
        self._firsts = event.firsts
        self._placement.batch = (len(event.firsts) - 1) << GENERATION_BITS

    def _give_up(self, pilot: PilotLedger, now: float, commands: list[Any]) -> None:
        """After an attach: nobody knows the job of this pilot, and no agent of it has joined. One that joins after all
        is told to end."""
        reason = f"the id of its job was not recorded, and its agent has not joined for {REJOIN_SECONDS:.0f} s"
        self._pilot_ended(events.PilotEnded(pilot.id, reason), now, commands)

    def _pilot_ready(self, event: events.PilotReady, now: float, commands: list[Any]) -> None:
        pilot = self.pilots[event.pilot]
        if is_final(pilot.state):
            return
        pilot.set_nodes(event.nodes)
        pilot.set_devices(event.qpus)
        pilot.set_end(now, event.seconds_left)
        if pilot.state is not PilotState.ACTIVE and not pilot.stopping:
            self._change(pilot, PilotState.ACTIVE, f"{pilot.cores} slots", commands)
            if pilot.queue_seconds is None:
                pilot.queue_seconds = now - pilot.queued_at
            if pilot.scaler in self._scalers:
                self._scalers[pilot.scaler].decider.started()
            if pilot.drains_then:
                self._drain(pilot, "it was draining before this manager was attached", commands)
        self._reclaim(pilot, event.batches)
        self._rejoined(pilot)

    def _reclaim(self, pilot: PilotLedger, batches: dict[int, list[int]]) -> None:
        """After an attach: what the agent still has is bound to it; what it should have and has not is queued."""
        for batch, tasks in batches.items():
            if batch in pilot.sent:
                continue
            known = [id for id in tasks if id in self.entries and not self._is_stranger(id, batch)]
            self._unqueue(known)
            entries = {id: self.entries[id] for id in known}
            for entry in entries.values():
                entry.state, entry.pilot, entry.batch = TaskState.BOUND, pilot.id, batch
            if entries:
                needs = next(iter(entries.values())).terms.resources
                pilot.put(batch, Sent(entries, needs, 0.0))

    def _pilot_stop_asked(self, event: events.PilotStopAsked, now: float, commands: list[Any]) -> None:
        pilot = self.pilots[event.pilot]
        if is_final(pilot.state):
            return
        if event.drain and pilot.state in _UP:
            pilot.expiring = False  # it is the user's wish now
            self._drain(pilot, "asked to drain", commands)
            return
        pilot.stopping = True
        commands.append(events.StopPilot(pilot.id, drain=False))
        if event.drain:
            self._change(pilot, PilotState.DONE, "asked to drain", commands)
        else:
            self._change(pilot, PilotState.CANCELLED, "cancelled", commands)
        if pilot.rejoins:
            self._rejoined(pilot)
        self._abandon(pilot, "the pilot was ended", commands)
        self._fail_hopeless(now, commands)

    def _drain(self, pilot: PilotLedger, reason: str, commands: list[Any]) -> None:
        """It finishes what it has begun, and gives the rest back."""
        if pilot.state is PilotState.DRAINING:
            return
        pilot.stopping = True
        self._change(pilot, PilotState.DRAINING, reason, commands)
        commands.append(events.StopPilot(pilot.id, drain=True))

    def _pilot_expiring(self, event: events.PilotExpiring, now: float, commands: list[Any]) -> None:
        pilot = self.pilots[event.pilot]
        if pilot.state is PilotState.ACTIVE:
            pilot.expiring = True
            if not self._is_cut_short(pilot, now):
                self._renew(pilot, commands)
            self._drain(pilot, event.reason, commands)

    def _watch_walltime(self, pilot: PilotLedger, now: float, commands: list[Any]) -> None:
        """In time before its walltime is over it drains; then it ends, with what it still runs."""
        assert pilot.ends_at is not None
        if now >= pilot.renew_at():
            self._renew(pilot, commands)
        if pilot.state is PilotState.ACTIVE and now >= pilot.ends_at - pilot.drain_seconds:
            pilot.expiring = True
            self._drain(pilot, f"its walltime is over in {max(0.0, pilot.ends_at - now):.0f} s", commands)
        if now >= pilot.ends_at:
            commands.append(events.StopPilot(pilot.id, drain=False))
            self._change(pilot, PilotState.DONE, WALLTIME_OVER, commands)
            self._abandon(pilot, ATTEMPT_OVER, commands, counts=False)

    def _renew(self, pilot: PilotLedger, commands: list[Any]) -> None:
        """Ask for the pilot that takes over, once."""
        if not pilot.can_be_renewed():
            return
        pilot.succeeded = True
        wanted = msgspec.structs.replace(
            pilot.description, name=self._new_name(pilot.family), renewals=pilot.description.renewals - 1
        )
        command = events.AskPilot(wanted, (*pilot.ancestors, pilot.id, pilot.name), parent=pilot.id)
        self._coming.append((command, pilot.capacity_renewed()))
        commands.append(command)

    def _new_name(self, family: str) -> str:
        """The family's name with the next number that is free."""
        taken = {name for pilot in self.pilots.values() for name in (pilot.id, pilot.name)}
        taken |= {command.description.name or "" for command, _ in self._coming}
        return next(name for number in count(2) if (name := f"{family}.{number}") not in taken)

    def _pilot_ended(self, event: events.PilotEnded, now: float, commands: list[Any]) -> None:
        pilot, how = self.pilots[event.pilot], event.how
        if is_final(pilot.state):
            return
        self._rejoined(pilot)
        drained = pilot.state is PilotState.DRAINING or pilot.drains_then
        pilot.report_by = None
        short = drained and self._is_cut_short(pilot, now)  # warned in time, its agent may have ended by itself
        taken = short if how is JobState.ENDED else how is JobState.TAKEN and (short or not drained)
        if taken and pilot.taken < TIMES_TAKEN:
            pilot.taken += 1
            self._start_again(pilot, f"{TAKEN_AWAY}{event.reason}", now, commands)
        elif drained:
            over = how is JobState.EXPIRED
            self._change(pilot, PilotState.DONE, WALLTIME_OVER if over else "drained", commands)
        elif how is JobState.EXPIRED:
            self._renew(pilot, commands)
            self._change(pilot, PilotState.DONE, WALLTIME_OVER, commands)
        elif how is JobState.CANCELLED:
            self._change(pilot, PilotState.CANCELLED, event.reason, commands)
        elif pilot.restarts > 0 and how is not JobState.REFUSED:
            pilot.restarts -= 1
            self._start_again(pilot, f"{STARTED_AGAIN}{event.reason}", now, commands)
        else:
            self._change(pilot, PilotState.FAILED, event.reason, commands)
            if pilot.queue_seconds is None and pilot.scaler in self._scalers:
                self._start_failed(self._scalers[pilot.scaler], event.reason, commands)
        reason = ATTEMPT_OVER if how is JobState.EXPIRED else event.reason
        self._abandon(pilot, reason, commands, counts=how not in (JobState.EXPIRED, JobState.TAKEN))
        self._fail_hopeless(now, commands)

    def _start_again(self, pilot: PilotLedger, reason: str, now: float, commands: list[Any]) -> None:
        pilot.start_again(now)
        self._change(pilot, PilotState.QUEUED, reason, commands)
        commands.append(events.StartPilot(pilot.id))

    def _is_cut_short(self, pilot: PilotLedger, now: float) -> bool:
        """True when its end was announced, and not because of its walltime."""
        if not pilot.expiring:
            return False
        return pilot.ends_at is None or now < pilot.ends_at - pilot.drain_seconds - EARLY_SECONDS

    def _rejoined(self, pilot: PilotLedger) -> None:
        """After an attach: this pilot has reported, or will not."""
        pilot.rejoins = False
        if not any(one.rejoins for one in self.pilots.values()):
            self._hold_until = None

    def _abandon(self, pilot: PilotLedger, reason: str, commands: list[Any], counts: bool = True) -> None:
        """The tasks that a pilot had go elsewhere; ``counts``: it may have been theirs that it ended."""
        for batch in reversed(list(pilot.sent)):  # each goes to the front of its lane
            sent = pilot.take(batch)
            assert sent is not None
            entries = list(sent.entries.values())
            self._lose(entries, pilot, batch, reason, commands, blame=False, record=True, counts=counts)

    def _change(self, pilot: PilotLedger, state: PilotState, reason: str, commands: list[Any]) -> None:
        pilot.state, pilot.reason = advance(pilot.id, pilot.state, state), reason
        commands.append(events.ChangePilot(pilot.id, state, reason))

    # ---- tasks ----------------------------------------------------------------------------------------------

    def _tasks_submitted(self, event: events.TasksSubmitted, now: float, commands: list[Any]) -> None:
        if self._is_closed:  # in the midst of a submit
            self._settle([(entry, Outcome(entry.id, CANCELLED, 0.0, 0.0)) for entry in event.entries], commands)
            return
        entries, lanes = self.entries, self._lanes
        terms, lane = None, None
        for entry in event.entries:
            entries[entry.id] = entry
            if entry.blockers:  # the tasks among its needs that are not finished
                entry.state = TaskState.WAITING
                for id in entry.blockers:
                    self._dependents.setdefault(id, []).append(entry)
                continue
            if entry.terms is not terms:
                terms = entry.terms
                lane = lanes.get(terms)
                if lane is None:
                    lane = lanes[terms] = deque()
                self._placement.arrived(terms, now)
            lane.append(entry)  # type: ignore[union-attr]

    def _enqueue(self, entry: Entry) -> None:
        entry.state, entry.batch = TaskState.QUEUED, 0
        self._lanes.setdefault(entry.terms, deque()).append(entry)

    def _unqueue(self, tasks: Iterable[int]) -> None:
        """Take those of these tasks that are queued out of their lanes."""
        found = [entry for id in tasks if (entry := self.entries.get(id)) and entry.state is TaskState.QUEUED]
        for entry in found:
            self._aside.pop(entry.id, None)
        for terms in {entry.terms for entry in found} & self._lanes.keys():
            gone = {entry.id for entry in found}
            self._lanes[terms] = deque(entry for entry in self._lanes[terms] if entry.id not in gone)

    def _outcomes_arrived(self, event: events.OutcomesArrived, now: float, commands: list[Any]) -> None:
        pilot = self.pilots[event.pilot]
        sent = pilot.sent.get(event.batch)
        measured: list[tuple[Entry, Outcome]] = []
        for outcome in event.outcomes:
            entry = self.entries.get(outcome.task)  # None: finished already, a result that was sent twice
            if entry is not None and not self._is_old(entry, event.batch, outcome.status):
                measured.append((entry, outcome))
        if sent is None:  # an agent of before this manager was attached had them
            self._unqueue(outcome.task for _, outcome in measured)
        pairs: list[tuple[Entry, Outcome]] = []
        for entry, outcome in measured:
            entry.pilot, entry.worker = pilot.id, event.worker
            if outcome.status == UNWRITTEN and self._is_put_aside(entry, outcome, pilot, event.batch, commands):
                continue
            if outcome.status == UNWRITTEN:  # again and again, or it was cancelled meanwhile; a retry is no help
                outcome = msgspec.structs.replace(outcome, status=CANCELLED if entry.cancelling else RAISED)
            elif outcome.status == RAISED and entry.retries < entry.terms.retries and not entry.cancelling:
                self._retry(entry, pilot, event.batch, commands)
                continue
            del self.entries[outcome.task]
            pairs.append((entry, outcome))
        pilot.finished += len(event.outcomes)
        if sent is not None:
            for outcome in event.outcomes:
                sent.entries.pop(outcome.task, None)
            if not sent.entries:
                pilot.take(event.batch)
        if pairs:
            self._settle(pairs, commands)
        self._measured_all(pilot, sent, measured)

    def _is_put_aside(
        self, entry: Entry, outcome: Outcome, pilot: PilotLedger, batch: int, commands: list[Any]
    ) -> bool:
        """Its result could not be written, which is not the task's fault: it runs again when there is room. False when
        this goes on and on, or it is to be cancelled."""
        entry.losses += 1
        if entry.cancelling or entry.losses >= LOSSES:
            return False
        reason, size = unwritten(outcome)
        commands.append(events.RecordAttempt(entry, pilot.name, reason, batch))
        entry.state, entry.batch, entry.bound = TaskState.QUEUED, 0, 0.0
        self._aside[entry.id] = entry
        self.lacks_room = max(self.lacks_room, size)
        return True

    def _room_seen(self, event: events.RoomSeen, now: float, commands: list[Any]) -> None:
        for entry in reversed(self._aside.values()):
            self._lanes.setdefault(entry.terms, deque()).appendleft(entry)
        self._aside.clear()
        self.lacks_room = 0

    @property
    def without_room(self) -> list[Entry]:
        """The tasks whose results could not be written."""
        return list(self._aside.values())

    def _is_old(self, entry: Entry, batch: int, status: int) -> bool:
        """True when an outcome says nothing of the task as it is now."""
        if entry.batch == batch:
            return False
        if self._is_stranger(entry.id, batch):
            return True
        if status == OK:  # right, whatever became of the attempt meanwhile
            return False
        return entry.batch != 0 or any(attempt.batch == batch for attempt in entry.attempts)

    def _is_stranger(self, task: int, batch: int) -> bool:
        """True when a manager of before gave this id to another task, which never came into the journal."""
        following = (batch >> GENERATION_BITS) + 1
        return following < len(self._firsts) and task >= self._firsts[following]

    def _measured_all(self, pilot: PilotLedger, sent: Sent | None, measured: list[tuple[Entry, Outcome]]) -> None:
        """What these outcomes say of their functions and of the pilot, function by function."""
        function, weight, seconds = None, 0.0, 0.0
        for entry, outcome in measured:
            if entry.function is not function:
                self._measured(pilot, sent, function, weight, seconds)
                function, weight, seconds = entry.function, 0.0, 0.0
            weight += entry.weight
            seconds += outcome.seconds
        self._measured(pilot, sent, function, weight, seconds)

    def _measured(
        self, pilot: PilotLedger, sent: Sent | None, function: Function | None, weight: float, seconds: float
    ) -> None:
        if function is None or weight <= 0.0:
            return
        if sent is not None and sent.qpu in pilot.devices:
            pilot.devices[sent.qpu].measured(seconds, weight)
            return
        mean = seconds / weight / (1.0 if sent is None else sent.slowness)
        if function.seconds:
            ratio = min(max(mean / function.seconds, 0.1), 10.0)
            pilot.slowness += 0.1 * NEWEST * (ratio - pilot.slowness)
        function.measured(mean / pilot.slowness)

    def _settle(self, pairs: list[tuple[Entry, Outcome]], commands: list[Any]) -> None:
        states = {OK: TaskState.DONE, CANCELLED: TaskState.CANCELLED}
        for entry, outcome in pairs:
            entry.state = states.get(outcome.status, TaskState.FAILED)
            entry.values = None
        commands.append(events.Settle(pairs))
        if not self._dependents:
            return
        for entry, outcome in pairs:
            if outcome.status == OK and entry.id in self._dependents:
                self._release(entry, outcome)
        self._fail_dependents([entry for entry, outcome in pairs if outcome.status != OK], commands)

    def _release(self, entry: Entry, outcome: Outcome) -> None:
        """The tasks that waited for this one, which is done, go on."""
        for dependent in self._dependents.pop(entry.id):
            if dependent.state is not TaskState.WAITING:
                continue
            assert dependent.blockers is not None
            dependent.take_value(entry.id, outcome.value)
            dependent.blockers.discard(entry.id)
            if not dependent.blockers:
                self._enqueue(dependent)

    def _fail(self, entries: list[Entry], error: str, reason: str, commands: list[Any]) -> None:
        for entry in entries:
            self.entries.pop(entry.id, None)
            entry.state = TaskState.FAILED
            entry.values = None
        commands.append(events.Fail(entries, error, reason))
        self._fail_dependents(entries, commands)

    def _fail_dependents(self, ended: list[Entry], commands: list[Any]) -> None:
        """All that waits for these tasks fails with them, the nearest first; a loop, for chains may be long."""
        failed: list[events.Link] = []
        open = deque((entry, entry.id, 1) for entry in ended if entry.id in self._dependents)
        while open:
            entry, first, links = open.popleft()
            reason = f"it depends on task {entry.id} ({entry.title}), which {_ENDED[entry.state]}"
            for dependent in self._dependents.pop(entry.id):
                if dependent.state is not TaskState.WAITING:
                    continue
                self.entries.pop(dependent.id, None)
                dependent.state = TaskState.FAILED
                dependent.values = dependent.blockers = None
                failed.append(events.Link(dependent, reason, entry.id, first, links))
                if dependent.id in self._dependents:
                    open.append((dependent, first, links + 1))
        if failed:
            commands.append(events.FailDependents(failed))

    def _retry(self, entry: Entry, pilot: PilotLedger, batch: int, commands: list[Any]) -> None:
        entry.retries += 1
        commands.append(events.RecordAttempt(entry, pilot.name, RAISED_REASON, batch))
        self._enqueue(entry)

    def _task_started(self, event: events.TaskStarted, now: float, commands: list[Any]) -> None:
        entry = self.entries.get(event.task)
        if entry is not None and entry.state is TaskState.BOUND and entry.pilot == event.pilot:
            entry.state = TaskState.RUNNING
            entry.worker = event.worker

    def _attempts_lost(self, event: events.AttemptsLost, now: float, commands: list[Any]) -> None:
        pilot = self.pilots[event.pilot]
        sent = pilot.sent.get(event.batch)
        if sent is None:
            return  # the pilot was given up in the meantime, its tasks are elsewhere
        tasks = list(sent.entries) if event.tasks is None else event.tasks
        lost = [entry for id in tasks if (entry := sent.entries.pop(id, None)) is not None]
        if not sent.entries:
            pilot.take(event.batch)
        for entry in lost:
            entry.worker = event.worker
        begun = event.blame or event.begun
        self._lose(
            lost,
            pilot,
            event.batch,
            event.reason,
            commands,
            blame=event.blame,
            record=begun,
            counts=begun,
            error=event.error,
        )

    def _lose(
        self,
        lost: list[Entry],
        pilot: PilotLedger,
        batch: int,
        reason: str,
        commands: list[Any],
        *,
        blame: bool,
        record: bool,
        counts: bool,
        error: str = "WorkerDied",
    ) -> None:
        """Attempts that ended without outcome: the tasks go back to the front of their lanes, or end here.

        A worker's death is blamed on all that it had: these tasks run alone next, each in a worker that has nothing
        else, which shows the one that kills workers.
        """
        cancelled, failed = [], []
        for entry in reversed(lost):
            if entry.id not in self.entries or entry.batch != batch:
                continue  # it ended, or runs, elsewhere in the meantime
            if entry.cancelling:
                cancelled.append((entry, Outcome(entry.id, CANCELLED, 0.0, 0.0)))
                self.entries.pop(entry.id, None)
                continue
            entry.losses += counts
            if record:
                commands.append(events.RecordAttempt(entry, pilot.name, reason, batch))
            if blame:
                entry.deaths += entry.suspect
                entry.suspect = True
            if entry.deaths >= DEATHS_ALONE or entry.losses >= LOSSES:
                failed.append(entry)
                continue
            entry.state, entry.batch = TaskState.QUEUED, 0
            entry.bound = 0.0
            self._lanes.setdefault(entry.terms, deque()).appendleft(entry)
        if cancelled:
            self._settle(cancelled, commands)
        if failed:
            self._fail(failed, error, reason, commands)

    def _cancel_asked(self, event: events.CancelAsked, now: float, commands: list[Any]) -> None:
        over: list[tuple[Entry, Outcome]] = []
        sends: dict[str, list[int]] = {}
        for id in event.tasks:
            entry = self.entries.get(id)
            if entry is None:
                continue
            entry.cancelling = True
            if entry.state in (TaskState.BOUND, TaskState.RUNNING):
                sends.setdefault(entry.pilot or "", []).append(id)
                continue
            if entry.state is TaskState.QUEUED and self._aside.pop(id, None) is None:
                self._lanes[entry.terms].remove(entry)
            del self.entries[id]
            over.append((entry, Outcome(id, CANCELLED, 0.0, 0.0)))
        if over:
            self._settle(over, commands)
        commands.extend(events.SendCancel(pilot, tasks) for pilot, tasks in sends.items())

    def _closed(self, event: events.Closed, now: float, commands: list[Any]) -> None:
        pairs = [(entry, Outcome(entry.id, CANCELLED, 0.0, 0.0)) for entry in self.entries.values()]
        self.entries.clear()
        self._lanes.clear()
        self._stranded.clear()
        self._aside.clear()
        self._dependents.clear()
        self._scalers.clear()
        self._is_closed = True
        self._settle(pairs, commands)
        for pilot in self.pilots.values():
            if not is_final(pilot.state):
                commands.append(events.StopPilot(pilot.id, drain=False))
                self._change(pilot, PilotState.DONE, "the manager was closed", commands)

    # ---- autoscaling ----------------------------------------------------------------------------------------

    def _scaling_asked(self, event: events.ScalingAsked, now: float, commands: list[Any]) -> None:
        self._scalers[event.scaler] = _Scaler(event.scaler, event.scaling, event.memory, event.devices)
        self._next_scaling = now
        self._scale(now, commands)

    def _scaling_stop_asked(self, event: events.ScalingStopAsked, now: float, commands: list[Any]) -> None:
        if self._scalers.pop(event.scaler, None) is None:
            return
        if event.drain:
            for pilot in list(self.pilots.values()):
                if pilot.scaler == event.scaler:
                    self._pilot_stop_asked(events.PilotStopAsked(pilot.id, drain=True), now, commands)
        self._fail_hopeless(now, commands)

    def _start_failed(self, scaler: _Scaler, reason: str, commands: list[Any]) -> None:
        scaler.decider.failed()
        if scaler.decider.paused:
            reason = f"{FAILED_STARTS} of its pilots in a row did not start, the last one because {reason}"
            commands.append(events.PauseScaling(scaler.id, reason))

    def _scale(self, now: float, commands: list[Any]) -> None:
        if not self._scalers or now < self._next_scaling:
            return
        self._next_scaling = now + SCALING_SECONDS
        for scaler in self._scalers.values():
            members = [
                Member(pilot.id, pilot.state is PilotState.ACTIVE, bool(pilot.sent), pilot.finished)
                for pilot in self.pilots.values()
                if pilot.scaler == scaler.id and pilot.over is None
            ]
            asked = sum(command.scaler == scaler.id for command, _ in self._coming)
            decision = scaler.decider.decide(now, self._demand(scaler, now), members, asked)
            for _ in range(decision.ask):
                self._ask_for(scaler, commands)
            for id in decision.drain:
                self._drain(self.pilots[id], "it was idle, and the autoscaler gives it back", commands)

    def _ask_for(self, scaler: _Scaler, commands: list[Any]) -> None:
        wanted = scaler.decider.scaling.description
        if wanted.name is not None:
            wanted = msgspec.structs.replace(wanted, name=self._new_name(wanted.name))
        command = events.AskPilot(wanted, scaler.ancestors, scaler=scaler.id)
        self._coming.append((command, scaler.template))
        commands.append(command)

    def _demand(self, scaler: _Scaler, now: float) -> Demand:
        """The queued tasks that a pilot of the template could run, by a sample of each lane."""
        wanted, cores = scaler.decider.scaling.description, scaler.decider.scaling.cores
        gpus = wanted.gpus_per_node * wanted.number_of_nodes
        tasks, known, work, unknown = 0, 0.0, 0.0, 0.0
        fitting: dict[str, PilotLedger] = {}
        for terms, lane in self._lanes.items():
            if not lane or misfit(terms, scaler.template) is not None:
                continue
            needs = terms.resources
            weight = max(needs.cores, cores * needs.all_gpus / gpus if gpus else 0.0)
            sample = [lane[at].seconds for at in range(0, len(lane), -(-len(lane) // SCALING_SAMPLE))]
            times = [seconds for seconds in sample if seconds is not None]
            tasks += len(lane)
            known += weight * len(lane) * len(times) / len(sample)
            work += weight * len(lane) * sum(times) / len(sample)
            unknown += weight * len(lane) * (1 - len(times) / len(sample))
            for pilot in self.pilots.values():
                if misfit(terms, pilot.capacity_to_come(now)) is None and pilot.has_time(terms, sample[0], now):
                    fitting[pilot.id] = pilot
        asked = cores * sum(command.scaler == scaler.id for command, _ in self._coming)
        there = sum(pilot.cores for pilot in fitting.values() if pilot.state is PilotState.ACTIVE)
        way = asked + sum(pilot.cores for pilot in fitting.values() if pilot.state is not PilotState.ACTIVE)
        return Demand(tasks, known, work, unknown, there + way, way)

    # ---- placing --------------------------------------------------------------------------------------------

    def _fail_hopeless(self, now: float, commands: list[Any]) -> None:
        """Tasks that no pilot can serve any more wait for another one, and fail when none comes in time."""
        if self._hold_until is not None or now < self._patient_until:
            return
        if not any(self._lanes.values()):
            self._stranded.clear()
            return
        before, self._stranded = self._stranded, {}
        capacities, wait = self._capacities(now), self._wait_for_pilot
        waiting, why = 0, ""
        for terms in list(self._lanes):
            lane = self._lanes[terms]
            reason = unservable(terms, capacities) if lane else None
            if reason is None:
                continue
            since = before.get(terms, now)
            if wait is not None and now - since >= wait:
                del self._lanes[terms]
                waited = f"; no other pilot came within {wait:g} s" if wait else ""
                self._fail(list(lane), "NoPilotError", reason + waited, commands)
                continue
            self._stranded[terms] = since
            waiting, why = waiting + len(lane), why or reason
        if waiting and not before:
            commands.append(events.TellStranded(waiting, why, wait))

    def _capacities(self, now: float) -> list[Capacity]:
        """What there is, and what may come: nodes that have not joined yet, successors, pilots of an autoscaler."""
        pilots = self.pilots.values()
        capacities = [pilot.capacity_to_come(now) for pilot in pilots]
        capacities += [pilot.capacity_renewed() for pilot in pilots if pilot.can_be_renewed()]
        capacities += [capacity for _, capacity in self._coming]
        return capacities + [scaler.template for scaler in self._scalers.values() if not scaler.decider.paused]

    def _assign(self, now: float, commands: list[Any]) -> None:
        if self._hold_until is not None:
            if now < self._hold_until:
                return
            self._hold_until = None
        active = [pilot for pilot in self.pilots.values() if pilot.state is PilotState.ACTIVE]
        if active:
            self._placement.place(self._lanes, active, now, commands)

    # ---- words ----------------------------------------------------------------------------------------------

    def explain(self, entry: Entry, now: float) -> str:
        """Why a task is where it is, in words."""
        state = entry.state
        if state is TaskState.WAITING:
            blockers = ", ".join(str(id) for id in islice(sorted(entry.blockers or ()), 5))
            more = "" if len(entry.blockers or ()) <= 5 else f" and {len(entry.blockers or ()) - 5} more"
            return f"waits for the tasks that it depends on: {blockers}{more}"
        if state is not TaskState.QUEUED:
            return entry.reason
        return self._explain_queued(entry, now)

    def _explain_queued(self, entry: Entry, now: float) -> str:
        if self._hold_until is not None:
            return "waits until the agents of before have reported what they have"
        if entry.id in self._aside:
            return f"waits until there is room for its result: {entry.attempts[-1].reason}"
        if entry.terms in self._stranded:
            return self._explain_stranded(entry, now)
        fits, others = list[str](), list[str]()
        for pilot in self.pilots.values():
            reason = misfit(entry.terms, pilot.capacity(now))
            if reason is None and pilot.state is not PilotState.ACTIVE:
                reason = f"{pilot.name} is {pilot.state.value}"
                if pilot.words and pilot.state is PilotState.QUEUED:
                    reason += f" ({pilot.words})"
            if reason is None and (closed := self._closed_devices(entry.terms, pilot, now)):
                reason = closed
            if reason is None and not pilot.has_time(entry.terms, entry.seconds, now):
                reason = f"{pilot.name} has too little walltime left for it"
            (others if reason else fits).append(reason or pilot.name)
        ahead = sum(1 for other in self._ahead(entry))
        if fits:
            why = f"waits in the queue, {ahead} tasks before it: {', '.join(fits)} fit{'s' * (len(fits) == 1)}"
            why += " and has" if len(fits) == 1 else " and have"
            why += " as much work as is sent ahead"
        else:
            why = "waits: no active pilot fits yet"
        return why + (f"; {'; '.join(others)}" if others else "")

    def _explain_stranded(self, entry: Entry, now: float) -> str:
        reason = unservable(entry.terms, self._capacities(now)) or "a pilot that can has just been asked for"
        if self._wait_for_pilot is None:
            return f"waits for another pilot: {reason}; submit one that can serve it (submit_pilot)"
        left = max(0.0, self._stranded[entry.terms] + self._wait_for_pilot - now)
        return f"waits for another pilot: {reason}; it fails in {left:.0f} s unless one is submitted (submit_pilot)"

    def _closed_devices(self, terms: Terms, pilot: PilotLedger, now: float) -> str | None:
        """Why none of the pilot's devices that fit takes such a task now; None when one does, or none is needed."""
        names = [way.resources.qpu for way in concrete(terms, pilot.capacity(now))]
        if not all(names):
            return None
        reasons = [(name, pilot.devices[name].closed) for name in names]
        if any(closed is None for _, closed in reasons):
            return None
        return "; ".join(f"{name} of {pilot.name} {closed}" for name, closed in reasons)

    def _ahead(self, entry: Entry) -> Iterable[Entry]:
        for terms, lane in self._lanes.items():
            if terms.priority > entry.terms.priority:
                yield from lane
            elif terms.priority == entry.terms.priority:
                yield from (other for other in lane if other.id < entry.id)
