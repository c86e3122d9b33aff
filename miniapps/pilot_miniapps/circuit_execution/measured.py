"""What was measured, and what it says: rows of the report, rates, and the oracle's verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pilot_miniapps.circuit_execution.oracles import Check, allowed_errors
from pilot_miniapps.circuit_execution.settings import Cell
from pilot_miniapps.frame import Oracle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot import Task

#: The paper's times are for so many circuits of each width.
PAPER_CIRCUITS = 1024


class Measurement(msgspec.Struct, frozen=True):
    """The circuits of a cell, run.

    Attributes:
        cell: what ran.
        seconds: from the first submission to the last result.
        values: of each circuit in order its value and one standard error; 0: exact.
    """

    cell: Cell
    seconds: float
    values: list[tuple[float, float]]

    @classmethod
    def of(cls, cell: Cell, tasks: Sequence[Task]) -> Measurement:
        """Wait for the tasks. Times are those of their records, so that a resumed run has them too."""
        values: list[tuple[float, float]] = []
        for task in tasks:
            result = task.result()
            if isinstance(result, list):
                values += [(value, 0.0) for value in result]
            else:
                values.append((float(result.values[0]), float(result.standard_errors[0])))
        submitted = [task.info.submitted for task in tasks if task.info.submitted is not None]
        finished = [task.info.finished for task in tasks if task.info.finished is not None]
        return cls(cell, max(finished) - min(submitted), values)

    @property
    def rate(self) -> float:
        """Circuits per second."""
        return len(self.values) / self.seconds

    def row(self) -> dict[str, Any]:
        """The row of the report."""
        cell = self.cell
        return {
            "device": cell.device.name,
            "qubits": cell.workload.qubits,
            "batch": cell.batch,
            "repetition": cell.repetition,
            "circuits": len(self.values),
            "seconds": self.seconds,
            "circuits_per_second": self.rate,
            "seconds_for_1024": PAPER_CIRCUITS / self.rate,
        }


def rates(measurements: Sequence[Measurement], device: str, width: int) -> dict[int, list[float]]:
    """Circuits per second of each repetition, by the circuits of a task."""
    found: dict[int, list[float]] = {}
    for one in measurements:
        if (one.cell.device.name, one.cell.workload.qubits) == (device, width):
            found.setdefault(one.cell.batch, []).append(one.rate)
    return found


def crossing(measurements: Sequence[Measurement]) -> int | None:
    """The least width from which on the GPU is faster than the CPU, each with its best batch; None: there is none."""
    best: dict[tuple[str, int], float] = {}
    for one in measurements:
        place = (one.cell.device.name, one.cell.workload.qubits)
        best[place] = max(best.get(place, 0.0), one.rate)
    widths = sorted({qubits for device, qubits in best if device == "gpu" and ("cpu", qubits) in best})
    found = None
    for width in reversed(widths):
        if best["gpu", width] <= best["cpu", width]:
            break
        found = width
    return found


def verdict(checked: Sequence[Check]) -> Oracle:
    """All values are right; the deviation is that of the worst, of sampled ones if there are some."""
    sampled = [one for one in checked if one.standard_error]
    exact = [one for one in checked if not one.standard_error]
    allowed = allowed_errors(len(sampled))
    farthest = max((one.deviation() for one in sampled), default=0.0)
    difference = max((abs(one.value - one.expected) for one in exact), default=0.0)
    text = []
    if exact:
        text.append(f"{len(exact)} exact values agree with Qiskit's Statevector to {difference:.1e}")
    if sampled:
        text.append(
            f"{len(sampled)} sampled values are within {farthest:.1f} standard errors of theirs (with a snapshot's "
            f"noise: of Aer's density matrix), {allowed:.1f} are allowed"
        )
    return Oracle(
        passed=bool(checked) and all(one.passes(allowed) for one in checked),
        deviation=farthest if sampled else difference,
        unit="standard errors" if sampled else "",
        text="; ".join(text) or "no circuit is narrow enough for an independent calculation",
    )
