"""What can be chosen."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

#: Jobs of the load study, on average.
LEAST_JOBS, MOST_JOBS = 10, 1_000_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Of the studies of policies."""

    trace: Annotated[
        str | None,
        msgspec.Meta(description="also the queues of other people's jobs: CSV with qpu,time_utc,pending_jobs,active"),
    ] = None
    study: Annotated[
        tuple[Literal["load", "front", "trace", "joint"], ...],
        msgspec.Meta(
            min_length=1,
            description="load: QPUs of one's own; front: there, a batch of circuits at once; trace: waits in the "
            "queues of a trace; joint: and fidelity, there",
        ),
    ] = ("load", "front", "trace", "joint")
    snapshots: Annotated[
        tuple[str, ...], msgspec.Meta(min_length=2, description="devices of the load study: kolkata is fake:kolkata")
    ] = ("algiers", "auckland", "geneva", "hanoi", "kolkata", "montreal", "mumbai", "paris")
    widths: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=3, le=24)], ...],
        msgspec.Meta(min_length=1, description="qubits of the circuits of the load study"),
    ] = (4, 6, 8, 10, 12)
    seeds: Annotated[int, msgspec.Meta(ge=1, le=1000, description="runs of each policy with other arrivals")] = 5
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6, description="jobs an hour in the load study")] = 1500.0
    load: Annotated[
        float, msgspec.Meta(gt=0, le=3, description="work of the load study, as a part of what can be done")
    ] = 0.85
    hours: Annotated[float, msgspec.Meta(gt=0, le=24, description="in which jobs come in the load study")] = 1.0
    measure: Annotated[
        Literal["success", "fidelity"],
        msgspec.Meta(description="success: the probability that nothing goes wrong; fidelity: that of the outcomes"),
    ] = "success"
    batch: Annotated[int, msgspec.Meta(ge=2, le=10_000, description="circuits of the front study")] = 100
    interval: Annotated[float, msgspec.Meta(ge=1, description="seconds between two jobs in a trace")] = 30.0

    def __post_init__(self) -> None:
        for name in ("study", "snapshots", "widths"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: {list(getattr(self, name))} is not valid: a value comes twice")
        if {"load", "front"}.intersection(self.study) and not LEAST_JOBS <= self.rate * self.hours <= MOST_JOBS:
            raise ValueError(
                f"rate: {self.rate:g} is not valid with hours {self.hours:g}: that is {self.rate * self.hours:g} jobs; "
                f"expected {LEAST_JOBS} to {MOST_JOBS:,}"
            )
        if "front" in self.study and self.batch <= len(self.snapshots):
            raise ValueError(
                f"batch: {self.batch} is not valid with {len(self.snapshots)} snapshots: no circuit would wait; "
                "expected more circuits than devices"
            )
        if self.trace is None and not {"load", "front"}.intersection(self.study):
            raise ValueError(f"trace: None is not valid: {' and '.join(self.study)} needs a file, give --trace FILE")
