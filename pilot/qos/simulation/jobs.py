"""What arrives: `Kind`, tasks that are alike, and `Job`, one of them at a time. Arrivals at random, by seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pilot.resources import ANY_QPU, CircuitFacts, QPUEstimate, Resources, Terms
from pilot.scheduling.records import FunctionRecord

#: Arrivals are drawn so many at a time.
BLOCK = 4096


class Kind(msgspec.Struct, kw_only=True, eq=False):
    """Tasks that are alike: what they need, what is expected of them, and what is true."""

    name: str
    terms: Terms
    #: What the policy knows, one for each QPU.
    estimates: tuple[QPUEstimate, ...] = ()
    #: By the name of the QPU: seconds that it really runs there, and its real fidelity.
    seconds: dict[str, float] = {}
    fidelity: dict[str, float] = {}
    #: Of a circuit; 0: not known.
    qubits: int = 0
    function: FunctionRecord = msgspec.field(default_factory=lambda: FunctionRecord(1, "simulated", "simulated"))


class Job(NamedTuple):
    """One task that is submitted."""

    #: Seconds on the virtual clock.
    time: float
    kind: Kind
    #: Seconds that it runs; None: by its kind, where it runs.
    seconds: float | None = None
    #: Numbers of the earlier jobs, from 0, that must be done before it begins.
    after: tuple[int, ...] = ()


def circuits(
    name: str, qpus: Sequence[str], fidelity: NDArray[np.float64], seconds: NDArray[np.float64], **terms: object
) -> Kind:
    """Circuits of which the truth is what is expected.

    Args:
        name: of the kind.
        qpus: those that may run them.
        fidelity: `(n_qpus,)`.
        seconds: `(n_qpus,)`.
        terms: further fields of `Terms`.
    """
    rows = list(zip(qpus, map(float, fidelity), map(float, seconds), strict=True))
    return Kind(
        name=name,
        terms=Terms(resources=Resources(num_cpus=0.0, qpu=ANY_QPU), facts=CircuitFacts(0), **terms),  # type: ignore[arg-type]
        estimates=tuple(QPUEstimate(qpu, value, took) for qpu, value, took in rows),
        seconds={qpu: took for qpu, _, took in rows},
        fidelity={qpu: value for qpu, value, _ in rows},
    )


def poisson(kinds: Sequence[Kind], rate: float, jobs: int, seed: int) -> Iterator[Job]:
    """Jobs at independent times.

    Args:
        kinds: each as likely as the others.
        rate: jobs a second, on average.
        jobs: how many.
        seed: of times and kinds.
    """
    random = np.random.default_rng([seed, 1])
    time = 0.0
    for first in range(0, jobs, BLOCK):
        count = min(BLOCK, jobs - first)
        gaps = random.exponential(1.0 / rate, count).tolist()
        for gap, number in zip(gaps, random.integers(len(kinds), size=count).tolist(), strict=True):
            time += gap
            yield Job(time, kinds[number])


def bursty(kinds: Sequence[Kind], rate: float, jobs: int, seed: int, burst: float = 20.0) -> Iterator[Job]:
    """Jobs in bursts, as scripts submit them: bursts at independent times, each of jobs of one kind at one time.

    Args:
        kinds, rate, jobs, seed: as of `poisson`.
        burst: jobs in a burst, on average: their number is geometrically distributed.
    """
    random = np.random.default_rng([seed, 2])
    time, left = 0.0, jobs
    while left:
        time += float(random.exponential(burst / rate))
        kind = kinds[int(random.integers(len(kinds)))]
        for _ in range(min(left, int(random.geometric(1.0 / burst)))):
            yield Job(time, kind)
            left -= 1


def every(
    kinds: Sequence[Kind], seconds: float, until: float, seed: int, first: float = 0.0, burst: int = 1
) -> Iterator[Job]:
    """Jobs every so many seconds, each of a kind at random.

    Args:
        kinds: each as likely as the others.
        seconds: between two jobs, or bursts.
        until: no job at or after this time.
        seed: of the kinds.
        first: when the first job comes.
        burst: jobs that come at a time.
    """
    random = np.random.default_rng([seed, 3])
    for number in range(int(np.ceil((until - first) / seconds))):
        for _ in range(burst):
            yield Job(first + number * seconds, kinds[int(random.integers(len(kinds)))])


def synthetic(qpus: Sequence[str], kinds: int, seed: int, shots: int = 4000) -> list[Kind]:
    """Kinds of circuits on QPUs that do not exist, of different quality and speed.

    The error of a circuit on a QPU is its size times the error of the QPU; both spread over a factor of about 5. It
    runs for 2 s and its shots, each of 100 to 300 µs. It has 7 qubits times its size, 2 to 14.

    Args:
        qpus: their names.
        kinds: how many.
        seed: of all that is random.
        shots: of each circuit.
    """
    random = np.random.default_rng([seed, 4])
    quality = 0.08 * np.exp(random.normal(0.0, 0.4, len(qpus)))
    delay = random.uniform(100e-6, 300e-6, len(qpus))
    made = []
    for number in range(kinds):
        size = np.exp(random.normal(0.0, 0.4))
        errors = size * quality * np.exp(random.normal(0.0, 0.15, len(qpus)))
        seconds = 2.0 + shots * (delay + 5e-6 * size)
        kind = circuits(f"kind-{number}", qpus, np.exp(-errors), seconds)
        kind.qubits = int(np.clip(round(7 * size), 2, 14))
        made.append(kind)
    return made


def sharing(kinds: Sequence[Kind]) -> list[Kind]:
    """The same kinds of circuits, which may share a QPU."""
    function = FunctionRecord(1, "shared", "shared")
    return [
        msgspec.structs.replace(kind, terms=msgspec.structs.replace(kind.terms, shares_qpu=True), function=function)
        for kind in kinds
    ]
