"""What becomes of tasks whose demands no QPU is expected to meet: a least fidelity, a deadline, a cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilot.errors import ErrorCode
from pilot.interfaces import QPUTable
from pilot.resources import Terms
from pilot.scheduling.assigning import COST, FIDELITY, SECONDS, Column, Rows
from pilot.scheduling.events import Command
from pilot.scheduling.queue import TaskQueue
from pilot.scheduling.records import TaskRecord
from pilot.scheduling.unservable import waits


def demands(terms: Terms) -> dict[str, Any]:
    """What is compared with estimates, by field."""
    wanted = {"min_fidelity": terms.min_fidelity or None, "deadline": terms.deadline, "max_cost": terms.max_cost}
    return {field: value for field, value in wanted.items() if value is not None}


def settle(
    records: Sequence[TaskRecord], rows: Rows, table: QPUTable, queue: TaskQueue, now: float, commands: list[Command]
) -> None:
    """Have those of these tasks simulated that want it, and fail those that want nothing; the others wait.

    Args:
        records: queued tasks.
        rows: of the table.
        table: of these tasks.
        queue: that they are in.
        now: seconds by a clock that never steps.
        commands: what to do.
    """
    for at, record in enumerate(records):
        if table.fits[at].any() or not demands(record.terms) or waits(record, now):
            continue
        offers = list(_offers(record, rows, table.wait[at], now))
        if any(meets for meets, _, _ in offers):
            continue  # a QPU that takes no jobs now
        if record.terms.fallback == "simulator":
            queue.change(record, record.terms.simulated())
            continue
        wanted = ", ".join(f"{field}={value:g}" for field, value in demands(record.terms).items())
        best = max(offers, key=lambda offer: offer[1], default=None)
        offer = f"the best offer: {best[2]}" if best is not None else "no QPU can run it"
        is_told = record.terms.fallback == "wait"
        advice = "" if is_told else ", or say what shall happen then: fallback='simulator' or 'wait'"
        queue.fail_queued(
            [record],
            ErrorCode.NO_PILOT,
            f"no QPU is expected to meet {wanted}; {offer}. Ask for less, or add a pilot with another QPU{advice}",
            commands,
        )


def _offers(
    record: TaskRecord, rows: Rows, waits: NDArray[np.float64], now: float
) -> Iterator[tuple[bool, tuple[float, float], str]]:
    """Of each QPU that can run a task: whether it meets the demands, how good it is, and that as a text."""
    row, terms = rows.row(record), record.terms
    for at, column in enumerate(rows.columns):
        if not row.able[at]:
            continue
        fidelity, seconds, cost = (float(row.values[key, at]) for key in (FIDELITY, SECONDS, COST))
        over = now - record.arrived + float(waits[at]) + seconds
        meets = (
            (not terms.min_fidelity or fidelity >= terms.min_fidelity)
            and (terms.deadline is None or over <= terms.deadline)
            and (terms.max_cost is None or cost <= terms.max_cost)
        )
        known = (("fidelity", fidelity, ".4f", ""), ("over after", over, ".1f", " s"), ("cost", cost, ".3g", ""))
        told = ", ".join(f"{what} {value:{form}}{unit}" for what, value, form, unit in known if not isnan(value))
        if terms.max_cost is not None and isnan(cost):
            told += "; its cost is not known: name a file with prices in QUANTUM_PILOT_PRICES"
        yield meets, (np.nan_to_num(fidelity), -np.nan_to_num(over)), f"{_name(column)} ({told})"


def _name(column: Column) -> str:
    closed = f", which {column.device.closed}" if column.device.closed else ""
    return f"{column.name} of {column.pilot.name}{closed}"
