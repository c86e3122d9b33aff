"""Which tasks start now, where few are queued: several schedules of all of them are made, and the best one is begun.

A schedule takes the tasks in some order, and puts each where it is over first, beside those that run and those that
were put before it (serial schedule generation: Kolisch, European Journal of Operational Research 90 (1996) 320). The
orders are simple rules, then changes of the best one at random, with the same seed each time.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from pilot.resources import ROUNDING, Option
from pilot.scheduling.batches import Batches
from pilot.scheduling.events import Command
from pilot.scheduling.fitting import misfit
from pilot.scheduling.index import Index
from pilot.scheduling.lanes import Lane
from pilot.scheduling.pilot_records import PilotRecord, SentBatch
from pilot.scheduling.queue import TaskQueue
from pilot.scheduling.ranking import Way
from pilot.scheduling.records import Planned, TaskRecord

#: With more tasks, or more nodes, it does not plan.
MOST_TASKS, MOST_NODES = 32, 64
#: Changes that are tried, times tasks, times choices of a task: some milliseconds.
EFFORT = 5000
#: A batch that should be over already is expected to take this part of its time yet.
OVERDUE = 0.1
#: Seconds after which a plan is made anew though nothing has changed.
AGAIN_SECONDS = 1.0
#: Changes of an order: how often another choice for a task instead of another place in the order.
OTHER_CHOICE = 0.35


class _Run(NamedTuple):
    """One way to run a task: the nodes of a pilot, what it takes there, how long, and by when it must be over."""

    way: Way
    nodes: range
    cores: float
    gpus: float
    memory: int
    seconds: float
    latest: float


class _Job(NamedTuple):
    """A queued task."""

    record: TaskRecord
    lane: Lane
    runs: list[_Run]


class _Start(NamedTuple):
    """A job starts after so many seconds."""

    job: int
    run: _Run
    seconds: float


class _Node:
    """What is free on a node, from each of these times until the next."""

    __slots__ = ("cores", "gpus", "memory", "times")

    def __init__(self, cores: float, gpus: float, memory: float) -> None:
        self.times = [0.0]
        self.cores = [cores]
        self.gpus = [gpus]
        self.memory = [memory]

    def copy(self) -> _Node:
        """The same, to be changed."""
        other = _Node(0.0, 0.0, 0.0)
        for name in self.__slots__:
            setattr(other, name, list(getattr(self, name)))
        return other

    def first(self, run: _Run) -> float | None:
        """When a run can begin at first, in seconds; None: never."""
        times, cores, gpus, memory = self.times, self.cores, self.gpus, self.memory
        at, begin = 0, 0.0
        while True:
            end = begin + run.seconds
            while at < len(times) and times[at] < end:
                if cores[at] < run.cores or gpus[at] < run.gpus or memory[at] < run.memory:
                    break
                at += 1
            else:
                return begin if end <= run.latest else None
            at += 1
            if at == len(times):
                return None
            begin = times[at]

    def take(self, cores: float, gpus: float, memory: int, begin: float, end: float) -> None:
        """Between these times less is free."""
        first, last = self._split(begin), self._split(end)
        for at in range(first, last):
            self.cores[at] -= cores
            self.gpus[at] -= gpus
            self.memory[at] -= memory

    def _split(self, time: float) -> int:
        at = bisect_right(self.times, time) - 1
        if self.times[at] == time:
            return at
        for values in (self.times, self.cores, self.gpus, self.memory):
            values.insert(at + 1, values[at])
        self.times[at + 1] = time
        return at + 1


class _Schedule(NamedTuple):
    """What became of an order. The better one is less."""

    #: Tasks that cannot be run in time, seconds until all others are over, and the sum of all their ends.
    score: tuple[int, float, float]
    starts: list[_Start]
    order: list[int]
    #: Job → the only one of its runs that it may take.
    chosen: dict[int, int]


class Lookahead:
    """Plans the tasks that are queued for cores, GPUs and memory."""

    def __init__(self, queue: TaskQueue, index: Index, batches: Batches) -> None:
        self._queue = queue
        self._index = index
        self._batches = batches
        #: What the last plan was made from, and when it is made again.
        self._seen: tuple[object, ...] = ()
        self._again = 0.0
        #: The ids of the best order so far.
        self._order: dict[int, int] = {}
        #: The node of each batch that a pilot has, as far as can be told: its number among the pilot's nodes.
        self._node_of: dict[tuple[str, int], int] = {}

    def place(self, now: float, commands: list[Command]) -> bool:
        """Send the tasks that start now in the best schedule; False: there are too many, or too little is known."""
        lanes = [lane for lane in self._queue.lanes.values() if not lane.is_for_devices and lane.group.ways]
        if sum(map(len, lanes)) > MOST_TASKS or sum(len(one.nodes) for one in self._index.pilots.values()) > MOST_NODES:
            return False
        queued = sorted(((record, lane) for lane in lanes for record in lane), key=lambda one: _rank(one[0]))
        if any(_length(record) is None or record.terms.resources.ranks for record, _ in queued):
            return False
        seen = (self._index.version, self._batches.last, *(record.id for record, _ in queued), *self._loads())
        if seen == self._seen and now < self._again:
            return True
        self._seen, self._again = seen, now + AGAIN_SECONDS
        nodes, first = self._nodes(now)
        jobs = [_Job(record, lane, list(_runs(record, lane, first, now))) for record, lane in queued]
        if jobs:
            self._begin(jobs, _best(jobs, nodes, self._order), now, commands)
        return True

    def _loads(self) -> list[int]:
        return [len(pilot.sent) for pilot in self._index.pilots.values()]

    def _nodes(self, now: float) -> tuple[list[_Node], dict[str, int]]:
        """All nodes with what runs there, and the number of each pilot's first one.

        Which node a batch is on is the agent's choice, when it begins: the one with the most free cores.
        """
        nodes: list[_Node] = []
        first, node_of = {}, {}
        for pilot in self._index.pilots.values():
            first[pilot.id] = len(nodes)
            mine = [_Node(one.cores + ROUNDING, len(one.gpus) + ROUNDING, one.memory) for one in pilot.nodes]
            for number, batch in pilot.sent.items():
                if batch.qpu in pilot.devices or not mine:
                    continue
                at = self._node_of.get((pilot.id, number), len(mine))
                if at >= len(mine):
                    at = max(range(len(mine)), key=lambda one: (mine[one].gpus[0] >= batch.gpus, mine[one].cores[0]))
                node_of[pilot.id, number] = at
                mine[at].take(batch.cores, batch.gpus, batch.memory, 0.0, _seconds_left(batch, pilot, now))
            nodes += mine
        self._node_of = node_of
        return nodes, first

    def _begin(self, jobs: Sequence[_Job], best: _Schedule, now: float, commands: list[Command]) -> None:
        self._order = {jobs[job].record.id: place for place, job in enumerate(best.order)}
        for start in best.starts:
            job, way = jobs[start.job], start.run.way
            if start.seconds > 0.0 or not way.pilot.has_credit(way.option.resources, 1):
                continue
            reason = Planned(way.pilot.name, way.option, best.score[1], len(jobs))
            job.lane.remove((job.record,))
            commands.append(self._batches.single(job.record, job.lane, way, reason, now))
            self._queue.lane_changed(job.lane)


def _rank(record: TaskRecord) -> tuple[int, int]:
    return -record.terms.priority, record.id


def _length(record: TaskRecord) -> float | None:
    """Seconds that a task is expected to run with its first choice: as described, else its function's mean."""
    return record.seconds if record.terms.duration is None else record.terms.duration


