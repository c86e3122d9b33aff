"""What a decision costs: the controller alone, without processes, and how long wide tasks wait on a virtual clock.

    python benchmarks/controller.py [--only cores qpus circuits unfit queue wide] [--json FILE]

`us_event_*` is processor time for one event, the end of a task and what is sent then; every task is a batch of its own
(10 s). In `cores_N` there are N pilots with 4 cores, and one lane; in `qpus_N` N pilots with a QPU each, which any of
the tasks may use; in `circuits_N` 36 of these, and at least N circuits that each need another fidelity; in
`unfit_lanes_N` 50 pilots, and N lanes for a pilot that still waits in its queue. All slots are in use and tasks are
queued. `tick_ms_*` is one tick in the same state. `cancel_us` and `reclaim_ms` are the cost of one cancelled task, and
of one batch that an agent reports after an attach, with a million tasks queued.

`last_wait_s` is the wait of the last of 36 tasks of 16 cores and higher priority, which come among tasks of one core
(50 to 150 s) on 36 pilots of 16 cores; `lower_started_first` is how many of the others start before it.
"""

from __future__ import annotations

import gc
import heapq
import random
from collections.abc import Callable, Iterator
from time import process_time
from typing import Any

import _bench

from pilot import PilotDescription
from pilot.resources import ANY_QPU, CircuitFacts, QPUInfo, Resources, Terms
from pilot.results import OK, Outcome
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.events import Command, SendBatch
from pilot.scheduling.policies import Balanced
from pilot.scheduling.records import FunctionRecord, TaskRecord

#: Cores of each pilot, and seconds of each task, where costs are measured.
CORES, SECONDS = 4, 10.0
#: Events after which the processor time is read.
EVENTS = 500
#: Tasks that are queued for a cancel and a reclaim.
QUEUED = 1_000_000
ABOUT = {"cores": [1, 100, 1000, 5000], "qpus": [100, 1000], "circuits": [100, 1000], "unfit": [100, 1000, 10_000]}
LIMITS = {
    "us_event_cores_1": 20,
    "us_event_cores_100": 25,
    "us_event_cores_1000": 50,
    "us_event_cores_5000": 80,
    "us_event_qpus_100": 25,
    "us_event_qpus_1000": 50,
    "us_event_unfit_lanes_100": 30,
    "us_event_unfit_lanes_1000": 30,
    "us_event_unfit_lanes_10000": 30,
    "cancel_us": 20,
}


class Site:
    """A controller with pilots, and the batches that it has sent, in the order of their ends."""

    def __init__(self) -> None:
        self.controller = Controller(Balanced(), wait_for_pilot=None)
        self.now = 0.0
        self.tasks = 0
        self._number = 0
        #: End, number, pilot, batch, tasks.
        self.running: list[tuple[float, int, str, int, list[TaskRecord]]] = []
        #: How long a task takes, where that is not what is expected.
        self.seconds_of: Callable[[TaskRecord], float] = lambda record: SECONDS
        self.sent: list[TaskRecord] = []

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, SendBatch):
                self._number += 1
                end = self.now + sum(map(self.seconds_of, command.entries))
                heapq.heappush(self.running, (end, self._number, command.pilot, command.batch, command.entries))
                self.sent += command.entries

    def add_pilot(self, id: str, cores: int = CORES, qpus: tuple[QPUInfo, ...] = (), ready: bool = True) -> None:
        names = tuple(info.name for info in qpus)
        wanted = PilotDescription(cores_per_node=cores, qpus=names)
        self.take(self.controller.handle(events.PilotAsked(id, wanted, 1 << 34, devices=names), self.now))
        if ready:
            nodes = self.controller.pilots.by_id[id].nodes
            self.take(self.controller.handle(events.PilotReady(id, nodes, {}, None, list(qpus)), self.now))

    def submit(self, count: int, function: FunctionRecord, terms: Terms) -> list[TaskRecord]:
        first = self.tasks + 1
        self.tasks += count
        records = [TaskRecord(first + i, function, b"", terms, None, 0.0) for i in range(count)]
        self.take(self.controller.handle(events.TasksSubmitted(records), self.now))
        return records

    def schedule(self) -> None:
        self.take(self.controller.schedule(self.now))

    def next_end(self) -> events.OutcomesArrived:
        """The end of the batch that ends first; the clock stands there then."""
        end, _, pilot, batch, records = heapq.heappop(self.running)
        outcomes = [Outcome(record.id, OK, 0.0, self.seconds_of(record)) for record in records]
        self.now = max(self.now, end)
        return events.OutcomesArrived(pilot, batch, "w", outcomes)

    def cost_of_events(self, count: int) -> float:
        """Microseconds of processor time for an event, with what is sent then."""
        spent = 0.0
        for _ in range(count):
            event = self.next_end()
            began = process_time()
            commands = self.controller.step(event, self.now)
            spent += process_time() - began
            self.take(commands)
        return 1e6 * spent / count


