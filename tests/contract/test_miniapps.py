"""What every mini-app promises (`MiniAppContract`)."""

from __future__ import annotations

from pilot import registry
from pilot.testing import MiniAppContract


class TestCircuitCutting(MiniAppContract):
    miniapp = "circuit-cutting"
    flags = ("--qubits", "6", "--subcircuit-size", "3", "--shots", "100", "--pilot", "process:1")


class TestDispatch(MiniAppContract):
    miniapp = "dispatch"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestStateVector(MiniAppContract):
    miniapp = "state-vector"
    flags = ("--preset", "small", "--pilot", "process:2")


def test_every_one_is_here() -> None:
    tested = {suite.miniapp for suite in MiniAppContract.__subclasses__() if suite.__module__ == __name__}
    assert sorted(tested) == registry.names("pilot.miniapps")
