"""The manager's thread: feeds the controller with what happens, and carries its commands out.

It alone touches the controller, the channel, and the ends of tasks. Other threads leave what they want in the mailbox.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pilot import errors
from pilot.interfaces import JobState
from pilot.manager.agents import Agents
from pilot.manager.children import Children
from pilot.manager.estimating import Estimating
from pilot.manager.faults import EventRing
from pilot.manager.jobs import job_name, pilot_of
from pilot.manager.journal import PilotChangeRow, PilotParentRow, PilotRow
from pilot.manager.pilots import change_pilot, pilot_asked
from pilot.manager.recovery import Restored, RestoredPilot
from pilot.manager.state import SessionState
from pilot.manager.submissions import Submissions
from pilot.manager.tasks import TaskRecorder
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.records import TaskRecord
from pilot.states import PilotState, is_final
from pilot.wire import messages
from pilot.wire.polling import Poller
from pilot.wire.server import Server

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
TICK_SECONDS = 0.1

#: What tells a program to end.
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds that an agent has to end by itself before its job is cancelled.
STOP_SECONDS = 8.0
#: Seconds between two looks whether there is room for results, and at most before the first one.
ROOM_SECONDS, MOST_ROOM_SECONDS = 1.0, 60.0
#: Files with the events before an error of the manager's own that are written at most.
MOST_FAULTS = 5
#: Lines, and bytes at most, of the log of an agent that has never reported.
TAIL_LINES, TAIL_BYTES = 4, 800


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C for a moment, and what else tells a program to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _INTERRUPTS}
    known = {number: handler for number, handler in before.items() if handler is not None}  # None: not Python's
    for number in known:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


def _tail(path: Path) -> str:
    """The last lines of a log, as one line; "" when there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "; ".join([line.strip() for line in lines if line.strip()][-TAIL_LINES:])


def _why_unreported(state: SessionState, pilot: str) -> str:
    """The end of the message about a job that has ended before its agent reported: the end of its log."""
    one = state.pilots[pilot]
    if text := _tail(one.log_path):
        return f" before its agent reported; its log ends with: {text}"
    if one.log_path.exists():  # its host sees the folder
        return f" before its agent reported; {one.log_path} is empty"
    text = f" before its agent reported, and {one.log_path} is not there"
    if state.jobs.launcher(one.description).remote:
        text += ": is the session folder visible on the compute nodes, under the same path? (session_dir)"
    return text


