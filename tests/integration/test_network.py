"""The network between manager and agent misbehaves: connections are cut and stall, and what was on its way is gone."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import platform
import random
import shutil
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import zmq
from pilot_plugins.launchers.local import LocalLauncher

from pilot import PilotDescription, PilotManager
from pilot.errors import SessionError
from pilot.interfaces import WorkerSpec
from pilot.resources import SLOT
from pilot.states import PilotState
from pilot.wire import messages
from pilot.wire.addresses import hosts, is_loopback, split
from pilot.wire.reaching import reach
from pilot.wire.server import Server
from pilot.wire.session import SessionFolder
from pilot.worker import serve

needs_address = pytest.mark.skipif(not hosts(), reason="LEFT OUT: this host has no address but loopback")

#: The proxy of these tests tears connections and leaves halves of them; asyncio complains when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

TASKS = 2000
#: SO_LINGER on, 0 s: closing sends RST, and what the kernel still has is thrown away.
_RESET = struct.pack("ii", 1, 0)


class Cutter:
    """A TCP proxy in front of a port that cuts, stalls, and swallows what is on its way before it cuts."""

    def __init__(self, port: int, seed: int, pause: tuple[float, float] = (0.1, 0.8)) -> None:
        self.cuts: Counter[str] = Counter()
        self.swallowed = 0
        self._target = port
        self._lines: list[_Line] = []
        self._random = random.Random(seed)
        self._pause = pause
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        started: threading.Event = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(started),))
        self._thread.start()
        assert started.wait(60)

    def lose(self) -> None:
        """From now on what is sent on today's connections vanishes, and nobody is told."""
        for line in self._lines:
            line.swallows = True

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flow = asyncio.Event()
        flow.set()
        line = _Line(flow)
        self._lines.append(line)
        writers = [writer]
        ways: list[asyncio.Task[None]] = []
        try:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(onward_writer)
            ways = [
                asyncio.ensure_future(self._pump(reader, onward_writer, line)),
                asyncio.ensure_future(self._pump(onward_reader, writer, line)),
            ]
            await self._harm(line, ways)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for way in ways:
                way.cancel()
            for one in writers:
                one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                one.transport.abort()

    async def _harm(self, line: _Line, ways: list[asyncio.Task[None]]) -> None:
        while True:
            pause = self._random.uniform(*self._pause)
            harm = self._random.choices(["cut", "swallow", "stall"], [2, 5, 1])[0]
            done, _ = await asyncio.wait(ways, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
            self.cuts[harm] += 1
            if harm == "stall":
                line.flow.clear()
                await asyncio.sleep(self._random.uniform(0.5, 2.0))
                line.flow.set()
                continue
            if harm == "swallow":
                line.swallows = True
                await asyncio.sleep(self._random.uniform(0.05, 0.2))
            return

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await line.flow.wait()
                if line.swallows:
                    self.swallowed += len(data)
                    continue
                writer.write(data)
                await writer.drain()


class _Line:
    def __init__(self, flow: asyncio.Event) -> None:
        self.flow = flow
        self.swallows = False


def work(number: int, ledger: str) -> int:
    import os
    import time

    time.sleep(0.004)
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"%d\n" % number)
    os.close(file)
    return number


def redirect(folder: Path, port: int) -> None:
    """Send the agents that start from now on to another port, and not to the Unix socket."""
    path = folder / "connection.json"
    known = msgspec.json.decode(path.read_bytes())
    known |= {"addresses": [f"tcp://127.0.0.1:{port}"], "near": ""}
    path.write_bytes(msgspec.json.encode(known))


