"""The decisions: events in, commands out. No clock, no thread, no I/O; the time comes with each call.

Each part owns its state: `queue` (tasks), `pilots` (pilots and what they were sent) and `scalers` (autoscalers). Tasks
with equal `Terms` queue in one *lane*. A batch is cut off the front of a lane only when a pilot has *credit* for it
(late binding), so a slow or late pilot holds no tasks that others could run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilot.errors import ErrorCode
from pilot.interfaces import Policy
from pilot.resources import Capacity
from pilot.scheduling import events
from pilot.scheduling.events import Command, Event
from pilot.scheduling.explaining import Explainer
from pilot.scheduling.index import Index
from pilot.scheduling.pilots import Pilots
from pilot.scheduling.placing import Placer
from pilot.scheduling.queue import GENERATION_BITS, TaskQueue
from pilot.scheduling.records import TaskRecord
from pilot.scheduling.scalers import Scalers
from pilot.scheduling.unservable import UnservableTasks
from pilot.scheduling.waiting_tasks import WaitingTasks
from pilot.states import PilotState

if TYPE_CHECKING:
    from pilot.scheduling.shared_queues import SharedQueues


class Controller:
    """Decides what to do next about all pilots and unfinished tasks.

    `handle` takes in an event, `schedule` sends tasks to pilots; with several events, handle all of them and schedule
    once. `tick` does what depends on time alone.
    """

    def __init__(self, policy: Policy, wait_for_pilot: float | None = 0.0, qpu_policy: Policy | None = None) -> None:
        """Make it.

        Args:
            policy: decides which task is next, and which of the pilots with room gets it.
            wait_for_pilot: seconds that queued tasks wait for another pilot when none can run them any more, before
                they fail; None: for ever.
            qpu_policy: the same for tasks that want QPUs; None: ``policy``.
        """
        self._index = index = Index()
        self.queue = TaskQueue(index)
        self.pilots = Pilots(self.queue, index)
        self.scalers = Scalers(self.queue, self.pilots, index)
        self._waiting = WaitingTasks(self.queue, self.pilots, index, self.scalers.capacities)
        self._unservable = UnservableTasks(self.queue, wait_for_pilot)
        #: Where a policy wants to know how long jobs wait in the queues of QPUs.
        self._shared_queues: SharedQueues | None = None
        if type(qpu_policy or policy).assign is not Policy.assign:
            from pilot.scheduling.shared_queues import SharedQueues

            self._shared_queues = SharedQueues(self.pilots)
        self._placer = Placer(policy, self.queue, index, qpu_policy, self._may_come)
        self._explainer = Explainer(self.queue, self.pilots, self._unservable, policy, qpu_policy or policy)
        self._handlers: dict[type[Event], Callable[[Any, float, list[Command]], None]] = {
            events.TasksSubmitted: self.queue.submitted,
            events.CircuitsEstimated: self.queue.estimated,
            events.TaskStarted: self.queue.started,
            events.TaskWaits: self._waiting.waits,
            events.TaskResumes: self._waiting.resumes,
            events.RoomSeen: self.queue.room_seen,
            events.CancelAsked: self.queue.cancel,
            events.OutcomesArrived: self.pilots.outcomes_arrived,
            events.AttemptsLost: self.pilots.attempts_lost,
            events.PilotAsked: self._pilot_asked,
            events.AgentJoined: self.pilots.joined,
            events.JobSeen: self.pilots.job_seen,
            events.PilotReady: self._pilot_ready,
            events.QueueSeen: self._queue_seen,
            events.PilotExpiring: self.pilots.expiring,
            events.PilotStopAsked: self._pilot_stop_asked,
            events.PilotEnded: self._pilot_ended,
            events.ScalingAsked: self.scalers.asked,
            events.ScalingStopAsked: self._scaling_stop_asked,
            events.Attached: self._attached,
            events.Closing: self._closing,
            events.Closed: self._closing,
            events.CommandFailed: self._command_failed,
        }

    def handle(self, event: Event, now: float, commands: list[Command] | None = None) -> list[Command]:
        """Take in one event. Nothing is sent to pilots: `schedule` does that.

        Args:
            event: what happened.
            now: seconds by a clock that never steps.
            commands: the commands are added here; after an error it has those that were decided before.

        Returns:
            What to do, in order.
        """
        commands = [] if commands is None else commands
        self._handlers[type(event)](event, now, commands)
        return commands

    def schedule(self, now: float, commands: list[Command] | None = None) -> list[Command]:
        """Send tasks to pilots that have room. Arguments and result as those of `handle`."""
        commands = [] if commands is None else commands
        queue = self.queue
        if (queue.lanes or queue.planned or self._placer.has_queued) and self.pilots.may_place(now):
            self._placer.place(now, commands)
        return commands

    def step(self, event: Event, now: float) -> list[Command]:
        """`handle` one event, then `schedule`."""
        return self.schedule(now, self.handle(event, now))

    def tick(self, now: float) -> list[Command]:
        """Call this regularly: delays of retries, ends of walltimes, autoscaling, tasks that no pilot can run; then
        `schedule`."""
        commands: list[Command] = []
        self.queue.tick(now)
        self.pilots.tick(now, commands)
        for event in self.pilots.unreported(now):
            self._pilot_ended(event, now, commands)
        self.scalers.tick(now, commands)
        self._fail_unservable(now, commands)
        self._waiting.end_endless(now, commands)
        return self.schedule(now, commands)

    def explain(self, record: TaskRecord, now: float) -> str:
        """Why a task is where it is, as a text."""
        return self._explainer.explain(record, self._capacities(now), now)

    def validate(self) -> None:
        """Raise AssertionError, with what is wrong, unless all parts agree. For tests: it checks every task."""
        self.queue.validate(self.pilots.validate())
        active = {id: one for id, one in self.pilots.by_id.items() if one.state is PilotState.ACTIVE}
        self._index.validate(active, self.queue.lanes)

    # ---- events that concern more than one part -------------------------------------------------------------

    def _pilot_asked(self, event: events.PilotAsked, now: float, commands: list[Command]) -> None:
        over = "its autoscaler was stopped" if self.scalers.is_over(event.scaler) else None
        self.pilots.asked(event, "the manager was closed" if self.queue.closed else over, now, commands)

    def _pilot_ready(self, event: events.PilotReady, now: float, commands: list[Command]) -> None:
        pilot = self.pilots.by_id[event.pilot]
        before = pilot.state
        if self._shared_queues is not None:
            self._shared_queues.ready(event, now)
        self.pilots.ready(event, now, commands)
        if pilot.state is not before:
            self.scalers.pilot_started(pilot)

    def _may_come(self) -> bool:
        """True while a pilot is on its way, or has a QPU that has not reported yet."""
        return bool(self.pilots.coming) or any(pilot.is_coming for pilot in self.pilots.by_id.values())

    def _queue_seen(self, event: events.QueueSeen, now: float, commands: list[Command]) -> None:
        if self._shared_queues is not None:
            self._shared_queues.seen(event, now, commands)

    def _pilot_stop_asked(self, event: events.PilotStopAsked, now: float, commands: list[Command]) -> None:
        self.pilots.stop(event, now, commands)
        self._fail_unservable(now, commands)

    def _pilot_ended(self, event: events.PilotEnded, now: float, commands: list[Command]) -> None:
        pilot = self.pilots.by_id[event.pilot]
        before = pilot.state
        self.pilots.ended(event, now, commands)
        if pilot.state is PilotState.FAILED is not before and pilot.queue_seconds is None:
            self.scalers.start_failed(pilot.scaler, event.reason, commands)
        self._fail_unservable(now, commands)

    def _scaling_stop_asked(self, event: events.ScalingStopAsked, now: float, commands: list[Command]) -> None:
        self.scalers.stop(event, now, commands)
        self._fail_unservable(now, commands)

    def _attached(self, event: events.Attached, now: float, commands: list[Command]) -> None:
        self.pilots.attached(now)
        self.queue.firsts = event.firsts
        self._placer.batches.last = (len(event.firsts) - 1) << GENERATION_BITS

    def _closing(self, event: events.Closing | events.Closed, now: float, commands: list[Command]) -> None:
        self.scalers.close()
        self.queue.close(commands, all_gone=isinstance(event, events.Closed))
        self._unservable.clear()
        self.pilots.close(commands)

    def _command_failed(self, event: events.CommandFailed, now: float, commands: list[Command]) -> None:
        """The tasks or pilots of the command end with its error, or are tried again; a second failure ends them."""
        match event.command:
            case events.SendBatch(pilot, batch, entries=records):
                reason, tasks = f"it could not be sent: {event.error}", [record.id for record in records]
                lost = events.AttemptsLost(pilot, batch, "", tasks, reason, False, True, ErrorCode.PILOT_ERROR)
                self.pilots.attempts_lost(lost, now, commands)
            case events.StartPilot(pilot):
                ended = events.PilotEnded(pilot, f"its job cannot be started: {event.error}")
                self._pilot_ended(ended, now, commands)
            case events.AskPilot(scaler=scaler) as command:
                self.pilots.ask_failed(command)
                self.scalers.start_failed(scaler, f"it could not be requested: {event.error}", commands)
                self._fail_unservable(now, commands)
            case events.Settle(pairs):
                self._end([record for record, _ in pairs], event, commands)
            case events.FailDependents(failed):
                self._end([link.entry for link in failed], event, commands)
            case events.Fail(records, error) if error != ErrorCode.PILOT_ERROR:
                self._end(records, event, commands)

    def _end(self, records: list[TaskRecord], event: events.CommandFailed, commands: list[Command]) -> None:
        self.queue.fail(records, ErrorCode.PILOT_ERROR, f"its end could not be recorded: {event.error}", commands)

    # ---- tasks that no pilot can run ------------------------------------------------------------------------

    def _fail_unservable(self, now: float, commands: list[Command]) -> None:
        if not self.pilots.may_come(now):
            self._unservable.fail(lambda: self._capacities(now), self._index.version, now, commands)

    def _capacities(self, now: float) -> list[Capacity]:
        """What the pilots have, and what further pilots may have."""
        return self.pilots.capacities(now) + self.scalers.capacities()
