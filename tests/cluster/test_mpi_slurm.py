"""The ranks of MPI tasks over two nodes of a real Slurm: what a worker in the allocation runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("mpi4py")

Eventually = Callable[..., Any]
ROOT = Path(__file__).parents[2]

#: Runs inside the allocation: one case, on these hosts, in a folder; what comes of it goes to stdout as JSON.
INSIDE = """
import json, os, signal, sys
from pilot.resources import Resources
from pilot.wire import payload
from pilot.worker import mpi
from pilot.worker.launch import RankLayout

case, folder, hosts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
ranks = sum(hosts.values())
mpi.layout.set(RankLayout(Resources(num_cpus=0.5, ranks=ranks), hosts, folder))

def add_up(mine):
    import os
    from mpi4py import MPI
    return MPI.COMM_WORLD.rank, MPI.COMM_WORLD.allreduce(mine), os.environ["SLURMD_NODENAME"]

def fail():
    from mpi4py import MPI
    if MPI.COMM_WORLD.rank == 1:
        raise ValueError("this one")
    MPI.COMM_WORLD.Barrier()

said = None
try:
    if case == "function":
        said = mpi.run_function(payload.dump_function(add_up), (3,), {}, {}, None)
    elif case == "raises":
        said = mpi.run_function(payload.dump_function(fail), (), {}, {}, None)
    elif case == "program":
        said = mpi.run_program(["sh", "-c", "echo $SLURMD_NODENAME $SLURM_PROCID $WORD"], {"WORD": "yes"}, None).stdout
    elif case == "exits":
        said = mpi.run_program(["sh", "-c", "test $SLURM_PROCID != 1 || exit 7; sleep 4000"], {}, None)
    elif case == "reads":
        said = mpi.run_program(["sh", "-c", "cat; grep SigIgn /proc/self/status | cut -f2"], {}, None).stdout
    elif case == "sleeps":
        said = mpi.run_program(["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done", folder], {}, None)
except Exception as error:
    said = [type(error).__name__, str(error), *getattr(error, "__notes__", ())]
print(json.dumps([said, os.listdir(folder)]))
"""


@pytest.fixture
def inside(cluster: Any, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``inside(case, hosts)``: run the case in an allocation of c1 and c2."""
    started: list[subprocess.Popen[str]] = []

    def start(case: str, hosts: dict[str, int], **environment: str) -> subprocess.Popen[str]:
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        stays = ["sh", "-c", '"$@"; code=$?; read _; exit $code', "sh"]  # the job outlives the worker
        python = [*stays, sys.executable, "-c", INSIDE, case, str(folder), json.dumps(hosts)]
        process = subprocess.Popen(
            ["salloc", "--quiet", "-N2", "-n4", "-w", "c1,c2", "--mem=1000", *python],
            env={**os.environ, **cluster.environment, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def answer(process: subprocess.Popen[str]) -> Any:
    try:
        out, _ = process.communicate(timeout=180)  # the nodes may be those of a job that is ending
    except subprocess.TimeoutExpired:
        everything = subprocess.run(
            ["ps", "-eo", "pid,ppid,stat,wchan:20,etime,args", "--forest"], capture_output=True, text=True
        ).stdout.splitlines()
        words = ("salloc", "srun", "scancel", "slurmstepd", "mpiexec", "hydra", "rank.py")
        runs = "\n".join(line[:200] for line in everything if any(word in line for word in words))
        pytest.fail(f"it has not ended after 180 s; these run:\n{runs}")
    assert process.returncode == 0
    said, left = json.loads(out)
    assert left == []
    return said


def with_argument(word: str) -> list[psutil.Process]:
    processes = psutil.process_iter(["cmdline"])
    return [
        one
        for one in processes
        if one.info["cmdline"] and one.info["cmdline"][-1] == word and one.info["cmdline"][0] == "sh"
    ]


@pytest.mark.parametrize("hosts", [{"c1": 2, "c2": 2}, {"c2": 1, "c1": 3}], ids=["even", "uneven, in their order"])
def test_function_on_two_nodes(inside: Any, hosts: dict[str, int]) -> None:
    names = [name for name, count in hosts.items() for _ in range(count)]
    assert answer(inside("function", hosts)) == [[rank, 12, name] for rank, name in enumerate(names)]


def test_program_with_more_ranks_than_cores_on_one_node(inside: Any) -> None:
    assert answer(inside("program", {"c2": 6})) == [f"c2 {rank} yes\n" for rank in range(6)]


def test_a_rank_raises(inside: Any) -> None:
    assert answer(inside("raises", {"c1": 2, "c2": 2})) == ["ValueError", "this one", "raised by rank 1 of 4"]


def test_a_rank_returns_another_code(inside: Any) -> None:
    assert answer(inside("exits", {"c1": 1, "c2": 1}))[:2] == ["MpiFailed", "rank 1 of 2 (sh) returned 7"]


def test_ranks_have_an_empty_standard_input_and_ignore_no_signal(inside: Any) -> None:
    masks = answer(inside("reads", {"c1": 1, "c2": 1}))
    assert [int(mask, 16) & ~(3 << 31) for mask in masks] == [0, 0]  # 32 and 33 are the C library's own (signal(7))


def test_four_communicators(inside: Any) -> None:
    kind, message, *_ = answer(inside("function", {"c1": 2, "c2": 2}, PILOT_MPI="srun --mpi=none"))
    assert kind == "MpiFailed"
    assert "4 ranks were requested" in message and "PilotDescription.mpi" in message


@pytest.mark.parametrize("victim", ["worker", "srun"])
def test_no_rank_outlives_what_started_it(inside: Any, tmp_path: Path, eventually: Eventually, victim: str) -> None:
    word = str(tmp_path / "folder")
    salloc = inside("sleeps", {"c1": 1, "c2": 1})
    eventually(lambda: len(with_argument(word)) == 2, 60)
    worker = psutil.Process(salloc.pid).children()[0].children()[0]
    launcher = next(one for one in worker.children() if one.name() == "srun")
    {"worker": worker, "srun": launcher}[victim].kill()
    try:
        eventually(lambda: not with_argument(word), 60)
        assert salloc.poll() is None
    finally:
        salloc.communicate(timeout=60)
