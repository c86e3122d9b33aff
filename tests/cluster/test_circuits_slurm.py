"""Circuits on a cluster: a pilot job with a device, scancel while that is busy, `pilot submit` in a batch job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qiskit import QuantumCircuit

from pilot import PilotDescription, PilotManager, PilotState, TaskDescription
from pilot.errors import NoPilotError

Eventually = Callable[..., Any]

pytestmark = [pytest.mark.usefixtures("idle_cluster"), pytest.mark.timeout(120)]

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
SOON = 120.0


def bell() -> QuantumCircuit:
    return QuantumCircuit.from_qasm_str(BELL)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[PilotManager]:
    manager = PilotManager(tmp_path / "session", wait_for_pilot=0)
    yield manager
    manager.close()


def ask(manager: PilotManager, **fields: Any) -> Any:
    defaults: dict[str, Any] = {"resource": "slurm://", "cores_per_node": 1, "walltime": 300, "qpus": ["fake:manila"]}
    return manager.submit_pilot(PilotDescription(**{**defaults, **fields}))


def test_a_pilot_job_with_a_device(manager: PilotManager, eventually: Eventually) -> None:
    pilot = ask(manager)
    noisy = manager.submit_task(TaskDescription(circuit=bell(), shots=200))
    exact = manager.submit_task(TaskDescription(circuit=bell()))
    state = bell().remove_final_measurements(inplace=False)
    whole = manager.submit_task(TaskDescription(circuit=state, tomography=True, shots=500, qpu="fake:manila", seed=1))
    assert sum(noisy.result(timeout=SOON).get_counts().values()) == 200
    assert exact.result(timeout=SOON).get_counts() == pytest.approx({"00": 0.5, "11": 0.5})
    assert whole.result(timeout=SOON).fidelity(state) > 0.8
    assert (noisy.info.qpu, exact.info.qpu) == ("fake:manila", None)
    assert manager.qpus["fake:manila"].qubits == 5
    pilot.cancel()
    assert pilot.state is PilotState.CANCELLED
    with pytest.raises(NoPilotError, match=r"is cancelled|is done \(drained\)"):
        manager.submit_task(TaskDescription(circuit=bell(), shots=200, qpu="fake:manila"))


def test_scancel_while_a_device_is_busy(manager: PilotManager, eventually: Eventually) -> None:
    pilot = ask(manager, qpus=["fake:manila?queue=60"])
    task = manager.submit_task(TaskDescription(circuit=bell(), shots=10))
    eventually(task.running, timeout=SOON)
    (id,) = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["scancel", id], check=True)
    with pytest.raises(NoPilotError, match=r"is cancelled|is done \(drained\)"):
        task.result(timeout=SOON)
    assert pilot.wait(SOON) is PilotState.CANCELLED


def test_submit_in_a_batch_script(tmp_path: Path, cluster: Any, eventually: Eventually) -> None:
    (tmp_path / "bell.qasm").write_text(BELL)
    command = f"{sys.executable} -m pilot.cli submit bell.qasm --shots 300"
    (tmp_path / "script.sbatch").write_text(
        "#!/bin/bash\n#SBATCH --nodes=2 --ntasks=2 --time=5 --output=out.txt\n"
        f"{command} --qpu fake:manila --json counts.json; echo code $?\n"
        f"{command} --qpu fake:nonesuch; echo code $?\n"
        f"{command} --qpu nonesuch:x; echo code $?\n"
    )
    submitted = subprocess.run(
        ["sbatch", "--parsable", "--wait", "script.sbatch"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    said = (tmp_path / "out.txt").read_text()
    assert submitted.returncode == 0, submitted.stderr + said
    assert [line for line in said.splitlines() if line.startswith("code")] == ["code 0", "code 2", "code 2"], said
    assert "bell.qasm on fake:manila" in said
    assert "no snapshot 'nonesuch'" in said and "no QPU 'nonesuch'" in said
    (record,) = json.loads((tmp_path / "counts.json").read_text())
    assert sum(record["counts"].values()) == 300
    assert record["qpu"] == "fake:manila"
