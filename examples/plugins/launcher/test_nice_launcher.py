import os

import pytest

from pilot import DescriptionError, PilotDescription, PilotManager
from pilot.testing import LauncherContract


class TestNiceLauncher(LauncherContract):
    resource = "nice://"


def test_tasks_run_with_a_low_priority(tmp_path):
    with PilotManager(tmp_path) as manager:
        manager.submit_pilot(PilotDescription(resource="nice://", cores_per_node=1))
        assert manager.submit_task(os.nice, 0).result(timeout=60) == os.nice(0) + 10


def test_what_it_cannot_start(tmp_path):
    with PilotManager(tmp_path) as manager, pytest.raises(DescriptionError, match="number_of_nodes"):
        manager.submit_pilot(PilotDescription(resource="nice://", cores_per_node=1, number_of_nodes=2))