def manager_port(folder: Path) -> int:
    known = msgspec.json.decode((folder / "connection.json").read_bytes())
    return int(known["addresses"][-1].rpartition(":")[2])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_network_that_cuts_loses_no_task_and_runs_none_twice(tmp_path: Path, seed: int) -> None:
    ledger = tmp_path / "ran"
    with PilotManager(tmp_path / "session", address="127.0.0.1") as manager:
        with Cutter(manager_port(manager.session_dir), seed) as cutter:
            redirect(manager.session_dir, cutter.port)
            manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=2))
            tasks = [manager.submit_task(work, number, str(ledger)) for number in range(TASKS)]
            _, missing = manager.wait_tasks(tasks, timeout=60)
            print(dict(cutter.cuts), f"{cutter.swallowed} bytes swallowed")
            assert not missing, f"{len(missing)} tasks have no result: {manager.explain(missing[0])}"
            assert [task.result() for task in tasks] == list(range(TASKS))
            assert sum(cutter.cuts.values()) >= 3 and cutter.swallowed, "the network did not misbehave: no test"
            manager.close()
        ran = Counter(map(int, ledger.read_text().split()))
        assert ran == Counter(range(TASKS))  # once each: nothing was lost, so nothing ran again


def test_a_connection_that_leads_nowhere_without_saying_so(tmp_path: Path) -> None:
    """As behind a firewall that forgot it."""
    ledger = tmp_path / "ran"
    with PilotManager(tmp_path / "session", address="127.0.0.1") as manager:
        with Cutter(manager_port(manager.session_dir), seed=0, pause=(1000, 1000)) as cutter:
            redirect(manager.session_dir, cutter.port)
            pilot = manager.submit_pilot(
                PilotDescription(resource="local://", engine="process", cores_per_node=1, restarts=0)
            )
            assert manager.submit_task(work, 0, str(ledger)).result(timeout=60) == 0
            cutter.lose()
            tasks = [manager.submit_task(work, number, str(ledger)) for number in range(1, 50)]
            _, missing = manager.wait_tasks(tasks, timeout=28)
            assert not missing, manager.explain(missing[0])
            assert pilot.state is PilotState.ACTIVE
            manager.close()
        assert Counter(map(int, ledger.read_text().split())) == Counter(range(50))


def addresses_of(manager: PilotManager) -> tuple[str, ...]:
    return SessionFolder(manager.session_dir).read_connection().addresses


def agents_ways(processes: list[psutil.Process]) -> set[tuple[str, int]]:
    """Where agents are connected to."""
    (agent,) = [one for one in processes if "pilot.agent" in one.cmdline() and one.parent().pid == os.getpid()]
    return {tuple(one.raddr) for one in agent.net_connections("tcp") if one.raddr}


def ports_of(processes: Iterable[psutil.Process]) -> list[tuple[str, int]]:
    """Where these processes listen by TCP."""
    found = (one for process in processes for one in process.net_connections("tcp"))
    return [tuple(one.laddr) for one in found if one.status == psutil.CONN_LISTEN]


def test_a_session_on_one_host_opens_no_port(tmp_path: Path, leftovers: Callable[[], list[psutil.Process]]) -> None:
    before = set(ports_of([psutil.Process()]))
    with PilotManager(tmp_path / "session") as manager:
        manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=1))
        assert manager.submit_task(work, 1, str(tmp_path / "ran")).result(timeout=60) == 1
        assert set(ports_of([psutil.Process(), *leftovers()])) == before


@needs_address
def test_the_manager_listens_outwards_from_the_first_remote_pilot_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PilotManager(tmp_path / "session") as manager:
        description = PilotDescription(resource="local://", engine="process", cores_per_node=1, name="first")
        manager.submit_pilot(description)
        assert addresses_of(manager) == ()
        assert manager.submit_task(work, 1, str(tmp_path / "ran")).result(timeout=60) == 1
        monkeypatch.setattr(LocalLauncher, "remote", True)
        manager.submit_pilot(msgspec.structs.replace(description, name="tunnelled", tunnel=("ssh", "x"))).cancel()
        (near,) = addresses_of(manager)  # the tunnel needs no other door
        assert is_loopback(near)
        manager.submit_pilot(msgspec.structs.replace(description, name="second"))
        everywhere = addresses_of(manager)
        assert everywhere[-1] == near
        assert [split(one)[0] for one in everywhere[:-1]] == list(hosts())
        for address in everywhere:
            assert reach([address], platform.node(), SessionFolder(manager.session_dir).read_connection().keys)
        assert manager.submit_task(work, 2, str(tmp_path / "ran")).result(timeout=60) == 2


