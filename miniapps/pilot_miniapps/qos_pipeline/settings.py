"""What can be chosen."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Of the whole way of a circuit in the queues of QPUs."""

    trace: Annotated[
        str | None,
        msgspec.Meta(
            description="queues of QPUs: CSV with qpu,time_utc,pending_jobs,active (default: 30 hours of three QPUs)"
        ),
    ] = None
    interval: Annotated[float, msgspec.Meta(ge=1, description="seconds between two bursts of circuits")] = 300.0
    burst: Annotated[int, msgspec.Meta(ge=1, le=100, description="circuits that are submitted at a time")] = 4
    widths: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=3, le=12)], ...],
        msgspec.Meta(min_length=1, description="qubits of the circuits"),
    ] = (3, 5, 7)
    weights: Annotated[
        tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...],
        msgspec.Meta(min_length=1, description="of the fidelity in the formula policy"),
    ] = (0.99, 0.98, 0.97, 0.95)
    moving: Annotated[
        bool, msgspec.Meta(description="also a policy that moves circuits while they wait, which takes long")
    ] = False
    max_loss: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="what a circuit loses of its success at most in a bundle")
    ] = 0.05
    buffer: Annotated[int, msgspec.Meta(ge=0, le=2, description="free qubits between two circuits")] = 1
    seed: Annotated[int, msgspec.Meta(ge=0, description="of the kinds of the circuits")] = 0
