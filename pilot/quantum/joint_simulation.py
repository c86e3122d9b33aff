"""Sets of values for one program, on a worker's cores: those of several tasks in one run of Aer.

Aer takes several times as long to begin a run as for a set of values of a small circuit in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from pilot.interfaces import JointFunction
from pilot.quantum.execution import Simulation
from pilot.quantum.outcomes import Outcomes

#: The longest simulation of a set that is worth it, in predicted seconds.
SHORT_SECONDS = 0.005


@dataclass(frozen=True)
class JointSimulation(Simulation, JointFunction):
    """A `Simulation` with a program. A task's result is the same alone and in company."""

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run several tasks; each is ``(given, seeds, finish)`` as for `Simulation`."""
        found = self._outcomes(calls) if len(calls) > 1 else None
        if found is None:
            return [_ended(self, *call) for call in calls]
        return [
            outcomes if finish is None else _ended(finish, outcomes)
            for outcomes, (_, _, finish) in zip(found, calls, strict=True)
        ]

    def _outcomes(self, calls: Sequence[tuple[Any, ...]]) -> list[list[Outcomes]] | None:
        """Of each task; None where each has to run for itself: one may be the cause of an error for all."""
        try:
            values = np.concatenate([given for given, _, _ in calls])
            found = self._sets(values, [seed for _, seeds, _ in calls for seed in seeds])
        except Exception:
            return None
        if found is None:
            return None
        outcomes = iter(found)
        return [list(islice(outcomes, len(seeds))) for _, seeds, _ in calls]


def _ended(work: Any, *args: Any) -> Any:
    """What it returns, or raises."""
    try:
        return work(*args)
    except Exception as error:
        return error
