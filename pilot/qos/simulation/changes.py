"""What changes while jobs run: QPUs fail and come back, calibrations drift."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from pilot.qos.simulation.jobs import Kind
from pilot.qos.simulation.simulator import Simulator
from pilot.qos.simulation.sites import SimulatedQPU
from pilot.scheduling import events

#: Standard deviation of the logarithm of an error after a calibration.
DRIFT = 0.3


class Outages:
    """QPUs that fail at random times, each on its own, and are back after random times."""

    def __init__(
        self, simulator: Simulator, sites: Sequence[SimulatedQPU], between: float, down: float, seed: int
    ) -> None:
        """Make it.

        Args:
            simulator: that the sites belong to.
            sites: which fail.
            between: mean seconds from being back to the next failure.
            down: mean seconds until a QPU is back.
            seed: of the times.
        """
        self._simulator, self._sites = simulator, sites
        self._between, self._down = between, down
        self._random = [np.random.default_rng([seed, 5, at]) for at in range(len(sites))]

    def begin(self) -> None:
        """From now on."""
        for at in range(len(self._sites)):
            self._fail_later(at, self._simulator.now)

    def _fail_later(self, at: int, now: float) -> None:
        random = self._random[at]
        fails = now + float(random.exponential(self._between))
        back = fails + float(random.exponential(self._down))
        self._simulator.at(fails, lambda time: self._fail(at, time))
        self._simulator.at(back, lambda time: self._back(at, time))

    def _fail(self, at: int, now: float) -> None:
        self._report(at, False)  # before its tasks are lost, so that they go elsewhere
        self._sites[at].fail(now)

    def _back(self, at: int, now: float) -> None:
        self._report(at, True)
        self._fail_later(at, now)

    def _report(self, at: int, accepts: bool) -> None:
        site = self._sites[at]
        info = msgspec.structs.replace(site.infos()[0], accepts_jobs=accepts)
        self._simulator.feed(events.PilotReady(site.id, site.nodes, {}, None, [info]))


class Drift:
    """Calibrations at regular times: each circuit's errors on each QPU are their first values times a random factor."""

    def __init__(self, simulator: Simulator, kinds: Sequence[Kind], seconds: float, seed: int) -> None:
        """Make it.

        Args:
            simulator: whose jobs are of these kinds.
            kinds: of circuits; their estimates and their truth change.
            seconds: between two calibrations of all QPUs.
            seed: of the factors.
        """
        self._simulator, self._kinds, self._seconds = simulator, kinds, seconds
        self._first = [dict(kind.fidelity) for kind in kinds]
        self._random = np.random.default_rng([seed, 6])

    def begin(self) -> None:
        """From now on."""
        self._simulator.at(self._simulator.now + self._seconds, self._calibrate)

    def _calibrate(self, now: float) -> None:
        for kind, first in zip(self._kinds, self._first, strict=True):
            factors = np.exp(self._random.normal(0.0, DRIFT, len(first)))
            kind.fidelity = {
                qpu: value**factor for (qpu, value), factor in zip(first.items(), factors.tolist(), strict=True)
            }
            kind.estimates = tuple(
                msgspec.structs.replace(one, fidelity=kind.fidelity[one.qpu], calibrated=now) for one in kind.estimates
            )
        changed = {task: job.kind.estimates for task, job in self._simulator.unfinished.items()}
        self._simulator.feed(events.CircuitsEstimated(changed))
        self.begin()
