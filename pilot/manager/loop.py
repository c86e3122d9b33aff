"""The manager's thread: feeds the controller with what happens, and carries its commands out.

Other threads hand it events and new tasks; it alone touches the controller, the channel and the tasks' ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import zmq

from pilot import errors
from pilot.interfaces import JobState
from pilot.manager.handles import Failed
from pilot.manager.jobs import Fleet
from pilot.manager.journal import Journal, WorkerRow, pack
from pilot.resources import Terms
from pilot.results import CANCELLED, OK, Attempt, Outcome, Spooled, Value
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.records import TaskRecord
from pilot.states import PilotState, TaskState, is_final
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.channel import Server
from pilot.wire.link import Link
from pilot.wire.messages import Message, Work
from pilot.wire.payload import Spool

if TYPE_CHECKING:
    from pilot.manager.handles import Pilot, Scaler, Task

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

BEAT_SECONDS = 1.0
#: Messages that are taken in before tasks are sent to pilots again, and users' calls get their turn.
MESSAGES_AT_ONCE = 16
TICK_SECONDS = 0.1
#: Seconds without a sign of an agent after which its pilot counts as lost.
AGENT_SILENT_SECONDS = 30.0

#: Seconds between two looks whether there is room for results, and at most before the first one.
ROOM_SECONDS, MOST_ROOM_SECONDS = 1.0, 60.0
#: How often a message is asked for that cannot be taken in.
HANDLING_TRIES = 3
#: Lines, and bytes at most, of the log of an agent that has never reported.
TAIL_LINES, TAIL_BYTES = 4, 800

_STATES = {OK: "done", CANCELLED: "cancelled"}
_encode = msgspec.msgpack.Encoder().encode


class _Agent:
    """The manager's end of the line to one pilot's agent."""

    def __init__(self, pilot: str, mark: str, server: Server, manager: int) -> None:
        self.pilot = pilot
        self.mark = mark
        #: How the names of its processes begin: each adds a word of its own (see `Conductor._agent_of`).
        self.key = f"{pilot}/{mark}".encode()
        #: The process that is the agent; `key` until one has spoken.
        self.peer = self.key
        self.line = Link(self._transmit, manager)
        self._server = server
        self.joined = False
        self.heard = time.monotonic()
        #: How often the next message of the line could not be taken in.
        self.tries = 0
        self.host: str | None = None
        #: Node → host, of the nodes that it has or had.
        self.hosts: dict[str, str] = {}
        self.functions: set[str] = set()

    def _transmit(self, message: Message, frames: Sequence[bytes | memoryview]) -> None:
        """Send, or lose it: the line keeps it, and the agent asks for what it lacks."""
        try:
            self._server.send(self.peer, message, frames)
        except zmq.ZMQError:
            log.exception("a message to pilot %s is lost on the way", self.pilot)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Ctrl-C, for a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tail(path: Path) -> str:
    """The last lines of a log, as one line; "" when there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "; ".join([line.strip() for line in lines if line.strip()][-TAIL_LINES:])


def _failed(link: events.Link) -> Failed:
    return Failed(errors.DependencyFailed, link.reason, link.cause, link.first, link.links)


def _failed_row(entry: TaskRecord, failed: Failed) -> tuple[Any, ...]:
    error = msgspec.json.encode((failed.kind.__name__, *failed[1:])).decode()
    where = (entry.pilot, entry.worker, entry.bound)
    return (entry.id, "failed", None, *where, None, None, None, None, None, error)


