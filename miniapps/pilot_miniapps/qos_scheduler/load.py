"""The load study: jobs at random times on QPUs that nobody else uses. Workers run `play`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pilot.qos.policies import solve
from pilot.qos.simulation.jobs import Kind, circuits, poisson
from pilot.qos.simulation.scenarios import named
from pilot.qos.simulation.simulator import Simulator
from pilot.qos.simulation.sites import SimulatedQPU
from pilot_miniapps.qos_scheduler.estimates import Estimates

#: Shots of each circuit.
SHOTS = 8192
#: Seconds: shorter mean waits are taken as this, so that there are ratios where nothing waits.
SHORTEST = 1e-3
#: What the linear program may load each QPU with at most: with all of it the queues of an hour still grow little.
UTILIZATION = 1.1


class Played(msgspec.Struct, frozen=True):
    """One run of one policy."""

    wait: float
    p50: float
    p95: float
    p99: float
    fidelity: float
    #: The longest busy time of a QPU over the shortest, less 1.
    load_difference: float


class Load(msgspec.Struct, frozen=True):
    """What comes."""

    estimates: Estimates
    #: Which of its tables is the fidelity.
    measure: str
    #: Jobs an hour, work as a part of what the QPUs can do, hours in which jobs come.
    rate: float
    load: float
    hours: float

    def seconds(self) -> NDArray[np.float64]:
        """`(n_circuits, n_qpus)`: the time of the shots, and one for each job such that the load is as it should be."""
        shots = SHOTS * self.estimates.array("shot_seconds")
        mean = self.load * len(self.estimates.qpus) * 3600.0 / self.rate
        if (setup := mean - shots.mean()) < 0:
            return shots * (mean / shots.mean())
        return shots + setup

    def kinds(self) -> list[Kind]:
        """The circuits."""
        tables = zip(self.estimates.circuits, self.estimates.array(self.measure), self.seconds(), strict=True)
        return [circuits(name, self.estimates.qpus, fidelity, seconds) for name, fidelity, seconds in tables]

    def bound(self) -> float:
        """The least loss in percent at which no QPU has more work than it can do, in the long run: a linear program."""
        fidelity = self.estimates.array(self.measure)
        best = fidelity.max(axis=1, keepdims=True)
        rates = np.full(len(fidelity), self.rate / 3600.0 / len(fidelity))
        return 100.0 * solve(rates, best - fidelity, self.seconds(), 1.0)[0] / float(best.mean())


def play(load: Load, policy: str, settings: Mapping[str, Any], seeds: Sequence[int]) -> list[Played]:
    """Run one policy, once for each seed."""
    found = []
    for seed in seeds:
        simulator = Simulator(qpu_policy=named(policy, **settings))
        for qpu in load.estimates.qpus:
            simulator.add(SimulatedQPU(qpu))
        jobs = poisson(load.kinds(), load.rate / 3600.0, int(2 * load.rate * load.hours) + 100, seed)
        log = simulator.run(takewhile(lambda job: job.time < 3600.0 * load.hours, jobs))
        figures = log.summary()
        found.append(
            Played(
                figures["wait_mean"],
                figures["wait_p50"],
                figures["wait_p95"],
                figures["wait_p99"],
                figures["fidelity_mean"],
                figures["load_difference"],
            )
        )
    return found


def policies() -> dict[str, tuple[str, dict[str, Any]]]:
    """Names in the table, and the policy with its settings."""
    found: dict[str, tuple[str, dict[str, Any]]] = {"best-fidelity": ("best-fidelity", {})}
    for c in (0.97, 0.95, 0.93, 0.91, 0.9, 0.88, 0.85, 0.8, 0.7, 0.5, 0.0):
        found[f"formula c={c:g}"] = ("formula", {"c": c})
    for price in (200, 100, 70, 50, 35, 20, 14, 10, 5):
        found[f"dual-prices {price}"] = ("dual-prices", {"price": float(price), "utilization": UTILIZATION})
    for price in (800, 200, 50, 10):
        found[f"tradeoff {price}"] = ("tradeoff", {"price": float(price)})
    return found | {"least-wait": ("least-wait", {}), "fcfs": ("fcfs", {})}


def shorter(first: float, wait: float) -> float:
    """By how much a mean wait is shorter than the first one."""
    return max(first, SHORTEST) / max(wait, SHORTEST)


def at_loss(
    loss: float,
    waits: Mapping[str, NDArray[np.float64]],
    fidelity: Mapping[str, NDArray[np.float64]],
    seeds: NDArray[Any],
) -> float:
    """By how much the wait is shorter than with the best fidelity first, where so many percent of the fidelity are
    lost, or as many as the policy ever loses.

    Between two settings of the policy the logarithm of the ratio is linear in the loss.

    Args:
        loss: in percent.
        waits: `(n_seeds,)` by policy, "best-fidelity" among them.
        fidelity: likewise.
        seeds: those that count, each as often as it is there.
    """
    best = fidelity["best-fidelity"][seeds].mean()
    points = sorted(
        (
            100.0 * (1.0 - fidelity[name][seeds].mean() / best),
            np.log(shorter(waits["best-fidelity"][seeds].mean(), waits[name][seeds].mean())),
        )
        for name in waits
    )
    losses, ratios = zip(*points, strict=True)  # "best-fidelity" loses 0
    return float(np.exp(np.interp(loss, losses, ratios)))


def interval(
    loss: float,
    waits: Mapping[str, NDArray[np.float64]],
    fidelity: Mapping[str, NDArray[np.float64]],
    draws: int = 1000,
) -> tuple[float, float]:
    """The 95 % interval of `at_loss` over the seeds, by drawing them again."""
    count = len(waits["best-fidelity"])
    random = np.random.default_rng(0)
    values = [at_loss(loss, waits, fidelity, random.integers(count, size=count)) for _ in range(draws)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
