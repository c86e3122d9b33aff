"""Our cut runs for the comparison with the add-on, and one that is long enough to see what coordination takes."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import _bench
import _processes
from _addon import OPTIONS, Addon, Estimate, fastest
from pilot_miniapps.circuit_cutting.problem import Problem

from pilot.quantum.aer import warm_up
from pilot.quantum.cutting import CutPlan, gather, plan

QUBITS, REPETITIONS = 34, 2
SHOTS, NUM_SAMPLES, SEED = 4096, 1000, 111
#: Standard errors that differ by no more than this count as equal: estimates of them scatter as much.
EQUAL = 1.1
#: Repetitions, and most qubits of a piece, of the run for `coordination_share`: 1,250 circuits, 30 s on 2 cores.
LONG = (4, 17)


@dataclass
class Compared:
    """Runs of both sides at one size: the add-on's first one has our number of shots, its others our standard error."""

    size: int
    options: str
    first: Estimate
    shots: int
    addon: list[Estimate]
    ours: list[Estimate]

    @property
    def ratios(self) -> list[float]:
        """Of the times at equal standard error, run by run."""
        return [theirs.seconds / our.seconds for theirs, our in zip(self.addon, self.ours, strict=True)]

    @property
    def cpu_ratios(self) -> list[float]:
        """Of the processor times at equal standard error, run by run: what other work on the machine changes least."""
        return [theirs.cpu / our.cpu for theirs, our in zip(self.addon, self.ours, strict=True)]

    @property
    def at_equal_shots(self) -> float:
        """The ratio of the times at equal numbers of shots, where the add-on's error is another one."""
        return self.first.seconds / statistics.median(one.seconds for one in self.ours)

    @property
    def errors(self) -> float:
        """How many times larger the larger one of the two standard errors is: medians."""
        one, other = (statistics.median(each.error for each in runs) for runs in (self.ours, self.addon))
        return max(one / other, other / one)

    def rows(self) -> list[dict[str, Any]]:
        sides = (("add-on, equal shots", [self.first]), ("add-on", self.addon), ("ours", self.ours))
        return [
            {
                "size": self.size,
                "side": side,
                "shots": self.shots if side == "add-on" else SHOTS,
                "value": one.value,
                "standard error": one.error,
                "by shots": one.shot_error,
                "seconds": one.seconds,
                "cpu seconds": one.cpu,
            }
            for side, runs in sides
            for one in runs
        ]


def ready(ours: _bench.Ours) -> None:
    """Both workers have what they import."""
    gather([ours.submit(warm_up) for _ in range(_bench.WORKERS)])


def compare(ours: _bench.Ours, size: int, repeat: int, some: int) -> Compared:
    """Both sides in alternating order; where its standard error is larger, the add-on gets the shots that give it ours.

    The add-on runs a subexperiment for each term that has it, ours once for all of them: its shots then count in a sum
    with signs, and scatter less in the value.

    Args:
        ours: with warm workers.
        size: most qubits of a piece.
        repeat: runs of each side.
        some: circuits of each piece with which the add-on's options are compared.
    """
    problem = Problem.of_paper(QUBITS, REPETITIONS)
    name = fastest(problem.circuit, problem.observable, size, SHOTS, NUM_SAMPLES, some)
    first = Addon(OPTIONS[name], SHOTS, NUM_SAMPLES).value(problem.circuit, problem.observable, size, SEED)
    our = value(ours, problem, size, SEED)
    found = Compared(size, name, first, SHOTS, [], [])
    if first.error > EQUAL * our.error:
        found.shots = math.ceil(SHOTS * (first.shot_error / our.shot_error) ** 2)
    addon = Addon(OPTIONS[name], found.shots, NUM_SAMPLES)
    for number in range(repeat):
        seed = SEED + number
        if number % 2 == 0:
            again = number or found.shots != SHOTS
            found.addon.append(addon.value(problem.circuit, problem.observable, size, seed) if again else first)
        found.ours.append(value(ours, problem, size, seed))
        if number % 2:
            found.addon.append(addon.value(problem.circuit, problem.observable, size, seed))
    return found


def value(ours: _bench.Ours, problem: Problem, size: int, seed: int) -> Estimate:
    """Our value, from circuit to value."""
    processes = _processes.marked()
    began, spent = perf_counter(), _processes.cpu_seconds(processes)
    planned = plan(problem.circuit, problem.observable, size, num_samples=NUM_SAMPLES, seed=seed)
    result = planned.run(ours.manager, shots=SHOTS, seed=seed)
    seconds, cpu = perf_counter() - began, _processes.cpu_seconds(processes) - spent
    errors = float(result.shot_errors[0]), float(result.sampling_errors[0])
    return Estimate(float(result.values[0]), *errors, seconds, cpu)


def coordination(ours: _bench.Ours) -> dict[str, float]:
    """A long run: its makespan, the work in it, and the share of the makespan that is neither that nor the end.

    Work is the time in which workers ran tasks. The end is the time in which slots waited for the last task, as a mean
    over the slots.
    """
    repetitions, size = LONG
    problem = Problem.of_paper(QUBITS, repetitions)
    planned: CutPlan = plan(problem.circuit, problem.observable, size, seed=SEED)
    began = perf_counter()
    tasks = planned.submit(ours.manager.map, shots=SHOTS, seed=SEED)
    gather(tasks)
    makespan = perf_counter() - began
    spans = defaultdict(list)
    for task in tasks:
        spans[task.info.worker].append((task.info.started, task.info.finished))
    work = sum(end - start for its in spans.values() for start, end in its)
    last = max(end for its in spans.values() for _, end in its)
    idle = sum(last - max(end for _, end in its) for its in spans.values())
    slots = _bench.WORKERS
    return {
        "circuits": len(tasks),
        "makespan": makespan,
        "work": work,
        "end": idle / slots,
        "share": (makespan - work / slots - idle / slots) / makespan,
    }
