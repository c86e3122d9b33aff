"""The process that a pilot has on each node but the agent's: starts and ends the workers there for the agent.

With several nodes the same command runs on all of them at once (see ``agent.main``): one becomes the agent, the others
wait for its ``agent.json`` below the pilot's folder, connect, and join the engine's cluster. Nothing goes over ssh.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import queue
import signal
import socket
import threading
import time
from typing import Any

import msgspec
import zmq

from pilot.agent.node import lacks_places, make_engine, outward_address, own_mark
from pilot.resources import Node
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.addresses import split
from pilot.wire.channel import Client
from pilot.wire.folders import remove_folders
from pilot.wire.messages import Message
from pilot.wire.processes import end_left, end_marked
from pilot.wire.reaching import reach
from pilot.wire.session import AgentAddress, AgentSettings, Connection, SessionFolder, agent_path

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
#: Seconds that a node waits for its agent at the start.
AGENT_SECONDS = 120.0
#: How often it tries to reach the agent; each try takes a few seconds.
REACH_TRIES = 10
#: Seconds of silence after which a node checks whether its agent's port still answers, and after which it ends anyway.
DOUBT_SECONDS, SILENT_SECONDS = 3.0, 30.0


class NodeProcess:
    """One node's process; `run` does its work."""

    def __init__(self, folder: SessionFolder, settings: AgentSettings, node: Node) -> None:
        self._pilot_folder = folder.pilot(settings.pilot)
        self._settings = settings
        self._node = node
        self._context = zmq.Context()
        self._over: str | None = None
        self._outbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._heard = time.monotonic()

    def run(self) -> int:
        """Work until the agent ends it, or is gone; the exit code."""
        signal.signal(signal.SIGTERM, self._terminated)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if (lacking := lacks_places(self._settings)) is not None:
            log.error("its %s", lacking)
            return 1
        connection = self._find_agent()
        address = None if connection is None else self._reach(connection)
        if connection is None or address is None:
            log.error("no agent has appeared in %s within %.0f s", self._pilot_folder, AGENT_SECONDS)
            return 1
        self._agent_address = address
        self._engine = make_engine(
            self._settings, self._node, outward_address(address, self._settings.interface), self._pilot_folder
        )
        threading.Thread(target=self._run_calls, name="pilot-engine", daemon=True).start()
        client = Client(self._context, connection.keys, address, f"node:{self._node.name}", watched=True)
        client.send(messages.Hello(self._node.name, os.getpid(), self._node.host, versions()))
        client.send(messages.JoinNode(self._node, address))
        next_beat = 0.0
        while self._over is None:
            received = client.receive(timeout_ms=100)
            if received is not None:
                self._heard = time.monotonic()
                self._received(received[0])
            while not self._outbox.empty():
                client.send(self._outbox.get())
            if (now := time.monotonic()) >= next_beat:
                next_beat = now + BEAT_SECONDS
                client.send(messages.Heartbeat())
                self._check_agent(now - self._heard)
            if client.is_broken():  # messages that start a worker, or report that one is gone, may be lost
                self._over = "the connection to the agent broke"
        return self._end(client)

    def _find_agent(self) -> Connection | None:
        path, deadline = agent_path(self._pilot_folder), time.monotonic() + AGENT_SECONDS
        while time.monotonic() < deadline and self._over is None:
            with contextlib.suppress(OSError, msgspec.DecodeError):
                listed = msgspec.json.decode(path.read_bytes(), type=AgentAddress)
                if listed.mark == self._settings.mark:
                    return listed.connection
            time.sleep(0.05)
        return None

    def _reach(self, connection: Connection) -> str | None:
        for _ in range(REACH_TRIES):
            address = reach(connection.addresses, connection.host, connection.keys)
            if address is not None or self._over is not None:
                return address
        log.error("the agent on %s does not answer at any of %s", connection.host, ", ".join(connection.addresses))
        return None

    def _received(self, message: Message) -> None:
        if isinstance(message, messages.EnterCluster):
            self._calls.put(lambda: self._enter(message.client))
        elif isinstance(message, messages.StartWorker):
            spec = message.spec
            self._calls.put(lambda: self._engine.spawn(spec, functools.partial(self._gone, spec.name)))
        elif isinstance(message, messages.KillWorker):
            self._calls.put(lambda: self._kill(message))
        elif isinstance(message, messages.Stop):
            self._over = "the agent has ended it"
        elif isinstance(message, messages.Refused):
            self._over = f"the agent refused: {message.reason}"

    def _enter(self, client: dict[str, str]) -> None:
        self._engine.join(client, self._broke)
        self._outbox.put(messages.NodeReady())

    def _gone(self, worker: str, reason: str, blameless: bool = False) -> None:
        self._outbox.put(messages.WorkerGone(worker, reason, blameless))

    def _kill(self, message: messages.KillWorker) -> None:
        self._engine.kill(message.worker)
        if message.pid:
            end_left(own_mark(self._settings.mark), message.worker, message.pid)

    def _broke(self, reason: str) -> None:
        self._outbox.put(messages.Broken(reason))

    def _run_calls(self) -> None:
        """The engine is called from this thread only."""
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:
                log.exception("the engine failed")
                self._broke(f"has an engine that failed: {type(error).__name__}: {error}")

    def _check_agent(self, silent: float) -> None:
        """An agent whose port is closed has ended; one that cannot be reached may answer again."""
        if silent > SILENT_SECONDS:
            self._over = f"the agent was silent for {silent:.0f} s"
        elif silent > DOUBT_SECONDS:
            with socket.socket(socket.AF_INET6 if "[" in self._agent_address else socket.AF_INET) as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(split(self._agent_address)) == errno.ECONNREFUSED:
                    self._over = "the agent is gone"

    def _terminated(self, number: int, frame: object) -> None:
        self._over = f"signal {number}"

    def _end(self, client: Client) -> int:
        log.info("ends: %s", self._over)
        client.send(messages.Broken(f"ends: {self._over}"))
        stopped = threading.Event()
        self._calls.put(self._engine.stop)
        self._calls.put(stopped.set)
        stopped.wait(5.0)
        end_marked(own_mark(self._settings.mark), grace=0.2)
        client.close()
        self._context.term()
        remove_folders()
        return 0
