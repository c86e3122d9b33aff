"""The private Slurm itself: starts and stops, twice as well, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Eventually = Callable[..., Any]
SCRIPT = Path(__file__).parents[2] / "slurm/cluster.py"


@pytest.fixture
def other(cluster: Any, cluster_module: Any, tmp_path: Path) -> Iterator[Any]:
    """A second cluster, of this test alone, beside the one that all tests share. It asks for the same ports."""
    one = cluster_module.Cluster(tmp_path / "other", cluster._port_base)
    yield one
    one.stop()


def processes(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and "pytest" not in words:
            found.append(words)
    return found


def test_nodes_partitions_gres_and_licences(cluster: Any) -> None:
    shown = cluster.run("sinfo", "-h", "-o", "%P %N %G").stdout.split("\n")
    assert "cpu* c[1-2] (null)" in shown
    assert "gpu g1 gpu:2" in shown
    assert "qpu q1 qpu:1" in shown
    assert {line.split()[0] for line in shown if line} == {"cpu*", "low", "gpu", "qpu", "all"}
    licences = cluster.run("scontrol", "-o", "show", "licenses").stdout
    assert "LicenseName=qpu_ibm Total=1" in licences and "LicenseName=qpu_iqm Total=2" in licences


def test_a_step_runs_on_every_node(cluster: Any) -> None:
    done = cluster.run("srun", "-p", "all", "-N4", "printenv", "SLURMD_NODENAME")
    assert sorted(done.stdout.split()) == ["c1", "c2", "g1", "q1"], done.stderr


def test_gpus_are_told_to_a_job(cluster: Any) -> None:
    done = cluster.run("srun", "-p", "gpu", "--gres=gpu:2", "printenv", "CUDA_VISIBLE_DEVICES")
    assert done.stdout == "0,1\n", done.stderr


def test_start_and_stop_twice_beside_another(other: Any, cluster: Any) -> None:
    other.start()
    pid = other.pid("slurmctld")
    other.start()
    assert other.pid("slurmctld") == pid
    assert other.environment != cluster.environment
    assert "c1" in other.run("srun", "-p", "all", "-N4", "printenv", "SLURMD_NODENAME").stdout
    other.stop()
    other.stop()
    assert not other.is_running()
    assert cluster.is_running()


def test_stop_leaves_no_process_and_no_control_group(other: Any, cluster_module: Any, eventually: Eventually) -> None:
    """Not even of a job that ignores SIGTERM and has left its session."""
    other.start()
    mark = f"77{os.getpid()}"
    script = f"trap : TERM; setsid sh -c 'trap : TERM; sleep {mark}; sleep {mark}' & while :; do sleep 1; done"
    other.run("sbatch", "-o", "/dev/null", "--wrap", script)
    sleepers = Path("/proc").glob
    eventually(lambda: any(mark in words(path) for path in sleepers("[0-9]*/cmdline")))
    other.stop()
    assert processes(other.folder) == []
    assert not any(words(path).startswith(f"sleep {mark}") for path in sleepers("[0-9]*/cmdline"))
    assert not other._groups.exists()


def words(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_daemons_one_by_one(other: Any, eventually: Eventually) -> None:
    other.start()
    other.kill_slurmd("c2")
    assert other.pid("slurmd.c2") is None
    other.start_slurmd("c2")
    assert other.pid("slurmd.c2")
    job = other.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 60").stdout.strip()
    eventually(lambda: "RUNNING" in other.run("squeue", "-h", "-o", "%T").stdout)
    pid = other.pid("slurmctld")
    other.restart_slurmctld()
    assert other.pid("slurmctld") not in (pid, None)
    assert other.run("squeue", "-h", "-o", "%i %T").stdout == f"{job} RUNNING\n"


def test_taken_ports_are_left_alone(cluster_module: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        if port > 64000:
            pytest.skip("this port is too near to the end of the range")
        assert cluster_module.free_ports(port) > port


def test_the_command_line(other: Any) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SCRIPT), *words, "--folder", str(other.folder)], capture_output=True, text=True
        )

    assert call("env").stdout == f"export SLURM_CONF='{other.folder}/etc/slurm.conf'\n"
    assert "slurmctld    down" in call("status").stdout
    started = call("start", "--port-base", "17300")
    assert started.returncode == 0, started.stderr
    shown = call("status").stdout
    assert "slurmctld    up" in shown and "q1 qpu idle" in shown
    assert call("stop").returncode == 0
    assert "slurmctld    down" in call("status").stdout


def test_what_to_install(cluster_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("the first thing it says then is that it needs root")
    monkeypatch.setattr(cluster_module, "which", lambda name: None)
    with pytest.raises(cluster_module.ClusterError, match=r"slurmctld.*apt-get install.*slurm-wlm"):
        cluster_module.Cluster(tmp_path / "none").start()
    assert not (tmp_path / "none").exists()