class ManagerLoop:
    """The thread between the user's calls and the agents."""

    def __init__(
        self, state: SessionState, controller: Controller, server: Server, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make it; `start` starts it. The threads of the journal and of the jobs start now.

        Args:
            state: the session.
            controller: decides.
            server: where agents connect to.
            clock: seconds, by a clock that never steps.
        """
        self._state = state
        self._controller = controller
        self._server = server
        self._clock = clock
        self._tasks = TaskRecorder(state)
        self._submissions = Submissions(state, self._tasks, self._feed)
        self.estimating = Estimating(state, self._submissions, self._feed)
        self._agents = Agents(state, server, self.estimating.feed, self.job_ended, clock)
        self._events = EventRing()
        #: Errors of the manager's own.
        self._faults = 0
        #: When to look next whether there is room for large results; None: all could be written.
        self._room_at: float | None = None
        self._times_full = 0
        #: An event was handled since tasks were sent to pilots last.
        self._unscheduled = False
        self._over = False
        self._thread = threading.Thread(target=self._run, name="pilot-manager", daemon=True)
        state.mailbox.own_threads |= {self._thread, state.callbacks.thread}
        self._carry_out: dict[type[events.Command], Callable[[Any], None]] = {
            events.StartPilot: self._start_pilot,
            events.AskPilot: self._ask_pilot,
            events.PauseScaling: self._pause_scaling,
            events.WarnUnservable: self._warn_unservable,
            events.StopPilot: self._stop_pilot,
            events.RemoveNodes: self._remove_nodes,
            events.ChangePilot: self._change_pilot,
            events.SendBatch: self._agents.send_batch,
            events.SendCancel: self._send_cancel,
            events.Settle: self._tasks.settle,
            events.Fail: self._tasks.fail,
            events.FailDependents: self._tasks.fail_dependents,
            events.RecordAttempt: self._tasks.record_attempt,
        }
        state.journal.start(self._agents.committed)
        state.jobs.begin(self)

    def serve_tasks(self, children: Children) -> None:
        """Have these carry out what running tasks ask. Before `start`."""
        self._state.children = children
        self._agents.on_call = children.called
        self._carry_out[events.EndWait] = children.stuck

    def reply(self, pilot: str, message: messages.TaskReply, frames: list[bytes]) -> None:
        """Send an answer to a running task. Any thread may call it."""
        self._state.mailbox.put(lambda: self._agents.send(pilot, message, frames))

    # ---- other threads call -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._state.callbacks.thread.start()

    def explain(self, entry: TaskRecord) -> str:
        """Why a task is where it is."""
        return self._state.mailbox.ask(lambda: self._controller.explain(entry, self._clock()))

    def begin_to_close(self) -> None:
        """Tell every agent to end, and take no more tasks; `close` is still to be called. Takes no lock."""
        self._state.note_unfinished()
        self._state.mailbox.put(self._submissions.close)
        self._state.mailbox.put(events.Closing())

    def close(self, timeout: float) -> None:
        """End every agent and its job, cancel every task that was not finished then, and end. Blocks."""
        try:
            self.begin_to_close()
            self._state.mailbox.when_taken().wait(timeout)
            self._state.jobs.close(timeout)
        except BaseException:  # Ctrl-C while we wait: the agents are ended at once
            with _without_interrupts():
                self._state.jobs.close(0.0)
                self._end()
            raise
        self._end()

    def _end(self) -> None:
        mailbox = self._state.mailbox
        mailbox.put(events.Closed())
        mailbox.when_taken().wait()
        self._over = mailbox.is_over = True
        mailbox.wake()
        self._thread.join()
        self._state.cancel_late_tasks()
        self._state.callbacks.close()
        mailbox.close()
        self._state.journal.close()
        self._state.commits.close()
        self._state.backlog.close()
        if self._state.children is not None:  # now none of its calls waits any more
            self._state.children.close()
        self._server.close()
        self._state.observers.close()

    # ---- an attached session (before `start`) -------------------------------------------------------------------

    def take_over(self, restored: Restored) -> None:
        """Take over what the manager before had: its agents may join again, and its jobs are watched."""
        self._state.take_over(restored)
        self._tasks.take_over(restored.terms)
        for pilot in restored.pilots:
            if not is_final(pilot.state):
                self._take_over_pilot(pilot)
        self._state.mailbox.put(events.Attached(restored.firsts))

    def _take_over_pilot(self, pilot: RestoredPilot) -> None:
        """A pilot that was not over: its agent may join again. One without (no mark) is submitted now."""
        id, description, native_id = pilot.id, pilot.description, pilot.native_id
        jobs, folder = self._state.jobs, self._state.folder
        if pilot.mark:
            self._agents.expect(id, pilot.mark)
            if native_id is None and (native_id := jobs.find(id, description, pilot.mark)) is not None:
                self._record_change(id, PilotState.QUEUED, "its job was found", native_id)
            if native_id is not None:
                jobs.adopt(id, description, native_id, pilot.mark, folder.pilot(id))
            for number, native in pilot.further_jobs.items():
                jobs.adopt(job_name(id, number), description, native, pilot.mark, folder.pilot(f"{id}/nodes-{number}"))
        asked = msgspec.structs.replace(
            pilot_asked(self._state.pilots[id]),
            rejoins=bool(pilot.mark),
            draining=pilot.draining,
            succeeded=pilot.succeeded,
            started_again=pilot.started_again,
            taken=pilot.taken,
            job_known=native_id is not None,
            reported=pilot.reported,
        )
        self._state.mailbox.put(asked)

    # ---- the loop ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        mailbox, poller = self._state.mailbox, Poller()
        self._server.register(poller)
        poller.register(mailbox.descriptor)
        next_tick = next_beat = 0.0
        while not self._over:
            ready = poller.wait(TICK_SECONDS if mailbox.may_sleep() else 0.0)
            mailbox.awake(mailbox.descriptor in ready)
            try:
                self._round()
                now = self._clock()
                if now >= next_tick:
                    next_tick = now + TICK_SECONDS
                    self._execute(self._controller.tick(now))
                    self._look_for_room(now)
                    self._state.jobs.look()
                if now >= next_beat:
                    next_beat = now + BEAT_SECONDS
                    self._agents.beat()
            except BaseException:  # SystemExit of a plugin included
                log.exception("the manager's thread goes on after an error of its own")
                self._write_fault()

    def _round(self) -> None:
        mailbox = self._state.mailbox
        while (item := mailbox.take()) is not None:
            self._submissions.take()  # the item may be about one of them
            if isinstance(item, events.Event):
                self._submissions.hand_on()
                self._feed(item)
            elif isinstance(item, events.Command):
                self._execute([item])
            else:
                item()
        self._submissions.take()
        self._agents.read()
        self._schedule()

    def _feed(self, event: events.Event) -> None:
        now, commands = self._clock(), list[events.Command]()
        self._events.add(event, now)
        try:
            self._controller.handle(event, now, commands)
        finally:  # what was decided before an error holds
            self._execute(commands)
        self._unscheduled = True

    def _schedule(self) -> None:
        """Send tasks to pilots, when something has happened since that was done last."""
        if self._unscheduled:
            self._unscheduled = False
            commands: list[events.Command] = []
            try:
                self._controller.schedule(self._clock(), commands)
            finally:
                self._execute(commands)

    def _execute(self, commands: Sequence[events.Command]) -> None:
        """Carry commands out. For one that cannot be, the controller gets an event; the others are carried out."""
        for command in commands:
            try:
                self._carry_out[type(command)](command)
            except BaseException as error:  # of a plugin: no Ctrl-C comes here
                known = isinstance(error, errors.PilotError)  # its message says all
                text = errors.error_text(error)
                log.error(
                    "%s cannot be carried out: %s", type(command).__name__, text, exc_info=None if known else error
                )
                self._state.mailbox.put(events.CommandFailed(command, text))
                if not known:
                    self._write_fault()

    def _write_fault(self) -> None:
        """Write the events that led to the error that is being handled; the first errors of a session show most."""
        self._faults += 1
        if self._faults <= MOST_FAULTS:
            try:
                path = self._state.folder.path / f"events-{self._faults}.msgpack"
                self._events.write(path, list(self._state.functions.values()), traceback.format_exc())
                log.error("the events before this error are in %s", path)
            except Exception:
                log.exception("the events before this error cannot be written")

    def write_events(self, path: Path) -> None:
        """Write the last events to a file. Blocks; `faults.read` reads it.

        Raises:
            SessionError: it cannot be written.
        """
        self._state.mailbox.ask(lambda: self._events.write(path, list(self._state.functions.values())))

    def _look_for_room(self, now: float) -> None:
        """Have the tasks run again whose results could not be written, when there is room. The pause doubles: what can
        be written here may be refused elsewhere."""
        waiting = self._controller.queue.without_room
        if not waiting:
            return
        if self._room_at is None:
            log.error("%d task(s) wait for room: %s", len(waiting), next(iter(waiting)).attempts[-1].reason)
            self._room_at = now + min(ROOM_SECONDS * 2.0**self._times_full, MOST_ROOM_SECONDS)
            self._times_full += 1
        elif now >= self._room_at:
            self._room_at = now + ROOM_SECONDS
            spool = self._state.spool
            if spool.has_room(max(waiting.values())):
                log.warning("there is room in %s again: %d task(s) run again", spool.folder, len(waiting))
                self._room_at = None
                self._feed(events.RoomSeen())

    # ---- what jobs do (in the thread of the jobs) ---------------------------------------------------------------

    def job_started(self, pilot: str, native_id: str) -> None:
        """A job was submitted."""
        self._state.mailbox.put(lambda: self._agents.submitted(pilot))
        self._record_change(pilot, PilotState.QUEUED, "submitted", native_id)

    def job_seen(self, pilot: str, text: str) -> None:
        """The resource manager's text about a job has changed."""
        if pilot in self._state.pilots:  # else it is a job of nodes that were added to one
            self._state.pilots[pilot].job = text
            self._state.mailbox.put(events.JobSeen(pilot, text))
            self._state.mailbox.put(lambda: self._state.observers.pilot_changed(self._state.pilots[pilot]))

    def job_ended(self, pilot: str, mark: str, reason: str, how: JobState = JobState.ENDED) -> None:
        """A job has ended or cannot be started."""
        if pilot not in self._state.pilots:
            log.info("nodes that were added (%s) are gone: %s", pilot, reason)
            self._record_change(pilot, PilotState.DONE, reason)
            return

        def ended() -> None:
            silent = how is JobState.ENDED and pilot in self._agents.unreported
            if self._agents.forget(pilot, mark):  # else it is about the pilot's last agent but one
                self._feed(events.PilotEnded(pilot, reason + _why_unreported(self._state, pilot) * silent, how))

        self._state.mailbox.put(ended)

    def is_heard(self, pilot: str) -> bool:
        """True while the pilot's agent is connected."""
        return self._agents.is_heard(pilot)

    # ---- commands -----------------------------------------------------------------------------------------------

    def _start_pilot(self, command: events.StartPilot) -> None:
        state, id = self._state, command.pilot
        self._agents.unreported.discard(id)
        wanted = state.pilots[id].description
        job, mark = state.jobs.describe(id, wanted)
        state.journal.put(PilotRow(id, msgspec.msgpack.encode(wanted), mark))
        self._agents.expect(id, mark)
        state.jobs.submit(job, mark)

    def _ask_pilot(self, command: events.AskPilot) -> None:
        """A pilot that the controller wants."""
        pilot = self._state.new_pilot(command.description, command.ancestors)
        if command.parent is not None:
            self._state.journal.put(PilotParentRow(pilot.id, command.parent))
        asked = msgspec.structs.replace(pilot_asked(pilot), parent=command.parent, scaler=command.scaler)
        self._state.mailbox.put(asked)

    def _stop_pilot(self, command: events.StopPilot) -> None:
        if command.drain:
            self._agents.send(command.pilot, messages.Drain())
            return
        self._agents.stop(command.pilot)
        self._state.jobs.stop(command.pilot, 0.0 if command.unused else STOP_SECONDS)

    def _remove_nodes(self, command: events.RemoveNodes) -> None:
        self._agents.send(command.pilot, messages.ReleaseNodes(command.count))

    def _send_cancel(self, command: events.SendCancel) -> None:
        self._agents.send(command.pilot, messages.CancelTasks(command.tasks, command.running))

    def _pause_scaling(self, command: events.PauseScaling) -> None:
        log.error("autoscaling is paused: %s", command.reason)
        scaler = self._state.scalers[command.scaler]
        scaler.over = scaler.over or command.reason
        self._state.servable.clear()

    def _warn_unservable(self, command: events.WarnUnservable) -> None:
        then = "" if command.seconds is None else f", for {command.seconds:g} s, then they fail"
        log.warning(
            "%d task(s) wait for another pilot%s: %s. Submit one that can run them (submit_pilot); "
            "PilotManager(wait_for_pilot=) sets how long they wait",
            command.tasks,
            then,
            command.reason,
        )

    def _change_pilot(self, command: events.ChangePilot) -> None:
        state = command.state
        log.info("pilot %s: %s (%s)", command.pilot, state.value, command.reason)
        row = PilotChangeRow(command.pilot, state.value, command.reason, None, time.time(), int(command.change))
        self._state.journal.put(row)
        change_pilot(self._state.pilots[command.pilot], state, command.reason)
        self._state.observers.pilot_changed(self._state.pilots[command.pilot])
        self._state.servable.clear()
        self._state.mailbox.put(self.estimating.look)
        if state is PilotState.FAILED:
            log.error("pilot %s failed: %s", command.pilot, command.reason)

    def _record_change(self, job: str, state: PilotState, reason: str, native_id: str | None = None) -> None:
        pilot, number = pilot_of(job)
        self._state.journal.put(PilotChangeRow(pilot, state.value, reason, native_id, time.time(), job=number))
