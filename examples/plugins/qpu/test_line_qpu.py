import pytest

from pilot import DescriptionError, PilotDescription, PilotManager, TaskDescription
from pilot.testing import QPUContract

BELL = "OPENQASM 2.0; qreg q[2]; creg c[2]; U(pi/2,0,pi) q[0]; CX q[0],q[1]; measure q->c;"


class TestLineQPU(QPUContract):
    name = "line:5"
    noisy = True
    jobs_have_ids = True


def test_a_pilot_with_it(tmp_path):
    with PilotManager(tmp_path) as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["line:5"]))
        counts = manager.submit_task(TaskDescription(circuit=BELL, shots=200, qpu="line:5")).result(120).get_counts()
    assert counts["00"] + counts["11"] > 150


def test_addresses_that_cannot_be(tmp_path):
    with PilotManager(tmp_path) as manager, pytest.raises(DescriptionError, match="a number of qubits"):
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["line:one"]))
