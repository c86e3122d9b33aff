"""What can be chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from pilot_miniapps.frame.qpus import Needed

Study = Literal["static", "choice", "fidelity", "harm", "large", "freezing", "cost"]

#: Qubits of the circuits of harm, one after another.
HARM_QUBITS = (4, 5, 6)


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
    harm_shots: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=10**7)], ...], msgspec.Meta(min_length=1, description="of harm")
    ] = (
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
        for name in ("study", "snapshots", "choice_snapshots", "widths", "harm_shots"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: {list(getattr(self, name))} is not valid: a value comes twice")
        for width in self.widths:
            if not 4 <= width <= 24:
                raise ValueError(f"widths: {width} is not valid; expected 4 to 24")

    def needed(self) -> Iterator[Needed]:
        """The devices of the studies, and how wide their circuits are."""
        first = self.snapshots[0]
        for study, devices, setting in (
            ("static", [first], "widths"),
            ("large", [first], "large_qubits"),
            ("freezing", [first], "small_qubits"),
            ("cost", [first], "qubits"),
            ("fidelity", self.snapshots, "qubits"),
        ):
            if study in self.study:
                qubits = max(self.widths) if setting == "widths" else getattr(self, setting)
                of, advice = f"the study {study}", f"make {setting} smaller"
                yield from (Needed("snapshots", f"fake:{one}", qubits, of, advice) for one in devices)
        several = [f"fake:{one}" for one in self.choice_snapshots]
        if "choice" in self.study:
            common = self.small_qubits, "the study choice", "make small_qubits smaller"
            yield from (Needed("choice_snapshots", one, *common) for one in several[: self.circuits])
        if "harm" in self.study:
            for number in range(self.harm_circuits):
                one, qubits = several[number % len(several)], HARM_QUBITS[number % len(HARM_QUBITS)]
                yield Needed("choice_snapshots", one, qubits, "the study harm", "leave the study out")
