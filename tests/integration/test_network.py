"""The network between manager and agent misbehaves: connections are cut and stall, and what was on its way is gone."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from pilot import PilotDescription, PilotManager

TASKS = 2000
#: SO_LINGER on, 0 s: closing sends RST, and what the kernel still has is thrown away.
_RESET = struct.pack("ii", 1, 0)


class Cutter:
    """A TCP proxy in front of a port that cuts, stalls, and swallows what is on its way before it cuts."""

    def __init__(self, port: int, seed: int, pause: tuple[float, float] = (0.1, 0.8)) -> None:
        self.cuts: Counter[str] = Counter()
        self.swallowed = 0
        self._target = port
        self._random = random.Random(seed)
        self._pause = pause
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        started: threading.Event = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(started),))
        self._thread.start()
        assert started.wait(5)

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
    """Send the agents that start from now on to another port."""
    path = folder / "connection.json"
    known = msgspec.json.decode(path.read_bytes())
    known["addresses"] = [f"tcp://127.0.0.1:{port}"]
    path.write_bytes(msgspec.json.encode(known))


def manager_port(folder: Path) -> int:
    known = msgspec.json.decode((folder / "connection.json").read_bytes())
    return int(known["addresses"][-1].rpartition(":")[2])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_network_that_cuts_loses_no_task_and_runs_none_twice(tmp_path: Path, seed: int) -> None:
    ledger = tmp_path / "ran"
    with PilotManager(tmp_path / "session") as manager:
        with Cutter(manager_port(manager.session_dir), seed) as cutter:
            redirect(manager.session_dir, cutter.port)
            manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=2))
            tasks = [manager.submit_task(work, number, str(ledger)) for number in range(TASKS)]
            _, missing = manager.wait_tasks(tasks, timeout=50)
            print(dict(cutter.cuts), f"{cutter.swallowed} bytes swallowed")
            assert not missing, f"{len(missing)} tasks have no result: {manager.explain(missing[0])}"
            assert [task.result() for task in tasks] == list(range(TASKS))
            assert sum(cutter.cuts.values()) >= 3 and cutter.swallowed, "the network did not misbehave: no test"
            manager.close()
        ran = Counter(map(int, ledger.read_text().split()))
        assert ran == Counter(range(TASKS))  # once each: nothing was lost, so nothing ran again
