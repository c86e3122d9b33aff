"""What every mini-app promises (`MiniAppContract`)."""

from __future__ import annotations

from pathlib import Path

from pilot import registry
from pilot.testing import MiniAppContract

#: A pilot of processes with a small snapshot.
QPU_PILOT = str(Path(__file__).parents[1] / "data/qpu_pilot.toml")


class TestCircuitCutting(MiniAppContract):
    miniapp = "circuit-cutting"
    flags = ("--qubits", "6", "--subcircuit-size", "3", "--shots", "100", "--pilot", "process:1")


class TestDispatch(MiniAppContract):
    miniapp = "dispatch"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestStateVector(MiniAppContract):
    miniapp = "state-vector"
    flags = ("--preset", "small", "--pilot", "process:2")


class TestCircuitExecution(MiniAppContract):
    miniapp = "circuit-execution"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestVariational(MiniAppContract):
    miniapp = "variational"
    flags = ("--preset", "small", "--pilots", QPU_PILOT)


class TestErrorMitigation(MiniAppContract):
    miniapp = "error-mitigation"
    flags = ("--preset", "small", "--pilots", QPU_PILOT)


def test_every_one_is_here() -> None:
    tested = {suite.miniapp for suite in MiniAppContract.__subclasses__() if suite.__module__ == __name__}
    assert sorted(tested) == registry.names("pilot.miniapps")
