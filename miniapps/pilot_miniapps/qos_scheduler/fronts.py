"""The front study: many circuits at once on QPUs without queues, and the best compromises for them. Workers run it."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from pilot.interfaces import QPUTable, Spreads
from pilot.qos.genetic import chosen, search
from pilot_miniapps.qos_scheduler.load import Load

#: Of NSGA-II.
POPULATION, GENERATIONS = 100, 60
#: The formula's weight of the fidelity by which the QOS paper (arXiv 2406.19120) takes a schedule from the front.
WEIGHT = 0.5


class FoundFront(msgspec.Struct, frozen=True):
    """The compromises for one batch of circuits, beside those with the best fidelity first.

    Attributes:
        losses: `(n_schedules,)`, in percent, ascending.
        ratios: `(n_schedules,)`: by how much the mean wait is shorter.
        chosen: the number of the schedule that the formula takes.
    """

    losses: list[float]
    ratios: list[float]
    chosen: int

    def at(self, loss: float) -> float:
        """By how much the wait is shorter where so many percent are lost; its logarithm is linear between two."""
        return float(np.exp(np.interp(loss, self.losses, np.log(self.ratios))))


def front(load: Load, circuits: int, seed: int) -> FoundFront:
    """The front that NSGA-II finds for so many circuits, drawn at random."""
    random = np.random.default_rng([seed, 8])
    rows = random.integers(len(load.estimates.circuits), size=circuits)
    fidelity = load.estimates.array(load.measure)[rows]
    found = search(_table(load.estimates.qpus, fidelity, load.seconds()[rows]), POPULATION, GENERATIONS, seed)
    first = int(found.fidelity.argmax())
    losses = 100.0 * (1.0 - found.fidelity / found.fidelity[first])
    ratios = found.waits[first] / found.waits
    order = np.argsort(losses)
    at = int(np.flatnonzero(order == chosen(found, WEIGHT))[0])
    return FoundFront(losses[order].tolist(), ratios[order].tolist(), at)


def _table(qpus: list[str], fidelity: NDArray[np.float64], seconds: NDArray[np.float64]) -> QPUTable:
    """Of circuits for QPUs whose queues are empty."""
    unknown = np.full(fidelity.shape, np.nan)
    return QPUTable(
        qpus=tuple(("pilot", name) for name in qpus),
        fits=np.ones(fidelity.shape, bool),
        fidelity=fidelity,
        seconds=seconds,
        wait=np.zeros(fidelity.shape),
        cost=unknown,
        memory=unknown,
        spreads=Spreads(unknown, unknown, unknown, unknown),
        place=np.full(len(fidelity), -1),
        busy=np.zeros(len(qpus)),
        pending=np.full(len(qpus), np.nan),
    )
