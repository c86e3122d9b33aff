"""The controller alone: events in, commands out. No process, no time passes."""

from __future__ import annotations

import pytest

from pilot.testing.world import World


@pytest.fixture
def world() -> World:
    return World()
