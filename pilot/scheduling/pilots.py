"""The pilots: how they start and end, what they have, and what they were sent."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import msgspec

from pilot.descriptions import PilotDescription
from pilot.interfaces import JobState
from pilot.resources import Capacity, QPUInfo
from pilot.results import CANCELLED, REFUSED, UNAVAILABLE, Outcome
from pilot.scheduling import events
from pilot.scheduling.checks import check_pilots
from pilot.scheduling.events import Command
from pilot.scheduling.index import Index
from pilot.scheduling.pilot_records import QUICKEST, SLOWEST, PilotRecord, SentBatch
from pilot.scheduling.queue import TaskQueue
from pilot.scheduling.records import NEWEST, Change, FunctionRecord, Loss, TaskRecord
from pilot.states import PilotState, advance, is_final

#: Seconds that an attached manager waits for the agents of the previous one.
REJOIN_SECONDS = 30.0
#: Resource managers may announce the end of a job so many seconds too early.
EARLY_SECONDS = 60.0
#: A pilot whose job the site took away is started again so often without using its restarts.
TIMES_TAKEN = 20
#: Reasons of pilots that end as their walltime does, and of the attempts that end with them.
WALLTIME_OVER = "its walltime is over"
ATTEMPT_OVER = "the pilot's walltime was over"

_UP = (PilotState.ACTIVE, PilotState.DRAINING)


class Pilots:
    """All pilots, with those that were requested and do not exist yet."""

    def __init__(self, queue: TaskQueue, index: Index) -> None:
        self._queue = queue
        self._index = index
        self.by_id: dict[str, PilotRecord] = {}
        #: Pilots that were requested and are not among the pilots yet, and what they will have.
        self.coming: list[tuple[events.AskPilot, Capacity]] = []
        #: After an attach: until then nothing is placed, since agents of the previous manager may have the tasks.
        self.hold_until: float | None = None
        #: After an attach: until then tasks that no pilot can run do not fail, since a pilot may be requested.
        self._wait_until = float("-inf")

    # ---- what there is --------------------------------------------------------------------------------------

    def may_place(self, now: float) -> bool:
        """False while agents of the previous manager are waited for, and while no pilot is active."""
        if self.hold_until is not None:
            if now < self.hold_until:
                return False
            self.hold_until = None
        return bool(self._index.pilots)

    def may_come(self, now: float) -> bool:
        """True for a while after an attach: a pilot that is not known yet may run tasks."""
        return self.hold_until is not None or now < self._wait_until

    def capacities(self, now: float) -> list[Capacity]:
        """What the pilots have and may have: nodes that have not joined yet, successors, pilots that were requested."""
        pilots = self.by_id.values()
        capacities = [pilot.capacity_to_come(now) for pilot in pilots]
        capacities += [pilot.capacity_renewed() for pilot in pilots if pilot.can_be_renewed()]
        return capacities + [capacity for _, capacity in self.coming]

    # ---- pilots come ----------------------------------------------------------------------------------------

    def ask(
        self,
        wanted: PilotDescription,
        family: str | None,
        ancestors: tuple[str, ...],
        capacity: Capacity,
        commands: list[Command],
        *,
        parent: str | None = None,
        scaler: str | None = None,
    ) -> None:
        """Request the successor of ``parent``, or a pilot for an autoscaler. It is named after its ``family``,
        with the next free number; None: it has no name."""
        if family is not None:
            taken = {name for pilot in self.by_id.values() for name in (pilot.id, pilot.name)}
            taken |= {command.description.name or "" for command, _ in self.coming}
            name = next(name for number in count(2) if (name := f"{family}.{number}") not in taken)
            wanted = msgspec.structs.replace(wanted, name=name)
        command = events.AskPilot(wanted, ancestors, parent, scaler)
        self.coming.append((command, capacity))
        self._index.pilots_changed()
        commands.append(command)

    def ask_failed(self, command: events.AskPilot) -> None:
        """A pilot that was requested cannot be made."""
        self._drop(lambda one: one == command)

    def asked(self, event: events.PilotAsked, over: str | None, now: float, commands: list[Command]) -> None:
        """A pilot was requested. ``over``: why it is not needed any more."""
        pilot = PilotRecord(event.id, event.description, event.memory, event.ancestors, now, event.devices)
        pilot.number = len(self.by_id)
        self.by_id[event.id] = pilot
        self._index.pilots_changed()
        pilot.scaler, pilot.succeeded, pilot.drains_then = event.scaler, event.succeeded, event.draining
        pilot.restarts = max(0, pilot.restarts - event.started_again)
        pilot.taken = event.taken
        made = (event.parent, event.scaler, event.description)
        self._drop(lambda one: (one.parent, one.scaler, one.description) == made)
        if over is not None:
            self._change(pilot, PilotState.DONE, over, commands)
        elif event.rejoins:
            pilot.state = PilotState.QUEUED
            if event.reported:  # else it cannot have any task
                pilot.rejoins = True
                self.hold_until = now + REJOIN_SECONDS
            if not event.job_known:
                pilot.report_by = now + REJOIN_SECONDS
        else:
            commands.append(events.StartPilot(pilot.id))
            self._change(pilot, PilotState.QUEUED, "submitted", commands)

    def _drop(self, is_meant: Callable[[events.AskPilot], bool]) -> None:
        """Remove the first requested pilot that this is true for."""
        at = next((at for at, (command, _) in enumerate(self.coming) if is_meant(command)), None)
        if at is not None:
            del self.coming[at]
            self._index.pilots_changed()

    def attached(self, now: float) -> None:
        """All pilots and tasks of the previous manager are known."""
        self._wait_until = now + REJOIN_SECONDS

    def joined(self, event: events.AgentJoined, now: float, commands: list[Command]) -> None:
        """An agent has reported."""
        pilot = self.by_id[event.pilot]
        pilot.report_by = None
        if pilot.state is PilotState.QUEUED:
            self._change(pilot, PilotState.STARTING, "the agent has reported", commands)

    def job_seen(self, event: events.JobSeen, now: float, commands: list[Command]) -> None:
        """A job is pending."""
        self.by_id[event.pilot].pending = event.reason

    def ready(self, event: events.PilotReady, now: float, commands: list[Command]) -> None:
        """An engine is up, or its nodes have changed."""
        pilot = self.by_id[event.pilot]
        if is_final(pilot.state):
            return
        pilot.set_nodes(event.nodes)
        pilot.set_devices(event.qpus)
        pilot.set_end(now, event.seconds_left)
        self._refit(pilot)
        if pilot.state is not PilotState.ACTIVE and not pilot.stopping:
            self._change(pilot, PilotState.ACTIVE, f"{pilot.cores} slots", commands)
            if pilot.queue_seconds is None:
                pilot.queue_seconds = now - pilot.queued_at
            if pilot.drains_then:
                self.drain(pilot, "it was draining before this manager was attached", commands)
        for batch, tasks in event.batches.items():  # after an attach: what its agent has already
            if batch not in pilot.sent and (records := self._queue.reclaim(tasks, pilot.id, batch)):
                needs = next(iter(records.values())).terms.resources
                pilot.put(batch, SentBatch(records, needs, 0.0))
                self._index.touch(pilot)
        self._rejoined(pilot)

    def device_changed(self, pilot: PilotRecord, info: QPUInfo) -> None:
        """A QPU reports other properties than before."""
        pilot.set_devices([info])
        self._refit(pilot)

    def _rejoined(self, pilot: PilotRecord) -> None:
        """After an attach: this pilot has reported, or will not report."""
        pilot.rejoins = False
        if not any(one.rejoins for one in self.by_id.values()):
            self.hold_until = None

    # ---- pilots end -----------------------------------------------------------------------------------------

    def tick(self, now: float, commands: list[Command]) -> None:
        """Ends that depend on time alone."""
        for pilot in self.by_id.values():
            if pilot.ends_at is not None and pilot.state in _UP:
                self._watch_walltime(pilot, now, commands)

    def unreported(self, now: float) -> list[events.PilotEnded]:
        """After an attach: the ends of pilots whose job is not known, and whose agent has not joined in time. An agent
        that joins later is refused."""
        reason = f"the id of its job was not recorded, and its agent has not joined for {REJOIN_SECONDS:.0f} s"
        late = [one for one in self.by_id.values() if one.report_by is not None and now >= one.report_by]
        return [events.PilotEnded(pilot.id, reason) for pilot in late]

    def stop(self, event: events.PilotStopAsked, now: float, commands: list[Command]) -> None:
        """The user ends a pilot."""
        pilot = self.by_id[event.pilot]
        if is_final(pilot.state):
            return
        if event.drain and pilot.state in _UP:
            pilot.expiring = False  # now it is the user who ends it
            self.drain(pilot, "asked to drain", commands)
            return
        pilot.stopping = True
        commands.append(_stop(pilot))
        state, reason = (PilotState.DONE, "asked to drain") if event.drain else (PilotState.CANCELLED, "cancelled")
        self._told_to_end(pilot, state, reason, "the pilot was ended", Loss.COUNTED, commands)
        if pilot.rejoins:
            self._rejoined(pilot)

    def drain(self, pilot: PilotRecord, reason: str, commands: list[Command]) -> None:
        """It finishes what it has begun, and gives the rest back."""
        if pilot.state is PilotState.DRAINING:
            return
        pilot.stopping = True
        self._change(pilot, PilotState.DRAINING, reason, commands)
        commands.append(events.StopPilot(pilot.id, drain=True))

    def expiring(self, event: events.PilotExpiring, now: float, commands: list[Command]) -> None:
        """A job's end was announced."""
        pilot = self.by_id[event.pilot]
        if pilot.state is PilotState.ACTIVE:
            pilot.expiring = True
            if not self._is_cut_short(pilot, now):
                self._renew(pilot, commands)
            self.drain(pilot, event.reason, commands)

    def _watch_walltime(self, pilot: PilotRecord, now: float, commands: list[Command]) -> None:
        """It drains before its walltime is over; at the end of its walltime it ends, with the tasks that it runs."""
        assert pilot.ends_at is not None
        if now >= pilot.renew_at():
            self._renew(pilot, commands)
        if pilot.state is PilotState.ACTIVE and now >= pilot.ends_at - pilot.drain_seconds:
            pilot.expiring = True
            self.drain(pilot, f"its walltime is over in {max(0.0, pilot.ends_at - now):.0f} s", commands)
        if now >= pilot.ends_at:
            commands.append(events.StopPilot(pilot.id, drain=False))
            self._told_to_end(pilot, PilotState.DONE, WALLTIME_OVER, ATTEMPT_OVER, Loss.FREE, commands)

    def _renew(self, pilot: PilotRecord, commands: list[Command]) -> None:
        """Ask for the pilot that takes over, once."""
        if pilot.can_be_renewed():
            pilot.succeeded = True
            wanted = msgspec.structs.replace(pilot.description, renewals=pilot.description.renewals - 1)
            ancestors = (*pilot.ancestors, pilot.id, pilot.name)
            self.ask(wanted, pilot.family, ancestors, pilot.capacity_renewed(), commands, parent=pilot.id)

    def ended(self, event: events.PilotEnded, now: float, commands: list[Command]) -> None:
        """An agent or its job is gone."""
        pilot, how = self.by_id[event.pilot], event.how
        if is_final(pilot.state):
            if pilot.interrupts is not None:  # what it did not hand over
                self._abandon(pilot, *pilot.interrupts, commands)
            return
        self._rejoined(pilot)
        pilot.report_by = None
        drained = pilot.state is PilotState.DRAINING or pilot.drains_then
        if self._is_taken(pilot, how, drained, now) and pilot.taken < TIMES_TAKEN:
            pilot.taken += 1
            self._start_again(pilot, "submitted again after the site took its job", event, Change.TAKEN, now, commands)
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
            self._start_again(pilot, "started again", event, Change.RESTART, now, commands)
        else:
            self._change(pilot, PilotState.FAILED, event.reason, commands)
        reason = ATTEMPT_OVER if how is JobState.EXPIRED else event.reason
        loss = Loss.FREE if how in (JobState.EXPIRED, JobState.TAKEN) else Loss.COUNTED
        self._abandon(pilot, reason, loss, commands)

    def _is_taken(self, pilot: PilotRecord, how: JobState, drained: bool, now: float) -> bool:
        """True when the site took its job away. Warned in time, its agent may have ended by itself."""
        if how is JobState.ENDED:
            return drained and self._is_cut_short(pilot, now)
        return how is JobState.TAKEN and (not drained or self._is_cut_short(pilot, now))

    def _is_cut_short(self, pilot: PilotRecord, now: float) -> bool:
        """True when its end was announced, and not because of its walltime."""
        if not pilot.expiring:
            return False
        return pilot.ends_at is None or now < pilot.ends_at - pilot.drain_seconds - EARLY_SECONDS

    def _start_again(
        self,
        pilot: PilotRecord,
        how: str,
        event: events.PilotEnded,
        change: Change,
        now: float,
        commands: list[Command],
    ) -> None:
        pilot.start_again(now)
        self._change(pilot, PilotState.QUEUED, f"{how}: {event.reason}", commands, change)
        commands.append(events.StartPilot(pilot.id))

    def _told_to_end(
        self, pilot: PilotRecord, state: PilotState, why: str, reason: str, loss: Loss, commands: list[Command]
    ) -> None:
        """It is over. Its agent hands over what is finished, and gives the rest back; without one tasks go at once."""
        has_agent = pilot.state in _UP and not pilot.rejoins
        self._change(pilot, state, why, commands)
        if has_agent:
            pilot.interrupts = reason, loss
        else:
            self._abandon(pilot, reason, loss, commands)

    def _abandon(self, pilot: PilotRecord, reason: str, loss: Loss, commands: list[Command]) -> None:
        """The tasks of a pilot go elsewhere."""
        for batch in reversed(list(pilot.sent)):  # each goes to the front of its lane
            if (sent := pilot.take(batch)) is not None:
                self._index.touch(pilot)
                self._queue.lose(list(sent.entries.values()), pilot.name, batch, reason, loss, commands)

    def close(self, commands: list[Command]) -> None:
        """End all of them."""
        for pilot in self.by_id.values():
            if not is_final(pilot.state):
                commands.append(_stop(pilot))
                self._change(pilot, PilotState.DONE, "the manager was closed", commands)

    def _change(
        self,
        pilot: PilotRecord,
        state: PilotState,
        reason: str,
        commands: list[Command],
        change: Change = Change.OTHER,
    ) -> None:
        pilot.state, pilot.reason = advance(pilot.id, pilot.state, state), reason
        self._refit(pilot)
        commands.append(events.ChangePilot(pilot.id, state, reason, change))

    def _refit(self, pilot: PilotRecord) -> None:
        """What it has, or its state, is new."""
        self._index.refit(pilot, pilot.state is PilotState.ACTIVE)

    # ---- what they were sent --------------------------------------------------------------------------------

    def outcomes_arrived(self, event: events.OutcomesArrived, now: float, commands: list[Command]) -> None:
        """A worker has finished tasks."""
        pilot = self.by_id[event.pilot]
        sent = pilot.sent.get(event.batch)
        counted = self._queue.take_outcomes(event, pilot.name, sent is not None, now, commands)
        pilot.finished += len(event.outcomes)
        if sent is not None:
            is_down = sent.drop(event.outcomes)
            if not sent.entries:
                pilot.take(event.batch)
            if is_down and (device := pilot.devices.get(sent.qpu)) is not None and device.info is not None:
                # until it reports that it takes jobs
                self.device_changed(pilot, msgspec.structs.replace(device.info, accepts_jobs=False))
        _measure(pilot, sent, counted)
        self._index.touch(pilot)

    def attempts_lost(self, event: events.AttemptsLost, now: float, commands: list[Command]) -> None:
        """Tasks of a batch ended without outcome."""
        pilot = self.by_id[event.pilot]
        sent = pilot.sent.get(event.batch)
        if sent is None:
            return  # the pilot was given up in the meantime, its tasks are elsewhere
        tasks = list(sent.entries) if event.tasks is None else event.tasks
        lost = [record for id in tasks if (record := sent.entries.pop(id, None)) is not None]
        if not sent.entries:
            pilot.take(event.batch)
            self._index.touch(pilot)
        for record in lost:
            record.worker = event.worker
        if pilot.interrupts is not None and event.begun:
            self._queue.lose(lost, pilot.name, event.batch, *pilot.interrupts, commands)
            return
        loss = Loss.BLAMED if event.blame else Loss.COUNTED if event.begun else Loss.NOT_BEGUN
        self._queue.lose(lost, pilot.name, event.batch, event.reason, loss, commands, event.error)

    def validate(self) -> dict[int, tuple[str, int]]:
        """Raise AssertionError unless batches and what is in use agree; each unfinished task that is in a batch, with
        its pilot and batch."""
        return check_pilots(self.by_id, self._queue.tasks, self._queue.closed)