def known(seconds: float = SECONDS, id: int = 1) -> FunctionRecord:
    function = FunctionRecord(id, f"digest {id}", f"work {id}")
    function.measured(seconds)
    return function


def with_cores(pilots: int) -> Site:
    site = Site()
    for number in range(pilots):
        site.add_pilot(f"p{number}")
    site.submit(CORES * pilots + 4 * EVENTS, known(), Terms())
    return site


def with_qpus(pilots: int) -> Site:
    site = Site()
    for number in range(pilots):
        site.add_pilot(f"p{number}", qpus=(QPUInfo(name=f"fake:q{number}", qubits=27, max_circuits=1),))
    terms = Terms(Resources(num_cpus=0.0, qpu=ANY_QPU), facts=CircuitFacts(5, 1000))
    site.submit(2 * pilots + 4 * EVENTS, known(), terms)
    return site


def with_circuits(circuits: int) -> Site:
    site = Site()
    for number in range(36):
        info = QPUInfo(
            name=f"fake:q{number}", qubits=27, max_circuits=1, error_1q=1e-4, error_2q=5e-3, error_readout=1e-2
        )
        site.add_pilot(f"p{number}", qpus=(info,))
    function = known()
    for number in range(circuits + 72 + 2 * EVENTS):
        facts = CircuitFacts(5, 1000, 10, 10, 5)
        needs = Resources(num_cpus=0.0, qpu=ANY_QPU)
        site.submit(1, function, Terms(needs, facts=facts, min_fidelity=0.5 + number / 100_000))
    return site


def with_unfit_lanes(lanes: int) -> Site:
    site = Site()
    for number in range(50):
        site.add_pilot(f"p{number}")
    wanted = PilotDescription(labels=["late", *(f"part {number}" for number in range(lanes))])
    site.controller.handle(events.PilotAsked("late", wanted, 1 << 34), site.now)
    function = known()
    for number in range(lanes):
        site.submit(1, function, Terms(labels=(f"part {number}",)))
    site.submit(CORES * 50 + 4 * EVENTS, function, Terms())
    return site


