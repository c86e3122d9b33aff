"""The Python block of docs/clusters.md runs on a real Slurm, with this cluster's numbers and names in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs/clusters.md"
STANDS_FOR = {
    "~/runs/today": "session",
    "cores_per_node=64": "cores_per_node=2",
    'queue="regular"': 'queue="all"',
    "100_000": "1_000",
    "ranks=128": "ranks=4",
    '"python", "solver.py"': f'"{sys.executable}", "solver.py"',
    'walltime="1:00:00"': 'walltime="0:10:00"',
}
SOLVER = "from mpi4py import MPI; print(MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)"


def test_the_page_runs(idle_cluster: Any, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for there, here in STANDS_FOR.items():
        assert there in code
        code = code.replace(there, here)
    (tmp_path / "page.py").write_text(code)
    (tmp_path / "solver.py").write_text(SOLVER)
    command = [sys.executable, "page.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{rank} 4" in done.stdout for rank in range(4))
