"""What is known of queued tasks on each QPU, as arrays. Loaded where a policy has `assign` only: it needs NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pilot.interfaces import QPUTable, Spreads
from pilot.resources import Option, QPUEstimate, Terms
from pilot.scheduling.fitting import concrete, expected_fidelity, misfit
from pilot.scheduling.pilot_records import DeviceRecord, PilotRecord
from pilot.scheduling.records import TaskRecord

#: The rows of so many kinds of circuits are kept.
MOST_ROWS = 4096
#: Rows of an array of estimates.
FIDELITY, SECONDS, COST, MEMORY = range(4)
VALUES = 8
#: The `QPUTable.place` of one task that waits for no QPU.
_NOWHERE = np.array([-1])
_NOWHERE.flags.writeable = False


class Column(NamedTuple):
    """A QPU of a pilot."""

    pilot: PilotRecord
    name: str
    device: DeviceRecord


class Row(NamedTuple):
    """What is known of all tasks with the same terms and the same estimates."""

    #: What they run with on each QPU; None: it cannot run them.
    options: list[Option | None]
    #: `(n_qpus,)`: True where they can run, apart from what is demanded and from QPUs that take no jobs now.
    able: NDArray[np.bool_]
    #: `(n_qpus,)`: True where they can run now, apart from their deadline.
    fits: NDArray[np.bool_]
    #: `(VALUES, n_qpus)`: the estimates, then their spreads; NaN where they are not known.
    values: NDArray[np.float64]
    #: Kept so that no other object gets its id.
    estimates: tuple[QPUEstimate, ...]
    has_deadline: bool
    #: `(1, n_qpus)` each: fidelity, seconds, cost and memory of a table of one task, and its spreads.
    views: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], Spreads]


class Rows:
    """Makes tables: a row for each task, a column for each QPU."""

    def __init__(self, columns: Sequence[Column], now: float) -> None:
        """Make it for these columns, which do not change; ``now``: when their pilots were looked at."""
        self.columns = columns
        self._now = now
        self._pilots = list(dict.fromkeys(column.pilot for column in columns))
        self._names = tuple((column.pilot.name, column.name) for column in columns)
        self._places: dict[str, list[int]] = {}
        for at, column in enumerate(columns):
            self._places.setdefault(column.name, []).append(at)
        #: By the identity of the estimates, and the terms.
        self._rows: dict[tuple[int, Terms], Row] = {}

    def row(self, record: TaskRecord) -> Row:
        """What is known of this task."""
        key = (id(record.estimates), record.terms)
        if (row := self._rows.get(key)) is None:
            if len(self._rows) >= MOST_ROWS:
                self._rows.clear()
            row = self._rows[key] = self._new_row(record.terms, record.estimates)
        return row

    def table(
        self,
        records: Sequence[TaskRecord],
        waits: NDArray[np.float64],
        busy: NDArray[np.float64],
        pending: NDArray[np.float64],
        now: float,
        place: NDArray[np.intp] | None = None,
    ) -> QPUTable:
        """What is known of these tasks now.

        Args:
            records: the tasks, at least one.
            waits: `(n_qpus,)`, or `(n_tasks, n_qpus)`: seconds until each task would begin.
            busy, pending: `(n_qpus,)`, as in `QPUTable`.
            now: seconds by a clock that never steps.
            place: as in `QPUTable`; None: no task waits for a QPU.
        """
        if len(records) == 1:
            row = self.row(records[0])
            (fidelity, seconds, cost, memory, spreads), fits = row.views, row.fits[np.newaxis]
            is_estimated, has_deadline = bool(row.estimates), row.has_deadline
            nowhere = _NOWHERE
        else:
            rows = [self.row(record) for record in records]
            fidelity, seconds, cost, memory, spreads = _views(np.array([row.values for row in rows]))
            fits = np.array([row.fits for row in rows])
            is_estimated, has_deadline = all(row.estimates for row in rows), any(row.has_deadline for row in rows)
            nowhere = np.full(len(rows), -1)
        if not is_estimated:
            seconds = self._measured(records, seconds)
        if waits.ndim == 1:
            waits = waits[np.newaxis] if len(records) == 1 else np.broadcast_to(waits, seconds.shape)
        if has_deadline:
            fits = fits & _in_time(records, waits + seconds, now)
        return QPUTable(
            qpus=self._names,
            fits=fits,
            fidelity=fidelity,
            seconds=seconds,
            wait=waits,
            cost=cost,
            memory=memory,
            spreads=spreads,
            place=nowhere if place is None else place,
            busy=busy,
            pending=pending,
        )

    def _measured(self, records: Sequence[TaskRecord], known: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds, by measured times where nothing was estimated."""
        rates = np.array([nan if one.device.rate is None else one.device.rate for one in self.columns], float)
        own = np.array([nan if record.seconds is None else record.seconds for record in records], float)
        weights = np.array([record.weight for record in records], float)
        seconds = np.where(np.isnan(rates), own[:, np.newaxis], weights[:, np.newaxis] * rates)
        return np.where(np.isnan(known), seconds, known)

    def _new_row(self, terms: Terms, estimates: tuple[QPUEstimate, ...]) -> Row:
        options = self._options(terms, estimates)
        values = np.full((VALUES, len(self.columns)), nan)
        values[FIDELITY] = [self._fidelity(terms, column) for column in self.columns]
        for one in estimates:
            known = (one.fidelity, one.seconds, one.cost, one.memory)
            spreads = (one.fidelity_spread, one.seconds_spread, one.cost_spread, one.memory_spread)
            for at, value in enumerate(known + spreads):
                if value is not None:
                    values[at, self._places.get(one.qpu, [])] = value
        able = np.array([option is not None for option in options], bool)
        fits = able & np.array([column.device.closed is None for column in self.columns], bool)
        if estimates and terms.min_fidelity:
            fits &= values[FIDELITY] >= terms.min_fidelity
        if terms.max_cost is not None:
            fits &= values[COST] <= terms.max_cost
        return Row(options, able, fits, values, estimates, terms.deadline is not None, _views(values[np.newaxis]))

    def _options(self, terms: Terms, estimates: tuple[QPUEstimate, ...]) -> list[Option | None]:
        if estimates:  # what is demanded is compared with these
            terms = msgspec.structs.replace(terms, min_fidelity=0.0)
        by_qpu: dict[tuple[str, str], Option] = {}
        for pilot in self._pilots:
            capacity = pilot.capacity(self._now)
            for way in concrete(terms, capacity) if misfit(terms, capacity) is None else ():
                by_qpu.setdefault((pilot.id, way.resources.qpu), way)
        return [by_qpu.get((column.pilot.id, column.name)) for column in self.columns]

    def _fidelity(self, terms: Terms, column: Column) -> float:
        facts, info = terms.facts, column.device.info
        fidelity = dict(facts.fidelities).get(column.name) if facts is not None else None
        if fidelity is None and facts is not None and info is not None and facts.is_counted:
            fidelity = expected_fidelity(facts, info)
        return nan if fidelity is None else fidelity


def _views(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], Spreads]:
    """Parts of `(n_tasks, VALUES, n_qpus)`."""
    fidelity, seconds, cost, memory, *spreads = (values[:, at] for at in range(VALUES))
    return fidelity, seconds, cost, memory, Spreads(*spreads)


def _in_time(records: Sequence[TaskRecord], over: NDArray[np.float64], now: float) -> NDArray[np.bool_]:
    """Where tasks are expected to be over before their deadline, from their submission on."""
    left = [np.inf if (limit := one.terms.deadline) is None else one.arrived + limit - now for one in records]
    limits = np.array(left)[:, np.newaxis]
    return np.isposinf(limits) | (over <= limits)
