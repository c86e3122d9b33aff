"""One configuration of the cut circuit, all of its rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pilot_miniapps.circuit_cutting.runs import CutRun


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the report's table; times are seconds. What a circuit does not have is None.

    Attributes:
        circuit: "cut", or how it was run whole.
        qubits: of the circuit.
        piece: most qubits of a piece.
        slots: that it ran on.
        seconds: from plan to value, the sum of the next three.
        plan, run, combine: its parts.
        work: the subexperiments alone, in one process.
        predicted: of `seconds`, without the planning.
        value, error: with one standard error.
    """

    circuit: str
    qubits: int
    piece: int | None = None
    slots: int
    seconds: float
    plan: float | None = None
    run: float | None = None
    combine: float | None = None
    work: float | None = None
    predicted: float | None = None
    value: float
    error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """One configuration of the cut circuit.

    Attributes:
        qubits: of the circuit.
        size: most qubits of a piece.
        slots: that it ran on.
        runs: one a round.
        work: of each round for which it was measured, seconds of the subexperiments in one process.
        predicted: seconds.
    """

    qubits: int
    size: int
    slots: int
    runs: Sequence[CutRun]
    work: Sequence[float]
    predicted: float

    @property
    def over_work(self) -> list[float]:
        """Of each round, its time over that of its subexperiments alone, divided by the slots."""
        return [one.seconds * self.slots / work for one, work in zip(self.runs, self.work, strict=True)]

    def deviations(self, exact: float) -> list[float]:
        """How far each value is from the exact one, in standard errors."""
        return [(one.value - exact) / one.error for one in self.runs]

    def row(self) -> Row:
        """For the table of the report: medians over the rounds; the value is that of the first one."""
        return Row(
            circuit="cut",
            qubits=self.qubits,
            piece=self.size,
            slots=self.slots,
            seconds=statistics.median(one.seconds for one in self.runs),
            plan=statistics.median(one.plan for one in self.runs),
            run=statistics.median(one.run for one in self.runs),
            combine=statistics.median(one.combine for one in self.runs),
            work=statistics.median(self.work) if self.work else None,
            predicted=self.predicted,
            value=self.runs[0].value,
            error=self.runs[0].error,
        )

    def values(self) -> dict[str, Any]:
        """What all rounds gave, and from what; no times."""
        planned = self.runs[0].planned
        return {
            "qubits": self.qubits,
            "piece": self.size,
            "slots": self.slots,
            "pieces": len(planned.fragments),
            "cuts": len(planned.cuts),
            "overhead": planned.overhead,
            "subexperiments": planned.num_subexperiments,
            "distinct": planned.num_distinct,
            "values": [one.value for one in self.runs],
            "errors": [one.error for one in self.runs],
        }
