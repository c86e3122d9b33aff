"""Calibrations of one QPU over time, from a file.

It is CSV with the columns day, last_update, what, where, property, value and unit. ``last_update`` without an offset is
UTC. ``what`` is "qubit" or a gate, ``where`` its qubits ("3", "6-5"). Properties of qubits are T1, T2, readout_error,
readout_length, prob_meas1_prep0 and prob_meas0_prep1; those of gates gate_error and gate_length.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pilot.errors import DescriptionError, file_error
from pilot.qos import text_files
from pilot.resources import Calibration, GateFacts, QPUInfo, QubitFacts
from pilot.times import moment

COLUMNS = ("day", "last_update", "what", "where", "property", "value", "unit")
_UNITS = {"us": 1e-6, "ns": 1e-9, "": 1.0}
#: Done in software: no error, no time.
_FREE = "rz"

#: By what and where, the values of its properties in seconds and probabilities.
Values = dict[tuple[str, tuple[int, ...]], dict[str, float]]


def read_calibrations(path: str | os.PathLike[str], name: str) -> list[QPUInfo]:
    """What the QPU reported on each day, in order.

    Args:
        path: of the file; one that ends in ``.xz`` is compressed.
        name: of the QPU, as in ``PilotDescription.qpus``.

    Raises:
        DescriptionError: the file cannot be read, lacks a column, or has a value that is not valid.
    """
    days: dict[tuple[str, str], Values] = {}
    try:
        with text_files.opened(Path(path)) as file:
            rows = csv.DictReader(file)
            if missing := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
                raise DescriptionError(
                    f"{path} has no column {missing[0]!r}; expected {', '.join(COLUMNS)}", given=path
                )
            for number, row in enumerate(rows, 2):
                _take(days.setdefault((row["day"], row["last_update"]), {}), row, f"{path}, line {number}")
    except (*text_files.ERRORS, csv.Error) as error:
        raise DescriptionError(f"{path} cannot be read: {file_error(error)}", given=path) from error
    times = {key: _time(key[1], path) for key in days}
    return [_info(name, days[key], times[key]) for key in sorted(days, key=lambda key: (key[0], times[key]))]


def _time(text: str, path: object) -> float:
    try:
        return moment(text)
    except (ValueError, OverflowError):
        raise DescriptionError(f"{path}: last_update: {text!r} is not a date and time", given=text) from None


def _take(values: Values, row: Mapping[str, str], where: str) -> None:
    try:
        qubits = tuple(int(one) for one in row["where"].split("-"))
        values.setdefault((row["what"], qubits), {})[row["property"]] = float(row["value"]) * _UNITS[row["unit"]]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DescriptionError(
            f"{where}: {dict(row)} is not valid; expected qubits such as 6-5, a number, and a unit of "
            f"{', '.join(filter(None, _UNITS))} or none",
            given=dict(row),
        ) from None


def _info(name: str, values: Values, time: float) -> QPUInfo:
    qubits = sorted(places for what, places in values if what == "qubit")
    gates = [
        GateFacts(what, places, its.get("gate_error"), its.get("gate_length"))
        for (what, places), its in values.items()
        if what != "qubit"
    ]
    for places in qubits:
        its = values["qubit", places]
        gates.append(GateFacts("measure", places, its.get("readout_error"), its.get("readout_length")))
        gates.append(GateFacts(_FREE, places, 0.0, 0.0))
    return QPUInfo(
        name=name,
        qubits=len(qubits),
        gates=tuple(sorted({gate.name for gate in gates})),
        coupling=tuple(sorted(_pairs(gates))),
        calibrated=time,
        calibration=Calibration(gates=tuple(gates), qubits=tuple(_qubit(values["qubit", one]) for one in qubits)),
    )


def _pairs(gates: Iterable[GateFacts]) -> set[tuple[int, int]]:
    return {(gate.qubits[0], gate.qubits[1]) for gate in gates if len(gate.qubits) == 2}


def _qubit(its: Mapping[str, float]) -> QubitFacts:
    return QubitFacts(
        t1=its.get("T1"),
        t2=its.get("T2"),
        ones_in_0=its.get("prob_meas1_prep0"),
        zeros_in_1=its.get("prob_meas0_prep1"),
    )
