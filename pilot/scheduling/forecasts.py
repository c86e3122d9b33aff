"""How long a job waits in a QPU's queue of all users: learned from the departures of that queue, as time goes on.

A job that is sent when p jobs are pending starts when as many have left. So each past moment shows what a job that was
sent then would have waited, whether or not one was sent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from math import exp, log, log1p

import numpy as np

#: Seconds that a job waits in a queue that is empty.
EMPTY_SECONDS = 5.0
#: A QPU that is down is expected to be so for so many seconds more at least.
DOWN_SECONDS = 1800.0
#: Seconds that are added before a logarithm is taken.
SHIFT = 30.0
#: Seconds between two moments that are learned from, and the longest wait that is learned.
SAMPLE_SECONDS, LONGEST_SECONDS = 300.0, 4 * 3600.0
#: Seconds between two fits, moments that are kept, and the QPUs of least expected wait that are learned from.
FIT_SECONDS, MOST_SAMPLES, LEARNED_QPUS = 3600.0, 20_000, 5
#: How much the first coefficients weigh, in moments.
STIFFNESS = 300.0
#: ln(W + 30) of ln(b + 30), ln(age + 30), ln(1 + p), its square, and 1; before anything is learned. Fitted to four days
#: of the queues of 12 QPUs in November 2023.
FIRST = (0.56, 0.289, 0.745, -0.059, 0.206)

Inputs = tuple[float, float, float, float, float]


class QueueForecast:
    """The queue of one QPU: how many jobs are pending, and when jobs have left it."""

    def __init__(self, now: float, pending: int, active: bool) -> None:
        self.pending = pending
        self.active = active
        self._since = now
        #: Jobs that have left it; the times at which this has grown, and to what.
        self.departed = 0
        self._times: list[float] = [now]
        self._counts: list[int] = [0]

    def seen(self, now: float, pending: int, active: bool) -> None:
        """What the QPU reports now."""
        if pending < self.pending:
            self.departed += self.pending - pending
            self._times.append(now)
            self._counts.append(self.departed)
        self.pending, self.active = pending, active

    @property
    def ticket(self) -> int:
        """A job that is sent now starts when so many have left."""
        return self.departed + self.pending

    def ahead(self, ticket: int) -> int:
        """How many jobs are still before one with this ticket."""
        return max(0, ticket - self.departed)

    def last(self, jobs: int, now: float) -> float:
        """Seconds in which the last ``jobs`` departures happened; more than is known is extrapolated."""
        if jobs <= 0:
            return 0.0
        if jobs <= self.departed:
            at = bisect_right(self._counts, self.departed - jobs) - 1
            return now - self._times[min(at + 1, len(self._times) - 1)]
        known = max(now - self._since, SHIFT)
        return known * jobs / max(self.departed, 1)

    def age(self, now: float) -> float:
        """Seconds since a job has left it."""
        return now - self._times[-1]

    def inputs(self, jobs: int, now: float) -> Inputs:
        """What the wait behind so many jobs is predicted from."""
        many = log1p(jobs)
        return log(self.last(jobs, now) + SHIFT), log(self.age(now) + SHIFT), many, many * many, 1.0

    def waited(self, ticket: int, since: float) -> float | None:
        """How long a job with this ticket waited from then on; None: it still waits."""
        if ticket > self.departed:
            return None
        return max(0.0, self._times[bisect_left(self._counts, ticket)] - since)


class WaitForecaster:
    """Predicts waits in the queues of all QPUs by one model, which it fits again every hour to what has happened."""

    def __init__(self) -> None:
        self._weights = FIRST
        #: When, in which queue, with which ticket, predicted from what.
        self._samples: deque[tuple[float, QueueForecast, int, Inputs]] = deque(maxlen=MOST_SAMPLES)
        self._sampled = self._fitted = float("-inf")

    def wait(self, queue: QueueForecast, now: float, jobs: int | None = None) -> float:
        """Seconds that a job behind so many others is expected to wait; None: behind all that are pending."""
        jobs = queue.pending if jobs is None else jobs
        if jobs == 0:
            seconds = EMPTY_SECONDS
        else:
            a, b, c, d, _ = inputs = queue.inputs(jobs, now)
            weights = self._weights
            total = weights[0] * a + weights[1] * b + weights[2] * c + weights[3] * d + weights[4] * inputs[4]
            seconds = max(EMPTY_SECONDS, exp(min(total, 20.0)) - SHIFT)
        return seconds if queue.active else max(seconds, DOWN_SECONDS)

    def learn(self, queues: Sequence[QueueForecast], now: float) -> None:
        """Take note of the queues, and fit the model again where it is time to. Call it often."""
        if now - self._sampled >= SAMPLE_SECONDS:
            self._sampled = now
            up = [queue for queue in queues if queue.active and queue.pending]
            up.sort(key=lambda queue: queue.last(queue.pending, now) + 2.0 * queue.age(now))
            for queue in up[:LEARNED_QPUS]:
                self._samples.append((now, queue, queue.ticket, queue.inputs(queue.pending, now)))
        if now - self._fitted >= FIT_SECONDS:
            self._fitted = now
            self._fit(now)

    def _fit(self, now: float) -> None:
        rows, waits = [], []
        for since, queue, ticket, inputs in self._samples:
            if now - since < LONGEST_SECONDS:
                break
            waited = queue.waited(ticket, since)
            waits.append(log(min(LONGEST_SECONDS if waited is None else waited, LONGEST_SECONDS) + SHIFT))
            rows.append(inputs)
        if not rows:
            return
        x, y, first = np.array(rows), np.array(waits), np.array(FIRST)
        matrix = x.T @ x + STIFFNESS * np.eye(len(first))
        found = first + np.linalg.solve(matrix, x.T @ (y - x @ first))
        self._weights = tuple(found.tolist())
