"""What every launcher promises (`LauncherContract`), of those that need Slurm: slurm, psij://slurm and srun."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pilot_plugins.launchers.slurm.launcher import SlurmLauncher

from pilot.testing import LauncherContract

pytestmark = pytest.mark.usefixtures("cluster")


class TestSlurm(LauncherContract):
    resource = "slurm://"

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SlurmLauncher, "poll_interval", 0.5)


class TestPsijSlurm(LauncherContract):
    resource = "psij://slurm"

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("psij", reason="psij-python is not installed: pip install 'quantum-pilot[psij]'")
        from pilot_plugins.launchers.psij import executors

        monkeypatch.setattr(executors, "POLL_SECONDS", 1)


@pytest.fixture(scope="module")
def allocation(cluster: Any) -> Iterator[dict[str, str]]:
    """The variables of a job of one node, in which nothing runs."""
    command = ("salloc", "--no-shell", "--nodes=1", "--ntasks=3", "--mem=300", "--job-name=contract")
    granted = cluster.run(*command)
    number = next(word for word in (granted.stdout + granted.stderr).split() if word.isdecimal())
    yield {"SLURM_JOB_ID": number, "SLURM_JOB_NUM_NODES": "1"}
    cluster.run("scancel", number)


class TestSrun(LauncherContract):
    resource = "srun://"

    @pytest.fixture(autouse=True)
    def inside(self, allocation: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in allocation.items():
            monkeypatch.setenv(name, value)
