"""Fixtures of the tests with circuits, in several files."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot import PilotDescription, PilotManager, registry


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The plugin of `circuit_cases`, as if it were installed."""
    from circuit_cases import PLUGIN

    folder = tmp_path_factory.mktemp("plugins")
    (folder / "moody.py").write_text(PLUGIN)
    info = folder / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pilot.qpus]\nmoody = moody:Moody\n")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    registry._group.cache_clear()
    yield folder
    sys.path.remove(str(folder))
    registry._group.cache_clear()
    registry.is_device.cache_clear()


@pytest.fixture(scope="module")
def manager(
    tmp_path_factory: pytest.TempPathFactory, plugin: Path, eventually: Callable[..., Any]
) -> Iterator[PilotManager]:
    """Of the tests that have none of their own: two cores without devices, and a small fake QPU of another pilot."""
    with PilotManager(tmp_path_factory.mktemp("session") / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2, name="cpu"))
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["fake:manila"], name="devices"))
        eventually(lambda: manager.qpus, timeout=60)
        yield manager


@pytest.fixture
def pilots_go_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each mistake the pilots still take tasks."""
    from circuit_cases import SOON, bell, describe, total

    yield
    if "manager" in request.fixturenames:
        manager: PilotManager = request.getfixturevalue("manager")
        assert manager.submit_task(pow, 2, 3).result(timeout=SOON) == 8
        assert total(manager.submit_task(describe(bell(), shots=7, qpu="fake:manila"))) == 7


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    """A manager with one pilot, "home", of two cores; it does not wait for further pilots."""
    with PilotManager(tmp_path_factory.mktemp("session"), wait_for_pilot=0) as manager:
        manager.submit_pilot({"name": "home", "cores_per_node": 2})
        yield manager


@pytest.fixture
def home_goes_on(home: PilotManager) -> Iterator[None]:
    """After each mistake the pilot of `home` still takes tasks."""
    yield
    assert home.get_results(home.map(pow, [2] * 8, range(8))) == [2**n for n in range(8)]
    assert not [thread for thread in threading.enumerate() if "journal" in thread.name and not thread.is_alive()]
