"""What every mini-app promises (`MiniAppContract`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilot import PluginError, registry
from pilot.testing import MiniAppContract

#: A pilot of processes with a small snapshot.
QPU_PILOT = str(Path(__file__).parents[1] / "data/qpu_pilot.toml")
#: Flags with which a mini-app runs in seconds; those that are not here are run by tests of their own.
FLAGS = {
    "circuit-cutting": (
        *("--preset", "small", "--qubits", "6", "--subcircuit-size", "3", "--whole", "4", "--shots", "100"),
        *("--pilot", "process:1"),
    ),
    "circuit-execution": ("--preset", "small", "--pilot", "process:1"),
    "dispatch": ("--preset", "small", "--pilot", "process:1"),
    "error-mitigation": ("--preset", "small", "--pilots", QPU_PILOT),
    "state-vector": ("--preset", "small", "--pilot", "process:2"),
    "variational": ("--preset", "small", "--pilots", QPU_PILOT),
}


def suite(name: str) -> Any:
    """The contract for one mini-app; left out where a package that it needs is not installed."""
    members: dict[str, Any] = {"miniapp": name, "flags": FLAGS.get(name, ())}
    if name not in FLAGS:
        members["test_it_runs_and_leaves_a_report"] = None
    made = type(f"Test{name.title().replace('-', '')}", (MiniAppContract,), members)
    try:
        registry.check("pilot.miniapps", name)
    except PluginError as error:
        return pytest.mark.skip(reason=str(error))(made)
    return made


globals().update({made.__name__: made for made in map(suite, registry.names("pilot.miniapps"))})


def test_those_with_flags_are_registered() -> None:
    assert set(FLAGS) <= set(registry.names("pilot.miniapps"))