def costs(make: Callable[[int], Site], count: int) -> tuple[float, float]:
    """An event's microseconds and a tick's milliseconds, after some events to warm up."""
    site = make(count)
    site.schedule()
    site.take(site.controller.tick(site.now))
    gc.collect()
    gc.freeze()
    site.cost_of_events(EVENTS // 4)
    micro = site.cost_of_events(EVENTS)
    began = process_time()
    for _ in range(5):
        site.take(site.controller.tick(site.now))
    return micro, 1e3 * (process_time() - began) / 5


def costs_in_queue(dice: random.Random) -> tuple[float, float]:
    """With a million tasks queued: microseconds of a cancel, milliseconds of a batch that is reclaimed."""
    site = Site()
    site.add_pilot("p", ready=False)
    records = site.submit(QUEUED, known(), Terms())
    chosen = dice.sample(range(1, QUEUED), 200)
    gc.collect()
    gc.freeze()
    began = process_time()
    for id in chosen:
        site.controller.handle(events.CancelAsked([id]), site.now)
    cancel = 1e6 * (process_time() - began) / len(chosen)
    left = sorted({record.id for record in records} - set(chosen))
    batches = {number + 1: left[1000 * number : 1000 * number + 10] for number in range(200)}
    began = process_time()
    nodes = site.controller.pilots.by_id["p"].nodes
    site.controller.handle(events.PilotReady("p", nodes, batches), site.now)
    return cancel, 1e3 * (process_time() - began) / len(batches)


def wait_of_wide_tasks(dice: random.Random, pilots: int, cores: int, wide: int) -> tuple[float, float]:
    """When the last of the wide tasks starts after they came, and how many narrow ones start before that."""
    site = Site()
    narrow, other = known(100.0, 1), known(100.0, 2)
    lengths: dict[int, float] = {}
    site.seconds_of = lambda record: (
        lengths.setdefault(record.id, dice.uniform(50, 150)) if record.function is narrow else 100.0
    )
    for number in range(pilots):
        site.add_pilot(f"p{number}", cores)
    site.submit(pilots * cores * 25, narrow, Terms())
    site.schedule()
    while site.running[0][0] < 1000.0:
        event = site.next_end()
        site.take(site.controller.step(event, site.now))
    site.now = 1000.0
    waiting = {record.id for record in site.submit(wide, other, Terms(Resources(num_cpus=float(cores)), priority=10))}
    site.sent.clear()
    site.schedule()
    before = 0
    while True:
        before += sum(record.function is narrow for record in site.sent)
        waiting -= {record.id for record in site.sent}
        if not waiting:
            return site.now - 1000.0, before
        site.sent.clear()
        site.take(site.controller.step(site.next_end(), site.now))


def measure(contestant: Any, what: str, count: int = 0, seed: int = 1) -> _bench.Figures:
    """In a process of its own, so that no heap of before is in the way."""
    dice = random.Random(seed)
    if what == "queue":
        cancel, reclaim = costs_in_queue(dice)
        return {"cancel_us": cancel, "reclaim_ms": reclaim}
    if what == "wide":
        last, before = wait_of_wide_tasks(dice, 36, 16, 36)
        return {"last_wait_s": last, "lower_started_first": before}
    make = {"cores": with_cores, "qpus": with_qpus, "circuits": with_circuits, "unfit": with_unfit_lanes}[what]
    micro, tick = costs(make, count)
    name = f"unfit_lanes_{count}" if what == "unfit" else f"{what}_{count}"
    return {f"us_event_{name}": micro, f"tick_ms_{name}": tick}


def cases(only: list[str]) -> Iterator[dict[str, Any]]:
    for what in only:
        for count in ABOUT.get(what, [0]):
            yield {"what": what, "count": count}


def main() -> None:
    parser = _bench.arguments(__doc__, engines=(), repeat=5)
    names = [*ABOUT, "queue", "wide"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="what to measure")
    options = parser.parse_args()
    values: dict[str, list[float]] = {}
    for case in cases(options.only):
        for attempt in range(options.repeat):
            for key, value in _bench.measured("our process", **case, seed=attempt + 1).items():
                values.setdefault(key, []).append(value)
    bars = {
        **{key: _bench.Bar("<=", limit, "us") for key, limit in LIMITS.items()},
        "reclaim_ms": _bench.Bar("<=", 0.1, "ms"),
        "last_wait_s": _bench.Bar("<=", 155, "s on a virtual clock"),
        "lower_started_first": _bench.Bar("==", 0, "tasks"),
    }
    figures: dict[str, Any] = {key: (value, bars.get(key)) for key, value in values.items()}
    configuration = {"repeat": options.repeat, "only": options.only}
    rows = [{"key": key, "values": value} for key, value in values.items()]
    _bench.report("controller", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
