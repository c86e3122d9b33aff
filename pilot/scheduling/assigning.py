"""What is known of queued tasks on each QPU, as arrays. Loaded where a policy has `assign` only: it needs NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import nan

import numpy as np

from pilot.interfaces import QPUTable
from pilot.resources import Option, Terms
from pilot.scheduling.fitting import concrete, expected_fidelity, misfit
from pilot.scheduling.pilot_records import PilotRecord
from pilot.scheduling.records import TaskRecord


class Rows:
    """A row for each task, a column for each QPU of the pilots."""

    def __init__(self, records: Sequence[TaskRecord], pilots: Sequence[PilotRecord], now: float) -> None:
        self.columns = [(pilot, name) for pilot in pilots for name in pilot.devices]
        self._pilots = pilots
        self._now = now
        #: What tasks of these terms run with on each QPU; None: it cannot run them.
        self._options: dict[Terms, list[Option | None]] = {}
        shape = (len(records), len(self.columns))
        known = np.array([list(self._known(record)) for record in records], float).reshape(*shape, 3)
        waits = [pilot.devices[name].expected + pilot.devices[name].queue for pilot, name in self.columns]
        fits = [[option is not None for option in self.options(record.terms)] for record in records]
        self.table = QPUTable(
            qpus=tuple((pilot.name, name) for pilot, name in self.columns),
            fits=np.array(fits, bool).reshape(shape),
            fidelity=known[:, :, 0],
            seconds=known[:, :, 1],
            cost=known[:, :, 2],
            wait=np.broadcast_to(np.array(waits, float), shape),
        )

    def options(self, terms: Terms) -> list[Option | None]:
        """What such a task runs with on each QPU; None: the QPU cannot run it."""
        if (known := self._options.get(terms)) is None:
            known = self._options[terms] = []
            for pilot in self._pilots:
                capacity = pilot.capacity(self._now)
                ways = concrete(terms, capacity) if misfit(terms, capacity) is None else []
                by_name = {way.resources.qpu: way for way in ways}
                known += [by_name.get(name) for name in pilot.devices]
        return known

    def _known(self, record: TaskRecord) -> Iterator[tuple[float, float, float]]:
        """Fidelity, seconds and cost on each QPU; NaN: not known."""
        estimates = {estimate.qpu: estimate for estimate in record.estimates}
        facts = record.terms.facts
        compiled = dict(facts.fidelities) if facts is not None else {}
        for pilot, name in self.columns:
            device, estimate = pilot.devices[name], estimates.get(name)
            fidelity = compiled.get(name)
            if fidelity is None and facts is not None and device.info is not None and facts.is_counted:
                fidelity = expected_fidelity(facts, device.info)
            seconds = record.seconds if device.rate is None else device.rate * record.weight
            cost = None
            if estimate is not None:
                fidelity = fidelity if estimate.fidelity is None else estimate.fidelity
                seconds = seconds if estimate.seconds is None else estimate.seconds
                cost = estimate.cost
            yield tuple(nan if value is None else value for value in (fidelity, seconds, cost))  # type: ignore[misc]
