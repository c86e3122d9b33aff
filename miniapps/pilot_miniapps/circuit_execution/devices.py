"""Where circuits run: Aer on CPUs and GPUs, and QPUs by their names in the pilots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pilot import DescriptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilot import PilotDescription

#: Names of ours, and what the library calls it.
_OWN = {"cpu": "aer", "gpu": "aer:statevector?device=GPU"}
#: Kinds of QPUs that are simulators without noise: they have exact values.
_SIMULATORS = ("aer", "pennylane")


class Device(msgspec.Struct, frozen=True):
    """One device by the name that the user gave: ``cpu``, ``gpu``, or a QPU such as ``fake:sherbrooke``."""

    name: str

    @property
    def qpu(self) -> str:
        """As in ``TaskDescription.qpu``."""
        return _OWN.get(self.name, self.name)

    @property
    def is_gpu(self) -> bool:
        """Its tasks each take a GPU."""
        return "device=GPU" in self.qpu

    @property
    def is_simulator(self) -> bool:
        """It is one of the simulators without noise."""
        return self.qpu.partition(":")[0] in _SIMULATORS

    @property
    def is_snapshot(self) -> bool:
        """It is a snapshot of a device, whose noise is known."""
        return self.qpu.startswith("fake:")

    @property
    def label(self) -> str:
        """For plots."""
        return {"cpu": "Aer (CPU)", "gpu": "Aer (GPU)"}.get(self.name, self.name)

    @property
    def key(self) -> str:
        """For keys of figures: letters, digits and underscores."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name)

    def needs(self) -> dict[str, Any]:
        """Fields of `TaskDescription`: what one of its circuits takes."""
        return {"num_gpus": 1.0} if self.is_gpu else {}


def qpus_of(devices: Sequence[Device]) -> list[str]:
    """What a pilot's ``qpus`` must have for them."""
    return list(dict.fromkeys(device.qpu for device in devices if device.qpu != "aer"))


def check_pilots(devices: Sequence[Device], pilots: Sequence[PilotDescription]) -> None:
    """Refuse devices that no pilot has.

    Raises:
        DescriptionError: it names the device, what the pilots have, and what to do.
    """
    known = {qpu for pilot in pilots for qpu in pilot.qpus}
    gpus = sum(pilot.gpus_per_node for pilot in pilots)
    for device in devices:
        if device.is_gpu and not gpus:
            raise DescriptionError(
                f"devices: {device.name} needs a GPU, and the pilots have none: name pilots with gpus_per_node and "
                f"qpus = [{device.qpu!r}] on a host with a GPU and qiskit-aer-gpu, or leave {device.name} out",
                field="devices",
                given=device.name,
            )
        if device.qpu != "aer" and device.qpu not in known:
            raise DescriptionError(
                f"devices: no pilot has the QPU {device.qpu!r} (they have {', '.join(sorted(known)) or 'none'}): "
                f"name pilots with qpus = [{device.qpu!r}]",
                field="devices",
                given=device.name,
            )


def check_widths(device: Device, widths: Sequence[int], qpus: Mapping[str, Any]) -> None:
    """Refuse circuits that are wider than a device, and a device that could not be opened.

    Args:
        device: where they run.
        widths: qubits of the circuits.
        qpus: what the QPUs of the pilots reported of themselves, by name.

    Raises:
        DescriptionError: it names the width, and what to do.
    """
    info = qpus.get(device.qpu)
    if info is None:
        return
    if info.problem:
        raise DescriptionError(f"devices: {device.name}: {info.problem}", field="devices", given=device.name)
    if widest := max((width for width in widths if width > info.qubits), default=0):
        field = "qubits" if device.is_simulator else "qpu_qubits"
        raise DescriptionError(
            f"{field}: {widest} is too wide for {device.name}, which has {info.qubits} qubits: leave out widths above "
            "that, or name a wider device",
            field=field,
            given=widest,
        )
