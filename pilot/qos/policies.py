"""The policies that solve a problem over all tasks and QPUs: dual prices, matching. They need SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import csr_array, hstack

from pilot.interfaces import QPUTable, QueuedTask
from pilot.scheduling.qpu_policies import PricedPolicy, QPUPolicy, known_fidelity, losses, number

#: Arrivals count less by a factor of e for each so many seconds.
RATE_SECONDS = 1800.0
#: Seconds between two solutions of the linear program, and kinds of tasks in it at most.
SOLVE_SECONDS, MOST_KINDS = 300.0, 200
#: The loss on a QPU that does not fit.
UNFIT = 1e3
#: Where QPUs cannot do all the work, the bound of their busy share grows by steps of this factor.
BUSIER = 1.1
#: Seconds that it costs to send a task to a QPU that does not fit.
NOWHERE = 1e12
#: Tasks that are matched at once at most, and pairs of a task and a QPU: the manager waits for it, and the time grows
#: with the third power of the tasks.
MATCHED_TASKS, MATCHED_PAIRS = 128, 8192


class DualPrices(QPUPolicy):
    """Waits against fidelity, with a price for the time of each QPU, which is scarce where many tasks want it.

    A linear program over the kinds of tasks that have come lately finds the shares of each kind on each QPU that lose
    the least fidelity while no QPU is busy for more than `utilization` of the time. The dual value of a QPU's bound is
    the loss that a second of it is worth. A task takes the QPU of the least
    `wait + price x (loss + worth x run time)`, losses in percent of the best fidelity of the task.

    Kinds are told apart by what is estimated of them. Arrivals are counted with a memory of half an hour; the program
    is solved again every five minutes.
    """

    def __init__(self, price: float = 60.0, utilization: float = 0.97, **moving: Any) -> None:
        """Make it.

        Args:
            price: seconds that a task waits rather than lose 1 % of the best fidelity.
            utilization: of each QPU at most, in the program; from 0.01 to 2.
            moving: as of `QPUPolicy`.
        """
        super().__init__(**moving)
        self._price = number("price", price, 0.0)
        self._utilization = number("utilization", utilization, 0.01, 2.0)
        #: By what is known of a kind: how many have come, when that was so, and its losses and seconds.
        self._kinds: dict[bytes, list[Any]] = {}
        self._began: float | None = None
        self._solved = float("-inf")
        self._worth: NDArray[np.float64] | None = None
        #: The best fidelity of a task, on average.
        self._usual = 1.0
        self._qpus: tuple[tuple[str, str], ...] = ()

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        if table.qpus != self._qpus:
            self._kinds.clear()
            self._qpus, self._worth, self._solved, self._began = table.qpus, None, float("-inf"), now
        for at in range(len(queue)):
            if table.place[at] < 0:
                self._count(table, at, now)
        began = now if self._began is None else self._began  # a virtual clock begins at 0
        if now - self._solved >= min(SOLVE_SECONDS, max(1.0, 0.2 * (now - began))):
            self._solved = now
            self._worth = self._solve(now)
        return super().assign(queue, table, now)

    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        fidelity, anchor = known_fidelity(table, at)
        loss = fidelity[anchor] - fidelity
        if self._worth is not None:
            loss = loss + self._worth * np.nan_to_num(table.seconds[at])
        score: NDArray[np.float64] = wait + (100.0 * self._price / max(self._usual, 1e-9)) * loss
        return score

    def _count(self, table: QPUTable, at: int, now: float) -> None:
        key = table.fidelity[at].tobytes() + table.seconds[at].tobytes() + table.fits[at].tobytes()
        if (known := self._kinds.get(key)) is None:
            if np.isnan(table.seconds[at]).any():
                return
            fidelity, anchor = known_fidelity(table, at)
            loss = np.where(table.fits[at], fidelity[anchor] - fidelity, UNFIT)
            known = self._kinds[key] = [0.0, now, loss, table.seconds[at].copy(), fidelity[anchor]]
        known[0] = known[0] * np.exp((known[1] - now) / RATE_SECONDS) + 1.0
        known[1] = now

    def _solve(self, now: float) -> NDArray[np.float64] | None:
        """`(n_qpus,)`: loss in percent that a second of each QPU is worth; None: nothing is known."""
        assert self._began is not None
        span = RATE_SECONDS * (1.0 - np.exp((self._began - now) / RATE_SECONDS))
        if span <= 0.0 or not self._kinds:
            return None
        weights = {key: known[0] * np.exp((known[1] - now) / RATE_SECONDS) for key, known in self._kinds.items()}
        kept = sorted(weights, key=weights.__getitem__, reverse=True)[:MOST_KINDS]
        self._kinds = {key: self._kinds[key] for key in kept}
        rates = np.array([weights[key] for key in kept]) / span
        self._usual = float(rates @ [self._kinds[key][4] for key in kept] / rates.sum())
        loss = np.array([self._kinds[key][2] for key in kept])
        seconds = np.array([self._kinds[key][3] for key in kept])
        return prices(rates, loss, seconds, self._utilization)


def prices(
    rates: NDArray[np.float64], loss: NDArray[np.float64], seconds: NDArray[np.float64], utilization: float
) -> NDArray[np.float64]:
    """The dual values of the least loss by which all tasks can be run.

    Minimizes `sum(rates[k] loss[k, q] x[k, q])` over shares `x[k, q]` of sum 1 in each kind k, with
    `sum(rates[k] seconds[k, q] x[k, q], over k) <= utilization` for each QPU q. Where the QPUs cannot do all the work,
    they are as busy as the least bound for which they can.

    Args:
        rates: `(n_kinds,)`: tasks a second.
        loss: `(n_kinds, n_qpus)`.
        seconds: `(n_kinds, n_qpus)`: that a task runs.
        utilization: of each QPU at most.

    Returns:
        `(n_qpus,)`: the loss that a second of each is worth, at least 0.
    """
    return solve(rates, loss, seconds, utilization)[1]


def solve(
    rates: NDArray[np.float64], loss: NDArray[np.float64], seconds: NDArray[np.float64], utilization: float
) -> tuple[float, NDArray[np.float64]]:
    """The mean loss of a task at best, and the dual values. Arguments as of `prices`."""
    kinds, qpus = loss.shape
    columns = np.arange(kinds * qpus)
    busy = csr_array(((rates[:, np.newaxis] * seconds).ravel(), (columns % qpus, columns)))
    shares = csr_array((np.ones(len(columns)), (columns // qpus, columns)))
    costs = (rates[:, np.newaxis] * loss).ravel()
    found = linprog(costs, busy, np.full(qpus, utilization), shares, np.ones(kinds), method="highs")
    if found.status != 0 and (least := _least_busy(busy, shares)) > utilization:
        steps = np.ceil(np.log(least / utilization) / np.log(BUSIER))
        bound = np.full(qpus, utilization * BUSIER**steps)
        found = linprog(costs, busy, bound, shares, np.ones(kinds), method="highs")
    if found.status == 0:
        return float(found.fun / rates.sum()), np.maximum(0.0, -found.ineqlin.marginals)
    return float("nan"), np.zeros(qpus)


def _least_busy(busy: csr_array, shares: csr_array) -> float:
    """By how much the QPUs are busy at least, that which is busiest; NaN: not found."""
    qpus, kinds = busy.shape[0], shares.shape[0]
    costs = np.append(np.zeros(busy.shape[1]), 1.0)
    busy = hstack([busy, csr_array(np.full((qpus, 1), -1.0))])
    shares = hstack([shares, csr_array((kinds, 1))])
    found = linprog(costs, busy, np.zeros(qpus), shares, np.ones(kinds), method="highs")
    return float(found.fun) if found.status == 0 else float("nan")


class Matching(PricedPolicy):
    """All waiting tasks at once: the assignment of the least sum of waits and priced losses, exact for 128 tasks.

    A task that is in the k-th place from the end of a QPU's queue delays itself and k - 1 others by its run time, so it
    costs `k x run time + wait of the QPU + price x loss`; a matching of tasks and places has the least sum. The tasks
    of a QPU run shortest first.
    """

    def order(self, task: QueuedTask, now: float) -> Any:
        known = [one.seconds for one in task.estimates if one.seconds is not None]
        return -task.terms.priority, min(known, default=task.seconds or 0.0), task.id

    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        score: NDArray[np.float64] = wait + np.nan_to_num(table.seconds[at]) + self._price * losses(table, at)
        return score

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        if len(queue) == 1 or (table.place >= 0).any():  # those that have a place move one by one
            return super().assign(queue, table, now)
        return match(table, self._price).tolist()  # type: ignore[no-any-return]


def match(table: QPUTable, price: float) -> NDArray[np.intp]:
    """The columns of the assignment of the least sum of waits and priced losses; -1: no QPU fits.

    Of more than `MATCHED_TASKS` the first ones are matched first, then those behind them. Each delays its share of
    those that follow, too. The sum is then about one percent above the least.

    Args:
        table: of the tasks, in the order in which they run; its waits are those of the first row.
        price: seconds that a loss of 1 % of the best fidelity is worth.
    """
    tasks, qpus = table.fits.shape
    found = np.full(tasks, -1)
    able = np.flatnonzero(table.fits.any(axis=1))
    loss = np.array([losses(table, at) for at in able]).reshape(len(able), qpus)
    own = np.where(table.fits[able], table.wait[able] + price * loss, NOWHERE)
    seconds = np.nan_to_num(table.seconds[able])
    most = max(1, min(MATCHED_TASKS, MATCHED_PAIRS // qpus))
    for first in range(0, len(able), most):
        rows, rest = slice(first, first + most), slice(first + most, None)
        columns = found[able[rows]] = _matched(own[rows], seconds[rows], len(own[rest]) / qpus)
        own[rest] += np.bincount(columns, seconds[rows][np.arange(len(columns)), columns], qpus)
    return found


def _matched(own: NDArray[np.float64], seconds: NDArray[np.float64], following: float) -> NDArray[np.intp]:
    """The columns of tasks that are matched together.

    Args:
        own: `(n_tasks, n_qpus)`: what each costs itself, if it is the first of a QPU.
        seconds: `(n_tasks, n_qpus)`: that it runs.
        following: tasks on each QPU behind these.
    """
    qpus = own.shape[1]
    fits = own < NOWHERE
    shares = (fits / fits.sum(axis=1, keepdims=True)).sum(axis=0).round(6)
    places = np.minimum(fits.sum(axis=0), np.maximum(4, np.ceil(6.0 * shares).astype(int)))
    while True:
        column = np.repeat(np.arange(qpus), places)
        turn = np.concatenate([np.arange(1, count + 1) for count in places])
        _, chosen = linear_sum_assignment(own[:, column] + seconds[:, column] * (turn + following))
        found: NDArray[np.intp] = column[chosen]
        # a place that stays free shows that no more of them are needed
        full = (np.bincount(found, minlength=qpus) == places) & (places < fits.sum(axis=0))
        if not full.any():
            return found
        places[full] = np.minimum(2 * places, fits.sum(axis=0))[full]
