"""How long a fake device is held by a job, when it is down, and how its errors drift: on a clock of its own."""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING

from pilot.errors import DescriptionError, file_error

if TYPE_CHECKING:
    from qiskit.transpiler import Target

    from pilot_plugins.qpus._qiskit import Readout


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds of the device's time; one of them takes ``speed`` real seconds.

    A job holds the device for ``setup`` and, for each circuit, shots x (duration + rep_delay).
    """

    speed: float
    setup: float
    rep_delay: float

    def seconds(self, durations: Sequence[float], shots: int) -> float:
        """Real seconds of a job; ``durations``: of one shot of each circuit, in the device's seconds."""
        return self.speed * (self.setup + sum(shots * (duration + self.rep_delay) for duration in durations))


class Periods:
    """Times at which a device takes no jobs, from a CSV file with the columns ``begin,end``: device's seconds since it
    was opened."""

    def __init__(self, path: str) -> None:
        """Read them.

        Raises:
            DescriptionError: the file cannot be read, or a line is not valid.
        """
        self._rows = _rows(path, ("begin", "end"), "outages")
        for begin, end in self._rows:
            if end <= begin:
                raise DescriptionError(f"outages: {path} has an outage from {begin:g} to {end:g}; it must end later")

    def are_now(self, now: float) -> bool:
        """True while the device is down."""
        return any(begin <= now < end for begin, end in self._rows)


class Drift:
    """Factors of all errors over time, from a CSV file with the columns ``begin,factor``: device's seconds since it was
    opened. T1 and T2 are divided by them. Before the first line the snapshot is as it is. A file that has changed is
    read again."""

    def __init__(self, path: str) -> None:
        """Read them.

        Raises:
            DescriptionError: the file cannot be read, or a line is not valid.
        """
        self._path = path
        self._changed = -1
        self._read()

    def _read(self) -> None:
        rows = _rows(self._path, ("begin", "factor"), "calibration")
        if any(not 0 < factor < inf for _, factor in rows):
            raise DescriptionError(f"calibration: {self._path} has a factor that is not above 0, or not finite")
        self._rows, self._changed = rows, _changed(self._path)

    def calibration(self, now: float) -> tuple[int, float]:
        """How many calibrations there were until now, and the factor of the errors after the last one.

        Raises:
            DescriptionError: the file has changed, and cannot be read or is not valid.
        """
        if _changed(self._path) != self._changed:
            self._read()
        number = bisect_right([begin for begin, _ in self._rows], now)
        return number, 1.0 if number == 0 else self._rows[number - 1][1]


def scaled(target: Target, readout: Readout, factor: float) -> tuple[Target, Readout]:
    """A copy of a target with so many times its errors, of at most 1, and T1 and T2 divided by as much."""
    from qiskit.transpiler import InstructionProperties

    found = deepcopy(target)
    for name in found.operation_names:
        for qubits in found.qargs_for_operation_name(name) or ():
            properties = found[name][qubits]
            if properties is not None and properties.error is not None:
                error = min(1.0, factor * properties.error)
                found.update_instruction_properties(name, qubits, InstructionProperties(properties.duration, error))
    for qubit in found.qubit_properties or ():
        for time in ("t1", "t2"):
            if (value := getattr(qubit, time, None)) is not None:
                setattr(qubit, time, value / factor)
    errors = [None if each is None else (min(1.0, factor * each[0]), min(1.0, factor * each[1])) for each in readout]
    return found, errors


def _changed(path: str) -> int:
    """When a file was written last; 0: it is not there."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


def _rows(path: str, columns: tuple[str, str], option: str) -> list[tuple[float, float]]:
    """Two numbers for each line, in the order of the first."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DescriptionError(
            f"{option}: {path} cannot be read: {file_error(error)}", field=option, given=path
        ) from error
    found = []
    for number, words in enumerate(lines, 1):
        if number == 1 and tuple(words) == columns:
            continue
        try:
            first, second = map(float, words)
            if isnan(first) or isnan(second):
                raise ValueError
        except ValueError:
            raise DescriptionError(
                f"{option}: line {number} of {path} is {','.join(words)!r}; expected {','.join(columns)}, two numbers",
                field=option,
                given=path,
            ) from None
        found.append((first, second))
    return sorted(found, key=lambda row: row[0])
