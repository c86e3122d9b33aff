"""What a batch costs the agent's thread, from the manager's `RunBatch` to its outcome, by the number of workers.

Nothing runs: nodes, workers and the network are played by this script, so that 64 nodes of 128 cores fit on a laptop.

    python benchmarks/agent.py
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pilot.agent.dispatcher import Dispatcher
from pilot.agent.workers import WorkerPool
from pilot.resources import SLOT, Node
from pilot.results import OK, Outcome
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.messages import Message
from pilot.wire.session import AgentSettings

CORES = 128
NODES = (1, 4, 16, 64)
BATCHES = 20_000


class Server:
    """Plays the nodes and the workers: each worker that gets a batch is done with it when asked."""

    address = "tcp://127.0.0.1:1"

    def __init__(self) -> None:
        self.inbox: deque[tuple[bytes, Message, list[bytes]]] = deque()
        self.spawned: list[str] = []
        self.running: deque[tuple[bytes, messages.RunBatch, bytes]] = deque()

    def send(self, peer: bytes, message: Message, frames: Sequence[Any] = ()) -> bool:
        messages.encode(message)
        if isinstance(message, messages.StartWorker):
            self.spawned.append(message.spec.name)
        elif isinstance(message, messages.RunBatch):
            self.running.append((peer, message, frames[0]))
        elif isinstance(message, messages.EnterCluster):
            self.inbox.append((peer, messages.NodeReady(), []))
        return True

    def receive(self) -> tuple[bytes, Message, list[bytes]] | None:
        return self.inbox.popleft() if self.inbox else None

    def join(self) -> None:
        """One more worker reports."""
        name = self.spawned.pop()
        self.inbox.append((name.encode(), messages.Hello(name, 1, "host", versions()), []))

    def finish(self) -> None:
        """The batch that was begun first is done."""
        peer, run, body = self.running.popleft()
        outcomes = [Outcome(work.task, OK, 0.0, 0.0) for work in messages.decode_batch(body).works]
        head = messages.OutcomesReport(run.batch, peer.decode(), len(outcomes))
        self.inbox.append((peer, head, [messages.encode(outcomes)]))


class Engine:
    """Starts nothing."""

    central = False
    allocation = SimpleNamespace(folder=Path("/nonexistent"))

    def start(self, broke: Any) -> None: ...

    def stop(self) -> None: ...

    def spawn(self, spec: Any, gone: Any) -> None: ...

    def client(self) -> dict[str, str]:
        return {}


def measure(nodes: int) -> tuple[float, float, float, float]:
    """Microseconds per worker that joins while all have work waiting, per batch with short and with long ones; seconds
    of each beat."""
    server = Server()
    home = Node("home", "home", 0, [], 0)
    settings: Any = AgentSettings(
        pilot="p", mark="mark", engine="process", remote=True, nodes=nodes + 1, cores=CORES, gpus=0, memory=1 << 40,
        walltime=None, drain=0.0, ports=None, sys_path=(), working_directory="/", environment={}, orphan_timeout=60.0,
    )  # fmt: skip
    pool = WorkerPool(Engine(), home, server, (b"", b""), settings, Path("/"), lambda: None)  # type: ignore[arg-type]
    pool.started = True
    dispatcher = Dispatcher(pool, server, lambda *_: None)  # type: ignore[arg-type]
    for number in range(nodes):
        node = Node(f"n{number}", f"n{number}", CORES, [], 1 << 40)
        server.inbox.append((f"node:{number}".encode(), messages.JoinNode(node, "tcp://10.0.0.1:1"), []))
    dispatcher.attend()
    dispatcher.attend()
    workers = len(server.spawned)
    assert workers == nodes * CORES
    body = messages.encode(messages.BatchBody([messages.Work(1, 0, None)], {}))
    count = 0

    def add(seconds: float) -> None:
        nonlocal count
        count += 1
        dispatcher.add(messages.RunBatch(count, SLOT, [1], ["f"], ["f"], seconds, False, 0.0), [body, b""])

    for _ in range(workers):
        add(10.0)
    began = time.perf_counter()
    for _ in range(workers):
        server.join()
        dispatcher.attend()
    joining = (time.perf_counter() - began) / workers * 1e6
    times = []
    for seconds in (0.2, 10.0):
        for _ in range(2 * workers):  # as many as the manager sends ahead
            if seconds < 1.0:
                add(seconds)
        dispatcher.attend()
        began = time.perf_counter()
        for _ in range(BATCHES):
            server.finish()
            add(seconds)
            dispatcher.attend()
        times.append((time.perf_counter() - began) / BATCHES * 1e6)
    began = time.perf_counter()
    pool.beat()
    beat = time.perf_counter() - began
    pool.stop()
    return joining, times[0], times[1], beat


if __name__ == "__main__":
    print("nodes  workers  us/join  us/batch (short)  us/batch (long)  ms/beat")
    for nodes in NODES:
        joining, short, long, beat = measure(nodes)
        print(f"{nodes:5}  {nodes * CORES:7}  {joining:7.0f}  {short:16.0f}  {long:15.0f}  {1000 * beat:7.1f}")
