"""`pilot run circuit-cutting` from the command line to its report, over two pilots of processes."""

import json

import pytest
from pilot_miniapps.circuit_cutting.problem import Problem

from pilot import PilotDescription, PilotManager
from pilot.cli import main as cli
from pilot.quantum.aer import exact_value
from pilot.quantum.cutting import plan

PILOTS = ["--pilot", "process:1", "--pilot", "process:1"]


def test_the_report_holds_the_values_and_how_they_came_about(tmp_path):
    small = ["--qubits", "8", "--subcircuit-size", "4", "--shots", "1000", "--whole", "6", "--repeat", "2"]
    assert cli.main(["run", "circuit-cutting", *small, *PILOTS, "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["oracle"]["passed"]
    cut, narrow = (report["details"]["rounds"][number] for number in (0, 2))
    for rounds, qubits in ((cut, 8), (narrow, 6)):
        problem = Problem.of_paper(qubits, 2)
        assert rounds["exact"] == pytest.approx(exact_value(problem.circuit, problem.observable))
        for value, error in zip(rounds["values"], rounds["errors"], strict=True):
            assert abs(value - rounds["exact"]) < 4 * error
    assert cut["values"][0] != cut["values"][1]
    assert (cut["pieces"], cut["cuts"], cut["subexperiments"], cut["distinct"]) == (2, 2, 72, 50)
    rows = report["rows"]
    assert [(row["circuit"], row["qubits"], row["slots"]) for row in rows] == [
        ("cut", 8, 2),
        ("cut", 8, 1),
        ("cut", 6, 2),
        ("state vector", 6, 1),
        ("product state", 8, 1),
    ]
    assert all(row["predicted"] > 0 for row in rows[:4])
    assert rows[0]["plan"] + rows[0]["run"] + rows[0]["combine"] == pytest.approx(rows[0]["seconds"], rel=0.5)
    assert report["figures"]["over_work_4"]["n"] == 2
    assert (tmp_path / "circuit-cutting.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "circuit-cutting.pdf").read_bytes().startswith(b"%PDF")


def test_a_plan_runs_on_a_manager(tmp_path):
    problem = Problem.of_paper(6, 2)
    with PilotManager(tmp_path / "session") as manager:
        manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=2))
        result = plan(problem.circuit, problem.observable, max_qubits=3).run(manager, shots=None)
    assert result.values[0] == pytest.approx(exact_value(problem.circuit, problem.observable), abs=1e-9)
