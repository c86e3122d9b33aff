"""Calibrations from a file, and orders of QPUs and regions as the mini-app judges them."""

from __future__ import annotations

import lzma
import time
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import networkx
import numpy as np
import pytest
from pilot_miniapps.frame.intervals import interval
from pilot_miniapps.qos_estimator import drift, ranking

from pilot.errors import DescriptionError
from pilot.qos.calibrations import read_calibrations
from pilot.quantum.targets import readout_of, target_of

HEADER = "day,last_update,what,where,property,value,unit\n"


def lines(day: str, at: str, error: float) -> str:
    rows = [f"{day},{at},cx,{pair},gate_error,{error}," for pair in ("0-1", "1-0")]
    rows += [f"{day},{at},cx,{pair},gate_length,300,ns" for pair in ("0-1", "1-0")]
    for qubit in (0, 1):
        rows += [
            f"{day},{at},qubit,{qubit},T1,{100 + qubit},us",
            f"{day},{at},qubit,{qubit},T2,80,us",
            f"{day},{at},qubit,{qubit},readout_error,0.02,",
            f"{day},{at},qubit,{qubit},readout_length,700,ns",
            f"{day},{at},qubit,{qubit},prob_meas1_prep0,0.01,",
            f"{day},{at},qubit,{qubit},prob_meas0_prep1,0.03,",
            f"{day},{at},sx,{qubit},gate_error,0.0003,",
            f"{day},{at},sx,{qubit},gate_length,35,ns",
        ]
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("name", ["days.csv", "days.csv.xz"])
def test_each_day_is_what_the_qpu_reported(name: str, tmp_path: Path) -> None:
    later, first = lines("2023-01-02", "2023-01-02T08:00:00+01:00", 0.02), "2023-01-01T08:40:00+01:00"
    text = HEADER + later + lines("2023-01-01", first, 0.01)
    path = tmp_path / name
    path.write_bytes(lzma.compress(text.encode()) if name.endswith("xz") else text.encode())
    one, two = read_calibrations(path, "perth")
    assert one.calibrated == datetime.fromisoformat(first).timestamp() and one.qubits == 2
    assert one.coupling == ((0, 1), (1, 0)) and one.gates == ("cx", "measure", "rz", "sx")
    target = target_of(one)
    assert (target["cx"][0, 1].error, target["cx"][0, 1].duration) == (0.01, pytest.approx(3e-7))
    assert target["measure"][(1,)].error == 0.02 and target["measure"][(1,)].duration == pytest.approx(7e-7)
    assert target.qubit_properties[1].t1 == pytest.approx(101e-6)
    assert readout_of(one) == [(0.01, 0.03)] * 2
    assert target_of(two)["cx"][1, 0].error == 0.02


def test_a_time_without_an_offset_is_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in traces, and whatever the time zone of the machine."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        path = tmp_path / "days.csv"
        path.write_text(HEADER + lines("2023-01-01", "2023-01-01T08:40:00", 0.01))
        assert read_calibrations(path, "perth")[0].calibrated == datetime(2023, 1, 1, 8, 40, tzinfo=UTC).timestamp()
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("day,what\n", "no column 'last_update'"),
        (HEADER + "d,2023-01-01T08:40:00,cx,0-x,gate_error,0.1,\n", "line 2: .* not valid"),
        (HEADER + "d,2023-01-01T08:40:00,cx,0-1,gate_error,high,\n", "line 2: .* not valid"),
        (HEADER + "d,2023-01-01T08:40:00,cx,0-1,gate_length,3,days\n", "unit of us, ns or none"),
        (HEADER + "d,yesterday,cx,0-1,gate_error,0.1,\n", "'yesterday' is not a date and time"),
    ],
)
def test_files_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    path.write_text(text)
    with pytest.raises(DescriptionError, match=message):
        read_calibrations(path, "perth")
    path = tmp_path / "broken.csv.xz"
    for broken in (b"no archive", lzma.compress(HEADER.encode())[:-20]):  # the second one was not copied to its end
        path.write_bytes(broken)
        with pytest.raises(DescriptionError, match="cannot be read"):
            read_calibrations(path, "perth")
    path = tmp_path / "wide.csv"
    path.write_text(f"{HEADER}{'d' * 200_000}")
    with pytest.raises(DescriptionError, match="cannot be read: field larger"):
        read_calibrations(path, "perth")


def test_regions_are_connected() -> None:
    coupling = ((0, 1), (1, 2), (1, 3), (3, 5), (4, 5), (5, 6))
    graph = networkx.Graph(coupling)
    for size in (3, 4, 5):
        wanted = [one for one in combinations(range(7), size) if networkx.is_connected(graph.subgraph(one))]
        assert drift.regions(coupling, size) == wanted


def test_what_old_estimates_cost() -> None:
    """Two regions that change places every day: by estimates of the day before one always takes the wrong one."""
    truth = np.array([[0.9, 0.8], [0.8, 0.9], [0.9, 0.8]])
    assert drift.regret(truth, truth, ["a", "a"], 1) == pytest.approx(1 - 0.8 / 0.9)
    assert drift.regret(truth, truth, ["a", "a"], 0) == drift.regret(truth, truth, ["a", "a"], 2) == 0
    assert drift.regret(truth, truth, ["a", "b"], 1) == 0  # each is the only one of its choice


def test_how_good_an_order_is() -> None:
    truth = {"one": {"a": 0.9, "b": 0.8, "c": 0.7}, "two": {"a": 0.5, "b": 0.6, "c": 0.7}}
    scores = {"one": {"a": 3.0, "b": 2.0, "c": 1.0}, "two": {"a": 3.0, "b": 2.0, "c": 1.0}}
    assert ranking.spearman(scores, truth, "abc") == pytest.approx([1.0, -1.0])
    assert ranking.top1(scores, truth) == 1
    assert ranking.regret(scores, truth) == pytest.approx([0.0, 1 - 0.5 / 0.7])
    mean, spread = interval([1.0, 2.0, 3.0])
    assert mean == 2 and spread == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert interval([1.0]) == (1.0, None)


def test_calibrations_may_be_of_a_spreadsheet(tmp_path: Path) -> None:
    file = tmp_path / "days.csv"
    file.write_bytes(b"\xef\xbb\xbf" + (HEADER + lines("2024-01-01", "2024-01-01T00:00:00", 0.01)).encode())
    assert [one.qubits for one in read_calibrations(file, "d")] == [2]


def test_the_drift_study_refuses_too_few_days(tmp_path: Path) -> None:
    file = tmp_path / "days.csv"
    days = (f"2024-01-{day:02}" for day in range(1, 32))
    file.write_text(HEADER + "".join(lines(day, f"{day}T00:00:00", 0.01) for day in days))
    with pytest.raises(DescriptionError, match="has a device of 2 qubits; expected 6 or more"):
        drift.calibrations(str(file))
