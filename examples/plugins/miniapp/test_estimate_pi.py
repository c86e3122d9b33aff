import pytest
from estimate_pi import EstimatePi, PiSettings, count, estimates
from pilot_miniapps.frame import execute

from pilot import PilotDescription
from pilot.testing import MiniAppContract


class TestEstimatePi(MiniAppContract):
    miniapp = "pi"
    flags = ("--preset", "small", "--pilot", "process:1")


def test_the_value_is_right(tmp_path):
    app = EstimatePi(PiSettings(tasks=4, points=10_000))
    report = execute(app, tmp_path, [PilotDescription.from_text("process:1")])
    assert report["oracle"]["passed"]
    assert report["figures"]["pi"]["value"] == 4 * sum(count(10_000, seed) for seed in range(1, 5)) / 40_000


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_estimates_end_with_the_value(tasks):
    settings = PiSettings(tasks=tasks, points=100)
    hits = [count(100, seed) for seed in range(tasks)]
    assert estimates(hits, settings)[-1] == (tasks, 4 * sum(hits) / (100 * tasks))
