"""What can be chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from pilot_miniapps.frame.qpus import Needed

Study = Literal["exact", "esp", "cost", "sizes", "ladder", "drift", "runtime"]

#: Of the study runtime.
SIMULATOR = "aer"
#: Qubits of the circuits of runtime, for the simulator and for devices.
SIMULATED, ON_DEVICES = (14, 20), (3, 5)
#: Qubits of the circuits whose estimates are timed.
COST_WIDTHS = (8, 20)
#: Devices of 27 qubits.
SNAPSHOTS = (
    *("algiers", "auckland", "geneva", "hanoi", "kolkata", "montreal"),
    *("mumbai", "paris", "peekskill", "sydney", "toronto"),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    study: Annotated[
        tuple[Study, ...],
        msgspec.Meta(
            min_length=1,
            description="exact: computed estimates; esp: those by the formula; cost: milliseconds of an estimate; "
            "sizes: fidelity by the number of qubits, and by the device; ladder: wide circuits; drift: a device that "
            "changes from day to day; runtime: seconds that tasks take",
        ),
    ] = ("exact", "esp", "cost", "sizes", "ladder")
    snapshots: Annotated[
        tuple[str, ...], msgspec.Meta(min_length=3, description="devices of exact, esp and cost, such as kolkata")
    ] = SNAPSHOTS
    qubits: Annotated[int, msgspec.Meta(ge=3, le=9, description="of the circuits of exact and esp")] = 8
    jitters: Annotated[
        int, msgspec.Meta(ge=0, le=100, description="how often each device gets other errors than those it reports")
    ] = 10
    widths: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=3, le=14)], ...],
        msgspec.Meta(min_length=1, description="qubits of the circuits of sizes"),
    ] = (4, 8, 12)
    ladder_snapshots: Annotated[tuple[str, ...], msgspec.Meta(min_length=2, description="devices of ladder")] = (
        "kolkata",
        "paris",
        "toronto",
    )
    ladder_qubits: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, description="widths of ladder")] = (10, 12, 14)
    trajectories: Annotated[
        int, msgspec.Meta(ge=10, le=100_000, description="of each wide circuit of sizes and ladder")
    ] = 40
    calibrations: Annotated[
        str, msgspec.Meta(description="drift: a CSV file with the calibrations of a device day by day")
    ] = ""
    tasks: Annotated[int, msgspec.Meta(ge=20, le=100_000, description="of runtime, on each QPU")] = 500
    qpus: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, description="of runtime, beside the simulator")] = (
        "fake:manila?clock=0.05&setup=3",
        "fake:quito?clock=0.05&setup=1.5&rep_delay=4e-4",
    )
    seed: Annotated[int, msgspec.Meta(ge=0, description="of circuits and errors")] = 0

    def __post_init__(self) -> None:
        if "drift" in self.study and not self.calibrations:
            raise ValueError("calibrations: '' is not valid: drift needs a file, give --calibrations FILE")
        for name in ("study", "snapshots", "ladder_snapshots", "widths", "ladder_qubits", "qpus"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: {list(getattr(self, name))} is not valid: a value comes twice")
        for qubits in self.ladder_qubits:
            if not 3 <= qubits <= 14:
                raise ValueError(f"ladder_qubits: {qubits} is not valid; expected 3 to 14")

    def needed(self) -> Iterator[Needed]:
        """The devices of the studies, and how wide their circuits are."""
        small = ("snapshots", self.snapshots, self.qubits, "make qubits smaller")
        for study, (setting, devices, qubits, advice) in {
            "exact": small,
            "esp": small,
            "sizes": ("snapshots", self.snapshots, max(self.widths), "make widths smaller"),
            "cost": ("snapshots", self.snapshots, max(COST_WIDTHS), "leave the study out"),
            "ladder": (
                "ladder_snapshots",
                self.ladder_snapshots,
                max(self.ladder_qubits),
                "make ladder_qubits smaller",
            ),
        }.items():
            if study in self.study:
                common = qubits, f"the study {study}", advice
                yield from (Needed(setting, f"fake:{one}", *common) for one in devices)
        if "runtime" in self.study:
            last = max(ON_DEVICES), "the study runtime", "leave the study out"
            yield from (Needed("qpus", one, *last) for one in self.qpus)
