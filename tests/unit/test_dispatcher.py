"""Simulated nodes, workers and engine: which worker gets which batch, and that cores and GPUs are counted right."""

import random
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot.agent import batches, devices, worker_processes, workers
from pilot.agent.dispatcher import Dispatcher
from pilot.agent.nodes import Place
from pilot.agent.workers import WorkerPool
from pilot.resources import SLOT, Node, Resources
from pilot.results import OK, Outcome
from pilot.version import versions
from pilot.wire import messages
from pilot.wire.session import AgentSettings

CORES = 4
MEMORY = 1 << 30


class World:
    """Nodes ``n0``, ``n1``, … beside a home, workers and engine: all that a pool of workers talks to."""

    address = "tcp://127.0.0.1:1"
    near = ""
    central = False
    allocation = SimpleNamespace(folder=Path("/nonexistent"))

    def __init__(self, nodes: int, gpus: int = 0, devices: tuple[str, ...] = ()) -> None:
        self.inbox: deque[tuple[bytes, Any, list[bytes]]] = deque()
        #: Workers that were started, those that have reported, and what each was given and has not finished.
        self.spawned: dict[str, Resources] = {}
        self.nodes_of: dict[str, bytes] = {}
        self.exits: dict[str, Any] = {}
        self.joined: set[str] = set()
        self.given: dict[str, list[int]] = {}
        self.stopped: list[bytes] = []
        self.killed: list[str] = []
        self.reports: list[Any] = []
        self.gpus = [f"GPU-{number}" for number in range(gpus)]
        settings = AgentSettings(
            pilot="p", mark="mark", engine="process", remote=True, nodes=nodes + 1, cores=CORES, gpus=gpus,
            memory=MEMORY, walltime=None, drain=0.0, ports=None, sys_path=(), working_directory="/", environment={},
            orphan_timeout=60.0, devices=devices,
        )  # fmt: skip
        home = Node("home", "home", CORES, self.gpus, MEMORY)
        world: Any = self
        self.pool = WorkerPool(world, home, world, (b"", b""), settings, Path("/"), lambda: None)
        self.dispatcher = Dispatcher(self.pool, world, self.report)
        self.pool.start()
        for number in range(nodes):
            node = Node(f"n{number}", f"n{number}", CORES, self.gpus, MEMORY)
            self.inbox.append((f"node:n{number}".encode(), messages.JoinNode(node, "tcp://10.0.0.1:1"), []))
        self.attend()

    def attend(self) -> None:
        while True:
            self.dispatcher.attend()
            if not self.inbox:
                return

    # ---- what the pool calls ----

    def report(self, message: Any, frames: Any = ()) -> None:
        self.reports.append(message)

    def start(self, broke: Any) -> None: ...

    def stop(self) -> None: ...

    def client(self) -> dict[str, str]:
        return {}

    def spawn(self, spec: Any, gone: Any) -> None:
        self.spawned[spec.name] = spec.resources
        self.exits[spec.name] = gone

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

    def die(self, name: str) -> None:
        """A worker is killed."""
        reason = "was killed by signal 9"
        if name in self.nodes_of:
            self.inbox.append((self.nodes_of[name], messages.WorkerGone(name, reason), []))
        else:
            self.exits[name](reason)

    def lose_node(self, name: str) -> None:
        self.inbox.append((f"node:{name}".encode(), messages.Broken("is gone"), []))

    def place(self, name: str) -> Place:
        place = self.pool.nodes.get(name)
        assert place is not None
        return place

    def join(self, name: str) -> None:
        self.joined.add(name)
        self.inbox.append((name.encode(), messages.Hello(name, 1, "host", versions()), []))

    def join_all(self) -> None:
        while late := [name for name in self.spawned if name not in self.joined]:
            for name in late:
                self.join(name)
            self.attend()

    def run(self, batch: int, needs: Resources = SLOT, give_back_seconds: float = 10.0) -> None:
        work = messages.encode(messages.BatchBody([messages.Work(batch, 0, None)], {}))
        sent = [work, b""]
        self.dispatcher.add(messages.RunBatch(batch, needs, [batch], ["f"], ["f"], give_back_seconds, False, 0.0), sent)

    def finish(self, name: str) -> None:
        batch = self.given[name].pop(0)
        body = messages.encode([Outcome(batch, OK, 0.0, 0.0)])
        self.inbox.append((name.encode(), messages.OutcomesReport(batch, name, 1), [body]))

    def busy(self) -> dict[str, list[int]]:
        return {name: batches for name, batches in self.given.items() if batches}

    def lost(self) -> list[int]:
        return [task for one in self.reports if isinstance(one, messages.UnfinishedTasks) for task in one.tasks]


