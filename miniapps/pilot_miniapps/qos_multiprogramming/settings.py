"""What can be chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from pilot_miniapps.frame.qpus import Needed

#: Qubits of each of the two circuits that the oracle looks at, at most.
PAIR_CHECKED = 4
Widths = tuple[Annotated[int, msgspec.Meta(ge=3, le=12)], ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Of the studies of circuits that share a QPU."""

    study: Annotated[
        tuple[Literal["fidelity", "queues", "buffer"], ...],
        msgspec.Meta(
            min_length=1,
            description="fidelity: what pairs lose; queues: how much of the QPU is used; buffer: declared crosstalk",
        ),
    ] = ("fidelity", "queues", "buffer")
    snapshot: Annotated[str, msgspec.Meta(description="the device: kolkata is fake:kolkata")] = "kolkata"
    widths: Annotated[Widths, msgspec.Meta(min_length=1, description="qubits of each circuit of a pair")] = (4, 8, 12)
    tries: Annotated[int, msgspec.Meta(ge=1, le=100, description="seeds with which circuits are compiled")] = 20
    most_exact: Annotated[
        int, msgspec.Meta(ge=1, le=12, description="active qubits of circuits whose noisy outcomes are computed")
    ] = 12
    buffer: Annotated[int, msgspec.Meta(ge=0, le=2, description="free qubits between two circuits, if they fit")] = 1
    max_loss: Annotated[
        tuple[Annotated[float, msgspec.Meta(gt=0, le=1)], ...],
        msgspec.Meta(min_length=1, description="what a circuit of a queue loses of its success at most"),
    ] = (0.15,)
    queues: Annotated[int, msgspec.Meta(ge=1, le=10_000, description="random queues")] = 100
    length: Annotated[int, msgspec.Meta(ge=2, le=1000, description="circuits of a queue")] = 24
    queue_widths: Annotated[Widths, msgspec.Meta(min_length=1, description="qubits of the circuits of the queues")] = (
        4,
        6,
        8,
        10,
    )
    crosstalk: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="declared error of two gates at neighbouring places")
    ] = 0.03
    seed: Annotated[int, msgspec.Meta(ge=0, description="of the queues")] = 0

    def __post_init__(self) -> None:
        for name in ("study", "widths", "max_loss", "queue_widths"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: {list(getattr(self, name))} is not valid: a value comes twice")

    def with_buffer(self) -> list[int]:
        """Widths of the pairs of the study buffer, which need a free qubit between them."""
        return [width for width in self.widths if width < 12] or [min(self.widths)]

    def needed(self) -> Iterator[Needed]:
        """How wide the circuits are that the device must have room for."""
        device = f"fake:{self.snapshot}"
        pairs = "make widths smaller"
        if {"fidelity", "buffer"}.intersection(self.study):
            yield Needed(
                "snapshot", device, 2 * max(self.widths), "the studies fidelity and buffer, two at a time,", pairs
            )
        if "queues" in self.study:
            yield Needed("snapshot", device, max(self.queue_widths), "the study queues", "make queue_widths smaller")
        yield Needed("snapshot", device, 2 * min(*self.widths, PAIR_CHECKED), "the oracle, two at a time,", pairs)
