"""The trace studies: own jobs in the queues of other people's. Workers run `waits` and `joint`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pilot.qos.simulation.jobs import Kind, circuits
from pilot.qos.simulation.log import DONE, Log
from pilot.qos.simulation.scenarios import TRACE_REST, check_length, end_of, named, on_trace
from pilot.qos.simulation.traces import QueueTrace, Waits, read
from pilot_miniapps.frame.qpus import Needed, check_room
from pilot_miniapps.qos_scheduler.estimates import Estimates

#: Shots of each circuit, and seconds that a job takes besides.
SHOTS, SETUP = 4000, 1.0
#: Qubits of the circuits.
WIDTHS = (3, 4, 5, 6, 7)
#: QPUs without a snapshot that can be compiled for, and whose snapshot they take.
STANDS_FOR = {"cairo": "hanoi", "nazca": "cusco"}
#: QPUs of the trace that bars are for: with fewer, other ratios can be reached.
BAR_QPUS = 12
#: A floor of the fidelity, as a part of the best one.
FLOOR = 0.9
#: Length of the blocks that are drawn again for intervals.
BLOCK_SECONDS = 6 * 3600.0
#: From fewer blocks no interval follows.
LEAST_BLOCKS = 8


class Waited(msgspec.Struct, frozen=True):
    """The jobs of one policy, in order.

    Attributes:
        wait: `(n_jobs,)`: seconds; of a job that has not started, until the end.
        fidelity: `(n_jobs,)`; NaN where it has not run.
        moves: for each job, on average.
        unstarted: jobs that had not started at the end.
        lost: jobs that have begun and did not end.
        violations: jobs that ran with a fidelity below their floor.
    """

    wait: list[float]
    fidelity: list[float | None]
    moves: float
    unstarted: int
    lost: int
    violations: int


def snapshot_of(qpu: str) -> str:
    """The snapshot of a QPU of the trace: "ibmq_kolkata" is "kolkata"."""
    short = qpu.rpartition("_")[2]
    return STANDS_FOR.get(short, short)


def checked(path: str, qubits: int, of: str, advice: str) -> dict[str, QueueTrace]:
    """A trace; its QPUs have snapshots with room for circuits of so many qubits.

    Args:
        path: of the file.
        qubits: of the widest circuit; 0: no snapshots are needed.
        of, advice: as of `Needed`.

    Raises:
        DescriptionError: it cannot be read, is too short, or has a QPU without a snapshot, or with a smaller one.
    """
    recorded = read(path)
    check_length(recorded)
    if qubits:
        check_room(Needed("trace", f"fake:{snapshot_of(qpu)}", qubits, of, advice) for qpu in recorded)
    return recorded


def kinds(estimates: Estimates, floor: float = 0.0) -> list[Kind]:
    """The circuits; with a floor of this part of the best fidelity of each."""
    fidelity = estimates.array("fidelity")
    seconds = SETUP + SHOTS * estimates.array("shot_seconds")
    qpus = [f"fake:{qpu}" for qpu in estimates.qpus]
    return [
        circuits(name, qpus, values, times, **({"min_fidelity": floor * float(values.max())} if floor else {}))
        for name, values, times in zip(estimates.circuits, fidelity, seconds, strict=True)
    ]


def play(
    path: str,
    interval: float,
    policy: str,
    settings: Mapping[str, Any],
    estimates: Estimates | None,
    floor: float = 0.0,
) -> Waited:
    """Run one policy on a trace; without ``estimates`` all QPUs are equally good."""
    recorded = read(path)
    made = kinds(estimates, floor) if estimates is not None else []
    names = {qpu: f"fake:{snapshot_of(qpu)}" for qpu in recorded} if estimates is not None else None
    log = on_trace(recorded, named(policy, **settings), interval, made, names)
    return _waited(log, end_of(recorded), made, floor)


def _waited(log: Log, end: float, made: list[Kind], floor: float) -> Waited:
    began = ~np.isnan(log.began_at)
    fidelity = log.fidelity
    violations = 0
    if floor:
        floors = {kind.name: kind.terms.min_fidelity for kind in made}
        for value, number in zip(fidelity[began], log.kind[began], strict=True):
            violations += int(value < floors[log.kinds[number]])
    return Waited(
        log.waits(end).tolist(),
        [float(value) if known else None for value, known in zip(fidelity, began, strict=True)],
        float(log.moves.mean()),
        int((~began).sum()),
        int((began & (log.state != DONE)).sum()),
        violations,
    )


def foresight(path: str, interval: float) -> list[float]:
    """The waits of jobs that know all queues in advance, and take the QPU where they start first."""
    recorded: dict[str, QueueTrace] = read(path)
    end = end_of(recorded)
    queues = [Waits(trace) for trace in recorded.values()]
    times = np.arange(0.0, end - TRACE_REST, interval).tolist()
    return [min(min(queue.start(time) for queue in queues), end) - time for time in times]


def ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64], percentile: float | None = None) -> float:
    """Of the means of two policies' waits, or of a percentile of each."""
    if percentile is None:
        return float(np.nanmean(ours) / np.nanmean(theirs))
    return float(np.nanpercentile(ours, percentile) / np.nanpercentile(theirs, percentile))


def interval(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    seconds: float,
    percentile: float | None = None,
    draws: int = 1000,
) -> tuple[float, float] | None:
    """The 95 % interval of `ratio`: blocks of six hours are drawn again, the same of both. ``seconds``: between
    jobs. None: the jobs come in too few blocks for an interval."""
    count = int(len(ours) * seconds / BLOCK_SECONDS)
    if count < LEAST_BLOCKS:
        return None
    blocks = np.array_split(np.arange(len(ours)), count)
    random = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        chosen = np.concatenate([blocks[at] for at in random.integers(len(blocks), size=len(blocks))])
        values.append(ratio(ours[chosen], theirs[chosen], percentile))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
