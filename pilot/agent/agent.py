"""The process inside the placeholder job: takes batches from the manager, has workers run them, and keeps the outcomes
until the manager has them in its journal.

Started as ``python -m pilot.agent SESSION PILOT MARK``. It continues without a manager for a set time, so that one can
attach. When it ends, its engine and all its processes end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import secrets
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pilot import registry
from pilot.agent.batches import END_SECONDS
from pilot.agent.dispatcher import Dispatcher
from pilot.agent.gpus import lacks_gpus
from pilot.agent.node import describe, lacks_places, make_engine, outward_address, own_mark, own_rank
from pilot.agent.workers import WorkerPool
from pilot.errors import SessionError
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.addresses import candidates, split, usable
from pilot.wire.connecting import Connector
from pilot.wire.folders import make_folders, remove_folders, sockets, use_scratch
from pilot.wire.link import Link
from pilot.wire.marks import MARK
from pilot.wire.messages import Frames, Message
from pilot.wire.polling import Poller
from pilot.wire.processes import allow_files, end_marked, end_with_me
from pilot.wire.server import Server
from pilot.wire.session import (
    JOB,
    AgentAddress,
    AgentSettings,
    Connection,
    SessionFolder,
    agent_path,
    write_private,
)
from pilot.wire.sockets import is_reached
from pilot.wire.tunnel import Tunnel

if TYPE_CHECKING:
    from pilot.wire.connecting import AnyClient

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
#: After so many seconds without a heartbeat of the manager, which sends one each second, its address is read again.
SILENT_SECONDS = 5.0
#: After so many seconds a new connection is made to the same address: the old one may lead nowhere without saying so,
#: and the manager gives the pilot up after 30.
RECONNECT_SECONDS = 15.0
#: After so many seconds of silence an agent whose session folder was removed ends: no manager can find it any more. A
#: manager on a busy machine may be silent for less.
GONE_SECONDS = 30.0
#: Seconds between two rounds of the loop when nothing happens.
ROUND_SECONDS = 0.25
#: What another manager than the one that it was for does not get: it is said again.
_STALE = (messages.AgentReady, messages.TaskCall, messages.TaskWaits, messages.TaskResumes)
#: The file in the pilot's folder into which a batch script writes the signals that announce the job's end.
EXPIRING = "expiring"
#: How early SIGUSR1 may come, besides `drain`: what the launcher asks for (30 s) and what is added to that (60 s).
SIGNAL_EARLY_SECONDS = 90.0


class Agent:
    """One pilot's agent; `run` does its work."""

    def __init__(self, folder: SessionFolder, settings: AgentSettings) -> None:
        self._folder = folder
        self._settings = settings
        #: Distinguishes this process from another one that was started as the same agent.
        self._incarnation = secrets.token_hex(4)
        self._connection = folder.read_connection()
        self._connector = Connector()
        self._tunnel = Tunnel(settings.tunnel) if settings.tunnel else None
        self._searches = ThreadPoolExecutor(1, thread_name_prefix="pilot-search")
        self._search: Future[tuple[Connection, str]] | None = None
        self._next_search = 0.0
        self._address = self._manager_address(self._connection)
        self._manager = self._connect()
        address = outward_address(interface=settings.interface) if settings.remote else "127.0.0.1"
        self._server = Server(self._connection.keys, settings.ports)
        self._server.listen_near(sockets() / "agent")
        if settings.remote or not self._server.near:  # else all its peers are on this host
            self._server.listen("tcp://0.0.0.0" if settings.remote else "tcp://127.0.0.1")
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        os.set_blocking(self._wake_reader, False)
        self._pilot_folder = folder.pilot(settings.pilot)
        (self._pilot_folder / "workers").mkdir(exist_ok=True)
        (self._pilot_folder / EXPIRING).unlink(missing_ok=True)
        if settings.remote:
            port = self._server.address.rpartition(":")[2]
            listed = msgspec.structs.replace(
                self._connection, addresses=candidates(int(port), settings.interface), host=platform.node()
            )
            write_private(agent_path(self._pilot_folder), msgspec.json.encode(AgentAddress(settings.mark, listed)))
        home = describe(settings)
        self._engine = make_engine(settings, home, address, self._pilot_folder)
        keys = self._connection.keys
        self._pool = WorkerPool(self._engine, home, self._server, keys, settings, folder.spool, self._wake)
        self._dispatcher = Dispatcher(self._pool, self._server, self._report)
        if not Path(settings.working_directory).is_dir():
            self._pool.broken = (
                f"its working directory {settings.working_directory} does not exist on {platform.node()}"
            )
        elif (lacking := lacks_places(settings) or lacks_gpus(home, settings.gpus)) is not None:
            self._pool.broken = f"its {lacking}"
        self._link = Link(lambda message, frames: self._manager.send(message, frames))
        self._heard = time.monotonic()
        self._ready_sent = False
        #: Counts of the changes that the manager knows of, of nodes and of devices.
        self._changes = (0, 0)
        self._ends = find_end(settings)
        self._draining = self._expiring = False
        #: It has to end: when what its workers have finished is with the manager, or by then.
        self._end_by: float | None = None
        self._over: str | None = None

    def _connect(self) -> AnyClient:
        name = f"{self._settings.pilot}/{self._settings.mark}/{self._incarnation}"
        return self._connector.connect(self._connection.keys, self._address, name)

    def _manager_address(self, connection: Connection) -> str:
        """The address by which a manager is to be reached; the best guess when it does not answer. May take seconds.

        Raises:
            SessionError: the tunnel cannot be opened.
        """
        listed, host = connection.addresses, connection.host
        if self._tunnel is not None:
            return self._tunnel.open(split(listed[-1])[1])
        near = connection.near if host == platform.node() else ""
        if near and is_reached(near):
            return near
        choice = usable(listed, host)
        if not near and not choice:
            log.error(
                "the manager on %s listens on loopback only, which %s does not reach: it needs an address "
                "(PilotManager(address=)), or the pilot a tunnel",
                host,
                platform.node(),
            )
            return (*listed, connection.near)[0]
        if len(choice) + bool(near) < 2:
            return (*choice, near)[0]
        from pilot.wire.reaching import reach  # only here: ZeroMQ

        if (reached := reach(listed, host, connection.keys)) is None:
            log.warning("the manager does not answer at %s", " or ".join((near, *choice) if near else choice))
        return reached or near or choice[0]

    def run(self) -> int:
        """Work until the manager ends it, or until the manager was gone for too long; the exit code."""
        signal.signal(signal.SIGTERM, self._terminated)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._hello()
        self._pool.start()
        poller = Poller()
        poller.register(self._wake_reader)
        self._server.register(poller)
        self._manager.register(poller)
        next_beat = 0.0
        while self._over is None:
            if self._wake_reader in poller.wait(ROUND_SECONDS):
                os.read(self._wake_reader, 4096)
            while (received := self._manager.receive()) is not None:
                try:
                    self._received(*received)
                except Exception:
                    log.exception("a message of the manager's cannot be taken in")
            self._dispatcher.attend()
            self._check()
            if (now := time.monotonic()) >= next_beat:
                next_beat = now + BEAT_SECONDS
                self._beat(poller)
        return self._end()

    # ---- the manager ----------------------------------------------------------------------------------------

    def _received(self, message: Message, frames: list[bytes]) -> None:
        self._heard = time.monotonic()
        if isinstance(message, messages.Envelope):
            if self._link.take(message):
                self._link.done(message.seq)
                self._received(messages.decode(frames[0]), frames[1:])
        elif isinstance(message, messages.RunBatch):
            self._dispatcher.add(message, frames)
        elif isinstance(message, messages.TaskReply):
            self._dispatcher.reply(message, frames)
        elif isinstance(message, messages.Ack):
            if message.sender == self._link.stream:
                self._link.free(message.seq)
        elif isinstance(message, messages.Heartbeat):
            if message.sender != self._link.stream:
                self._hello()
            self._link.hear(message)
        elif isinstance(message, messages.Resend):
            self._link.repeat(message)
        elif isinstance(message, messages.Welcome):
            self._accepted(message)
        elif isinstance(message, messages.CancelTasks):
            self._dispatcher.cancel(message)
        elif isinstance(message, messages.ReleaseNodes):
            self._pool.nodes.release(message.count)
        elif isinstance(message, messages.Drain):
            self._draining = True
            self._dispatcher.drain()
        elif isinstance(message, messages.Stop):
            if self._end_by is None:
                self._end_by = time.monotonic() + END_SECONDS
                self._dispatcher.stop()
        elif isinstance(message, messages.Refused):
            self._over = f"the manager refused: {message.reason}"

    def _hello(self) -> None:
        self._manager.send(messages.Hello(self._settings.pilot, os.getpid(), platform.node(), versions()))

    def _accepted(self, message: messages.Welcome) -> None:
        """A manager that knows this agent: a new one gets what no manager has acknowledged, then the list of open
        tasks."""
        if message.sender != self._link.stream:
            self._link.start(message.sender, stale=_STALE)
            self._ready_sent = False
            self._dispatcher.manager_changed(message)

    def _report(self, message: Message, frames: Frames = ()) -> None:
        """Send to the manager; messages that must not be lost are kept until it has acknowledged them."""
        if isinstance(message, messages.TaskStarted | messages.TaskOutput | messages.Broken):
            self._manager.send(message, frames)
        else:
            self._link.send(message, frames)

    def _check(self) -> None:
        if self._pool.broken is not None:
            self._report(messages.Broken(self._pool.broken))
            self._over = self._pool.broken
            return
        if self._pool.started and self._link.stream:
            if not self._ready_sent:
                self._ready_sent = True
                self._send_ready(self._dispatcher.held())
                for report in (*self._dispatcher.started(), *self._dispatcher.waits()):
                    self._report(report)
            elif self._changes != (self._pool.nodes.changes, self._pool.devices.changes):
                self._send_ready({})
        is_clear = self._dispatcher.is_idle() and self._link.is_clear()
        if self._end_by is not None and (is_clear or time.monotonic() >= self._end_by):
            self._over = "the manager has ended it"
        elif self._draining and is_clear:
            self._over = "drained"

    def _send_ready(self, batches: dict[int, list[int]]) -> None:
        self._changes = self._pool.nodes.changes, self._pool.devices.changes
        left = None if self._ends is None else self._ends - time.time()
        self._report(
            messages.AgentReady(
                self._pool.nodes.facts(), batches, self._engine.client(), left, self._pool.devices.infos
            )
        )

    def _beat(self, poller: Poller) -> None:
        self._manager.send(self._link.beat())
        self._server.look_out()
        self._pool.beat()
        self._look_for_signals()
        silent = time.monotonic() - self._heard
        if silent > max(self._settings.orphan_timeout, SILENT_SECONDS):
            self._over = f"no manager for {silent:.0f} s"
        elif silent > SILENT_SECONDS or (self._tunnel is not None and not self._tunnel.is_up()):
            self._look_for_manager()
        self._reconnect(poller)

    def _look_for_signals(self) -> None:
        """The signals that the batch script got. After SIGTERM the job ends soon. SIGUSR1 may come a minute too early:
        it only says that the end is no later than that, for a limit may be shortened while the job runs."""
        try:
            signals = (self._pilot_folder / EXPIRING).read_text().split()
        except OSError:
            return
        if set(signals) == {"USR1"} and self._ends is not None:
            latest = time.time() + self._settings.drain + SIGNAL_EARLY_SECONDS
            if latest < self._ends:
                self._ends = latest
                self._send_ready({})
        elif not self._expiring:
            self._expiring = True
            self._report(messages.JobExpiring("the resource manager has announced the end of the job"))

    def _look_for_manager(self) -> None:
        """Have a thread find out how the manager can be reached now."""
        now = time.monotonic()
        try:
            connection = self._folder.read_connection()
        except (OSError, SessionError) as error:  # a shared file system may also be away for a while
            if isinstance(error, FileNotFoundError) and now - self._heard > GONE_SECONDS:
                self._over = "the session folder is gone"
            return
        if self._search is None and (connection != self._connection or now >= self._next_search):
            self._next_search = now + SILENT_SECONDS
            self._search = self._searches.submit(lambda: (connection, self._manager_address(connection)))

    def _reconnect(self, poller: Poller) -> None:
        """Connect anew when the manager was found elsewhere, or was silent for long."""
        if self._search is None or not self._search.done():
            return
        search, self._search = self._search, None
        try:
            found = search.result()
        except SessionError as error:
            log.warning("%s", error)
            return
        silent = time.monotonic() - self._heard
        if found == (self._connection, self._address) and silent < RECONNECT_SECONDS:
            return
        self._connection, self._address = found
        log.info("connecting to the manager at %s, which was silent for %.0f s", self._address, silent)
        self._manager.unregister(poller)
        self._manager.close(linger_ms=0)
        self._manager = self._connect()
        self._manager.register(poller)
        self._hello()

    # ---- the end --------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"x")

    def _terminated(self, number: int, frame: object) -> None:
        self._over = f"signal {number}"
        self._wake()

    def _end(self) -> int:
        log.info("ends: %s", self._over)
        self._pool.stop()
        end_marked(self._settings.mark, grace=0.2)
        self._server.close()
        self._manager.close()
        self._searches.shutdown()
        if self._tunnel is not None:
            self._tunnel.close()
        self._connector.close(linger_ms=500)
        remove_folders()
        return 1 if self._pool.broken else 0


