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

#: Before anything was measured: seconds of the setup, between two shots, and the factor of the duration; and the
#: standard deviation of each. Delays of 100 to 250 microseconds are usual for superconducting devices.
PRIOR = (1.0, 250e-6, 1.0)
PRIOR_DEVIATION = (2.0, 200e-6, 0.2)
#: Measured times scatter by this share of them, and these seconds.
SCATTER, SCATTER_SECONDS = 0.02, 0.005


class RunTime(NamedTuple):
    """Seconds, and their standard deviation."""

    seconds: float
    spread: float


class _QPU:
    """What is known of one QPU."""

    def __init__(self, delay: float | None) -> None:
        prior, deviation = np.array(PRIOR), np.array(PRIOR_DEVIATION)
        if delay is not None:
            prior[1], deviation[1] = delay, 0.1 * delay + 1e-6
        self._precision: NDArray[np.float64] = np.diag(deviation**-2.0)
        self._weighted: NDArray[np.float64] = prior / deviation**2

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

    def expect(self, qpu: str, delay: float | None) -> None:
        """A QPU reports the seconds between two shots; None: it does not. Does nothing when it is known already."""
        self._qpus.setdefault(qpu, _QPU(delay))

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
        return self._qpus.setdefault(qpu, _QPU(None))


def _row(shots: int, duration: float) -> NDArray[np.float64]:
    return np.array([1.0, shots, shots * duration])
