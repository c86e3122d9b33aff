"""The vendor's client package against a server of ours: both of its services, in an environment of its own.

`make pyqpanda` makes that environment; without it the tests are left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pilot.testing.services import ServiceProcess

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("PILOT_PYQPANDA", ROOT / ".peers/pyqpanda/bin/python"))
SETTINGS = """
[[pilots]]
name = "small"
cores_per_node = 2
qpus = ["fake:manila"]
[origin]
results_without_token = true    # the client asks for results without one
chips = { 72 = "fake:manila" }
"""

pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason=f"there is no {PYTHON} with pyqpanda3: make pyqpanda"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with ServiceProcess(tmp_path_factory.mktemp("origin"), SETTINGS) as service:
        command = [PYTHON, Path(__file__).with_name("pyqpanda_client.py"), service.url, service.token]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout.splitlines()[-1])
        found["open"] = httpx.post(
            f"{service.url}/task/realQuantum/query", json={"taskId": found["machine"]["id"]}
        ).json()
        yield found


def is_bell(weights: dict[str, float], total: float = 1.0, exact: bool = False) -> bool:
    same = weights.get("00", 0) + weights.get("11", 0)
    return abs(sum(weights.values()) - total) < 1e-6 * total and same > (1 if exact else 0.85) * total - 1e-9


def test_results_of_the_pilot_machine(found: dict[str, Any]) -> None:
    machine = found["machine"]
    assert len(machine["batch"]) == 2 and all(map(is_bell, machine["batch"]))
    assert machine["queried"]["taskState"] == "3" and len(machine["queried"]["taskResult"]) == 2
    assert is_bell(machine["waited"][0])
    assert machine["expectation"] == pytest.approx(-0.88, abs=0.08)  # -1.05 - 0.01 + 0.18, and errors
    assert len(machine["settings"]) == 9
    assert machine["long"][0]["00"] > 0.2
    assert is_bell(machine["sampled"], exact=True)
    assert machine["exact"] == {"00": pytest.approx(0.5), "11": pytest.approx(0.5)}
    assert '"QubitCount": 5' in machine["chips"]


def test_refusals_of_the_pilot_machine(found: dict[str, Any]) -> None:
    machine = found["machine"]
    assert machine["no measurement"]["errCode"] == 19
    assert machine["binary"]["errCode"] == 2
    assert re.search(r"ERR_NOT_FOUND_TASK_ID: 28>, .taskId: there is no task", machine["unknown"])


def test_results_of_the_cloud(found: dict[str, Any]) -> None:
    cloud = found["cloud"]
    assert cloud["backends"]["72"] is True and cloud["qubits"] == 5
    assert [0, 1] in cloud["topology"]
    assert len(cloud["probabilities"]) == 2 and all(map(is_bell, cloud["probabilities"]))
    assert all(is_bell(one, 1000) for one in cloud["counts"])
    assert cloud["trace"] == pytest.approx(1.0, abs=1e-6) and 0.8 < cloud["fidelity"] <= 1
    assert is_bell(cloud["sampled"], 1000, exact=True)
    assert cloud["exact"] == {"00": pytest.approx(0.5), "11": pytest.approx(0.5)}
    assert cloud["expectation"] == pytest.approx(1.5)
    assert cloud["cancelled"] is True


def test_refusals_of_the_cloud(found: dict[str, Any]) -> None:
    assert "Configuration.shot: 5 is not valid; expected 10 to 20000" in found["cloud"]["shots"]


def test_without_a_token_there_is_the_result_alone(found: dict[str, Any]) -> None:
    reply = found["open"]
    assert (reply["taskState"], len(reply["taskResult"])) == ("3", 2)
    assert (reply["qProg"], reply["convertQProg"], reply["configuration"]) == ([], [], "")