class Inline:
    """An executor that makes each call at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def submit(self, function: Any, *args: Any) -> Future[None]:
        function(*args)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def shutdown(self, *, wait: bool) -> None: ...


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(worker_processes, "ThreadPoolExecutor", Inline)
    monkeypatch.setattr(workers, "ENFORCE_SECONDS", 0.0)
    worlds: list[World] = []

    def make(*args: Any, **settings: Any) -> World:
        worlds.append(World(*args, **settings))
        return worlds[-1]

    yield make
    for world in worlds:
        world.pool.stop()


def test_an_engine_that_hangs_holds_no_agent_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "STOP_SECONDS", 0.05)
    let_go = threading.Event()
    monkeypatch.setattr(World, "stop", lambda self: let_go.wait(60))
    begun = time.monotonic()
    World(0).pool.stop()
    assert time.monotonic() - begun < 30
    let_go.set()


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
    monkeypatch.setattr(batches, "IDLE_SECONDS", -1.0)
    world = make_world(0)
    world.join_all()
    pair = Resources(num_cpus=2)
    world.run(1, pair)
    for _ in range(3):
        world.attend()
    (late,) = [name for name, shape in world.spawned.items() if shape == pair]
    world.join(late)
    world.attend()
    assert world.busy() == {late: [1]}
    world.finish(late)
    world.attend()
    assert world.stopped == [late.encode()]


def test_an_mpi_task_that_fits_no_more_is_given_back(make_world: Any) -> None:
    world = make_world(2)
    world.join_all()
    world.run(1, Resources(ranks=3 * CORES))
    world.run(2)
    world.attend()
    world.lose_node("n1")
    world.attend()
    world.join_all()
    assert world.lost() == [1]
    (lost,) = [one for one in world.reports if isinstance(one, messages.UnfinishedTasks)]
    assert not lost.blame and not lost.begun and "8 such ranks, but 12 are needed" in lost.reason
    assert list(world.busy().values()) == [[2]]


def test_nothing_is_given_ahead_on_a_node_that_is_given_back(make_world: Any) -> None:
    world = make_world(1)
    world.join_all()
    for batch in range(2 * CORES):
        world.run(batch, give_back_seconds=0.2)
    world.attend()
    world.pool.nodes.release(1)
    for batch in range(100, 108):
        world.run(batch, give_back_seconds=0.2)
    world.attend()
    far = [name for name in world.busy() if name in world.nodes_of]
    assert len(far) == CORES and all(len(world.given[name]) == 1 for name in far)
    for name in far:
        world.finish(name)
    world.attend()
    assert world.pool.nodes.get("n0") is None and b"node:n0" in world.stopped


def test_nothing_is_given_ahead_to_a_worker_that_has_ended(make_world: Any) -> None:
    world = make_world(0)
    world.join_all()
    for batch in range(CORES):
        world.run(batch, give_back_seconds=0.2)
    world.attend()
    dead = next(iter(world.busy()))
    world.die(dead)
    world.run(10, give_back_seconds=0.2)
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
    for module, seconds in ((batches, "END_SECONDS"), (workers, "LEAVE_SECONDS"), (workers, "EXIT_GRACE")):
        monkeypatch.setattr(module, seconds, 0.0)
    world.inbox.append((name.encode(), messages.WorkerLeaving(), []))
    if ends:
        world.finish(name)
    for _ in range(4):
        world.attend()
    assert set(world.killed) == {name}
    assert len(set(world.spawned) - before) == 1, "another one has its core"
    assert world.lost() == ([] if ends else [1])


@pytest.mark.parametrize("late", [True, False], ids=["the task was over before", "the task does not end"])
def test_a_death_after_a_cancellation_that_came_too_late_counts(
    make_world: Any, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    world = make_world(0)
    world.join_all()
    for module, seconds in ((batches, "END_SECONDS"), (workers, "EXIT_GRACE")):
        monkeypatch.setattr(module, seconds, 60.0 if late and module is batches else 0.0)
    for batch in range(CORES + 1):
        world.run(batch, give_back_seconds=0.2)
    world.attend()
    (name,) = [name for name, given in world.busy().items() if len(given) == 2]
    first, second = world.given[name]
    world.dispatcher.cancel(messages.CancelTasks([first]))
    if late:
        world.finish(name)
    world.attend()
    assert world.killed == ([] if late else [name])
    world.die(name)
    world.attend()
    world.attend()
    lost = {one.tasks[0]: (one.blame, one.begun) for one in world.reports if isinstance(one, messages.UnfinishedTasks)}
    assert lost == ({second: (True, True)} if late else {first: (False, False), second: (False, False)})


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
    world.pool.beat()
    assert beats == []
    monkeypatch.setattr(workers, "WORKER_BEAT_SECONDS", 0.0)
    world.pool.beat()
    assert sorted(beats) == sorted(name.encode() for name in world.joined)


def test_files_of_workers_that_are_gone_do_not_pile_up(
    make_world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_processes, "FILES_KEPT", 3)
    monkeypatch.setattr(World, "allocation", SimpleNamespace(folder=tmp_path))
    monkeypatch.setattr(worker_processes, "end_left", lambda *args: None)
    folder = tmp_path / "workers"
    folder.mkdir()
    world = make_world(0)
    world.join_all()
    gone = []
    for _ in range(12):
        gone.append(next(iter(world.pool.workers)))
        for name in world.pool.workers:
            for end in ("log", "out", "dask.log"):
                (folder / f"{name}.{end}").touch()
        world.die(gone[-1])
        world.attend()
        world.join_all()
    kept = {path.name.rpartition(".")[0].removesuffix(".dask") for path in folder.iterdir()}
    assert kept - world.pool.workers.keys() == set(gone[-3:])
    assert len(list(folder.glob(f"{gone[-1]}.*"))) == 3


def test_a_device_whose_workers_end_before_they_report_is_given_up(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "START_SECONDS", 0.0)
    monkeypatch.setattr(workers, "DEVICES_STOP_SECONDS", 0.0)
    world = make_world(0, devices=("fake:x", "fake:y"))
    world.join_all()
    world.run(1, Resources(num_cpus=0.0, qpu="fake:x"))
    for attempt in range(devices.FAILED_STARTS):
        assert world.lost() == [] and not world.pool.devices.infos, attempt
        world.die(next(name for name, worker in world.pool.workers.items() if worker.shape.qpu == "fake:x"))
        world.attend()
    assert world.lost() == [1]
    (info,) = world.pool.devices.infos
    assert info.name == "fake:x" and "ended 3 times before it was open" in info.problem
    assert [worker.shape.qpu for worker in world.pool.workers.values() if worker.shape.qpu] == ["fake:y"]


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
    monkeypatch.setattr(workers, "EXIT_GRACE", 0.0)
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
            world.die(name)
            world.given[name] = []
        if chance.random() < 0.05:
            world.dispatcher.cancel(messages.CancelTasks([chance.randrange(batch + 1)]))
        if batch == 100:
            world.lose_node("n2")
            world.attend()
            for name in [name for name in world.nodes_of if world.nodes_of[name] == b"node:n2"]:
                world.given[name] = []
        world.attend()
        for name in [name for name in world.busy() if name not in world.pool.workers]:
            world.given[name] = []  # ended with a node of its MPI task
        for place in world.pool.nodes:
            assert -1e-6 <= place.cores <= CORES + 1e-6
            assert 0 <= place.memory <= MEMORY
            assert all(-1e-6 <= share <= 1 + 1e-6 for share in place.gpus.values())
    world.attend()
    while not world.dispatcher.is_idle():
        before = len(world.dispatcher.held())
        world.join_all()
        for name in list(world.busy()):
            done.append(world.given[name][0])
            world.finish(name)
        world.attend()
        assert len(world.dispatcher.held()) < before
    assert sorted(done + world.lost()) == list(range(200))
    for place in world.pool.nodes:
        assert place.cores == pytest.approx(CORES) and place.memory == MEMORY
        assert place.slots == CORES
    monkeypatch.setattr(batches, "IDLE_SECONDS", -1.0)
    world.attend()
    for place in world.pool.nodes:
        assert list(place.gpus.values()) == pytest.approx([0.0, 0.0])


# ---- tasks that wait for tasks of their own -------------------------------------------------------------------


def waits(world: World, name: str, batch: int) -> None:
    world.inbox.append((name.encode(), messages.TaskWaits(batch, name, batch, 1, []), []))
    world.attend()


def goes_on(world: World, name: str, batch: int, at_once: bool = False) -> None:
    world.inbox.append((name.encode(), messages.TaskResumes(batch, name, batch, at_once), []))
    world.attend()


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers that were told to go on, in order."""
    names: list[str] = []
    send = World.send

    def noted(world: World, peer: bytes, message: Any, frames: Any = ()) -> bool:
        if isinstance(message, messages.Resume):
            names.append(peer.decode())
        return send(world, peer, message, frames)

    monkeypatch.setattr(World, "send", noted)
    return names


