"""What every mini-app promises (`MiniAppContract`)."""

from __future__ import annotations

from pathlib import Path

from pilot import registry
from pilot.testing import MiniAppContract

#: A pilot of processes with a small snapshot.
QPU_PILOT = str(Path(__file__).parents[1] / "data/qpu_pilot.toml")


class TestCircuitCutting(MiniAppContract):
    miniapp = "circuit-cutting"
    flags = (
        *("--preset", "small", "--qubits", "6", "--subcircuit-size", "3", "--whole", "4", "--shots", "100"),
        *("--pilot", "process:1"),
    )


class TestCircuitExecution(MiniAppContract):
    miniapp = "circuit-execution"
    flags = ("--preset", "small", "--pilots", QPU_PILOT)


class TestDispatch(MiniAppContract):
    miniapp = "dispatch"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestErrorMitigation(MiniAppContract):
    miniapp = "error-mitigation"
    flags = ("--preset", "small", "--pilots", QPU_PILOT)


class TestQmlClassifier(MiniAppContract):
    miniapp = "qml-classifier"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestQmlCompression(MiniAppContract):
    miniapp = "qml-compression"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestQosEstimator(MiniAppContract):
    miniapp = "qos-estimator"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestQosMitigator(MiniAppContract):
    miniapp = "qos-mitigator"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestQosMultiprogramming(MiniAppContract):
    miniapp = "qos-multiprogramming"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestQosPipeline(MiniAppContract):
    miniapp = "qos-pipeline"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestQosScheduler(MiniAppContract):
    miniapp = "qos-scheduler"
    flags = ("--preset", "small", "--pilot", "process:1")


class TestStateVector(MiniAppContract):
    miniapp = "state-vector"
    flags = ("--preset", "small", "--pilot", "process:2")


class TestVariational(MiniAppContract):
    miniapp = "variational"
    flags = ("--preset", "small", "--pilots", QPU_PILOT)


def test_every_one_is_here() -> None:
    tested = {suite.miniapp for suite in MiniAppContract.__subclasses__() if suite.__module__ == __name__}
    assert sorted(tested) == registry.names("pilot.miniapps")
