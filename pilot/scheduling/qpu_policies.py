"""The policies that choose QPUs by arrays. Loaded by name only: they need NumPy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilot.interfaces import Policy, QPUTable, QueuedTask

#: A busy share below this counts as this much where shares are compared.
LEAST_SHARE = 0.01
#: Seconds: waits that differ by less are equal.
SHORTEST = 1e-6
#: Seconds between two looks at tasks that wait, at least.
LEAST_EVERY = 0.1


class QPUPolicy(Policy):
    """Takes the QPU of least `score`; tasks that are assigned together wait for each other.

    Where `moves` is on, a task that waits is assigned again every ``every`` seconds. It moves to a QPU where it is
    expected to wait less than ``gain`` times what is left of its wait here, by at least ``penalty`` seconds.
    """

    needs_estimates = True

    def __init__(self, *, moves: bool = False, every: float = 60.0, gain: float = 0.5, penalty: float = 60.0) -> None:
        """Make it.

        Args:
            moves: True: tasks move while they wait.
            every: seconds between two looks at those that wait; at least 0.1.
            gain: the part of the rest of its wait that a task must be expected to wait elsewhere at most.
            penalty: seconds by which it must be less than that.
        """
        if not isinstance(moves, bool):
            raise ValueError(f"moves: {moves!r} is not valid; expected True or False")
        self.reassign_seconds = number("every", every, LEAST_EVERY) if moves else None
        self._gain, self._penalty = number("gain", gain, 0.0, 1.0), number("penalty", penalty, 0.0)

    @abstractmethod
    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        """The least is best.

        Args:
            table: of the tasks.
            at: the row of the task.
            wait: `(n_qpus,)`: seconds until it would begin, behind the tasks of the rows above.
            age: seconds since it was submitted.

        Returns:
            `(n_qpus,)`; what it says of QPUs that do not fit does not matter.
        """

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        numbers: list[int] = table.place.tolist()
        waits = table.wait if len(queue) == 1 else table.wait.copy()
        for at in range(len(queue)) if len(queue) == 1 else self._rows(table):
            fits, place = table.fits[at], numbers[at]
            if not (fitting := np.count_nonzero(fits)):
                continue
            score = self.score(table, at, waits[at], now - queue[at].arrived)
            best = int(score.argmin() if fitting == len(fits) else np.where(fits, score, np.inf).argmin())
            if place >= 0 and waits[at, best] + self._penalty >= self._gain * waits[at, place]:
                continue
            numbers[at] = best
            seconds = table.seconds[at, best]
            if at + 1 < len(queue) and seconds > 0:
                waits[at + 1 :, best] += seconds
        return numbers

    def _rows(self, table: QPUTable) -> Sequence[int]:
        """Rows of tasks that may get another QPU than they have."""
        places = np.maximum(table.place, 0)
        here = table.wait[np.arange(len(places)), places]
        least = np.where(table.fits, table.wait, np.inf).min(axis=1)
        rows: list[int] = np.flatnonzero((table.place < 0) | (least + self._penalty < self._gain * here)).tolist()
        return rows


class BestFidelity(QPUPolicy):
    """The QPU with the best fidelity, whatever the wait; of equal ones that of the least wait."""

    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        fidelity = np.where(table.fits[at], np.nan_to_num(table.fidelity[at]), -1.0)
        return np.where(fidelity == fidelity.max(), wait, np.inf)


class LeastWait(QPUPolicy):
    """The QPU that a task is expected to wait least for; of equal ones that of the best fidelity."""

    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        return wait - SHORTEST * fidelities(table, at)


class ShortestQueue(QPUPolicy):
    """The QPU with the fewest jobs of all users in its queue; where none reports them, the one of the least wait."""

    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        return wait if np.isnan(table.pending).all() else np.where(np.isnan(table.pending), np.inf, table.pending)


class Formula(QPUPolicy):
    """Weighs fidelity, time and load by the formula of the QOS paper (arXiv 2406.19120, section 7), against one anchor.

    The best QPU q has the highest `c (f_q - f_a) / f_a - (1 - c) (t_q - t_a) / t_a + beta (u_q - u_a) / u_a`, where a
    is the QPU of the best fidelity, f is the fidelity, t the time from the submission to the end, and u the busy share.
    The paper compares pairs of QPUs and prints `u_2 - u_2`; with one anchor the order does not depend on the pairs. A
    circuit never loses more than (1 - c) / c of its fidelity where beta is 0.
    """

    def __init__(self, c: float = 0.9, beta: float = 0.0, **moving: Any) -> None:
        """Make it.

        Args:
            c: weight of the fidelity, from 0 to 1.
            beta: weight of the busy share: above 0, busy QPUs are preferred; below 0, idle ones.
            moving: as of `QPUPolicy`.
        """
        super().__init__(**moving)
        self._c, self._beta = number("c", c, 0.0, 1.0), number("beta", beta)

    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        fidelity, anchor = known_fidelity(table, at)
        time = wait + table.seconds[at]
        time += age
        if isnan(time.dot(time)) and np.isnan(time[table.fits[at]]).any():
            time = wait + age  # how long it runs is not known of all QPUs
        here = max(float(time[anchor]), 1e-9)
        best = fidelity[anchor]
        score: NDArray[np.float64] = time * ((1.0 - self._c) / here)
        if best > 0.0:
            score -= fidelity * (self._c / best)
        if self._beta:
            score -= table.busy * (self._beta / max(float(table.busy[anchor]), LEAST_SHARE))
        return score


def losses(table: QPUTable, at: int) -> NDArray[np.float64]:
    """`(n_qpus,)`: by how much the fidelity of a task is below its best one, in percent of that."""
    fidelity, anchor = known_fidelity(table, at)
    best = fidelity[anchor]
    return 100.0 * (1.0 - fidelity / best) if best > 0.0 else np.zeros(len(fidelity))


class PricedPolicy(QPUPolicy):
    """Of those that weigh losses of fidelity against waits by a price."""

    def __init__(self, price: float = 60.0, **moving: Any) -> None:
        """Make it.

        Args:
            price: seconds that a task waits rather than lose 1 % of the best fidelity.
            moving: as of `QPUPolicy`.
        """
        super().__init__(**moving)
        self._price = number("price", price, 0.0)


class Tradeoff(PricedPolicy):
    """The least `wait + price x loss`, where the loss is that against the best fidelity, in percent."""

    def score(self, table: QPUTable, at: int, wait: NDArray[np.float64], age: float) -> NDArray[np.float64]:
        score: NDArray[np.float64] = wait + self._price * losses(table, at)
        return score


def fidelities(table: QPUTable, at: int) -> NDArray[np.float64]:
    """`(n_qpus,)`: the fidelities of a task, 0 where one is not known."""
    fidelity: NDArray[np.float64] = table.fidelity[at]
    if isnan(fidelity.dot(fidelity)):  # quicker than to look at each
        fidelity = np.nan_to_num(fidelity)
    return fidelity


def known_fidelity(table: QPUTable, at: int) -> tuple[NDArray[np.float64], int]:
    """`fidelities`, and the column of the best one that fits."""
    fidelity, fits = fidelities(table, at), table.fits[at]
    best = fidelity if np.count_nonzero(fits) == len(fits) else np.where(fits, fidelity, -1.0)
    return fidelity, int(best.argmax())


def number(name: str, given: Any, least: float = -np.inf, most: float = np.inf) -> float:
    """A setting that is a finite number within bounds.

    Raises:
        ValueError: it is not.
    """
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not np.isfinite(given) or not least <= given <= most:
        bounds = "" if least == -np.inf else f" of at least {least:g}"
        expected = f"a finite number{bounds}" if most == np.inf else f"a number from {least:g} to {most:g}"
        raise ValueError(f"{name}: {given!r} is not valid; expected {expected}")
    return float(given)


def whole(name: str, given: Any, least: int) -> int:
    """A setting that is a whole number.

    Raises:
        ValueError: it is not.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise ValueError(f"{name}: {given!r} is not valid; expected a whole number of at least {least}")
    return given
