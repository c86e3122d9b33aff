"""Small instances with many kinds of tasks and pilots: what the controller makes of them on a virtual clock, over the
least makespan.

Each instance has 2 or 3 pilots of one or two nodes with 2 to 4 cores, some with a GPU on each node, some with a
walltime; and 6 to 12 tasks that are there from the start: of one or several cores, with a GPU, or with a GPU or else
cores and a longer time. Their durations are known. An agent is played as it is: batches start in the order in which
they came, on the node with the most free cores, and one that waits for cores stops those behind it.

The optimum is that of a mixed-integer program in time steps. A variable says that a task starts at a step, on a node,
with one of its choices of resources (Sousa and Wolsey, Mathematical Programming 54 (1992) 353, "A time indexed
formulation of non-preemptive single machine scheduling problems"; here with a capacity for each node and step). SciPy's
HiGHS solves it; where it does not prove an optimum in time, its lower bound counts.
"""

from __future__ import annotations

import heapq
import random
import statistics
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import _bench
import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from pilot import PilotDescription
from pilot.interfaces import Policy
from pilot.resources import Node, Option, Resources, Terms
from pilot.results import OK, Outcome
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.events import Command, SendBatch
from pilot.scheduling.records import FunctionRecord, TaskRecord

#: Seconds of a time step.
STEP = 60.0
#: Seconds that the solver has for an instance.
SOLVER_SECONDS = 60.0
#: The limits of the mean and of the 95th percentile of the makespan over the optimum.
MEAN, P95 = 1.05, 1.15


class Choice(NamedTuple):
    """Resources that a task can run with, and the steps that it takes then."""

    cores: int
    gpus: int
    steps: int


@dataclass(frozen=True)
class Site:
    """A pilot."""

    #: Cores and GPUs of each node.
    nodes: tuple[tuple[int, int], ...]
    #: Steps until its walltime is over; None: it has none.
    steps: int | None


@dataclass(frozen=True)
class Instance:
    """Pilots, and for each task what it can run with, its first choice first."""

    pilots: tuple[Site, ...]
    tasks: tuple[tuple[Choice, ...], ...]


def instance(dice: random.Random) -> Instance:
    """A small instance. Its first pilot has no end, and a node where any task fits."""
    pilots = [Site(((4, 1),), None)]
    for _ in range(dice.randint(1, 2)):
        node = (dice.randint(2, 4), dice.choice((0, 0, 1)))
        steps = dice.choice((None, None, dice.randint(6, 14)))
        pilots.append(Site((node,) * dice.randint(1, 2), steps))
    tasks = []
    for _ in range(dice.randint(6, 12)):
        steps = dice.randint(1, 9)
        kind = dice.choices(("core", "cores", "gpu", "either"), (5, 2, 1, 3))[0]
        if kind == "core":
            tasks.append((Choice(1, 0, steps),))
        elif kind == "cores":
            tasks.append((Choice(dice.randint(2, 4), 0, steps),))
        elif kind == "gpu":
            tasks.append((Choice(1, 1, steps),))
        else:
            slower = Choice(dice.randint(1, 3), 0, steps * dice.randint(2, 4))
            tasks.append((Choice(1, 1, steps), slower))
    return Instance(tuple(pilots), tuple(tasks))


# ---- the optimum ----------------------------------------------------------------------------------------------