def _seconds_left(batch: SentBatch, pilot: PilotRecord, now: float) -> float:
    lengths = [_length(record) or 0.0 for record in batch.entries.values()]
    expected = batch.expected or sum(lengths) * batch.slowness * pilot.slowness
    left = expected if batch.ends_at is None else batch.ends_at - now
    return max(left, OVERDUE * expected, 1e-6)


def _runs(record: TaskRecord, lane: Lane, first: dict[str, int], now: float) -> list[_Run]:
    """All that a task can run with, and where."""
    length = _length(record) or 0.0
    runs = []
    for id, ways in lane.group.ways.items():
        pilot: PilotRecord = ways[0].pilot
        if id in lane.group.unsure and misfit(record.terms, pilot.offer) is not None:
            continue
        latest = float("inf") if pilot.ends_at is None else pilot.ends_at - now
        for way in ways:
            if not record.terms.others:
                way = way._replace(option=Option(record.terms.resources))
            needs, slowness = way.option.resources, way.option.slowness * pilot.slowness
            needed = pilot.seconds_needed(record.terms, record.seconds, way.option.slowness)
            nodes = range(first[id], first[id] + len(pilot.nodes))
            seconds = length * slowness
            late = max(0.0, needed - seconds)
            runs.append(_Run(way, nodes, needs.num_cpus, needs.num_gpus, needs.memory, seconds, latest - late))
    return runs


