"""What came of a simulation: a few numbers for each job, in arrays."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Room is made for so many jobs at a time.
ROOM = 4096
#: How a job ended.
DONE, REFUSED, UNFINISHED = 0, 1, 2
#: Reasons for which jobs were refused that are shown at most.
REASONS = 3


class Log:
    """The jobs in the order in which they were submitted."""

    def __init__(self) -> None:
        #: What jobs run on, and how many of one core each runs at a time.
        self.places: list[str] = []
        self.sizes: list[float] = []
        self._number: dict[str, int] = {}
        self._submitted, self._began, self._ended = array("d"), array("d"), array("d")
        self._fidelity, self._cores = array("d"), array("d")
        self._place, self._state, self._moves = array("i"), array("b"), array("i")
        #: When each place came and went.
        self._since, self._until = array("d"), array("d")
        #: Attempts that did not count.
        self.lost_attempts = 0
        #: Names of kinds of jobs, in the order in which they came first.
        self.kinds: list[str] = []
        self._kind = array("i")
        self._kind_number: dict[str, int] = {}
        #: Jobs that shared a QPU with others.
        self.shared = 0
        #: When the simulation ended, and whether jobs came later, which were left out.
        self.stopped, self.is_cut = 0.0, False
        #: Why jobs were refused, and how many for each reason.
        self.reasons: Counter[str] = Counter()

    def add(self, place: str, size: float, now: float = 0.0) -> None:
        """Jobs may run there from now on."""
        self._number[place] = len(self.places)
        self.places.append(place)
        self.sizes.append(size)
        self._since.append(now)
        self._until.append(np.inf)

    def gone(self, place: str, now: float) -> None:
        """Jobs may run there no more, if they ever could."""
        if (number := self._number.get(place)) is not None:
            self._until[number] = now

    def submitted(self, now: float, kind: str) -> int:
        """A job comes; its number, from 0."""
        if (number := self._kind_number.get(kind)) is None:
            number = self._kind_number[kind] = len(self.kinds)
            self.kinds.append(kind)
        self._kind.append(number)
        job = len(self._submitted)
        self._submitted.append(now)
        if job == len(self._state):
            self._make_room()
        return job

    def _make_room(self) -> None:
        """For more jobs, of which nothing is known."""
        for column in (self._began, self._ended, self._fidelity):
            column.extend(array("d", [np.nan]) * ROOM)
        self._cores.extend(array("d", [1.0]) * ROOM)
        self._place.extend(array("i", [-1]) * ROOM)
        self._moves.extend(array("i", [0]) * ROOM)
        self._state.extend(array("b", [UNFINISHED]) * ROOM)

    def _so_far(self, column: Any, kind: type = np.float64) -> NDArray[Any]:
        """`(n_jobs,)`: of a column that has room for more jobs."""
        return np.frombuffer(column, kind)[: len(self._submitted)]

    def over(self, job: int, place: str, began: float, ended: float, fidelity: float, cores: float) -> None:
        """A job is done. ``job``: its number, from 0."""
        self._place[job], self._state[job] = self._number[place], DONE
        self._began[job], self._ended[job] = began, ended
        self._fidelity[job], self._cores[job] = fidelity, cores
        self.shared += cores < 1.0 and fidelity == fidelity  # circuits have one

    def refused(self, job: int, reason: str) -> None:
        """A job is not run."""
        self._state[job] = REFUSED
        self.reasons[reason] += 1

    def is_refused(self, job: int) -> bool:
        """True when a job is not run."""
        return self._state[job] == REFUSED

    def lost(self, attempts: int = 1) -> None:
        """Attempts of jobs did not count: the jobs begin again."""
        self.lost_attempts += attempts

    def moved(self, job: int) -> None:
        """A job was taken back from a QPU, to run on another one."""
        self._moves[job] += 1

    @property
    def submitted_at(self) -> NDArray[np.float64]:
        """`(n_jobs,)`: seconds on the virtual clock."""
        return np.frombuffer(self._submitted)

    @property
    def began_at(self) -> NDArray[np.float64]:
        """`(n_jobs,)`: NaN for jobs that have not begun."""
        return self._so_far(self._began)

    @property
    def ended_at(self) -> NDArray[np.float64]:
        """`(n_jobs,)`: NaN for jobs that have not ended."""
        return self._so_far(self._ended)

    @property
    def fidelity(self) -> NDArray[np.float64]:
        """`(n_jobs,)`: NaN where there is none."""
        return self._so_far(self._fidelity)

    @property
    def place(self) -> NDArray[np.int32]:
        """`(n_jobs,)`: an index of `places`; -1: none."""
        return self._so_far(self._place, np.int32)

    @property
    def kind(self) -> NDArray[np.int32]:
        """`(n_jobs,)`: an index of `kinds`."""
        return np.frombuffer(self._kind, np.int32)

    @property
    def state(self) -> NDArray[np.int8]:
        """`(n_jobs,)`: `DONE`, `REFUSED` or `UNFINISHED`."""
        return self._so_far(self._state, np.int8)

    @property
    def moves(self) -> NDArray[np.int32]:
        """`(n_jobs,)`: how often each was sent to another QPU while it waited."""
        return self._so_far(self._moves, np.int32)

    def waits(self, until: float) -> NDArray[np.float64]:
        """`(n_jobs,)`: from the submission to the beginning; of a job that has not begun, to ``until``; NaN where
        it was refused."""
        began = np.where(np.isnan(self.began_at), until, self.began_at)
        return np.where(self.state == REFUSED, np.nan, np.minimum(began, until) - self.submitted_at)

    def busy(self) -> NDArray[np.float64]:
        """`(n_places,)`: seconds that jobs ran on each, times their cores."""
        done = self.state == DONE
        work = (self.ended_at - self.began_at) * self._so_far(self._cores)
        seconds: NDArray[np.float64] = np.bincount(self.place[done], work[done], len(self.places)).astype(float)
        return seconds

    def capacity(self, begin: float, over: float) -> NDArray[np.float64]:
        """`(n_places,)`: seconds that each was there between these times, times its size."""
        since, until = np.maximum(np.frombuffer(self._since), begin), np.minimum(np.frombuffer(self._until), over)
        there: NDArray[np.float64] = np.array(self.sizes) * np.maximum(until - since, 0.0)
        return there

    def sha256(self) -> str:
        """A digest of all of it: the same for the same simulation on one machine and version."""
        digest = hashlib.sha256()
        for column in (
            self.submitted_at,
            self.began_at,
            self.ended_at,
            self.fidelity,
            self.place,
            self.state,
            self.moves,
        ):
            digest.update(column.data)
        return digest.hexdigest()

    @property
    def end(self) -> float:
        """When the last job ended; with jobs that have not, when the simulation did."""
        if (self.state == UNFINISHED).any():
            return self.stopped
        return float(np.nanmax(self.ended_at, initial=0.0))

    def remarks(self) -> list[str]:
        """Sentences about jobs that were not done."""
        found = []
        for reason, count in self.reasons.most_common(REASONS):
            found.append(f"{count:,} of {len(self._submitted):,} jobs refused: {reason}")
        if more := self.reasons.total() - sum(count for _, count in self.reasons.most_common(REASONS)):
            found.append(f"{more:,} of {len(self._submitted):,} jobs refused for other reasons")
        if unfinished := int((self.state == UNFINISHED).sum()):
            found.append(
                f"{unfinished:,} of {len(self._submitted):,} jobs not ended when the simulation stopped at "
                f"{self.stopped:,.6g} s; their waits are those up to then"
            )
        if self.is_cut:
            found.append(f"jobs that come later than {self.stopped:,.6g} s are left out")
        return found

    def summary(self) -> dict[str, Any]:
        """Figures by name: seconds, shares and counts."""
        ended, over = self.ended_at, self.end
        waits = self.waits(over)
        counted = waits[~np.isnan(waits)]
        busy = self.busy()
        begin = float(self.submitted_at[0]) if len(ended) else 0.0
        capacity = float(self.capacity(begin, over).sum())
        p50, p95, p99 = np.percentile(counted, [50, 95, 99]) if len(counted) else (np.nan,) * 3
        return {
            "jobs": len(ended),
            "done": int((self.state == DONE).sum()),
            "refused": int((self.state == REFUSED).sum()),
            "unfinished": int((self.state == UNFINISHED).sum()),
            "shared": self.shared,
            "wait_mean": float(counted.mean()) if len(counted) else np.nan,
            "wait_p50": float(p50),
            "wait_p95": float(p95),
            "wait_p99": float(p99),
            "fidelity_mean": float(np.nanmean(self.fidelity)) if (~np.isnan(self.fidelity)).any() else np.nan,
            "makespan": max(0.0, over - begin),  # where all jobs were refused, none ended
            "capacity_hours": capacity / 3600.0,
            "utilization": float(busy.sum() / capacity) if capacity > 0 else np.nan,
            "load_difference": float(busy.max() / busy.min() - 1) if len(busy) and busy.min() > 0 else np.inf,
            "moves_per_job": float(self.moves.mean()) if len(ended) else np.nan,
            "lost_attempts": self.lost_attempts,
        }