class Conductor:
    """The thread between the user's calls and the agents."""

    def __init__(
        self,
        controller: Controller,
        server: Server,
        journal: Callable[[Callable[[list[Any]], None]], Journal],
        spool: Spool,
        start_pilot: Callable[[str, Fleet], str],
        ask_pilot: Callable[[events.AskPilot], None],
    ) -> None:
        """Make it; `start` starts it.

        Args:
            controller: decides.
            server: where agents connect to.
            journal: makes the journal, given what to call on commit.
            spool: where the large values of the session are.
            start_pilot: submits the placeholder job of a pilot to the fleet and returns its new mark.
            ask_pilot: makes a pilot that the controller wants, and posts `PilotAsked`.
        """
        self.controller = controller
        self.server = server
        self.journal = journal(self._committed)  # the first, for it may fail
        self.fleet = Fleet(self._job_started, self._job_ended, self._job_seen, self._is_heard)
        self._spool = spool
        self._start_pilot = start_pilot
        self.tasks: dict[int, Task] = {}
        self.pilots: dict[str, Pilot] = {}
        self.scalers: dict[str, Scaler] = {}
        self.codes: dict[str, bytes] = {}
        #: Pilots whose job was submitted and whose agent has not reported yet.
        self._unreported: set[str] = set()
        #: The workers of which an outcome came.
        self.workers: dict[str, WorkerRow] = {}
        #: Ids of the `Terms` in the journal.
        self.terms: dict[Terms, int] = {}
        #: Terms that some pilot can serve, as far as is known; emptied whenever that may have changed.
        self.servable: set[Terms] = set()
        self.finished = 0
        self._id = secrets.randbits(62) + 1
        self._agents: dict[str, _Agent] = {}
        self._marks: dict[bytes, _Agent] = {}
        self._submitted: deque[TaskRecord] = deque()
        self._inbox: deque[Callable[[], None]] = deque()
        self._sleeping = False
        #: An event was handled since tasks were sent to pilots last.
        self._unscheduled = False
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        #: When to look next whether there is room for large results; None: all could be written.
        self._room_at: float | None = None
        self._times_full = 0
        self._callbacks: deque[Task] = deque()
        self._callback_wake = threading.Semaphore(0)
        self._closing = self._over = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="pilot-manager", daemon=True)
        self._caller = threading.Thread(target=self._run_callbacks, name="pilot-callbacks", daemon=True)
        self._carry_out: dict[type[events.Command], Callable[[Any], None]] = {
            events.StartPilot: self._do_start_pilot,
            events.AskPilot: ask_pilot,
            events.PauseScaling: self._do_pause_scaling,
            events.WarnUnservable: self._do_warn_unservable,
            events.StopPilot: self._do_stop_pilot,
            events.ChangePilot: self._do_change_pilot,
            events.SendBatch: self._do_send_batch,
            events.SendCancel: self._do_send_cancel,
            events.Settle: self._do_settle,
            events.Fail: self._do_fail,
            events.FailDependents: self._do_fail_dependents,
            events.RecordAttempt: self._do_record_attempt,
        }

    # ---- other threads call -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._caller.start()

    def submit(self, entry: TaskRecord) -> None:
        """Take a new task."""
        self._submitted.append(entry)
        if self._sleeping:
            self.wake()
        if self._over:
            self._sweep()

    def post(self, event: events.Event) -> None:
        """Take an event."""
        self.call(lambda: self._feed(event))

    def call(self, function: Callable[[], None]) -> None:
        """Have the thread call this."""
        self._inbox.append(function)
        self.wake()

    def wake(self) -> None:
        """End the thread's sleep."""
        self._sleeping = False
        if self._ended:
            return
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"x")

    def is_here(self) -> bool:
        """True in one of the threads that must not wait for the manager."""
        return threading.current_thread() in (self._thread, self._caller)

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Have the thread call this, and wait for what it returns or raises; call it here when it has ended."""
        if self.is_here():
            return question()
        answer: Future[_Answer] = Future()

        def reply() -> None:
            try:
                answer.set_result(question())
            except Exception as error:
                answer.set_exception(error)

        self.call(reply)
        while not self._ended:
            with contextlib.suppress(TimeoutError):
                return answer.result(timeout=TICK_SECONDS)
        return question()

    def close(self, timeout: float) -> None:
        """Cancel every task, tell every agent to end, see to it that they do, and end. Blocks."""
        told = threading.Event()
        try:
            self.post(events.Closed())
            self.call(lambda: self._told(told))
            told.wait(timeout)
            self.fleet.close(timeout)
        except BaseException:  # Ctrl-C while we wait: no more patience with the agents, but they do end
            with _undisturbed():
                self.fleet.close(0.0)
                self._end()
            raise
        self._end()

    def discard(self) -> None:
        """Give up what was never started; jobs of before are left alone."""
        self.fleet.leave()
        self._close_all()

    def _told(self, told: threading.Event) -> None:
        self._closing = True
        told.set()

    def _end(self) -> None:
        self._over = True
        self.wake()
        self._thread.join()
        self._sweep()
        self._callback_wake.release()
        if threading.current_thread() is not self._caller:
            self._caller.join(timeout=5.0)
        self._close_all()

    def _close_all(self) -> None:
        self._ended = True
        self.journal.close()
        self.server.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _sweep(self) -> None:
        """Cancel the tasks that were submitted while the manager was being closed."""
        while self._submitted:
            with contextlib.suppress(IndexError):
                entry = self._submitted.popleft()
                entry.state = TaskState.CANCELLED
                self._spool.discard(entry.payload)  # it is in no journal
                self._end_task(entry, Outcome(entry.id, CANCELLED, 0.0, 0.0), None)

    def adopt(self, pilot: str, mark: str) -> None:
        """Expect an agent that another manager started. Before `start` only."""
        self._expect(pilot, mark)

    # ---- the loop ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self.server.socket, zmq.POLLIN)
        poller.register(self._wake_reader, zmq.POLLIN)
        next_tick = next_beat = 0.0
        while not self._over:
            self._sleeping = True
            if not (self._submitted or self._inbox):
                poller.poll(int(TICK_SECONDS * 1000))
            self._sleeping = False
            try:
                self._round()
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + TICK_SECONDS
                    self._execute(self.controller.tick(now))
                    self._look_for_room(now)
                    self.fleet.look()
                if now >= next_beat:
                    next_beat = now + BEAT_SECONDS
                    self._beat(now)
            except Exception:
                log.exception("the manager's thread goes on after an error of its own")

    def _look_for_room(self, now: float) -> None:
        """Have the tasks run again whose results could not be written, when there is room. The pause doubles: what can
        be written here may be refused elsewhere."""
        waiting = self.controller.queue.without_room
        if not waiting:
            return
        if self._room_at is None:
            log.error("%d task(s) wait for room: %s", len(waiting), next(iter(waiting)).attempts[-1].reason)
            self._room_at = now + min(ROOM_SECONDS * 2.0**self._times_full, MOST_ROOM_SECONDS)
            self._times_full += 1
        elif now >= self._room_at:
            self._room_at = now + ROOM_SECONDS
            if self._spool.has_room(max(waiting.values())):
                log.warning("there is room in %s again: %d task(s) run again", self._spool.folder, len(waiting))
                self._room_at = None
                self._feed(events.RoomSeen())

    def _round(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)
        while self._inbox:
            call = self._inbox.popleft()
            self._take_submitted()  # the call may be about one of them
            call()
        self._take_submitted()
        for _ in range(MESSAGES_AT_ONCE):
            if (received := self.server.receive()) is None:
                break
            peer, message, frames = received
            if (agent := self._agent_of(peer, message)) is not None:
                self._received(agent, message, frames)
        self._schedule()

    def _agent_of(self, peer: bytes, message: Message) -> _Agent | None:
        """The agent that has sent this. A job that runs twice makes two of one pilot: the first one that was welcome
        stays, and the other is told to end."""
        agent = self._marks.get(peer.rpartition(b"/")[0])
        if agent is None:
            self.server.send(peer, messages.Refused("this agent is not expected (any more)"))
            return None
        if not agent.joined:
            agent.peer = peer
        elif agent.peer != peer:
            reason = f"pilot {agent.pilot} has an agent already, on {agent.host}: its job runs twice"
            if isinstance(message, messages.Hello):
                log.warning("an agent on %s is refused: %s", message.host, reason)
            self.server.send(peer, messages.Refused(reason))
            return None
        return agent

    def _take_submitted(self) -> None:
        if not self._submitted:
            return
        if self._closing:
            self._sweep()
            return
        entries = [self._submitted.popleft() for _ in range(len(self._submitted))]
        self._journal_tasks(entries)
        new: list[TaskRecord] = []
        failed: list[events.Link] = []
        for entry in entries:
            if entry.needs and (link := self._resolve(entry)) is not None:
                self._end_task(entry, None, _failed(link))  # now, for those behind it may depend on it
                failed.append(link)
            else:
                new.append(entry)
        if failed:
            self._record_dependents(failed)
        self._feed(events.TasksSubmitted(new))

    def _resolve(self, entry: TaskRecord) -> events.Link | None:
        """Look up the tasks that a new one needs; how it fails when one of them did."""
        for id, reference in (entry.needs or {}).items():
            task = self.tasks[id]
            outcome = task._outcome
            if not task.done():
                entry.blockers = entry.blockers or set()
                entry.blockers.add(id)
            elif outcome is None or outcome.status != OK:
                entry.state = TaskState.FAILED
                how = "was cancelled" if task.cancelled() else "failed"
                reason = f"it depends on task {id} ({task.name}), which {how} before"
                return events.Link(entry, reason, id, *task._first())
            elif reference:
                entry.take_value(id, task._manager._value(outcome))
        return None

    def _feed(self, event: events.Event) -> None:
        commands: list[events.Command] = []
        self._unscheduled = True
        try:
            self.controller.handle(event, time.monotonic(), commands)
        finally:  # what was decided before an error holds
            self._execute(commands)

    def _schedule(self) -> None:
        """Send tasks to pilots, when something has happened since that was done last."""
        if self._unscheduled:
            self._unscheduled = False
            commands: list[events.Command] = []
            try:
                self.controller.schedule(time.monotonic(), commands)
            finally:
                self._execute(commands)

    def _execute(self, commands: Sequence[events.Command]) -> None:
        """Carry commands out. One that cannot be keeps none of the others from it: the controller counts on them."""
        for command in commands:
            try:
                self._carry_out[type(command)](command)
            except Exception as error:
                log.exception("%s cannot be carried out", type(command).__name__)
                if isinstance(command, events.SendBatch):
                    tasks = [entry.id for entry in command.entries]
                    reason = f"it could not be sent: {type(error).__name__}: {error}"
                    lost = events.AttemptsLost(
                        command.pilot, command.batch, "", tasks, reason, False, True, "PilotError"
                    )
                    self.post(lost)

    def _beat(self, now: float) -> None:
        self.server.look_out()
        for agent in list(self._agents.values()):
            self.server.send(agent.peer, agent.line.beat())
            if agent.joined and now - agent.heard > AGENT_SILENT_SECONDS:
                self._job_ended(agent.pilot, agent.mark, f"its agent was silent for {AGENT_SILENT_SECONDS:.0f} s")
                self.fleet.abandon(agent.pilot)

    # ---- what agents say --------------------------------------------------------------------------------------

    def _received(self, agent: _Agent, message: Message, frames: list[bytes]) -> None:
        agent.heard = time.monotonic()
        if not agent.joined and not isinstance(message, messages.Hello):
            return  # meant for the manager before: all that it had not acknowledged is sent again after the Welcome
        if isinstance(message, messages.Envelope):
            if agent.line.take(message):
                self._take_numbered(agent, message, frames)
        elif isinstance(message, messages.Heartbeat):
            agent.line.hear(message)
        elif isinstance(message, messages.Resend):
            agent.line.repeat(message)
        elif isinstance(message, messages.OutcomesReport):
            outcomes = messages.decode_outcomes(frames[0])
            if message.worker not in self.workers:
                self._met(agent, message)
            self._feed(events.OutcomesArrived(agent.pilot, message.batch, message.worker, outcomes))
        elif isinstance(message, messages.UnfinishedTasks):
            self._feed(
                events.AttemptsLost(
                    agent.pilot,
                    message.batch,
                    message.worker,
                    message.tasks,
                    message.reason,
                    message.blame,
                    message.begun,
                )
            )
        elif isinstance(message, messages.TaskStarted):
            self._feed(events.TaskStarted(agent.pilot, message.worker, message.task))
        elif isinstance(message, messages.Hello):
            self._joined(agent, message)
        elif isinstance(message, messages.AgentReady):
            self.pilots[agent.pilot]._client = message.client
            self.pilots[agent.pilot].nodes = tuple(node.name for node in message.nodes)
            agent.hosts.update((node.name, node.host) for node in message.nodes)
            self.pilots[agent.pilot]._devices_said(tuple(message.qpus))
            self._feed(
                events.PilotReady(agent.pilot, message.nodes, message.batches, message.seconds_left, message.qpus)
            )
        elif isinstance(message, messages.JobExpiring):
            self._feed(events.PilotExpiring(agent.pilot, message.reason))
        elif isinstance(message, messages.Broken):
            self._job_ended(agent.pilot, agent.mark, message.reason)
            self.fleet.abandon(agent.pilot)

    def _take_numbered(self, agent: _Agent, head: messages.Envelope, frames: list[bytes]) -> None:
        """Take in what must not be missed. When that fails it is not acknowledged, and the agent sends it again; after
        `HANDLING_TRIES` its tasks count as lost, for an agent that drains waits until all is acknowledged."""
        message: Message | None = None
        try:
            message = messages.decode(frames[0])
            self._received(agent, message, frames[1:])
        except Exception as error:
            agent.tries += 1
            what = type(message or head).__name__
            log.exception("%s of pilot %s cannot be taken in, try %d", what, agent.pilot, agent.tries)
            if agent.tries < HANDLING_TRIES:
                agent.line.untake()
                return
            if isinstance(message, messages.OutcomesReport | messages.UnfinishedTasks):
                reason = f"{what} cannot be taken in: {type(error).__name__}: {error}"
                self._lose_all(agent, message, frames[1:], reason)
        agent.tries = 0
        self.journal.mark((agent.peer, head.seq))

    def _lose_all(
        self,
        agent: _Agent,
        message: messages.OutcomesReport | messages.UnfinishedTasks,
        frames: list[bytes],
        reason: str,
    ) -> None:
        """The tasks of a message that cannot be taken in are tried again; all of its batch that are open, when it does
        not say which they are."""
        pilot, batch = agent.pilot, message.batch
        sent = self.controller.pilots.by_id[pilot].sent.get(batch)
        tasks = list(sent.entries) if sent is not None else []
        if isinstance(message, messages.UnfinishedTasks):
            tasks = message.tasks
        else:
            with contextlib.suppress(Exception):
                tasks = [outcome.task for outcome in messages.decode_outcomes(frames[0])]
        self.post(events.AttemptsLost(pilot, batch, message.worker, tasks, reason, False, True, "PilotError"))

    def _met(self, agent: _Agent, message: messages.OutcomesReport) -> None:
        """The first outcome of a worker: where it is goes into the record."""
        host = agent.hosts.get(message.node, agent.host or "")
        self.workers[message.worker] = WorkerRow(message.node, host, tuple(message.gpus), message.qpu or None)
        self.journal.put("workers", (message.worker, message.node, host, " ".join(message.gpus), message.qpu or None))

    def _joined(self, agent: _Agent, hello: messages.Hello) -> None:
        if hello.versions != versions():
            here, there = (f"Python {python}, quantum-pilot {ours}" for python, ours in (versions(), hello.versions))
            reason = f"versions differ: {here} at the manager, {there} at the agent"
            self.server.send(agent.peer, messages.Refused(reason))
            self._job_ended(agent.pilot, agent.mark, reason)
            return
        agent.joined, agent.host = True, hello.host
        self._unreported.discard(agent.pilot)
        agent.functions.clear()
        if is_final(self.pilots[agent.pilot].state):  # ended while it started
            self.server.send(agent.peer, messages.Stop())
            return
        self.server.send(agent.peer, messages.Welcome(self._id))
        self._feed(events.AgentJoined(agent.pilot))

    # ---- what jobs do (the fleet's thread) ----------------------------------------------------------------------

    def _job_started(self, pilot: str, native_id: str) -> None:
        self._unreported.add(pilot)
        self.journal.put("pilot_changes", (pilot, PilotState.QUEUED.value, "submitted", native_id, time.time()))

    def _job_seen(self, pilot: str, words: str) -> None:
        if pilot in self.pilots:  # else it is a job of nodes that were added to one
            self.pilots[pilot]._job = words
            self.post(events.JobSeen(pilot, words))

    def _job_ended(self, pilot: str, mark: str, reason: str, how: JobState = JobState.ENDED) -> None:
        if pilot not in self.pilots:
            log.info("nodes that were added (%s) are gone: %s", pilot, reason)
            self.journal.put("pilot_changes", (pilot, PilotState.DONE.value, reason, None, time.time()))
            return

        def ended() -> None:
            agent = self._agents.get(pilot)
            if agent is not None and agent.mark == mark:  # else it is about the pilot's last agent but one
                self._forget(agent)
                silent = how is JobState.ENDED and pilot in self._unreported
                self._feed(events.PilotEnded(pilot, reason + self._why_unreported(pilot) * silent, how))

        self.call(ended)

    def _is_heard(self, pilot: str) -> bool:
        """True while its agent is connected; `_beat` gives up one that is silent."""
        agent = self._agents.get(pilot)
        return agent is not None and agent.joined

    def _why_unreported(self, pilot: str) -> str:
        """What there is to say of a job that has ended before its agent reported: the end of its log."""
        one = self.pilots[pilot]
        if words := _tail(one.log_path):
            return f" before its agent reported; its log ends with: {words}"
        words = f" before its agent reported, and {one.log_path} is empty or not there"
        if self.fleet.launcher(one.description).remote:
            words += ": is the session folder visible on the compute nodes, under the same path? (session_dir)"
        return words

    def _expect(self, pilot: str, mark: str) -> None:
        if (old := self._agents.get(pilot)) is not None:
            self._forget(old)
        agent = self._agents[pilot] = _Agent(pilot, mark, self.server, self._id)
        self._marks[agent.key] = agent

    def _forget(self, agent: _Agent) -> None:
        self._marks.pop(agent.key, None)
        if self._agents.get(agent.pilot) is agent:
            del self._agents[agent.pilot]

    # ---- commands -----------------------------------------------------------------------------------------------

    def _do_start_pilot(self, command: events.StartPilot) -> None:
        self._unreported.discard(command.pilot)
        try:
            mark = self._start_pilot(command.pilot, self.fleet)
        except Exception as error:  # else it would be queued for ever
            known = isinstance(error, errors.PilotError)  # its words say all
            log.error("pilot %s cannot be started: %s", command.pilot, error, exc_info=None if known else error)
            reason = f"its job cannot be started: {error if known else f'{type(error).__name__}: {error}'}"
            self.post(events.PilotEnded(command.pilot, reason))
            return
        self._expect(command.pilot, mark)

    def _do_stop_pilot(self, command: events.StopPilot) -> None:
        agent = self._agents.get(command.pilot)
        if command.drain:
            if agent is not None:
                agent.line.send(messages.Drain())
            return
        if agent is not None:
            self.server.send(agent.peer, messages.Stop())
        self.fleet.stop(command.pilot)

    def shrink(self, pilot: str, count: int) -> None:
        """Tell an agent to give nodes back."""
        if (agent := self._agents.get(pilot)) is not None:
            agent.line.send(messages.ReleaseNodes(count))

    def _do_pause_scaling(self, command: events.PauseScaling) -> None:
        log.error("autoscaling is paused: %s", command.reason)
        self.scalers[command.scaler]._pause(command.reason)
        self.servable.clear()

    def _do_warn_unservable(self, command: events.WarnUnservable) -> None:
        then = "" if command.seconds is None else f", for {command.seconds:g} s, then they fail"
        log.warning(
            "%d task(s) wait for another pilot%s: %s. Submit one that can serve them (submit_pilot); "
            "PilotManager(wait_for_pilot=) says how long they wait",
            command.tasks,
            then,
            command.reason,
        )

    def _do_change_pilot(self, command: events.ChangePilot) -> None:
        state = command.state
        log.info("pilot %s: %s (%s)", command.pilot, state.value, command.reason)
        self.journal.put("pilot_changes", (command.pilot, state.value, command.reason, None, time.time()))
        self.pilots[command.pilot]._change(state, command.reason)
        if is_final(state):
            self.servable.clear()
        if state is PilotState.FAILED:
            log.error("pilot %s failed: %s", command.pilot, command.reason)

    def _do_send_batch(self, command: events.SendBatch) -> None:
        agent = self._agents.get(command.pilot)
        now = time.time()
        indices: dict[str, int] = {}
        works: list[Work] = []
        values: dict[int, Any] = {}
        limit = 0.0
        for entry in command.entries:
            entry.bound = now
            digest = entry.function.digest
            index = indices.setdefault(digest, len(indices))
            timeout = entry.terms.timeout
            if timeout is not None:
                limit = max(limit, timeout)
            own = None
            if entry.values and entry.refers_to_others:
                own = entry.values
            elif entry.values:
                values.update(entry.values)
            works.append(Work(entry.id, index, entry.payload, timeout, own))
        if agent is None:
            return  # it is gone; the event that says so is on its way
        unknown = [digest for digest in indices if digest not in agent.functions]
        tasks = [work.task for work in works]
        head = messages.RunBatch(
            command.batch,
            command.resources,
            tasks,
            list(indices),
            unknown,
            command.give_back_after,
            command.alone,
            limit,
        )
        body = messages.encode(messages.BatchBody(works, values))
        agent.line.send(head, [body, *(self.codes[digest] for digest in unknown)])
        agent.functions.update(unknown)

    def _do_send_cancel(self, command: events.SendCancel) -> None:
        if (agent := self._agents.get(command.pilot)) is not None:
            agent.line.send(messages.CancelTasks(command.tasks))

    def _do_settle(self, command: events.Settle) -> None:
        rows, spent = [], list[Value]()
        for entry, outcome in command.pairs:
            if outcome.status == OK and isinstance(entry.payload, Spooled):
                spent.append(entry.payload)
            self._end_task(entry, outcome, None)
            rows.append(
                (
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
                    None,
                )
            )
        self.journal.extend("results", rows)
        for value in spent:  # not before the result is safe: until then the task may have to run again
            self.journal.mark((None, partial(self._spool.discard, value)))

    def _do_fail(self, command: events.Fail) -> None:
        log.warning("%d task(s) failed: %s: %s", len(command.entries), command.error, command.reason)
        failed = Failed(getattr(errors, command.error), command.reason)
        for entry in command.entries:
            self._end_task(entry, None, failed)
        self.journal.extend("results", [_failed_row(entry, failed) for entry in command.entries])

    def _do_fail_dependents(self, command: events.FailDependents) -> None:
        for link in command.failed:
            self._end_task(link.entry, None, _failed(link))
        self._record_dependents(command.failed)

    def _record_dependents(self, failed: Sequence[events.Link]) -> None:
        log.warning("%d task(s) failed with what they depend on: %s", len(failed), failed[0].reason)
        self.journal.extend("results", [_failed_row(link.entry, _failed(link)) for link in failed])

    def _end_task(self, entry: TaskRecord, outcome: Outcome | None, failed: Failed | None) -> None:
        """A task is over. Whatever goes wrong here concerns no other task."""
        entry.payload = None  # its file stays: a task that has failed may be submitted again
        self.finished += 1
        try:
            task = self.tasks[entry.id]
            if task._settle(outcome, failed):
                self._callbacks.append(task)
                self._callback_wake.release()
        except Exception:
            log.exception("the end of task %d cannot be told", entry.id)

    def _do_record_attempt(self, command: events.RecordAttempt) -> None:
        entry = command.entry
        number = len(entry.attempts) + 1
        attempt = Attempt(
            number=number,
            pilot=command.pilot,
            worker=entry.worker or "",
            reason=command.reason,
            ended=time.time(),
            batch=command.batch,
        )
        entry.attempts = (*entry.attempts, attempt)
        row = (entry.id, number, attempt.pilot, attempt.worker, attempt.reason, attempt.ended, attempt.batch)
        self.journal.put("attempts", row)

    # ---- the journal --------------------------------------------------------------------------------------------

    def _journal_tasks(self, entries: list[TaskRecord]) -> None:
        rows = []
        for entry in entries:
            terms = self.terms.get(entry.terms)
            if terms is None:
                terms = self.terms[entry.terms] = len(self.terms) + 1
                self.journal.put("terms", (terms, _encode(entry.terms)))
            needs = _encode(entry.needs) if entry.needs else None
            rows.append((entry.id, entry.function.id, pack(entry.payload), terms, entry.name, entry.submitted, needs))
        self.journal.extend("tasks", rows)

    def _committed(self, marks: list[Any]) -> None:
        """In the journal's thread: what these marks stand for is safe.

        A mark is the number of a message behind its sender, or what is to be called now behind None.
        """
        if last := {peer: seq for peer, seq in marks if peer is not None}:
            self.call(lambda: self._acknowledge(last))
        for peer, call in marks:
            if peer is None:
                call()

    def _acknowledge(self, last: dict[bytes, int]) -> None:
        for peer, seq in last.items():
            agent = self._marks.get(peer.rpartition(b"/")[0])
            if agent is not None and agent.peer == peer:
                agent.line.done(seq)
                self.server.send(peer, messages.Ack(self._id, seq))

    # ---- callbacks ----------------------------------------------------------------------------------------------

    def _run_callbacks(self) -> None:
        while True:
            self._callback_wake.acquire()
            if not self._callbacks:
                if self._over:
                    return
                continue
            try:
                self._callbacks.popleft()._call_back()
            except BaseException:
                log.exception("the callbacks of a task cannot be called")
