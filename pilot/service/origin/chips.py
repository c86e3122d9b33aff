"""Which QPU a ``ChipID`` is, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pilot.resources import ANY_QPU, QPUInfo
from pilot.service.origin.checking import Chip
from pilot.service.origin.codes import ErrorCode, OriginError, refused

#: Names that stand for any chip where the site has no QPU of such a name.
ANY_CHIP = ("any_quantum_chip", "72", "102", "")


class Chips:
    """The QPUs that the pilots have now, by ``ChipID``."""

    def __init__(self, known: Mapping[str, QPUInfo], named: Mapping[str, str]) -> None:
        """Make it.

        Args:
            known: what the QPUs report, by name.
            named: the site's QPU for a ``ChipID``.
        """
        self._known, self._named = known, named

    def find(self, chip: str, *, is_placed: bool = False) -> tuple[str, QPUInfo | None]:
        """The QPU that is asked for, "*" for any; and what it reports, None: nothing yet. Of any, the widest.

        Args:
            chip: ``ChipID``.
            is_placed: the program has to run on the qubits of that QPU, so any one will not do.

        Raises:
            OriginError: there is no such chip, or it is not there now.
        """
        name = self._named.get(chip, chip)
        if name in self._known:
            return name, self._known[name]
        if chip in self._named:
            message = f"ChipID: {chip!r} is {name!r}, which is not there now; there are {self._listed()}"
            raise OriginError(message, code=ErrorCode.CHIP_OFFLINE)
        if chip not in ANY_CHIP:
            raise refused(ErrorCode.PARAMETER, "ChipID", chip, f"one of {self._listed()}")
        if not self._known:
            return ANY_QPU, None
        widest = max(self._known.values(), key=lambda one: one.qubits)
        return (widest.name if is_placed else ANY_QPU), widest

    def ids(self) -> list[str]:
        """Every ``ChipID`` that a task may have now, without those that stand for any."""
        return [*(chip for chip, name in self._named.items() if name in self._known), *self._known]

    def configurations(self, wanted: object) -> list[dict[str, str]]:
        """The configurations of chips: ``file``, a name, and ``data``, JSON as a text.

        Args:
            wanted: a ``ChipID``, or a list of them; -1: all.

        Raises:
            OriginError: it is none of these, or there is no such chip.
        """
        ids = wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
        if not ids or not all(isinstance(one, str | int) and not isinstance(one, bool) for one in ids):
            raise refused(ErrorCode.JSON_FIELD, "ChipID", wanted, "a chip, a list of chips, or -1 for all")
        chosen = self.ids() if "-1" in map(str, ids) else [str(one) for one in ids]
        found = []
        for chip in dict.fromkeys(chosen):
            _, info = self.find(chip, is_placed=True)
            if info is None:
                raise OriginError(f"ChipID: {chip!r} has not reported yet", code=ErrorCode.CHIP_OFFLINE)
            data = json.dumps(_configuration(chip, info), separators=(",", ":"))
            found.append({"file": f"{chip}.json", "data": data})
        return found

    def information(self, chip: object) -> dict[str, Any]:
        """What the vendor's cloud says of a chip.

        Raises:
            OriginError: there is no such chip, or it has not reported yet.
        """
        if isinstance(chip, bool) or not isinstance(chip, str | int):
            raise refused(ErrorCode.JSON_FIELD, "ChipID", chip, 'a chip, such as "72"')
        _, info = self.find(str(chip), is_placed=True)
        if info is None:
            raise OriginError(f"ChipID: {chip!r} has not reported yet", code=ErrorCode.CHIP_OFFLINE)
        return _configuration(str(chip), info)

    def statuses(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """What these QPUs say of themselves, for replies; without those that are not there."""
        return [
            {
                "name": info.name,
                "acceptsJobs": info.accepts_jobs,
                "pendingJobs": info.pending_jobs,
                "expectedWait": info.expected_wait,
                "calibrated": info.calibrated,
                "problem": info.problem,
            }
            for info in (self._known[name] for name in names if name in self._known)
        ]

    def _listed(self) -> str:
        return ", ".join([*self.ids(), "any_quantum_chip"])


def shape_of(info: QPUInfo | None) -> Chip | None:
    """What programs are checked against."""
    return None if info is None else Chip(info.qubits, info.coupling)


def _configuration(chip: str, info: QPUInfo) -> dict[str, Any]:
    """The calibration of a QPU: times in seconds, frequencies in Hz, errors as probabilities."""
    calibration = info.calibration
    qubits = () if calibration is None else calibration.qubits
    gates = () if calibration is None else calibration.gates
    return {
        "ChipID": chip,
        "QPU": info.name,
        "QubitCount": info.qubits,
        "AvailableQubits": list(range(info.qubits)),
        "BasicQGate": list(info.gates),
        "adjMatrix": None if info.coupling is None else _neighbours(info),
        "calibrated": info.calibrated,
        "QubitParams": [{"qubit": number, **msgspec.structs.asdict(one)} for number, one in enumerate(qubits)],
        "GateParams": [
            {"gate": one.name, "qubits": list(one.qubits), "error": one.error, "duration": one.duration}
            for one in gates
        ],
    }


def _neighbours(info: QPUInfo) -> dict[str, list[int]]:
    assert info.coupling is not None
    found: dict[str, set[int]] = {str(one): set() for one in range(info.qubits)}
    for first, second in info.coupling:
        found[str(first)].add(second)
        found[str(second)].add(first)
    return {qubit: sorted(others) for qubit, others in found.items()}
