"""How long tasks take on QPUs and simulators: learned from those that have run there.

A task holds a device for ``setup + shots · delay + factor · shots · duration`` seconds, with the duration of one shot
from the schedule of the compiled circuit. A simulation takes ``factor · predicted``, and something for each gate and
for each amplitude of each gate. The unknowns are found by Bayesian linear regression, from what is known before and all
measured times.
"""

from __future__ import annotations

import time
from functools import cache
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Measured times scatter by this share of them, and these seconds.
SCATTER, SCATTER_SECONDS = 0.02, 0.005

#: What the unknowns are multiplied with.
Row = tuple[float, ...]


class Prior(NamedTuple):
    """What is known of the unknowns before anything was measured: means, and standard deviations."""

    means: Row
    deviations: Row


#: Setup, delay between two shots, factor of the duration. Delays of 100 to 250 microseconds are usual for
#: superconducting devices.
DEVICE = Prior((1.0, 250e-6, 1.0), (2.0, 200e-6, 0.2))
#: Factor of what is predicted, setup, seconds of a gate and of an amplitude of a gate: on a machine on which
#: `STORES` stores into a dictionary take `STORES_SECONDS`, as where the predictions were fitted.
SIMULATOR = Prior((1.0, 0.0, 0.0, 0.0), (0.3, 2e-3, 2e-5, 1e-9))
STORES, STORES_SECONDS = 100_000, 4e-3


@cache
def simulator_prior() -> Prior:
    """Of a simulator on machines that are as fast as this one, which is measured once in a process: 40 ms."""
    found = []
    for _ in range(10):
        stored: dict[int, int] = {}
        begun = time.process_time()
        for number in range(STORES):
            stored[number & 1023] = number
        found.append(time.process_time() - begun)
    factor = min(found) / STORES_SECONDS
    return Prior((factor, *SIMULATOR.means[1:]), (0.3 * factor, *SIMULATOR.deviations[1:]))


def device_prior(delay: float | None) -> Prior:
    """Of a device that reports these seconds between two shots; None: it reports none."""
    if delay is None:
        return DEVICE
    return Prior((DEVICE.means[0], delay, DEVICE.means[2]), (DEVICE.deviations[0], 0.1 * delay + 1e-6, 0.2))


def device_row(shots: int, duration: float) -> Row:
    """Of a task on a device.

    Args:
        shots: of all its circuits.
        duration: seconds of one shot; of several circuits the mean.
    """
    return (1.0, shots, shots * duration)


def simulator_row(predicted: float, gates: int, qubits: int) -> Row:
    """Of a simulation; ``predicted``: its seconds."""
    return (predicted, 1.0, gates, gates * 2.0 ** min(qubits, 40))


class RunTime(NamedTuple):
    """Seconds, and their standard deviation."""

    seconds: float
    spread: float


class _Learned:
    """What is known of the unknowns of one place."""

    def __init__(self, prior: Prior) -> None:
        deviations = np.array(prior.deviations)
        self._precision: NDArray[np.float64] = np.diag(deviations**-2.0)
        self._weighted: NDArray[np.float64] = np.array(prior.means) / deviations**2
        #: Of the unknowns; None: something was learned since.
        self._covariance: NDArray[np.float64] | None = None

    def learn(self, row: NDArray[np.float64], seconds: float) -> None:
        weight = (SCATTER * seconds + SCATTER_SECONDS) ** -2
        self._precision += weight * np.outer(row, row)
        self._weighted += weight * seconds * row
        self._covariance = None

    def estimate(self, row: NDArray[np.float64]) -> RunTime:
        if (covariance := self._covariance) is None:
            # the unknowns differ by orders of magnitude: scaled, the matrix is well conditioned
            scale = 1 / np.sqrt(self._precision.diagonal())
            covariance = np.linalg.inv(scale[:, None] * self._precision * scale) * scale[:, None] * scale
            self._covariance = covariance
        seconds = max(0.0, float(row @ covariance @ self._weighted))
        own = SCATTER * seconds + SCATTER_SECONDS
        return RunTime(seconds, sqrt(max(0.0, float(row @ covariance @ row)) + own**2))


class RunTimes:
    """Run times at all places of a session: devices by their name, methods of a simulator by its name and theirs."""

    def __init__(self) -> None:
        """Make it: nothing was measured."""
        self._learned: dict[str, _Learned] = {}

    def expect(self, place: str, prior: Prior) -> None:
        """What is known of a place before anything was measured. Nothing happens when it is known already."""
        if place not in self._learned:
            self._learned[place] = _Learned(prior)

    def learn(self, place: str, row: Row, seconds: float) -> None:
        """A task has taken so many seconds at a place that is expected."""
        self._learned[place].learn(np.array(row, float), seconds)

    def estimate(self, place: str, row: Row) -> RunTime:
        """How long a task is expected to take at a place that is expected."""
        return self._learned[place].estimate(np.array(row, float))
