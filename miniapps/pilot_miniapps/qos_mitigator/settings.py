"""What can be chosen."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Study = Literal["static", "choice", "fidelity", "harm", "large", "freezing", "cost"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    study: Annotated[
        tuple[Study, ...],
        msgspec.Meta(
            min_length=1,
            description="static: gates and depth of the largest piece; choice: is the best variant chosen; fidelity: "
            "mitigated beside unmitigated at equal shots; harm: values of observables; large: 24 qubits; freezing: "
            "frozen QAOA; cost: seconds and circuits",
        ),
    ] = ("static", "choice", "freezing", "cost")
    snapshots: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, description="devices, such as kolkata")] = (
        "kolkata",
        "montreal",
    )
    choice_snapshots: Annotated[
        tuple[str, ...], msgspec.Meta(min_length=1, description="devices of choice and harm, one after another")
    ] = ("kolkata", "montreal", "mumbai", "hanoi", "auckland")
    qubits: Annotated[int, msgspec.Meta(ge=4, le=12, description="of the circuits of fidelity and cost")] = 12
    widths: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, description="of the circuits of static")] = (12, 24)
    small_qubits: Annotated[int, msgspec.Meta(ge=4, le=9, description="of the circuits of choice and freezing")] = 8
    large_qubits: Annotated[int, msgspec.Meta(ge=6, le=24, description="of the circuits of large")] = 24
    budget: Annotated[int, msgspec.Meta(ge=0, le=4, description="of static: frozen qubits and cuts")] = 3
    max_overhead: Annotated[float, msgspec.Meta(ge=1, description="of static; the paper has no such limit")] = 1e9
    graphs: Annotated[int, msgspec.Meta(ge=1, le=50, description="of each family with random graphs")] = 5
    circuits: Annotated[int, msgspec.Meta(ge=2, le=1000, description="of choice")] = 30
    harm_circuits: Annotated[int, msgspec.Meta(ge=1, le=1000, description="of harm")] = 40
    harm_shots: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, description="of harm")] = (
        256,
        1024,
        4096,
        16384,
    )
    frozen_graphs: Annotated[int, msgspec.Meta(ge=1, le=500, description="of freezing, half of each kind")] = 20
    shots: Annotated[int, msgspec.Meta(ge=256, le=10**7, description="of all circuits together")] = 12_288
    seeds: Annotated[int, msgspec.Meta(ge=2, le=100, description="numbers of samplings")] = 5
    draws: Annotated[int, msgspec.Meta(ge=2, le=1000, description="samplings of each variant in choice and harm")] = 10
    compilations: Annotated[int, msgspec.Meta(ge=1, le=100, description="of static; the best of them is taken")] = 5
    errors: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            description="of choice, fidelity and harm; 0: devices have the errors that they report; else others, drawn "
            "by this seed",
        ),
    ] = 0

    def __post_init__(self) -> None:
        for name in ("snapshots", "choice_snapshots"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: {list(getattr(self, name))} is not valid: a value comes twice")
        for width in self.widths:
            if not 4 <= width <= 24:
                raise ValueError(f"widths: {width} is not valid; expected 4 to 24")
