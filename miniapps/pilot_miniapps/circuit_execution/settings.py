"""What can be chosen, and the measurements that follow from it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pilot_miniapps.circuit_execution.devices import Device
from pilot_miniapps.circuit_execution.workload import Workload

Width = Annotated[int, msgspec.Meta(ge=2, le=64)]
Number = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """Circuits that are measured together: of one width, on one device."""

    device: Device
    workload: Workload
    #: The numbers of the circuits.
    numbers: range
    #: Circuits of one task.
    batch: int
    repetition: int

    @property
    def key(self) -> str:
        """The first part of its tasks' keys."""
        return f"{self.device.name}/{self.workload.qubits}/{self.batch}/{self.repetition}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    devices: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            min_length=1,
            description="where circuits run: cpu and gpu (Qiskit Aer), or QPUs of the pilots such as fake:guadalupe, "
            "ibm:ibm_fez or aer:statevector?precision=single, options behind the ?",
        ),
    ] = ("cpu", "fake:guadalupe")
    qubits: Annotated[
        tuple[Width, ...], msgspec.Meta(min_length=1, description="widths of the circuits on simulators")
    ] = (2, 4, 6, 8, 10, 12, 14, 16)
    circuits: Annotated[Number, msgspec.Meta(description="circuits of each width on simulators")] = 64
    qpu_qubits: Annotated[
        tuple[Width, ...], msgspec.Meta(min_length=1, description="widths of the circuits on other QPUs")
    ] = (2, 4, 6)
    qpu_circuits: Annotated[
        Number, msgspec.Meta(description="circuits of each width on other QPUs; the paper ran 8 on IBM's")
    ] = 8
    depth: Annotated[int, msgspec.Meta(ge=1, le=1000, description="layers of random gates on 1 and 2 qubits")] = 6
    size: Annotated[int, msgspec.Meta(ge=1, le=1000, description="random Pauli strings in an observable")] = 1
    shots: Annotated[
        Number | None,
        msgspec.Meta(description="of each circuit on simulators; without it, values are exact"),
    ] = None
    qpu_shots: Annotated[Number, msgspec.Meta(description="of each circuit on other QPUs")] = 1024
    batches: Annotated[
        tuple[Number, ...],
        msgspec.Meta(
            min_length=1,
            description="circuits of one task on cpu and gpu, one measurement for each; 1: each circuit is a task; "
            "more need exact values",
        ),
    ] = (1, 32)
    repetitions: Annotated[
        int, msgspec.Meta(ge=1, le=100, description="of each measurement, with other circuits, for the spread")
    ] = 3
    checked: Annotated[
        int, msgspec.Meta(ge=1, description="circuits of each width that are compared with the oracle")
    ] = 16
    seed: Annotated[int, msgspec.Meta(ge=0, description="of circuits, observables and shots")] = 1

    def __post_init__(self) -> None:
        if self.shots is not None and max(self.batches) > 1:
            raise ValueError(
                f"batches: {list(self.batches)} is not valid with shots: circuits that share a task have exact values; "
                "give batches 1, or no shots"
            )
        for name in ("devices", "qubits", "qpu_qubits", "batches"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: {list(values)} is not valid: a value comes twice")

    def where(self) -> list[Device]:
        """The devices."""
        return [Device(name) for name in self.devices]

    def workload(self, width: int) -> Workload:
        """The circuits of this width."""
        return Workload(qubits=width, depth=self.depth, size=self.size, seed=self.seed)

    def widths(self, device: Device) -> tuple[int, ...]:
        """Of the circuits for a device."""
        return self.qubits if device.is_simulator else self.qpu_qubits

    def shots_on(self, device: Device) -> int | None:
        """Of each circuit for a device; None: exact."""
        return self.shots if device.is_simulator else self.qpu_shots

    def cells(self, device: Device) -> list[Cell]:
        """What is measured on a device, in this order; each repetition has circuits of its own."""
        number = self.circuits if device.is_simulator else self.qpu_circuits
        return [
            Cell(
                device=device,
                workload=self.workload(width),
                numbers=range(repetition * number, (repetition + 1) * number),
                batch=batch,
                repetition=repetition,
            )
            for width in self.widths(device)
            for repetition in range(self.repetitions)
            for batch in (self.batches if device.name in ("cpu", "gpu") else (1,))
        ]