def _best(jobs: Sequence[_Job], nodes: Sequence[_Node], before: dict[int, int]) -> _Schedule:
    """The best of some schedules. ``before``: ids in the order of the last plan."""
    found = [_schedule(jobs, nodes, order, {}) for order in _orders(jobs, before)]
    best = min(found, key=lambda one: one.score)
    dice = random.Random(0)
    several = [number for number, job in enumerate(jobs) if len(job.runs) > 1]
    work = sum(len(run.nodes) for job in jobs for run in job.runs)
    for _ in range(EFFORT // max(1, work) if len(jobs) > 1 or several else 0):
        order, chosen = list(best.order), dict(best.chosen)
        for _ in range(dice.randint(1, 3)):
            if several and dice.random() < OTHER_CHOICE:
                job = dice.choice(several)
                run = dice.randrange(-1, len(jobs[job].runs))
                chosen.pop(job, None)
                if run >= 0:
                    chosen[job] = run
            else:
                moved = order.pop(dice.randrange(len(order)))
                order.insert(dice.randrange(len(order) + 1), moved)
        order.sort(key=lambda job: -jobs[job].record.terms.priority)
        other = _schedule(jobs, nodes, order, chosen)
        if other.score <= best.score:
            best = other
    return best


def _orders(jobs: Sequence[_Job], before: dict[int, int]) -> list[list[int]]:
    """Orders by simple rules; in all of them a higher priority goes first. The jobs are in order of submission."""
    lengths = [max((run.seconds for run in job.runs), default=0.0) for job in jobs]
    shortest = [min((run.seconds for run in job.runs), default=0.0) for job in jobs]
    areas = [max((run.seconds * run.cores for run in job.runs), default=0.0) for job in jobs]
    widths = [max((run.cores for run in job.runs), default=0.0) for job in jobs]
    gpus = [min((run.gpus for run in job.runs), default=0.0) for job in jobs]
    numbers = range(len(jobs))
    rules = (
        lambda job: before.get(jobs[job].record.id, job + len(before)),
        lambda job: job,
        lambda job: -shortest[job],
        lambda job: -lengths[job],
        lambda job: -areas[job],
        lambda job: (-widths[job], -shortest[job]),
        lambda job: (-gpus[job], -shortest[job]),
    )
    return [sorted(numbers, key=lambda job: (-jobs[job].record.terms.priority, rule(job))) for rule in rules]


def _schedule(jobs: Sequence[_Job], nodes: Sequence[_Node], order: list[int], chosen: dict[int, int]) -> _Schedule:
    """Each job in this order where it is over first; among equals where it takes less, then where it begins first, and
    then on the node that an agent would take."""
    free = [node.copy() for node in nodes]
    starts = []
    last = total = 0.0
    for job in order:
        runs = jobs[job].runs
        best: tuple[tuple[float, ...], _Run, int] | None = None
        for run in (runs[chosen[job]],) if job in chosen else runs:
            for node in run.nodes:
                begin = free[node].first(run)
                if begin is not None:
                    end = begin + run.seconds
                    key = (end, run.gpus * run.seconds, run.cores * run.seconds, begin, -free[node].cores[0])
                    if best is None or key < best[0]:
                        best = (key, run, node)
        if best is not None:
            (end, _, _, begin, _), run, node = best
            free[node].take(run.cores, run.gpus, run.memory, begin, end)
            starts.append(_Start(job, run, begin))
            last = max(last, end)
            total += end
    return _Schedule((len(order) - len(starts), last, total), starts, order, chosen)
