"""The crew with played nodes, workers and engine: who gets which batch, and that cores and GPUs are counted right."""

import random
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot.agent import workers as crew_module
from pilot.agent.workers import Crew
from pilot.resources import SLOT, Node, Resources
from pilot.results import OK, Outcome
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.session import AgentSettings

CORES = 4
MEMORY = 1 << 30


class World:
    """Nodes ``n0``, ``n1``, … beside a home; it plays all that is outside of the crew."""

    address = "tcp://127.0.0.1:1"
    central = False
    allocation = SimpleNamespace(folder=Path("/nonexistent"))

    def __init__(self, nodes: int, gpus: int = 0) -> None:
        self.inbox: deque[tuple[bytes, Any, list[bytes]]] = deque()
        #: Workers that were started, those that have reported, and what each was given and has not finished.
        self.spawned: dict[str, Resources] = {}
        self.nodes_of: dict[str, bytes] = {}
        self.joined: set[str] = set()
        self.given: dict[str, list[int]] = {}
        self.stopped: list[bytes] = []
        self.killed: list[str] = []
        self.reports: list[Any] = []
        self.gpus = [f"GPU-{number}" for number in range(gpus)]
        settings = AgentSettings(
            pilot="p", mark="mark", engine="process", remote=True, nodes=nodes + 1, cores=CORES, gpus=gpus,
            memory=MEMORY, walltime=None, drain=0.0, ports=None, sys_path=(), working_directory="/", environment={},
            orphan_timeout=60.0,
        )  # fmt: skip
        home = Node("home", "home", CORES, self.gpus, MEMORY)
        world: Any = self
        self.crew = Crew(world, home, world, (b"", b""), settings, Path("/"), self.report, lambda: None)
        self.crew.start()
        self.crew._calls.submit(bool).result()
        for number in range(nodes):
            node = Node(f"n{number}", f"n{number}", CORES, self.gpus, MEMORY)
            self.inbox.append((f"node:n{number}".encode(), messages.JoinNode(node, "tcp://10.0.0.1:1"), []))
        self.attend()

    def attend(self) -> None:
        while True:
            self.crew.attend()
            self.crew._calls.submit(bool).result()
            if not self.inbox:
                return

    # ---- what the crew calls ----

    def report(self, message: Any, frames: Any = ()) -> None:
        self.reports.append(message)

    def start(self, broke: Any) -> None: ...

    def stop(self) -> None: ...

    def client(self) -> dict[str, str]:
        return {}

    def spawn(self, spec: Any, gone: Any) -> None:
        self.spawned[spec.name] = spec.resources

    def kill(self, worker: str) -> None:
        self.killed.append(worker)

    def receive(self) -> Any:
        return self.inbox.popleft() if self.inbox else None

    def send(self, peer: bytes, message: Any, frames: Any = ()) -> bool:
        name = peer.decode()
        if isinstance(message, messages.EnterCluster):
            self.inbox.append((peer, messages.NodeReady(), []))
        elif isinstance(message, messages.StartWorker):
            self.spawned[message.spec.name] = message.spec.resources
            self.nodes_of[message.spec.name] = peer
        elif isinstance(message, messages.RunBatch):
            assert name in self.joined
            self.given.setdefault(name, []).append(message.batch)
        elif isinstance(message, messages.Stop):
            self.stopped.append(peer)
        return True

    # ---- what happens ----

    def join(self, name: str) -> None:
        self.joined.add(name)
        self.inbox.append((name.encode(), messages.Hello(name, 1, "host", versions()), []))

    def join_all(self) -> None:
        while late := [name for name in self.spawned if name not in self.joined]:
            for name in late:
                self.join(name)
            self.attend()

    def run(self, batch: int, needs: Resources = SLOT, patience: float = 10.0) -> None:
        work = messages.encode(messages.BatchBody([messages.Work(batch, 0, None)], {}))
        sent = [work, b""]
        self.crew.add(messages.RunBatch(batch, needs, [batch], ["f"], ["f"], patience, False, 0.0), sent)

    def finish(self, name: str) -> None:
        batch = self.given[name].pop(0)
        body = messages.encode([Outcome(batch, OK, 0.0, 0.0)])
        self.inbox.append((name.encode(), messages.OutcomesReport(batch, name, 1), [body]))

    def busy(self) -> dict[str, list[int]]:
        return {name: batches for name, batches in self.given.items() if batches}

    def lost(self) -> list[int]:
        return [task for one in self.reports if isinstance(one, messages.UnfinishedTasks) for task in one.tasks]


