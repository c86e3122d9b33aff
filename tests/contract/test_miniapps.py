"""What every mini-app promises (`MiniAppContract`)."""

from __future__ import annotations

from pilot import registry
from pilot.testing import MiniAppContract


class TestCircuitCutting(MiniAppContract):
    miniapp = "circuit-cutting"
    flags = ("--qubits", "6", "--subcircuit-size", "3", "--shots", "100", "--pilot", "process:1")


def test_every_one_is_here() -> None:
    assert registry.names("pilot.miniapps") == ["circuit-cutting", "circuit-execution", "variational"]