def _stop(pilot: PilotRecord) -> events.StopPilot:
    """End it now."""
    return events.StopPilot(pilot.id, drain=False, unused=pilot.state not in _UP and not pilot.rejoins)


def _measure(pilot: PilotRecord, sent: SentBatch | None, counted: list[tuple[TaskRecord, Outcome]]) -> None:
    """Update the measured times of the functions and of the pilot with these outcomes."""
    function, weight, seconds = None, 0.0, 0.0
    for record, outcome in counted:
        if outcome.status in (CANCELLED, UNAVAILABLE, REFUSED):
            continue
        if record.function is not function:
            _measure_one(pilot, sent, function, weight, seconds)
            function, weight, seconds = record.function, 0.0, 0.0
        weight += record.weight
        seconds += outcome.seconds
    _measure_one(pilot, sent, function, weight, seconds)


def _measure_one(
    pilot: PilotRecord, sent: SentBatch | None, function: FunctionRecord | None, weight: float, seconds: float
) -> None:
    if function is None or weight <= 0.0:
        return
    if sent is not None and sent.qpu in pilot.devices:
        pilot.devices[sent.qpu].measured(seconds, weight)
        return
    mean = seconds / weight / (1.0 if sent is None else sent.slowness)
    if function.seconds:
        ratio = min(max(mean / function.seconds, QUICKEST), SLOWEST)
        pilot.slowness += 0.1 * NEWEST * (ratio - pilot.slowness)
    function.measured(mean / pilot.slowness, weight)
