"""How long tasks hold a QPU: learned from those that have run there.

A task takes ``setup + shots · delay + factor · shots · duration``, with the duration of one shot from the schedule of
the compiled circuit. The three unknowns of a QPU are found by Bayesian linear regression, from what is known of devices
of its kind and all measured times.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Prior(NamedTuple):
    """What is known before anything was measured."""

    #: Seconds of the setup, seconds between two shots, and the factor of the duration.
    values: tuple[float, float, float]
    #: The standard deviation of each.
    deviations: tuple[float, float, float]


#: Delays of 100 to 250 microseconds are usual for superconducting devices.
DEVICE = Prior((1.0, 250e-6, 1.0), (2.0, 200e-6, 0.2))
#: Of a simulator the duration is what is predicted for all shots, which count as one.
SIMULATOR = Prior((0.0, 0.0, 1.0), (2e-3, 1e-9, 0.5))
#: Measured times scatter by this share of them, and these seconds.
SCATTER, SCATTER_SECONDS = 0.02, 0.005


class RunTime(NamedTuple):
    """Seconds, and their standard deviation."""

    seconds: float
    spread: float


class _QPU:
    """What is known of one QPU."""

    def __init__(self, prior: Prior) -> None:
        values, deviations = np.array(prior.values), np.array(prior.deviations)
        self._precision: NDArray[np.float64] = np.diag(deviations**-2.0)
        self._weighted: NDArray[np.float64] = values / deviations**2

    def learn(self, row: NDArray[np.float64], seconds: float) -> None:
        weight = (SCATTER * seconds + SCATTER_SECONDS) ** -2
        self._precision += weight * np.outer(row, row)
        self._weighted += weight * seconds * row

    def estimate(self, row: NDArray[np.float64]) -> RunTime:
        # the unknowns differ by orders of magnitude: scaled, the matrix is well conditioned
        scale = 1 / np.sqrt(self._precision.diagonal())
        covariance = np.linalg.inv(scale[:, None] * self._precision * scale) * scale[:, None] * scale
        seconds = max(0.0, float(row @ covariance @ self._weighted))
        own = SCATTER * seconds + SCATTER_SECONDS
        return RunTime(seconds, sqrt(max(0.0, float(row @ covariance @ row)) + own**2))


class RunTimes:
    """Run times on all QPUs of a session."""

    def __init__(self) -> None:
        """Make it: nothing was measured."""
        self._qpus: dict[str, _QPU] = {}

    def expect(self, qpu: str, delay: float | None = None, *, simulator: bool = False) -> None:
        """There is a QPU. Nothing happens when it is known already.

        Args:
            qpu: its name.
            delay: seconds between two shots, as it reports; None: it does not.
            simulator: it is one; its tasks have one shot, with the predicted time of all shots as the duration.
        """
        if qpu not in self._qpus:
            prior = SIMULATOR if simulator else DEVICE
            if delay is not None:
                setup, _, factor = prior.deviations
                prior = Prior((prior.values[0], delay, prior.values[2]), (setup, 0.1 * delay + 1e-6, factor))
            self._qpus[qpu] = _QPU(prior)

    def learn(self, qpu: str, shots: int, duration: float, seconds: float) -> None:
        """A task has held a QPU for so many seconds.

        Args:
            qpu: its name.
            shots: of all circuits of the task.
            duration: seconds of one shot; of several circuits the mean.
            seconds: at least 0.
        """
        self._known(qpu).learn(_row(shots, duration), seconds)

    def estimate(self, qpu: str, shots: int, duration: float) -> RunTime:
        """How long a task is expected to hold a QPU; arguments as `learn`."""
        return self._known(qpu).estimate(_row(shots, duration))

    def _known(self, qpu: str) -> _QPU:
        self.expect(qpu)
        return self._qpus[qpu]


def _row(shots: int, duration: float) -> NDArray[np.float64]:
    return np.array([1.0, shots, shots * duration])
