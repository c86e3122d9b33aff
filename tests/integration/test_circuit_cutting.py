"""`pilot run circuit-cutting` from the command line to its report, over two pilots of processes."""

import csv
import json

import pytest
from pilot_miniapps.circuit_cutting import Settings, read_problem
from pilot_miniapps.report import OUR_COLUMNS, PILOT_QUANTUM_COLUMNS

from pilot import PilotDescription, PilotManager
from pilot.cli import main as cli
from pilot.quantum.aer import exact_value
from pilot.quantum.cutting import plan

PILOTS = ["--pilot", "process:1", "--pilot", "process:1"]


@pytest.mark.parametrize("num_samples", [[], ["--num-samples", "20"]], ids=["all terms", "20 terms"])
def test_the_report_holds_the_value_and_how_it_came_about(num_samples, tmp_path, capsys):
    small = ["--qubits", "8", "--subcircuit-size", "4", "--shots", "1000", *num_samples]
    assert cli.main(["run", "circuit-cutting", *small, *PILOTS, "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["exact"] == pytest.approx(exact_value(*read_problem(Settings(qubits=8))))
    assert abs(report["value"] - report["exact"]) < 4 * report["standard_error"]
    assert sum(pilot["tasks"] for pilot in report["pilots"].values()) == report["distinct_subexperiments"]
    assert report["subexperiments"] >= report["distinct_subexperiments"]
    assert len(report["cuts"]) == 2
    assert report["seconds"] > report["parts"]["run"] > 0
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")

    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*PILOT_QUANTUM_COLUMNS, *OUR_COLUMNS]
    assert len(rows) == report["distinct_subexperiments"]
    assert {row["status"] for row in rows} == {"SUCCESS"}
    assert "standard errors" in capsys.readouterr().out


def test_a_plan_runs_on_a_manager(tmp_path):
    circuit, observable = read_problem(Settings(qubits=6))
    with PilotManager(tmp_path / "session") as manager:
        manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=2))
        result = plan(circuit, observable, max_qubits=3).run(manager, shots=None)
    assert result.values[0] == pytest.approx(exact_value(circuit, observable), abs=1e-9)