def find_end(settings: AgentSettings) -> float | None:
    """When the pilot ends (seconds since 1970): after its walltime, or with the job that it is in if that ends before;
    None: no end is known."""
    ends = [registry.job_environment().end(), None if settings.walltime is None else time.time() + settings.walltime]
    return min((end for end in ends if end is not None), default=None)


def _run_node(folder: SessionFolder, settings: AgentSettings) -> int:
    from pilot.agent.node_process import NodeProcess  # only here: ZeroMQ

    return NodeProcess(folder, settings, describe(settings)).run()


def main() -> None:
    """The command line of the placeholder job: SESSION PILOT MARK. With several nodes it runs on each of them; the
    first becomes the agent."""
    session, pilot, mark = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = SessionFolder(Path(session))
    settings = msgspec.json.decode((folder.pilot(pilot) / "agent.json").read_bytes(), type=AgentSettings)
    settings = msgspec.structs.replace(settings, mark=mark)
    sys.path.extend(path for path in settings.sys_path if path not in sys.path)  # where the user has plugins
    is_agent = JOB not in os.environ and (settings.nodes == 1 or own_rank() == 0)
    if not is_agent:
        os.environ[MARK] = mark = own_mark(mark)
    os.environ["SPT_NOENV"] = "1"  # processes that rename themselves with setproctitle keep their environment, and mark
    use_scratch(settings.scratch)
    end_with_me(mark)
    allow_files()
    make_folders(mark)
    code = Agent(folder, settings).run() if is_agent else _run_node(folder, settings)
    logging.shutdown()
    os._exit(code)  # engines leave threads behind that would hold an ordinary exit up
