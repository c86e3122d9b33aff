"""What is known of queued tasks on each QPU, as arrays. Loaded where a policy has `assign` only: it needs NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

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
        #: For tasks of these terms, on each QPU: whether it can run them, and the fidelity without estimates.
        self._fits: dict[Terms, NDArray[np.bool_]] = {}
        self._fidelities: dict[Terms, NDArray[np.float64]] = {}
        shape = (len(records), len(self.columns))
        fits, fidelity = np.empty(shape, bool), np.empty(shape)
        for row, record in enumerate(records):
            fits[row], fidelity[row] = self._by_terms(record.terms)
        devices = [pilot.devices[name] for pilot, name in self.columns]
        rates = np.array([nan if device.rate is None else device.rate for device in devices], float)
        own = np.array([nan if record.seconds is None else record.seconds for record in records], float)
        weights = np.array([record.weight for record in records], float)
        seconds = np.where(np.isnan(rates), own[:, np.newaxis], weights[:, np.newaxis] * rates)
        cost = np.full(shape, nan)
        self._put_estimates(records, fidelity, seconds, cost)
        waits = np.array([device.expected + device.queue for device in devices], float)
        self.table = QPUTable(
            qpus=tuple((pilot.name, name) for pilot, name in self.columns),
            fits=fits,
            fidelity=fidelity,
            seconds=seconds,
            cost=cost,
            wait=np.broadcast_to(waits, shape),
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

    def _by_terms(self, terms: Terms) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        if (fits := self._fits.get(terms)) is None:
            fits = self._fits[terms] = np.array([option is not None for option in self.options(terms)], bool)
            self._fidelities[terms] = np.array([self._fidelity(terms, *column) for column in self.columns], float)
        return fits, self._fidelities[terms]

    def _fidelity(self, terms: Terms, pilot: PilotRecord, name: str) -> float:
        facts, info = terms.facts, pilot.devices[name].info
        fidelity = dict(facts.fidelities).get(name) if facts is not None else None
        if fidelity is None and facts is not None and info is not None and facts.is_counted:
            fidelity = expected_fidelity(facts, info)
        return nan if fidelity is None else fidelity

    def _put_estimates(
        self,
        records: Sequence[TaskRecord],
        fidelity: NDArray[np.float64],
        seconds: NDArray[np.float64],
        cost: NDArray[np.float64],
    ) -> None:
        """What was estimated for one task replaces what is known of its function and terms."""
        places: dict[str, list[int]] = {}
        for at, (_, name) in enumerate(self.columns):
            places.setdefault(name, []).append(at)
        for row, record in enumerate(records):
            for one in record.estimates:
                for value, array in ((one.fidelity, fidelity), (one.seconds, seconds), (one.cost, cost)):
                    if value is not None:
                        array[row, places.get(one.qpu, [])] = value
