"""One cut circuit from plan to value, each part timed; and the work in it, done by one process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilot import Task, TaskDescription
from pilot.quantum.aer import run_circuits
from pilot.quantum.cutting import CutPlan, CutResult, gather, plan
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.packing import pack
from pilot_miniapps.circuit_cutting.problem import Problem
from pilot_miniapps.frame import Run


@dataclass(frozen=True, kw_only=True)
class CutRun:
    """What one run of a cut circuit gave.

    Attributes:
        planned: the plan.
        result: the values.
        plan, run, combine: seconds of the parts, one after another.
    """

    planned: CutPlan
    result: CutResult
    plan: float
    run: float
    combine: float

    @property
    def seconds(self) -> float:
        """From the call that makes the plan to the value."""
        return self.plan + self.run + self.combine

    @property
    def value(self) -> float:
        return float(self.result.values[0])

    @property
    def error(self) -> float:
        """One standard deviation of the value."""
        return float(self.result.standard_errors[0])


@dataclass(frozen=True, kw_only=True)
class Cutter:
    """Cuts circuits and runs them, with the same settings.

    Attributes:
        run: of the mini-app.
        num_samples: terms of the decomposition that are drawn.
        shots: of each subexperiment.
    """

    run: Run
    num_samples: int
    shots: int

    def cut(self, key: str, problem: Problem, size: int, seed: int, pilots: Sequence[str]) -> CutRun:
        """Cut to pieces, run these on the pilots of these names, and put the value together. Blocks.

        Args:
            key: of this run among all.
            problem: circuit and observable.
            size: most qubits of a piece.
            seed: of the search for cuts, the drawn terms and the shots.
            pilots: names.
        """

        def submit(function: Any, *arguments: Any) -> list[Task]:
            return [
                self.run.submit_task(
                    name := f"{key}/{number}",
                    TaskDescription(function=function, args=its, name=name, pilots=tuple(pilots)),
                )
                for number, its in enumerate(zip(*arguments, strict=True))
            ]

        begun = time.perf_counter()
        planned = self._planned(problem, size, seed)
        planned_at = time.perf_counter()
        tasks = planned.submit(submit, shots=self.shots, seed=seed)
        with self.run.progress(tasks, f"{key}: subexperiments"):
            results = gather(tasks)
        ran_at = time.perf_counter()
        result = planned.combine(results)
        return CutRun(
            planned=planned,
            result=result,
            plan=planned_at - begun,
            run=ran_at - planned_at,
            combine=time.perf_counter() - ran_at,
        )

    def work(self, problem: Problem, size: int, seed: int) -> float:
        """Seconds of the distinct subexperiments alone, simulated one after another in this process by one thread."""
        planned = self._planned(problem, size, seed)
        payloads = [pack(experiment) for experiment in planned.experiments()]
        seeds = draw_seeds(seed, len(payloads))
        begun = time.perf_counter()
        for payload, its in zip(payloads, seeds, strict=True):
            run_circuits(payload, self.shots, (its,))
        return time.perf_counter() - begun

    def _planned(self, problem: Problem, size: int, seed: int) -> CutPlan:
        return plan(problem.circuit, problem.observable, size, num_samples=self.num_samples, seed=seed)
