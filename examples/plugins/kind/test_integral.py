import pytest

from pilot import PilotDescription, PilotManager, TaskDescription
from pilot.testing import KindContract


class TestIntegral(KindContract):
    description = TaskDescription(kind="integral", args=(0.0, 2.0))
    wrong = TaskDescription(kind="integral", args=(2.0, 0.0))

    def check(self, result):
        assert result == pytest.approx(2.0)


def test_parts(tmp_path):
    with PilotManager(tmp_path) as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2))
        eight = manager.submit_task({"kind": "integral", "args": (0.0, 3.0), "kwargs": {"power": 2, "parts": 8}})
        assert eight.result(timeout=60) == pytest.approx(9.0, rel=0.01)
        assert (len(eight.parts), eight.info.name) == (8, "integral")
        single = manager.submit_task({"kind": "integral", "args": (0.0, 2.0), "kwargs": {"parts": 1}})
        assert (single.result(timeout=60), len(single.parts)) == (2.0, 0)
        failed = manager.submit_task({"kind": "integral", "args": (-1.0, 1.0), "kwargs": {"parts": 2}})
        with pytest.raises(ValueError, match="below 0"):
            failed.result(timeout=60)
