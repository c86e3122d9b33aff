"""``policy="shortest-first"``: short tasks first; circuits go where they are expected to go best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pilot.interfaces import Policy, QPUTable, QueuedTask


class ShortestFirst(Policy):
    """Orders tasks by how long they are expected to run, and circuits go to the QPU with the best fidelity."""

    def __init__(self, unknown: float = 1.0, ageing: float = 0.01) -> None:
        """Make it.

        Args:
            unknown: seconds that tasks of unknown length count as.
            ageing: seconds that a task counts less for each second that it has waited, so that none waits for ever.
        """
        self.unknown = unknown
        self.ageing = ageing

    def order(self, task: QueuedTask, now: float) -> float:
        seconds = self.unknown if task.seconds is None else task.seconds
        return seconds - self.ageing * (now - task.arrived)

    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        fidelity = np.where(table.fits, np.nan_to_num(table.fidelity), -1.0)  # what is not known counts as 0
        best = fidelity.argmax(axis=1)
        return [int(column) if table.fits[row, column] else -1 for row, column in enumerate(best)]
