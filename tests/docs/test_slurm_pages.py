"""The pages about Slurm run on a real one, with its numbers and names in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import page_blocks
import pytest

pytestmark = pytest.mark.usefixtures("idle_cluster")

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


@pytest.fixture(scope="module")
def runner(cluster: Any, make_runner: Callable[[], Any]) -> Iterator[Any]:
    """One that knows the cluster."""
    one = make_runner()
    yield one
    one.close()


def test_clusters(run_page: Callable[..., str], tmp_path: Path) -> None:
    code = "".join(block.text for block in page_blocks.python("docs/clusters.md"))
    assert all(there in code for there in STANDS_FOR)
    (tmp_path / "solver.py").write_text(SOLVER)
    output = run_page("docs/clusters.md", changes=STANDS_FOR)
    assert all(f"{rank} 4" in output for rank in range(4))


def test_lesson(run_page: Callable[..., str]) -> None:
    assert "energy -4.65" in run_page("docs/tutorial/7_slurm.md")


def test_containers(run_page: Callable[..., str]) -> None:
    stand_in = {'"apptainer", "exec", "--bind", "/scratch", "image.sif"': '"env", "IN_CONTAINER=1"'}
    run_page("docs/howto/containers.md", changes=stand_in)


def test_migration_from_dask_jobqueue(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    program = page_blocks.ROOT / "examples/migration/dask_jobqueue"
    command = [sys.executable, str(program / "after.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == (program / "output.txt").read_text()
    record_property("program", "dask_jobqueue/after.py")
