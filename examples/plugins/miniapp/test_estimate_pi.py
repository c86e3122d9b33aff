import json

import pytest
from estimate_pi import EstimatePi, PiSettings, count

from pilot import DescriptionError
from pilot.testing import MiniAppContract


class TestEstimatePi(MiniAppContract):
    miniapp = "pi"
    flags = ("--tasks", "4", "--points", "1000", "--pilot", "process:1")


def test_the_value_is_right(tmp_path):
    EstimatePi(PiSettings(tasks=4, points=10_000, output=str(tmp_path))).run()
    report = json.loads((tmp_path / "report.json").read_text())
    assert abs(report["difference"]) < 4 * report["standard_error"]
    assert report["value"] == 4 * sum(count(10_000, seed) for seed in range(1, 5)) / 40_000


def test_a_wrong_pilot_is_refused_at_once():
    with pytest.raises(DescriptionError):
        PiSettings(pilot="process:none")
