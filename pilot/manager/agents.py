"""The manager's end of the links to its pilots' agents: what they send becomes events, commands are sent to them."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from pilot.errors import ErrorCode
from pilot.manager.journal import WorkerRow
from pilot.manager.pilots import update_pilot
from pilot.manager.state import SessionState
from pilot.scheduling import events
from pilot.states import is_final
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.known_functions import KnownFunctions
from pilot.wire.link import Link
from pilot.wire.messages import Message, Work
from pilot.wire.server import Server

log = logging.getLogger(__name__)

#: Seconds without a message of an agent after which its pilot counts as lost.
SILENT_SECONDS = 30.0
#: How often a message that cannot be handled is requested again.
HANDLING_TRIES = 3
#: Messages that are handled before tasks are sent to pilots again, and users' calls get their turn.
READ_AT_ONCE = 16


class _Agent:
    """The manager's end of the link to one pilot's agent."""

    def __init__(self, pilot: str, mark: str, server: Server, manager: int, now: float) -> None:
        self.pilot = pilot
        self.mark = mark
        #: How the names of its processes begin: each adds something of its own (see `Agents._sender`).
        self.key = f"{pilot}/{mark}".encode()
        #: The process that is the agent; `key` until one has sent something.
        self.peer = self.key
        self.link = Link(self._transmit, manager)
        self._server = server
        self.joined = False
        self.heard = now
        #: How often the next message of the link could not be handled.
        self.tries = 0
        self.host: str | None = None
        #: Node → host, of the nodes that it has or had.
        self.hosts: dict[str, str] = {}
        self.functions = KnownFunctions()

    def _transmit(self, message: Message, frames: Sequence[bytes | memoryview]) -> None:
        """Send, or lose it: the link keeps it, and the agent asks for what it lacks."""
        self._server.send(self.peer, message, frames)


class Agents:
    """The agents of one session: those that are expected, and those that have joined. For the manager's thread."""

    def __init__(
        self,
        state: SessionState,
        server: Server,
        feed: Callable[[events.Event], None],
        on_end: Callable[[str, str, str], None],
        clock: Callable[[], float],
    ) -> None:
        """Make it, with no agent.

        Args:
            state: the session.
            server: where agents connect to.
            feed: takes the events.
            on_end: called with pilot, mark and reason when an agent cannot go on.
            clock: seconds, by a clock that never steps.
        """
        self._state = state
        self._server = server
        self._feed = feed
        self._on_end = on_end
        self._clock = clock
        #: The number of this manager in the links.
        self._id = secrets.randbits(62) + 1
        self._agents: dict[str, _Agent] = {}
        self._by_key: dict[bytes, _Agent] = {}
        #: Carries out what running tasks ask; set before the first pilot is there.
        self.on_call: Callable[[str, messages.TaskCall, list[bytes]], None] | None = None
        #: Pilots whose job was submitted and whose agent has not reported yet.
        self.unreported: set[str] = set()

    # ---- who they are -------------------------------------------------------------------------------------------

    def expect(self, pilot: str, mark: str) -> None:
        """From now on the pilot's agent is the one with this mark."""
        if (old := self._agents.get(pilot)) is not None:
            self._remove(old)
        agent = self._agents[pilot] = _Agent(pilot, mark, self._server, self._id, self._clock())
        self._by_key[agent.key] = agent

    def submitted(self, pilot: str) -> None:
        """The pilot's job was submitted; its agent may have joined before this is known."""
        if not self.is_heard(pilot):
            self.unreported.add(pilot)

    def forget(self, pilot: str, mark: str) -> bool:
        """Expect this agent no more; False when the pilot has another one by now, or none."""
        agent = self._agents.get(pilot)
        if agent is None or agent.mark != mark:
            return False
        self._remove(agent)
        return True

    def _remove(self, agent: _Agent) -> None:
        del self._by_key[agent.key], self._agents[agent.pilot]

    def is_heard(self, pilot: str) -> bool:
        """True while the pilot's agent is connected; `beat` gives up one that is silent. Any thread may ask."""
        agent = self._agents.get(pilot)
        return agent is not None and agent.joined

    # ---- what they send -----------------------------------------------------------------------------------------

    def read(self) -> None:
        """Handle what has come, some messages at a time."""
        for _ in range(READ_AT_ONCE):
            if (received := self._server.receive()) is None:
                break
            peer, message, frames = received
            if (agent := self._sender(peer, message)) is not None:
                self._received(agent, message, frames)

    def _sender(self, peer: bytes, message: Message) -> _Agent | None:
        """The agent that has sent this. A job that runs twice makes two agents of one pilot: the one that joined first
        stays, and the other one is refused and ends."""
        agent = self._by_key.get(peer.rpartition(b"/")[0])
        if agent is None:
            self._server.send(peer, messages.Refused("this agent is not expected (any more)"))
            return None
        if not agent.joined:
            agent.peer = peer
        elif agent.peer != peer:
            reason = f"pilot {agent.pilot} has an agent already, on {agent.host}: its job runs twice"
            if isinstance(message, messages.Hello):
                log.warning("an agent on %s is refused: %s", message.host, reason)
            self._server.send(peer, messages.Refused(reason))
            return None
        return agent

    def _received(self, agent: _Agent, message: Message, frames: list[bytes]) -> None:
        agent.heard = self._clock()
        if not agent.joined and not isinstance(message, messages.Hello):
            return  # meant for the manager before: all that it had not acknowledged is sent again after the Welcome
        pilot = agent.pilot
        if isinstance(message, messages.Envelope):
            if agent.link.take(message):
                self._take_numbered(agent, message, frames)
        elif isinstance(message, messages.Heartbeat):
            agent.link.hear(message)
        elif isinstance(message, messages.Resend):
            agent.link.repeat(message)
        elif isinstance(message, messages.OutcomesReport):
            outcomes = messages.decode_outcomes(frames[0])
            if not self._state.workers.has(message.worker):
                self._record_worker(agent, message)
            self._feed(events.OutcomesArrived(pilot, message.batch, message.worker, outcomes))
        elif isinstance(message, messages.UnfinishedTasks):
            lost = (message.batch, message.worker, message.tasks, message.reason, message.blame, message.begun)
            self._feed(events.AttemptsLost(pilot, *lost))
        elif isinstance(message, messages.TaskStarted):
            self._feed(events.TaskStarted(pilot, message.worker, message.task, message.began))
            self._state.observers.started(message.task, pilot, message.worker)
        elif isinstance(message, messages.TaskOutput):
            task = self._state.tasks.get(message.task)
            self._state.live.add(message, runs=task is not None and not task.done())
        elif isinstance(message, messages.TaskCall):
            assert self.on_call is not None
            self.on_call(pilot, message, frames)
        elif isinstance(message, messages.TaskWaits):
            where = (pilot, message.batch, message.worker, message.node)
            self._feed(events.TaskWaits(*where, message.task, message.number, message.tasks))
        elif isinstance(message, messages.TaskResumes):
            self._feed(events.TaskResumes(pilot, message.batch, message.task))
        elif isinstance(message, messages.Hello):
            self._joined(agent, message)
        elif isinstance(message, messages.AgentReady):
            agent.hosts.update((node.name, node.host) for node in message.nodes)
            names = tuple(node.name for node in message.nodes)
            self._state.observers.qpus_reported(self._state.pilots[pilot], message.qpus)
            update_pilot(self._state.pilots[pilot], message.client, names, tuple(message.qpus))
            ready = (message.nodes, message.batches, message.seconds_left, message.qpus)
            self._feed(events.PilotReady(pilot, *ready))
        elif isinstance(message, messages.JobExpiring):
            self._feed(events.PilotExpiring(pilot, message.reason))
        elif isinstance(message, messages.Broken):
            self._give_up(agent, message.reason)

    def _take_numbered(self, agent: _Agent, head: messages.Envelope, frames: list[bytes]) -> None:
        """Handle a message that must not be missed. When that fails it is not acknowledged, and the agent sends it
        again; after `HANDLING_TRIES` its tasks count as lost, for an agent that drains waits until all is
        acknowledged."""
        message: Message | None = None
        try:
            message = messages.decode(frames[0])
            self._received(agent, message, frames[1:])
        except BaseException as error:
            agent.tries += 1
            what = type(message or head).__name__
            log.exception("%s of pilot %s cannot be handled, try %d", what, agent.pilot, agent.tries)
            if agent.tries < HANDLING_TRIES:
                agent.link.untake()
                return
            if isinstance(message, messages.OutcomesReport | messages.UnfinishedTasks):
                reason = f"{what} cannot be handled: {type(error).__name__}: {error}"
                self._lose_all(agent.pilot, message, frames[1:], reason)
        agent.tries = 0
        self._state.journal.mark((agent.peer, head.seq), soon=self._state.is_closed)  # then it waits to end

    def _lose_all(
        self, pilot: str, message: messages.OutcomesReport | messages.UnfinishedTasks, frames: list[bytes], reason: str
    ) -> None:
        """The tasks of a message that cannot be handled are tried again."""
        tasks: list[int] | None = None  # not known: all of the batch
        if isinstance(message, messages.UnfinishedTasks):
            tasks = message.tasks
        else:
            with contextlib.suppress(Exception):
                tasks = [outcome.task for outcome in messages.decode_outcomes(frames[0])]
        lost = events.AttemptsLost(
            pilot, message.batch, message.worker, tasks, reason, False, True, ErrorCode.PILOT_ERROR
        )
        self._state.mailbox.put(lost)

    def _record_worker(self, agent: _Agent, message: messages.OutcomesReport) -> None:
        """The first outcome of a worker has come: where the worker is goes into the record."""
        host = agent.hosts.get(message.node, agent.host or "")
        row = WorkerRow(message.worker, message.node, host, " ".join(message.gpus), message.qpu or None)
        self._state.workers.add(row)
        self._state.journal.put(row)

    def _joined(self, agent: _Agent, hello: messages.Hello) -> None:
        if hello.versions != versions():
            here, there = (f"Python {python}, quantum-pilot {ours}" for python, ours in (versions(), hello.versions))
            reason = f"versions differ: {here} at the manager, {there} at the agent"
            self._server.send(agent.peer, messages.Refused(reason))
            self._on_end(agent.pilot, agent.mark, reason)
            return
        agent.joined, agent.host = True, hello.host
        self.unreported.discard(agent.pilot)
        agent.functions.clear()
        if is_final(self._state.pilots[agent.pilot].state):  # ended while it started: nothing of it is taken in
            self._server.send(agent.peer, messages.Refused("the pilot was ended"))
            return
        self._server.send(agent.peer, messages.Welcome(self._id))
        self._feed(events.AgentJoined(agent.pilot))

    def _give_up(self, agent: _Agent, reason: str) -> None:
        """The agent cannot go on: its job is ended."""
        self._on_end(agent.pilot, agent.mark, reason)
        self._state.jobs.abandon(agent.pilot)

    def committed(self, marks: list[Any]) -> None:
        """In the journal's thread: the rows of these messages, each a sender and a number, are on disk."""
        last = dict(marks)
        self._state.mailbox.put(lambda: self._acknowledge(last))

    def _acknowledge(self, last: dict[bytes, int]) -> None:
        for peer, seq in last.items():
            agent = self._by_key.get(peer.rpartition(b"/")[0])
            if agent is not None and agent.peer == peer:
                agent.link.done(seq)
                self._server.send(peer, messages.Ack(self._id, seq))

    # ---- what is sent to them -----------------------------------------------------------------------------------

    def beat(self) -> None:
        """Call this once a second: send every agent a heartbeat, and give up those that are silent."""
        self._server.look_out()
        now = self._clock()
        for agent in list(self._agents.values()):
            self._server.send(agent.peer, agent.link.beat())
            if agent.joined and now - agent.heard > SILENT_SECONDS:
                self._give_up(agent, f"its agent was silent for {SILENT_SECONDS:.0f} s")

    def send(self, pilot: str, message: Message, frames: Sequence[bytes] = ()) -> None:
        """Send to a pilot's agent, when it has one; nothing is lost on the way."""
        if (agent := self._agents.get(pilot)) is not None:
            agent.link.send(message, frames)

    def stop(self, pilot: str) -> None:
        """Tell a pilot's agent to end, when it has one."""
        if (agent := self._agents.get(pilot)) is not None:
            self._server.send(agent.peer, messages.Stop())

    def send_batch(self, command: events.SendBatch) -> None:
        """Send tasks, with the functions that the agent does not have yet."""
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
        unknown, renewed = agent.functions.lacking(indices)
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
            renewed=renewed,
        )
        body = messages.encode(messages.BatchBody(works, values))
        codes = {entry.function.digest: entry.function.code for entry in command.entries} if unknown else {}
        sent = {digest: codes[digest] for digest in unknown}
        agent.link.send(head, [body, *sent.values()])
        agent.functions.add(sent)
        self._state.observers.sent(command.entries, command.pilot, now)