def optimum(given: Instance, horizon: int) -> tuple[float, bool]:
    """The least makespan in steps, or a lower bound of it, and whether it is proven. ``horizon``: one that is known."""
    starts = _starts(given, horizon)
    nodes = [(site, node) for site in given.pilots for node in site.nodes]
    rows: list[int] = []
    columns: list[int] = []
    entries: list[float] = []
    lower: list[float] = []
    upper: list[float] = []

    def add(items: list[tuple[int, float]], least: float, most: float) -> None:
        rows.extend([len(lower)] * len(items))
        columns.extend(column for column, _ in items)
        entries.extend(entry for _, entry in items)
        lower.append(least)
        upper.append(most)

    for task in range(len(given.tasks)):
        mine = [(column, start) for column, start in enumerate(starts) if start.task == task]
        add([(column, 1.0) for column, _ in mine], 1.0, 1.0)
        ends = [(column, float(start.begin + start.choice.steps)) for column, start in mine]
        add([*ends, (len(starts), -1.0)], -np.inf, 0.0)  # none ends after the makespan
    for number, (_, (cores, gpus)) in enumerate(nodes):
        for step in range(horizon):
            running = [
                (column, start.choice)
                for column, start in enumerate(starts)
                if start.node == number and start.begin <= step < start.begin + start.choice.steps
            ]
            add([(column, float(choice.cores)) for column, choice in running], 0.0, cores)
            add([(column, float(choice.gpus)) for column, choice in running if choice.gpus], 0.0, gpus)
    shape = (len(lower), len(starts) + 1)
    matrix = coo_array((entries, (rows, columns)), shape=shape).tocsr()
    cost = np.zeros(shape[1])
    cost[-1] = 1.0
    solved = milp(
        cost,
        integrality=np.ones(shape[1]),
        bounds=Bounds(np.zeros(shape[1]), np.append(np.ones(len(starts)), horizon)),
        constraints=LinearConstraint(matrix, lower, upper),
        options={"time_limit": SOLVER_SECONDS},
    )
    if solved.status == 0:
        return round(solved.fun), True
    if solved.mip_dual_bound is None:
        raise RuntimeError(f"the solver has found neither an optimum nor a bound: {solved.message}")
    return float(np.ceil(solved.mip_dual_bound - 1e-6)), False


class _Start(NamedTuple):
    """A task starts on a node at a step, with a choice of resources."""

    task: int
    node: int
    begin: int
    choice: Choice


def _starts(given: Instance, horizon: int) -> list[_Start]:
    nodes = [(site, node) for site in given.pilots for node in site.nodes]
    return [
        _Start(task, number, begin, choice)
        for task, choices in enumerate(given.tasks)
        for choice in choices
        for number, (site, (cores, gpus)) in enumerate(nodes)
        if choice.cores <= cores and choice.gpus <= gpus
        for begin in range(min(horizon, horizon if site.steps is None else site.steps) - choice.steps + 1)
    ]


# ---- the controller -------------------------------------------------------------------------------------------


class Agent:
    """The agent of one pilot."""

    def __init__(self, site: Site) -> None:
        self.free = [list(node) for node in site.nodes]
        self._queue: deque[SendBatch] = deque()

    def take(self, batch: SendBatch) -> None:
        """A batch has come."""
        self._queue.append(batch)

    def starts(self) -> list[tuple[SendBatch, int]]:
        """The batches that start now, and their nodes."""
        started, passed = [], []
        gpus_waited_for = False
        while self._queue:
            batch = self._queue.popleft()
            needs = batch.resources
            fits = [free for free in self.free if free[0] >= needs.num_cpus and free[1] >= needs.num_gpus]
            if fits and not (needs.num_gpus and gpus_waited_for):
                node = self.free.index(max(fits))
                self.change(node, needs, -1)
                started.append((batch, node))
                continue
            passed.append(batch)
            if not needs.num_gpus:
                break
            gpus_waited_for = True
        self._queue.extendleft(reversed(passed))
        return started

    def change(self, node: int, needs: Resources, sign: int) -> None:
        """A batch takes what it needs (``sign`` -1), or gives it back."""
        self.free[node][0] += sign * int(needs.num_cpus)
        self.free[node][1] += sign * int(needs.num_gpus)


