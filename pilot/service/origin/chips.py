"""Which QPU a ``ChipID`` is, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from statistics import median
from typing import Any

from pilot import registry
from pilot.errors import PilotError
from pilot.resources import ANY_QPU, Calibration, GateFacts, QPUInfo, QubitFacts
from pilot.service.origin.checking import Chip
from pilot.service.origin.codes import ErrorCode, OriginError, refused

#: Names that stand for any chip where the site has no QPU of such a name.
ANY_CHIP = ("any_quantum_chip", "72", "102", "")
#: Instructions of a calibration that are no gates.
_NO_GATES = frozenset({"measure", "reset", "delay", "id"})


class Chips:
    """The QPUs that the pilots have now, by ``ChipID``."""

    def __init__(self, known: Mapping[str, QPUInfo], declared: Iterable[str], named: Mapping[str, str]) -> None:
        """Make it.

        Args:
            known: what the QPUs report, by name.
            declared: names of QPUs that pilots have or will have.
            named: the site's QPU for a ``ChipID``.
        """
        self._known, self._named = known, named
        self._all = dict.fromkeys([*known, *(name for name in declared if _is_device(name))])

    def find(self, chip: str, *, is_placed: bool = False) -> tuple[str, QPUInfo | None]:
        """The QPU that is asked for, "*" for any; and what it reports, None: nothing yet. Of any, the widest.

        Args:
            chip: ``ChipID``.
            is_placed: the program has to run on the qubits of that QPU, so any one will not do.

        Raises:
            OriginError: there is no such chip, or it is not there now.
        """
        name = self._named.get(chip, chip)
        if name in self._all:
            return name, self._known.get(name)
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
        return [*(chip for chip, name in self._named.items() if name in self._all), *self._all]

    def is_online(self, chip: str) -> bool:
        """True when it has reported, and takes jobs or does not say."""
        info = self._known.get(self._named.get(chip, chip))
        return info is not None and info.accepts_jobs is not False and not info.problem

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


@cache
def _is_device(name: str) -> bool:
    """False for a simulator, which is no chip. One that cannot be made here may still be one where its pilot is."""
    try:
        return registry.is_device(name)
    except PilotError:
        return True


def shape_of(info: QPUInfo | None) -> Chip | None:
    """What programs are checked against."""
    return None if info is None else Chip(info.qubits, info.coupling)


def _configuration(chip: str, info: QPUInfo) -> dict[str, Any]:
    """The calibration of a QPU in the vendor's members: times in microseconds, frequencies in MHz, durations of gates
    in nanoseconds. 0: not known."""
    calibration = info.calibration or Calibration()
    single = {one.qubits[0]: one for one in _typical(calibration, 1)}
    measured = {one.qubits[0]: one.error for one in calibration.gates if one.name == "measure"}
    pairs: dict[tuple[int, ...], float] = {}
    for one in _typical(calibration, 2):
        pairs.setdefault(one.qubits, 1 - (one.error or 0.0))
    return {
        "ChipID": chip,
        "QPU": info.name,
        "calibrated": info.calibrated,
        "QubitCount": info.qubits,
        "AvailableQubits": list(range(info.qubits)),
        "HighFrequencyQubit": [],
        "BasicQGate": list(info.gates),
        "QubitParams": [
            {
                "qubitId": str(number),
                "T1": 1e6 * (one.t1 or 0.0),
                "T2": 1e6 * (one.t2 or 0.0),
                "Frequency": 1e-6 * (one.frequency or 0.0),
                "ReadoutFidelity": _readout(one, measured.get(number)),
                "SingleGateFidelity": 1 - (single[number].error or 0.0) if number in single else 0.0,
            }
            for number, one in enumerate(calibration.qubits)
        ],
        "adjMatrix": _neighbours(info, pairs),
        "QGateClock": [
            {"gateType": name, "IntValue": _duration(calibration, width)} for name, width in (("RPhi", 1), ("CZ", 2))
        ],
        "CompensateAngle": {},
    }


def _readout(qubit: QubitFacts, error: float | None) -> float:
    """The fidelity of its readout; ``error``: that of its measurement, where both states have the same."""
    if qubit.ones_in_0 is not None and qubit.zeros_in_1 is not None:
        error = (qubit.ones_in_0 + qubit.zeros_in_1) / 2
    return 0.0 if error is None else 1 - error


def _typical(calibration: Calibration, width: int) -> list[GateFacts]:
    """The gates on so many qubits that have an error: those that take time."""
    return [one for one in calibration.gates if len(one.qubits) == width and one.error and one.name not in _NO_GATES]


def _duration(calibration: Calibration, width: int) -> int:
    durations = [one.duration for one in _typical(calibration, width) if one.duration]
    return round(1e9 * median(durations)) if durations else 0


def _neighbours(info: QPUInfo, fidelities: Mapping[tuple[int, ...], float]) -> dict[str, list[dict[str, Any]]]:
    """By qubit, those that two-qubit gates act on with it, and the fidelity of that; empty where all are."""
    found: dict[str, dict[int, float]] = {}
    for first, second in info.coupling or ():
        fidelity = fidelities.get((first, second), fidelities.get((second, first), 0.0))
        found.setdefault(str(first), {})[second] = fidelity
        found.setdefault(str(second), {})[first] = fidelity
    return {qubit: [{"v": other, "w": its[other]} for other in sorted(its)] for qubit, its in found.items()}
