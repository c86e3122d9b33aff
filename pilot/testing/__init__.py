"""Runs in the tests of plugins and programs: contract suites to subclass, a simulated session, parts in memory.

A contract suite is a class of pytest tests that every plugin of its kind passes. It is collected only where a test file
subclasses it::

    from pilot.testing import LauncherContract

    class TestMine(LauncherContract):
        resource = "mine://"

The suites need pytest (``pip install 'quantum-pilot[testing]'``); the other names here do not.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot.testing.bundlers import BundlerContract
    from pilot.testing.engines import EngineContract
    from pilot.testing.journals import JournalContract
    from pilot.testing.kinds import KindContract
    from pilot.testing.launchers import LauncherContract
    from pilot.testing.memory import MemoryEngine, MemoryJournal, MemoryLauncher
    from pilot.testing.miniapps import MiniAppContract
    from pilot.testing.policies import PolicyContract
    from pilot.testing.polling import eventually
    from pilot.testing.qpus import QPUContract
    from pilot.testing.replaying import Replay, replay
    from pilot.testing.stages import QosStageContract
    from pilot.testing.world import World, measured

__all__ = [
    "BundlerContract",
    "EngineContract",
    "JournalContract",
    "KindContract",
    "LauncherContract",
    "MemoryEngine",
    "MemoryJournal",
    "MemoryLauncher",
    "MiniAppContract",
    "PolicyContract",
    "QPUContract",
    "QosStageContract",
    "Replay",
    "World",
    "eventually",
    "measured",
    "replay",
]

_SUITES = {
    "BundlerContract": "bundlers",
    "EngineContract": "engines",
    "JournalContract": "journals",
    "KindContract": "kinds",
    "LauncherContract": "launchers",
    "MiniAppContract": "miniapps",
    "PolicyContract": "policies",
    "QPUContract": "qpus",
    "QosStageContract": "stages",
}
_OTHERS = {
    **dict.fromkeys(("MemoryEngine", "MemoryJournal", "MemoryLauncher"), "memory"),
    **dict.fromkeys(("Replay", "replay"), "replaying"),
    **dict.fromkeys(("World", "measured"), "world"),
    "eventually": "polling",
}


def __getattr__(name: str) -> Any:
    if name in _SUITES:
        import pytest

        module = f"{__name__}.{_SUITES[name]}"
        if module not in sys.modules:
            pytest.register_assert_rewrite(module)  # what an assertion compared is shown, as in a test file
    elif name in _OTHERS:
        module = f"{__name__}.{_OTHERS[name]}"
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return __all__