class Run:
    """One instance, run by a controller."""

    def __init__(self, given: Instance, policy: Policy) -> None:
        self._controller = Controller(policy, wait_for_pilot=None)
        self._now = 0.0
        self._agents: dict[str, Agent] = {}
        #: End, number, pilot, node, and the batch.
        self._running: list[tuple[float, int, str, int, SendBatch]] = []
        self._sent = 0
        self._steps: dict[int, dict[Resources, int]] = {}
        #: Batches that ran beyond the walltime of their pilot.
        self.late = 0
        for number, site in enumerate(given.pilots):
            self._add_pilot(f"p{number}", site)
        self._take(self._controller.handle(events.TasksSubmitted(list(map(self._record, given.tasks))), 0.0))

    def _add_pilot(self, id: str, site: Site) -> None:
        cores, gpus = site.nodes[0]
        wanted = PilotDescription(
            number_of_nodes=len(site.nodes),
            cores_per_node=cores,
            gpus_per_node=gpus,
            walltime=None if site.steps is None else site.steps * STEP,
            drain=None if site.steps is None else 0,
        )
        self._agents[id] = Agent(site)
        self._take(self._controller.handle(events.PilotAsked(id, wanted, 1 << 34), 0.0))
        nodes = [
            Node(f"{id}-{number}", id, cores, tuple(f"{number}.{gpu}" for gpu in range(gpus)), 1 << 34)
            for number in range(len(site.nodes))
        ]
        self._take(self._controller.handle(events.PilotReady(id, nodes, {}), 0.0))

    def _record(self, choices: tuple[Choice, ...]) -> TaskRecord:
        number = len(self._steps) + 1
        needs = [Resources(float(choice.cores), float(choice.gpus)) for choice in choices]
        self._steps[number] = {need: choice.steps for need, choice in zip(needs, choices, strict=True)}
        first = choices[0].steps
        others = [Option(need, choice.steps / first) for need, choice in zip(needs[1:], choices[1:], strict=True)]
        terms = Terms(needs[0], duration=first * STEP, others=tuple(others))
        function = FunctionRecord(number, f"digest {number}", f"work {number}")
        function.measured(first * STEP)
        return TaskRecord(number, function, b"", terms, None, 0.0)

    def _take(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, SendBatch):
                self._agents[command.pilot].take(command)
        for id, agent in self._agents.items():
            for batch, node in agent.starts():
                self._sent += 1
                steps = sum(self._steps[record.id][batch.resources] for record in batch.entries)
                heapq.heappush(self._running, (self._now + steps * STEP, self._sent, id, node, batch))

    def makespan(self) -> float:
        """Steps until the last task is over.

        Raises:
            RuntimeError: not all of them ran.
        """
        self._take(self._controller.schedule(self._now))
        over = 0
        while self._running:
            self._now, _, pilot, node, batch = heapq.heappop(self._running)
            self._agents[pilot].change(node, batch.resources, +1)
            ends_at = self._controller.pilots.by_id[pilot].ends_at
            self.late += ends_at is not None and self._now > ends_at
            over += len(batch.entries)
            outcomes = [
                Outcome(record.id, OK, 0.0, self._steps[record.id][batch.resources] * STEP) for record in batch.entries
            ]
            event = events.OutcomesArrived(pilot, batch.batch, "w", outcomes)
            self._take(self._controller.step(event, self._now))
            if not self._running:
                self._take(self._controller.tick(self._now))
        if over != len(self._steps):
            raise RuntimeError(f"{len(self._steps) - over} of {len(self._steps)} tasks did not run")
        return self._now / STEP


# ---- the figures ----------------------------------------------------------------------------------------------


def ratios(instances: int, seed: int, policies: dict[str, Policy]) -> list[dict[str, Any]]:
    """A row for each instance: its optimum, and each policy's makespan over it."""
    rows = []
    for number in range(instances):
        given = instance(random.Random(f"{seed} {number}"))
        runs = {name: Run(given, policy) for name, policy in policies.items()}
        makespans = {name: run.makespan() for name, run in runs.items()}
        best, is_proven = optimum(given, int(makespans["makespan"]))
        row = {"instance": number, "tasks": len(given.tasks), "optimum": best, "proven": is_proven}
        for name, makespan in makespans.items():
            row |= {name: makespan / best, f"{name}, late": runs[name].late}
        rows.append(row)
        sys.stderr.write(f"  {rows[-1]}\n")
    return rows


def report(instances: int, seed: int, file: Path | None) -> None:
    """Prints the figures; ends the script with 1 where a bar is missed."""
    from pilot.scheduling.policies import Balanced, Makespan

    policies: dict[str, Policy] = {"makespan": Makespan(), "balanced": Balanced()}
    rows = ratios(instances, seed, policies)
    figures: dict[str, Any] = {}
    for name in policies:
        found = [row[name] for row in rows]
        p95 = statistics.quantiles(found, n=20, method="inclusive")[-1]
        key = "makespan_over_optimum" if name == "makespan" else f"{name}_over_optimum"
        bars = (_bench.Bar("<=", MEAN, "ratio"), _bench.Bar("<=", P95, "ratio")) if name == "makespan" else (None, None)
        figures[f"{key}_mean"] = (statistics.mean(found), bars[0])
        figures[f"{key}_p95"] = (p95, bars[1])
    late = sum(row["makespan, late"] for row in rows)
    figures["batches_beyond_walltime"] = (late, _bench.Bar("==", 0))
    figures["optima_not_proven"] = (sum(not row["proven"] for row in rows), None)
    configuration = {"optimum": True, "instances": instances, "seed": seed}
    _bench.report("balance --optimum", figures, rows=rows, configuration=configuration, file=file)