def waiting_among(world: World, batches: int) -> str:
    """Run so many batches of a task each; the worker whose task, the first one, waits. Another worker has its core."""
    world.join_all()
    for batch in range(batches):
        world.run(batch)
    world.attend()
    (first,) = [name for name, its in world.busy().items() if its == [0]]
    waits(world, first, 0)
    world.join_all()
    return first


def test_a_task_that_waits_has_another_worker_in_its_place_and_goes_on_when_a_core_is_free(
    make_world: Any, resumed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(0)
    first = waiting_among(world, CORES + 2)
    assert len(world.spawned) == CORES + 1
    assert world.busy()[list(world.spawned)[-1]] == [CORES]
    goes_on(world, first, 0)
    assert not resumed  # all cores are used
    world.finish(list(world.spawned)[-1])
    world.attend()
    assert resumed == [first]  # before the batch that is queued
    assert sum(map(len, world.busy().values())) == CORES
    for name in list(world.busy()):
        world.finish(name)
    world.attend()
    assert world.busy() and world.place("home").cores == CORES - 1
    world.finish(next(iter(world.busy())))
    monkeypatch.setattr(batches, "IDLE_SECONDS", -1.0)
    world.attend()
    world.attend()
    assert len(world.stopped) == 1  # there is one worker more than cores
    assert world.place("home").cores == world.place("home").slots == CORES


def test_a_task_that_has_waited_in_vain_goes_on_at_once(make_world: Any, resumed: list[str]) -> None:
    world = make_world(0)
    first = waiting_among(world, CORES + 1)
    goes_on(world, first, 0, at_once=True)
    assert resumed == [first]
    assert world.place("home").cores == -1
    world.run(9)
    world.attend()
    assert [9] not in world.busy().values()


def test_a_task_that_has_waited_long_for_its_cores_goes_on_without(make_world: Any, resumed: list[str]) -> None:
    world = make_world(0)
    first = waiting_among(world, CORES + 1)
    goes_on(world, first, 0)
    assert not resumed
    goes_on(world, first, 0, at_once=True)
    goes_on(world, first, 0, at_once=True)  # too late
    assert resumed == [first] and world.place("home").cores == -1


@pytest.mark.parametrize("end", ["finish", "die"])
def test_a_worker_that_ends_while_its_task_waits_leaves_the_cores_right(make_world: Any, end: str) -> None:
    world = make_world(0)
    world.join_all()
    pair = Resources(num_cpus=2)
    world.run(1, pair)
    world.attend()
    world.join_all()
    (name,) = world.busy()
    waits(world, name, 1)
    assert world.place("home").cores == CORES
    getattr(world, end)(name)
    for _ in range(3):
        world.attend()
        time.sleep(0 if end == "finish" else workers.EXIT_GRACE)
    world.attend()
    assert world.place("home").cores == CORES
    assert world.dispatcher.waits() == []
