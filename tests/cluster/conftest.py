"""The private Slurm that the tests here share; where it cannot be had they are left out, and the summary says so."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: Set by continuous integration: no Slurm is a failure then.
REQUIRE = "QUANTUM_PILOT_REQUIRE_SLURM"
#: Each worker of pytest-xdist has ports of its own.
PORT_BASE = 16900 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

_left_out = pytest.StashKey[list[str]]()


def _cluster_module() -> Any:
    """slurm/cluster.py, which is a script and in no package."""
    if "slurm_cluster" not in sys.modules:
        path = Path(__file__).parents[2] / "slurm/cluster.py"
        spec = importlib.util.spec_from_file_location("slurm_cluster", path)
        assert spec is not None and spec.loader is not None
        module = sys.modules["slurm_cluster"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["slurm_cluster"]


def leave_out(config: pytest.Config, what: str, why: str) -> None:
    """Leave a test out, loudly; or fail, where it must not be."""
    if os.environ.get(REQUIRE):
        pytest.fail(f"{what}: {why} ({REQUIRE} is set)")
    config.stash.setdefault(_left_out, []).append(f"{what}: {why}")
    pytest.skip(f"{what}: {why}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reasons = sorted(set(config.stash.get(_left_out, [])))
    if reasons:
        terminalreporter.section("LEFT OUT: tests on a real Slurm", red=True, bold=True)
        for reason in reasons:
            terminalreporter.line(f"{reason}; scripts/setup_slurm installs it, run the tests as root")


@pytest.fixture(scope="session")
def left_out(pytestconfig: pytest.Config) -> Callable[[str, str], None]:
    """``left_out(what, why)``: this test cannot run here."""
    return lambda what, why: leave_out(pytestconfig, what, why)


@pytest.fixture(scope="session")
def cluster_module() -> Any:
    return _cluster_module()


def _remove_stale_shared_memory() -> None:
    """What killed ranks of MPICH leave: its names follow Slurm's job ids, which begin anew with each private cluster,
    and a rank that finds an old file fails in MPI_Init. Those of a minute ago are mapped, or nobody's any more."""
    for file in Path("/dev/shm").glob("mpich_shm_*"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > 60:
                file.unlink()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Any]:
    """A running Slurm of four nodes; SLURM_CONF is set."""
    module = _cluster_module()
    _remove_stale_shared_memory()
    one = module.Cluster(tmp_path_factory.mktemp("slurm"), PORT_BASE)
    try:
        one.start()
    except module.ClusterError as error:
        leave_out(pytestconfig, "Slurm", str(error))
    before = os.environ.get("SLURM_CONF")
    os.environ.update(one.environment)
    yield one
    one.stop()
    del os.environ["SLURM_CONF"]
    if before is not None:
        os.environ["SLURM_CONF"] = before


@pytest.fixture
def idle_cluster(cluster: Any, eventually: Any) -> Iterator[Any]:
    """The cluster, which has no job before the test and none after it."""
    yield cluster
    jobs = cluster.run("squeue", "-h").stdout
    cluster.run("scancel", "--user=root")
    eventually(lambda: not cluster.run("squeue", "-h").stdout, timeout=60)
    assert "RUNNING" not in jobs
