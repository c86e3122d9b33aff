"""What every launcher promises (`LauncherContract`), of those that need no cluster: local and psij://local.

The others are in ``tests/cluster/test_launcher_contract.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pilot_plugins.launchers.local import LocalLauncher

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Job, JobState
from pilot.testing import LauncherContract
from pilot.wire.marks import MARK
from pilot.wire.processes import marked

HERE = PilotDescription(resource="local://")


class TestLocal(LauncherContract):
    resource = "local://"


class TestPsijLocal(LauncherContract):
    resource = "psij://local"

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("psij", reason="psij-python is not installed: pip install 'quantum-pilot[psij]'")


# ---- local:// alone ------------------------------------------------------------------------------------------------


def test_one_that_cannot_be_submitted_keeps_no_other_from_it(make_job: Callable[..., Job]) -> None:
    launcher = LocalLauncher()
    jobs = [make_job(HERE, "sleep", "60"), make_job(HERE, "no-such-agent"), make_job(HERE, "sleep", "60")]
    one, wrong, other = launcher.submit_many(jobs)
    assert isinstance(wrong, OSError) and "no-such-agent" in str(wrong)
    assert isinstance(one, str) and isinstance(other, str)
    launcher.cancel_many({one: jobs[0].environment[MARK], other: jobs[2].environment[MARK]})
    assert not any(marked(job.environment[MARK]) for job in jobs)


def test_a_job_that_is_not_known() -> None:
    id = f"{os.getpid()}:1.00"  # this pid, and not this process
    assert LocalLauncher().status({id: Path()})[id][0] is JobState.ENDED


@pytest.mark.parametrize("fields", [{"number_of_nodes": 2}, {"resource": "local://elsewhere"}], ids=["nodes", "host"])
def test_what_it_cannot_start(fields: dict[str, Any]) -> None:
    with pytest.raises(DescriptionError, match=next(iter(fields))):
        launcher, description = LocalLauncher(), PilotDescription(**fields)
        launcher.check_fields(description)
        launcher.check(description)
