"""How a loop becomes tasks: circuits through `PilotEstimator`, and a step whose value is the optimiser's next state.

A step takes the task of the state before and the task of its circuits as arguments, so that results go from worker to
worker. What the next circuits are depends on the state: for that it comes here, once a step. Each task has a key, so a
run that was killed goes on at its last step.
"""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import msgspec

from pilot.quantum import PilotEstimator
from pilot_miniapps.variational.coordinates import State, advance, begin, points

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pilot import Task, TaskDescription
    from pilot_miniapps.frame import Run
    from pilot_miniapps.variational.problems import Problem


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """One optimisation.

    Attributes:
        key: the first part of its tasks' keys.
        problem: what is minimised.
        steps: of the optimiser.
        options: of `PilotEstimator`: where circuits run, how precisely, and the mitigation.
        seed: of the shots.
    """

    key: str
    problem: Any
    steps: int
    options: dict[str, Any]
    seed: int

    def run(self, run: Run) -> list[State]:
        """All states, the first one included. Blocks."""
        problem: Problem = self.problem
        state = begin(problem.start)
        states = [state]
        task: State | Task = state
        for step in range(self.steps):
            circuits = self._evaluate(run, f"{self.key}/circuits-{step}", points(state, problem.degrees), step)
            task = run.submit(f"{self.key}/step-{step}", advance, task, problem.degrees, circuits)
            state = task.result()
            states.append(state)
        return states

    def measure(self, run: Run, state: State) -> Any:
        """The energy of a state, measured once more: an `Expectation` of one set of values. Blocks."""
        return self._evaluate(run, f"{self.key}/final", [state.parameters], self.steps).result()

    def _evaluate(self, run: Run, key: str, sets: Any, step: int) -> Task:
        """The task of the energies at these sets of values."""
        estimator = PilotEstimator(_Keyed(run, key), seed=self.seed + step, name=key, **self.options)
        (task,) = estimator.run([(self.problem.circuit, self.problem.hamiltonian, sets)]).tasks
        return task  # type: ignore[return-value]


class _Keyed:
    """A manager for a primitive, whose tasks get keys: see `pilot.quantum.runner.Runner`."""

    def __init__(self, run: Run, key: str) -> None:
        self._run, self._key = run, key

    @property
    def pilots(self) -> Iterable[Any]:
        return self._run.pilots

    def submit_tasks(self, descriptions: Iterable[TaskDescription], /) -> Sequence[Task]:
        return [
            self._run.submit_task(f"{self._key}/{number}" if number else self._key, one)
            for number, one in enumerate(descriptions)
        ]


def run_all(run: Run, loops: Sequence[Loop]) -> list[list[State]]:
    """The states of each loop; all run side by side. Blocks; the first error is raised when no loop is left."""
    with ThreadPoolExecutor(max(len(loops), 1), thread_name_prefix="loop") as threads:
        futures = [threads.submit(loop.run, run) for loop in loops]
        wait(futures, return_when=FIRST_EXCEPTION)
        return [future.result() for future in futures]


def busy(tasks: Iterable[Task], qpu: str) -> list[tuple[float, float]]:
    """When a device ran these tasks, in seconds since the epoch: a begin and an end for each task, in order.

    Of tasks that share a job each has a part of the job's time, so none of it is counted twice.
    """
    found = []
    for task in tasks:
        info = task.info
        if info.qpu == qpu and info.started is not None and info.seconds is not None:
            found.append((info.started, info.started + info.seconds))
    return sorted(found)


def busy_share(spans: Sequence[tuple[float, float]]) -> float:
    """The part of the time from the first begin to the last end in which at least one of the spans is."""
    if not spans:
        return 0.0
    ordered = sorted(spans)
    covered, end = 0.0, ordered[0][0]
    for first, last in ordered:
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    return covered / (end - ordered[0][0]) if end > ordered[0][0] else 1.0
