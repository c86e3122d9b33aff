"""When an agent passes on what its devices report."""

from __future__ import annotations

from typing import Any

import pytest

from pilot.agent.devices import Devices
from pilot.resources import QPUInfo

#: id: (what the second report has that the first had not, whether it is passed on)
SECOND: dict[str, tuple[dict[str, Any], bool]] = {
    "the same, soon": ({"asked": 1001.0}, False),
    "the same, a minute later": ({"asked": 1060.0}, True),
    "another calibration": ({"asked": 1001.0, "calibrated": 2.0}, True),
    "down": ({"asked": 1001.0, "accepts_jobs": False}, True),
    "a queue that others use": ({"asked": 1001.0, "pending_jobs": 3}, True),
}


@pytest.mark.parametrize("changes, passed_on", SECOND.values(), ids=SECOND)
def test_a_device_that_is_the_same_is_reported_once_a_minute(changes: dict[str, Any], passed_on: bool) -> None:
    devices, known = Devices(["fake:lima"]), {"qubits": 5, "accepts_jobs": True}
    devices.reported("fake:lima", QPUInfo(name="fake:lima", asked=1000.0, **known))
    assert devices.changes == 1
    devices.reported("fake:lima", QPUInfo(name="fake:lima", **{**known, **changes}))
    assert devices.changes == 1 + passed_on
