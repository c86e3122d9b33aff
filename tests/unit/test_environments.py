"""Job environments: Slurm's, and one that another package would supply."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pilot_plugins.launchers.slurm import environment
from pilot_plugins.launchers.slurm.environment import SlurmEnvironment

from pilot import registry
from pilot.agent.agent import find_end
from pilot.interfaces import JobEnvironment
from pilot.resources import Resources
from pilot.wire.session import AgentSettings
from pilot.worker.rank import given_rank

#: What a rank of a job step finds around itself.
STEP = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_END_TIME": "1700000000",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_JOB_CPUS_PER_NODE": "4(x2),3",
    "SLURM_CONF": "/etc/slurm.conf",
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "6",
    "SLURMD_NODENAME": "c7",
    "PMI_RANK": "0",
    "HYDRA_IFACE": "ib0",
    "HOME": "/home/me",
}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """``variables(some)``: of the variables that tell about a job there are these alone."""

    def use(some: Mapping[str, str]) -> None:
        for name in STEP:
            monkeypatch.delenv(name, raising=False)
        for name, value in some.items():
            monkeypatch.setenv(name, value)

    return use


def test_a_job_of_slurm(variables: Callable[[Mapping[str, str]], None]) -> None:
    variables(STEP)
    here = registry.job_environment()
    assert isinstance(here, SlurmEnvironment)
    assert (here.node(), here.end()) == ("c7", 1700000000.0)
    assert here.whole_allocation() == "srun://process:3:3"
    assert given_rank(here.rank_variables) == 5
    assert given_rank(()) == 0
    kept = {"SLURM_JOB_ID", "SLURM_JOB_END_TIME", "SLURM_JOB_NUM_NODES", "SLURM_JOB_CPUS_PER_NODE", "SLURM_CONF"}
    assert here.clean(STEP).keys() == kept | {"SLURMD_NODENAME", "HYDRA_IFACE", "HOME"}


def test_no_job(variables: Callable[[Mapping[str, str]], None]) -> None:
    variables({})
    here = registry.job_environment()
    assert type(here) is JobEnvironment
    assert (here.end(), here.whole_allocation(), given_rank(here.rank_variables)) == (None,) * 3
    assert here.node()


def test_ranks_as_a_step(variables: Callable[[Mapping[str, str]], None], tmp_path: Path) -> None:
    variables(STEP)
    needs = Resources(num_cpus=2, ranks=3)
    command, more = SlurmEnvironment().mpi_command(["srun", "--mpi=pmi2"], {"c1": 2, "c2": 1}, needs, tmp_path)
    assert command[:4] == ["srun", "--mpi=pmi2", "--overlap", "--mem=0"]
    assert {"-N2", "-n3", "-c2", "--gres=none"} <= set(command)
    assert command[-2:] == ["-m", "arbitrary"]
    assert Path(more["SLURM_HOSTFILE"]).read_text() == "c1\nc1\nc2\n"


@pytest.mark.parametrize(
    ("walltime", "left", "expected"),
    [(60.0, 3600.0, 60.0), (60.0, 20.0, 20.0), (60.0, None, 60.0), (None, 20.0, 20.0), (None, None, None)],
)
def test_a_pilot_ends_with_its_walltime_or_its_job(
    variables: Callable[[Mapping[str, str]], None], walltime: float | None, left: float | None, expected: float | None
) -> None:
    """A pilot inside a job, as of local:// and srun://, may have a walltime of its own; without one a partition's
    default counts."""
    now = time.time()
    variables({} if left is None else {**STEP, "SLURM_JOB_END_TIME": str(int(now + left))})
    settings = AgentSettings(
        pilot="p", mark="m", engine="process", remote=False, nodes=1, cores=1, gpus=0, memory=1, environment={},
        working_directory="/", orphan_timeout=60.0, walltime=walltime, drain=6.0, ports=None, sys_path=(),
    )  # fmt: skip
    end = find_end(settings)
    assert (None if end is None else end - now) == (None if expected is None else pytest.approx(expected, abs=2))


@pytest.mark.parametrize(
    ("squeue", "left"),
    [
        ("echo 1-00:02:03", 86523.0),
        ("echo 4:59", 299.0),
        ("echo UNLIMITED", None),
        ("exit 1", None),
        ("exec sleep 60", None),
        (None, None),
    ],
)
def test_the_end_of_a_job_where_no_variable_has_it(
    variables: Callable[[Mapping[str, str]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    squeue: str | None,
    left: float | None,
) -> None:
    variables({"SLURM_JOB_ID": "17"})
    monkeypatch.setattr(environment, "SQUEUE_SECONDS", 0.5)
    if squeue is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{squeue}\n")
        (tmp_path / "squeue").chmod(0o755)
    end = registry.job_environment().end()
    assert (None if end is None else end - time.time()) == (None if left is None else pytest.approx(left, abs=2))


#: The plugin of another package: of a resource manager whose command starts the ranks one after the other.
PLUGIN = """
from pilot.interfaces import JobEnvironment

class Environment(JobEnvironment):
    mpi_program = "other-run"
    rank_variables = ("OTHER_RANK",)

    def is_here(self):
        return True

    def node(self):
        return "other-1"

    def mpi_candidates(self):
        return [("other-run", "--quiet")]

    def mpi_command(self, words, hosts, needs, folder):
        return [*words, str(needs.ranks)], {"OTHER_HOSTS": ",".join(hosts)}
"""
PROGRAM = """#!/bin/sh
count=$2; shift 2
for OTHER_RANK in $(seq 0 $((count - 1))); do export OTHER_RANK; "$@" || exit; done
"""
TASK = """
import sys
from pilot.resources import Resources
from pilot.worker import launch, mpi

layout = launch.RankLayout(Resources(num_cpus=0.5, ranks=3), {}, sys.argv[1])
mpi.layout.set(layout)
print(launch.find_launch(layout, lambda launch, layout: None))
print(mpi.run_program(["sh", "-c", "echo $OTHER_RANK $OTHER_HOSTS"], {}, None).stdout)
"""


def test_the_plugin_of_another_package_starts_ranks(tmp_path: Path) -> None:
    (tmp_path / "other_site.py").write_text(PLUGIN)
    about = tmp_path / "other_site-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-site\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pilot.environments]\nother = other_site:Environment\n")
    (tmp_path / "other-run").write_text(PROGRAM)
    (tmp_path / "other-run").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in (*STEP, "PILOT_MPI", "PILOT_AGENT")}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", TASK, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ranks = tuple(f"{rank} other-1\n" for rank in range(3))
    assert done.stdout.splitlines() == ["other-run --quiet", str(ranks)]
