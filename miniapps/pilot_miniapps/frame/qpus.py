"""QPUs that settings name: whether the pilots have them, and whether circuits have room there. Nothing is started."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from pilot import DescriptionError, PilotDescription, PilotError

#: Snapshots are asked for their size here; other QPUs may be a vendor's, and are asked by their pilots.
SNAPSHOT = "fake:"


class Needed(NamedTuple):
    """A QPU that circuits must have room on."""

    #: That names the QPU.
    setting: str
    #: As in ``PilotDescription.qpus``.
    qpu: str
    #: Of the widest circuit.
    qubits: int
    #: What the circuits are of: "the study harm".
    of: str
    #: What to do, besides a wider device: "leave the study out".
    advice: str


def check_room(needed: Iterable[Needed]) -> None:
    """Raise DescriptionError where a circuit is wider than the snapshot that it is for, or there is no such one."""
    for one in needed:
        if not one.qpu.startswith(SNAPSHOT):
            continue
        try:
            there = _qubits(one.qpu)
        except PilotError as error:
            raise DescriptionError(f"{one.setting}: {error}", field=one.setting, given=one.qpu) from error
        if one.qubits > there:
            raise DescriptionError(
                f"{one.setting}: {one.qpu} has {there} qubit{'s' * (there != 1)}, and the circuits of {one.of} have "
                f"{one.qubits}: {one.advice}, or name a wider device",
                field=one.setting,
                given=one.qpu,
            )


def check_there(setting: str, qpus: Iterable[str], pilots: Sequence[PilotDescription]) -> None:
    """Raise DescriptionError where no pilot has one of these QPUs."""
    known = {qpu for pilot in pilots for qpu in pilot.qpus}
    for qpu in qpus:
        if qpu not in known:
            raise DescriptionError(
                f"{setting}: no pilot has {qpu!r} (they have {', '.join(sorted(known)) or 'none'}): name pilots with "
                f"qpus = [{qpu!r}], or give QPUs of theirs",
                field=setting,
                given=qpu,
            )


@cache
def _qubits(snapshot: str) -> int:
    from pilot.qos.asking import ask  # takes seconds: it loads the snapshots

    return ask(snapshot).qubits