@pytest.fixture
def make_world() -> Any:
    worlds: list[World] = []

    def make(*args: Any, **settings: Any) -> World:
        worlds.append(World(*args, **settings))
        return worlds[-1]

    yield make
    for world in worlds:
        world.crew.stop()


def test_each_core_has_a_worker_and_each_gets_a_batch(make_world: Any) -> None:
    world = make_world(2)
    assert len(world.spawned) == 3 * CORES
    for batch in range(20):
        world.run(batch)
    world.attend()
    assert not world.busy()  # none has reported yet
    world.join_all()
    assert len(world.busy()) == 3 * CORES


def test_a_worker_that_takes_long_to_start_is_not_ended_as_idle(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "IDLE_SECONDS", -1.0)
    world = make_world(0)
    world.join_all()
    pair = Resources(num_cpus=2)
    world.run(1, pair)
    for _ in range(3):
        world.crew._next_enforce = 0.0
        world.attend()
    (late,) = [name for name, shape in world.spawned.items() if shape == pair]
    world.join(late)
    world.attend()
    assert world.busy() == {late: [1]}
    world.finish(late)
    world.crew._next_enforce = 0.0
    world.attend()
    assert world.stopped == [late.encode()]


def test_an_mpi_task_that_fits_no_more_is_given_back(make_world: Any) -> None:
    world = make_world(2)
    world.join_all()
    world.run(1, Resources(ranks=3 * CORES))
    world.run(2)
    world.attend()
    world.crew._lose_place(world.crew._places["n1"], "is gone")
    world.attend()
    world.join_all()
    assert world.lost() == [1]
    (lost,) = [one for one in world.reports if isinstance(one, messages.UnfinishedTasks)]
    assert not lost.blame and not lost.begun and "8 such ranks, 12 are needed" in lost.reason
    assert list(world.busy().values()) == [[2]]


def test_nothing_is_given_ahead_on_a_node_that_is_given_back(make_world: Any) -> None:
    world = make_world(1)
    world.join_all()
    for batch in range(2 * CORES):
        world.run(batch, patience=0.2)
    world.attend()
    world.crew.shrink(1)
    for batch in range(100, 108):
        world.run(batch, patience=0.2)
    world.attend()
    far = [name for name in world.busy() if name in world.nodes_of]
    assert len(far) == CORES and all(len(world.given[name]) == 1 for name in far)
    for name in far:
        world.finish(name)
    world.attend()
    assert "n0" not in world.crew._places and b"node:n0" in world.stopped


def test_nothing_is_given_ahead_to_a_worker_that_has_ended(make_world: Any) -> None:
    world = make_world(0)
    world.join_all()
    for batch in range(CORES):
        world.run(batch, patience=0.2)
    world.attend()
    dead = next(iter(world.busy()))
    world.crew._gone(dead, "was killed by signal 9")
    world.run(10, patience=0.2)
    world.attend()
    assert len(world.given[dead]) == 1
    assert [10] in [batches[1:] for batches in world.busy().values()]


