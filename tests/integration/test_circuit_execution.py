"""`circuit-execution` from settings to report: simulators, a snapshot, and the server that speaks IBM's protocol."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pilot_miniapps.circuit_execution.app import CircuitExecution
from pilot_miniapps.circuit_execution.settings import Settings
from pilot_miniapps.frame import execute
from qpu_cases import environment
from qpu_server import QuantumService

from pilot import PilotDescription, PilotManager, QPUError

TINY = {"qubits": (2, 4), "circuits": 4, "qpu_qubits": (2, 3), "qpu_circuits": 2, "repetitions": 1, "depth": 5}


@pytest.fixture
def service() -> Iterator[QuantumService]:
    service = QuantumService()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment(service.address).items():
            patch.setenv(key, value)
        yield service
    service.close()


def test_values_are_right_on_each_kind_of_device(service: QuantumService, tmp_path: Path) -> None:
    devices = ("cpu", "aer:statevector?precision=double", "ibm:ibm_manila")
    settings = Settings(devices=devices, batches=(1, 4), qpu_shots=2000, **TINY)
    pilot = PilotDescription(engine="process", cores_per_node=2, qpus=devices[1:])
    report = execute(CircuitExecution(settings), tmp_path, [pilot])
    assert report["oracle"]["passed"], report["oracle"]
    assert "24 exact values agree" in report["oracle"]["text"]
    assert len(service.jobs) >= 2
    rows = report["rows"]
    assert {(row["device"], row["qubits"], row["batch"]) for row in rows} == {
        *(("cpu", width, batch) for width in (2, 4) for batch in (1, 4)),
        *((devices[1], width, 1) for width in (2, 4)),
        *((device, width, 1) for device in devices[2:] for width in (2, 3)),
    }
    assert all(row["seconds_for_1024"] == pytest.approx(row["seconds"] / row["circuits"] * 1024) for row in rows)
    values = report["details"]["values"]
    for width in (2, 4):
        alone, together, named = (
            [value for value, _ in values[where]]
            for where in (f"cpu/{width}/1/0", f"cpu/{width}/4/0", f"{devices[1]}/{width}/1/0")
        )
        assert together == pytest.approx(alone, abs=1e-9) and named == pytest.approx(alone, abs=1e-9)
        assert max(map(abs, alone)) > 0.01
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == rows
    assert (tmp_path / "circuit-execution.png").read_bytes().startswith(b"\x89PNG")


def test_circuits_for_a_gpu_go_to_the_gpu_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of which its environment says that it has a GPU: the task gets it, and Aer, which sees none, says so."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "4")
    pilot = PilotDescription(
        engine="process", cores_per_node=1, gpus_per_node=1, qpus=["aer:statevector?device=GPU"], name="gpus"
    )
    app = CircuitExecution(Settings(devices=("gpu",), **TINY))
    with pytest.raises(QPUError, match=r"this Aer sees no GPU here .*install qiskit-aer-gpu(.|\n)*gpu/first"):
        execute(app, tmp_path / "run", [pilot])
    with PilotManager.attach(tmp_path / "run/session") as manager:
        (task,) = [task for task in manager.tasks.values() if task.key == "gpu/first"]
        assert task.info.gpus == ("4",)


@pytest.mark.gpu
@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no GPU on this host")
def test_circuits_run_on_a_gpu(tmp_path: Path) -> None:
    app = CircuitExecution(Settings(devices=("cpu", "gpu"), batches=(1, 4), **TINY))
    report = execute(app, tmp_path, app.pilots())  # type: ignore[arg-type]
    assert report["oracle"]["passed"], report["oracle"]
    assert "gpu_batch_gain" in report["figures"]