@needs_address
def test_an_agent_on_another_host_takes_the_first_address_that_is_the_managers(
    tmp_path: Path, leftovers: Callable[[], list[psutil.Process]]
) -> None:
    with (
        PilotManager(tmp_path / "session", address=hosts()[0]) as manager,
        socket.create_server((hosts()[0], 0)) as impostor,
    ):
        path = manager.session_dir / "connection.json"
        known = msgspec.json.decode(path.read_bytes())
        first = f"tcp://{hosts()[0]}:{impostor.getsockname()[1]}"
        path.write_bytes(msgspec.json.encode(known | {"host": "elsewhere", "addresses": [first, *known["addresses"]]}))
        manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=1))
        assert manager.submit_task(work, 1, str(tmp_path / "ran")).result(timeout=60) == 1
        ways = agents_ways(leftovers())
        assert split(known["addresses"][0]) in ways
        assert split(known["addresses"][-1]) not in ways


@needs_address
def test_an_attached_manager_listens_where_the_one_before_did(tmp_path: Path) -> None:
    with PilotManager(tmp_path / "session", address=hosts()[0]) as manager:
        before = addresses_of(manager)
        assert [split(one)[0] for one in before] == [hosts()[0], "127.0.0.1"]
    with PilotManager.attach(tmp_path / "session") as manager:
        assert addresses_of(manager) == before
    with socket.create_server(split(before[0])), PilotManager.attach(tmp_path / "session") as manager:
        after = addresses_of(manager)
        assert after[0] != before[0] and after[-1] == before[-1]


def test_ports_that_are_all_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SessionError, match=f"all ports from {port} to {port} of 127"):
            PilotManager(tmp_path / "session", ports=(port, port))
    with PilotManager(tmp_path / "other", ports=(port, port)) as manager:
        assert addresses_of(manager) == (f"tcp://127.0.0.1:{port}",)


def test_a_worker_whose_connection_breaks_ends(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    """What was on its way may be lost: the worker's end is noticed, a lost batch would not be."""
    keys = zmq.curve_keypair()
    server = Server(keys)
    server.listen("tcp://127.0.0.1")
    process: Any = None
    try:
        with Cutter(split(server.address)[1], seed=0, pause=(1000.0, 1000.0)) as cutter:
            spec = WorkerSpec(
                name="w", node="n", resources=SLOT, address=f"tcp://127.0.0.1:{cutter.port}", keys=keys,
                folder=str(tmp_path), spool=str(tmp_path), sys_path=tuple(sys.path), working_directory=str(tmp_path),
                environment={},
            )  # fmt: skip
            process = multiprocessing.get_context("spawn").Process(target=serve, args=(spec,))
            process.start()
            peer, hello, _ = eventually(server.receive, timeout=60)
            assert peer == b"w" and isinstance(hello, messages.Hello)
            assert process.is_alive()
        process.join(10.0)  # without a broken connection it would wait for 30 s
        assert process.exitcode == 0
    finally:
        if process is not None:
            process.kill()
        server.close()


def test_a_pilot_connects_whatever_became_of_the_socket(tmp_path: Path) -> None:
    """Removed with its folder, which another session took; removed alone; and in a folder that was opened to others."""
    folder = tmp_path / "session"
    description = {"engine": "process", "cores_per_node": 1}
    with PilotManager(folder):
        shutil.rmtree(folder)
        second = PilotManager(folder)
    with second:
        first = second.submit_pilot(description)
        assert first.wait(timeout=60) is PilotState.ACTIVE
        (folder / "socket").unlink()
        first.cancel()
        assert second.submit_pilot(description).wait(timeout=60) is PilotState.ACTIVE
        folder.chmod(0o755)
        assert second.submit_pilot(description).wait(timeout=60) is PilotState.ACTIVE