@pytest.mark.parametrize("ends", [True, False], ids=["its task is over", "its task stays open"])
def test_a_worker_that_leaves_is_gone_whatever_its_engine_says(
    make_world: Any, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """An engine that goes by a connection does not notice its end while a child of a task holds that."""
    world = make_world(0)
    world.join_all()
    before = set(world.spawned)
    world.run(1)
    world.attend()
    (name,) = world.busy()
    for seconds in ("OBEY_SECONDS", "LEAVE_SECONDS", "ENFORCE_SECONDS", "EXIT_GRACE"):
        monkeypatch.setattr(crew_module, seconds, 0.0)
    world.crew._next_enforce = 0.0
    world.inbox.append((name.encode(), messages.WorkerLeaving(), []))
    if ends:
        world.finish(name)
    for _ in range(4):
        world.attend()
    assert set(world.killed) == {name}
    assert len(set(world.spawned) - before) == 1, "another one has its core"
    assert world.lost() == ([] if ends else [1])


def test_workers_to_which_nothing_is_sent_hear_of_the_agent(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(0)
    world.join_all()
    beats: list[bytes] = []
    send = world.send

    def record(peer: bytes, message: Any, frames: Any = ()) -> bool:
        if isinstance(message, messages.Heartbeat):
            beats.append(peer)
        return bool(send(peer, message, frames))

    monkeypatch.setattr(world, "send", record)
    world.crew.beat()
    assert beats == []
    monkeypatch.setattr(crew_module, "WORKER_BEAT_SECONDS", 0.0)
    world.crew.beat()
    assert sorted(beats) == sorted(name.encode() for name in world.joined)


SHAPES = (
    SLOT,
    Resources(num_cpus=2),
    Resources(num_cpus=0.5, num_gpus=0.5),
    Resources(num_gpus=1),
    Resources(memory=MEMORY // 2),
    Resources(ranks=5),
    Resources(ranks=4, nodes=2),
)


@pytest.mark.parametrize("seed", range(8))
def test_cores_and_gpus_are_counted_right_whatever_happens(
    make_world: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Random tasks, deaths, cancellations and a node that is lost: in the end each task is accounted for once, and all
    cores, memory and GPUs are free."""
    monkeypatch.setattr(crew_module, "EXIT_GRACE", 0.0)
    chance = random.Random(seed)
    world = make_world(3, gpus=2)
    world.join_all()
    done: list[int] = []
    for batch in range(200):
        world.run(batch, chance.choice(SHAPES), chance.choice((0.2, 10.0)))
        world.attend()
        if chance.random() < 0.8:
            for name in [name for name in world.spawned if name not in world.joined]:
                world.join(name)
        for name in [name for name in world.busy() if chance.random() < 0.3]:
            done.append(world.given[name][0])
            world.finish(name)
        world.attend()
        if chance.random() < 0.1 and (busy := list(world.busy())):
            name = chance.choice(busy)
            world.crew._gone(name, "was killed by signal 9")
            world.given[name] = []
        if chance.random() < 0.05:
            world.crew.cancel([chance.randrange(batch + 1)])
        if batch == 100:
            world.crew._lose_place(world.crew._places["n2"], "is gone")
            for name in [name for name in world.nodes_of if world.nodes_of[name] == b"node:n2"]:
                world.given[name] = []
        world.attend()
        for name in [name for name in world.busy() if name not in world.crew._workers]:
            world.given[name] = []  # ended with a node of its MPI task
        for place in world.crew._places.values():
            assert -1e-6 <= place.cores <= CORES + 1e-6
            assert 0 <= place.memory <= MEMORY
            assert all(-1e-6 <= share <= 1 + 1e-6 for share in place.gpus.values())
    world.attend()
    while not world.crew.is_idle():
        before = len(world.crew._batches)
        world.join_all()
        for name in list(world.busy()):
            done.append(world.given[name][0])
            world.finish(name)
        world.attend()
        assert len(world.crew._batches) < before
    assert sorted(done + world.lost()) == list(range(200))
    for place in world.crew._places.values():
        assert place.cores == pytest.approx(CORES) and place.memory == MEMORY
        assert place.slots == CORES
    for worker in list(world.crew._idle.others(SLOT)):
        world.crew._retire(worker)
    for place in world.crew._places.values():
        assert list(place.gpus.values()) == pytest.approx([0.0, 0.0])
