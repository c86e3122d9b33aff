"""Every Python block of README.md and docs/ runs as it stands, apart from the names of a site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
README = [text for language, text in BLOCK.findall((ROOT / "README.md").read_text()) if language == "python"]

#: What a page takes for granted: a manager with a pilot, and a file.
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
#: Pages whose blocks go on from one to the next, and what they start with. That of clusters.md runs on a real Slurm, in
#: tests/cluster, that of service.md beside a service, in test_service.py.
PAGES = {
    **dict.fromkeys(("tasks.md", "observing.md", "dashboard.md"), MANAGER.format(qpus="")),
    "notebooks.md": "",
    "quantum.md": MANAGER.format(qpus="'fake:manila'"),
    "estimates.md": MANAGER.format(qpus="'fake:manila'") + CIRCUIT,
    "qos.md": MANAGER.format(qpus="'fake:manila'"),
    "scheduling.md": BELL,
    "sharing.md": MANAGER.format(qpus="'fake:guadalupe'"),
    "pilot_quantum.md": "from pilot import PilotManager\nmanager = PilotManager()",
}
#: Names of a site, and what stands for them here.
STANDS_FOR = {"ibm:ibm_fez?mode=session": "fake:manila"}


def run(code: str, folder: Path) -> str:
    for name, here in STANDS_FOR.items():
        code = code.replace(name, here)
    (folder / "page.py").write_text(code)
    environment = {**os.environ, "QUANTUM_PILOT_SESSIONS": str(folder / "sessions")}
    command = [sys.executable, "page.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("block", README, ids=lambda block: f"block {README.index(block) + 1}")
def test_readme(block: str, tmp_path: Path) -> None:
    assert run(block, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, tmp_path: Path) -> None:
    blocks = [text for language, text in BLOCK.findall((ROOT / "docs" / page).read_text()) if language == "python"]
    assert blocks
    end = "" if page == "notebooks.md" else "manager.close()"
    run("\n".join([PAGES[page], *blocks, end]), tmp_path)


def test_no_page_has_a_block_that_nothing_runs() -> None:
    runs = {"README.md", "clusters.md", "service.md", *PAGES}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for language, text in BLOCK.findall(page.read_text()):
            if language == "toml":
                tomllib.loads(text)
            assert language != "python" or page.name in runs or page.parent.name == "plugins", page
            assert language != "py", f"{page}: write python, so that it runs"
