"""Which test runs the blocks of which page, and what a page takes for granted."""

from __future__ import annotations

import page_blocks

#: A manager with a pilot, and a file.
MANAGER = """
from pilot import PilotDescription, PilotManager, TaskDescription

open("bell.qasm", "w").write('OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0], q[1];')
manager = PilotManager()
manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[{qpus}]))
"""
CIRCUIT = """
from qiskit import QuantumCircuit

circuit = QuantumCircuit(2)
circuit.h(0)
circuit.cx(0, 1)
circuit.measure_all()
"""
BELL = """
with open("bell.qasm", "w") as file:
    file.write('OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0], q[1];')
    file.write('measure q -> c;')
"""
#: Pages whose blocks go on from one to the next, and what they start with: run by test_pages.py.
HERE = {
    **dict.fromkeys(("docs/tasks.md", "docs/observing.md", "docs/dashboard.md"), MANAGER.format(qpus="")),
    "docs/notebooks.md": "",
    **dict.fromkeys(("docs/quantum.md", "docs/plots.md"), MANAGER.format(qpus="'fake:manila'")),
    "docs/estimates.md": MANAGER.format(qpus="'fake:manila'") + CIRCUIT,
    "docs/qos.md": MANAGER.format(qpus="'fake:manila'"),
    "docs/scheduling.md": BELL,
    "docs/sharing.md": MANAGER.format(qpus="'fake:guadalupe'"),
    "docs/pilot_quantum.md": "from pilot import PilotManager\nmanager = PilotManager()",
    **dict.fromkeys((f"docs/howto/{name}.md" for name in ("engines", "data", "gpus", "errors", "qml")), ""),
}
LESSONS = [page for page in page_blocks.pages() if page.startswith("docs/tutorial/") and page_blocks.python(page)]
#: By test_slurm_pages.py.
ON_SLURM = ("docs/clusters.md", "docs/howto/containers.md", "docs/tutorial/7_slurm.md")
#: By test_service_pages.py.
WITH_A_SERVICE = ("docs/service.md", "docs/origin-api.md")
