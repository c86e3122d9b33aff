"""NSGA-II (Deb et al. 2002) over the QPUs of many tasks: the best compromises between waits and fidelity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pilot.interfaces import QPUTable, QueuedTask, Spreads
from pilot.qos.nsga2 import evolve
from pilot.qos.policies import match
from pilot.scheduling.qpu_policies import QPUPolicy, losses, number, whole

#: Prices of the first schedules: seconds for 1 % of fidelity.
PRICES = (0.0, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 128.0, 512.0, 4096.0)
#: Tasks of one search at most: it takes nearly a tenth of a second, and the manager waits for it.
SEARCHED_TASKS = 100


class Front(NamedTuple):
    """Schedules of which none is better than another in both."""

    #: `(n_schedules, n_tasks)`: columns of the table.
    columns: NDArray[np.intp]
    #: `(n_schedules,)`: mean seconds from now until a task begins, and mean fidelity.
    waits: NDArray[np.float64]
    fidelity: NDArray[np.float64]


class GeneticSearch(QPUPolicy):
    """All waiting tasks at once, up to a hundred, by NSGA-II: minimizes the mean wait and maximizes the mean fidelity.

    The first schedules are those of matchings with different prices, with both ends among them: the best fidelity
    first, and the least waits. Of the front it takes the schedule that is best by the formula of the QOS paper,
    `c (f - f_a) / f_a - (1 - c) (w - w_a) / w_a`, where a is the schedule of the best fidelity. Tasks run in the order
    in which they are given.
    """

    def __init__(
        self, c: float = 0.9, population: int = 100, generations: int = 60, seed: int = 0, **moving: Any
    ) -> None:
        """Make it.

        Args:
            c: weight of the fidelity, from 0 to 1.
            population: schedules in a generation.
            generations: how many.
            seed: of all that is random.
            moving: as of `QPUPolicy`.
        """
        super().__init__(**moving)
        self._c = number("c", c, 0.0, 1.0)
        self._population = whole("population", population, 4)
        self._generations = whole("generations", generations, 1)
        self._seed = whole("seed", seed, 0)

    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        time = wait + np.nan_to_num(table.seconds[at])
        loss = losses(table, at)
        anchor = int(np.where(table.fits[at], loss, np.inf).argmin())
        score: NDArray[np.float64] = self._c * loss / 100.0 + (1.0 - self._c) * time / max(float(time[anchor]), 1e-9)
        return score

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        able = table.fits.any(axis=1)
        if able.sum() < 2 or (table.place >= 0).any():
            return super().assign(queue, table, now)
        rows = np.flatnonzero(able)[:SEARCHED_TASKS]  # the others are asked about again
        part = rows_of(table, rows)
        front = search(part, self._population, self._generations, self._seed)
        numbers = np.full(len(queue), -1)
        numbers[rows] = front.columns[chosen(front, self._c)]
        found: list[int] = numbers.tolist()
        return found


def rows_of(table: QPUTable, rows: NDArray[np.intp]) -> QPUTable:
    """Some rows of a table."""
    names = ("fits", "fidelity", "seconds", "wait", "cost", "memory", "place")
    spreads = Spreads(*(values[rows] for values in table.spreads))
    return table._replace(spreads=spreads, **{name: getattr(table, name)[rows] for name in names})


def chosen(front: Front, c: float) -> int:
    """The number of the schedule that is best by the formula."""
    anchor = int(front.fidelity.argmax())
    best, wait = max(float(front.fidelity[anchor]), 1e-9), max(float(front.waits[anchor]), 1e-9)
    return int((c * front.fidelity / best - (1.0 - c) * front.waits / wait).argmax())


def evaluate(table: QPUTable, columns: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean waits and mean fidelity of schedules.

    Args:
        table: of the tasks; its waits are those of the first row.
        columns: `(n_schedules, n_tasks)`.
    """
    schedules, tasks = columns.shape
    qpus = table.fits.shape[1]
    seconds, fidelity = np.nan_to_num(table.seconds), np.nan_to_num(table.fidelity)
    # a task delays those of its QPU that come after it: by QPU, in their order, as many as are left in the group
    order = np.argsort(columns.astype(np.int16), axis=1, kind="stable")
    places = np.take_along_axis(columns, order, axis=1)
    counts = np.bincount((np.arange(schedules)[:, np.newaxis] * qpus + columns).ravel(), minlength=schedules * qpus)
    ends = counts.reshape(schedules, qpus).cumsum(axis=1)
    later = np.take_along_axis(ends, places, axis=1) - np.arange(1, tasks + 1)
    waits = (seconds[order, places] * later).sum(axis=1) + table.wait[0][columns].sum(axis=1)
    return waits / tasks, fidelity[np.arange(tasks), columns].mean(axis=1)


def seeds(table: QPUTable) -> NDArray[np.intp]:
    """`(n_schedules, n_tasks)`: the schedules to begin with; the first has the best fidelities, the second the least
    waits."""
    best = np.where(table.fits, np.nan_to_num(table.fidelity), -1.0).argmax(axis=1)
    return np.array([best, *(match(table, price) for price in PRICES)])


def search(table: QPUTable, population: int, generations: int, seed: int) -> Front:
    """The front that NSGA-II finds.

    Args:
        table: of tasks that each fit a QPU.
        population: schedules in a generation.
        generations: how many.
        seed: of all that is random.
    """
    random = np.random.default_rng(seed)
    first = seeds(table)[:population]
    more = first[random.integers(len(first), size=(population - len(first), first.shape[1])), np.arange(first.shape[1])]

    def values(columns: NDArray[np.intp]) -> NDArray[np.float64]:
        waits, fidelity = evaluate(table, columns)
        return np.column_stack([waits, -fidelity])

    last = evolve(np.concatenate([first, more]), values, _mutation(table, random), generations, random)
    columns = np.unique(np.concatenate([last, first]), axis=0)
    waits, fidelity = evaluate(table, columns)
    order = np.lexsort((-fidelity, waits))
    columns, waits, fidelity = columns[order], waits[order], fidelity[order]
    kept = np.flatnonzero(fidelity > np.concatenate([[-1.0], np.maximum.accumulate(fidelity)[:-1]]))
    return Front(columns[kept], waits[kept], fidelity[kept])


def _mutation(table: QPUTable, random: np.random.Generator) -> Callable[[NDArray[np.intp]], NDArray[np.intp]]:
    """Two tasks of a schedule, on average, get another QPU that fits."""
    tasks, qpus = table.fits.shape
    counts = table.fits.sum(axis=1)
    choices = np.zeros((tasks, qpus), np.intp)
    for task, fits in enumerate(table.fits):
        choices[task] = np.resize(np.flatnonzero(fits), qpus)

    def mutate(columns: NDArray[np.intp]) -> NDArray[np.intp]:
        found = columns.copy()
        schedule, task = np.nonzero(random.random(columns.shape) < 2.0 / tasks)
        found[schedule, task] = choices[task, (random.random(len(task)) * counts[task]).astype(np.intp)]
        return found

    return mutate
