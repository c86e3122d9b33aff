"""What every stage of the mitigator promises (`QosStageContract`)."""

from __future__ import annotations

from pilot import QosOptions, registry
from pilot.qos.families import circuit
from pilot.qos.mitigator import Ising
from pilot.qos.mitigator.mitigator import GROUP
from pilot.testing import QosStageContract

PATH = Ising(fields=(0.0,) * 5, couplings={(0, 1): 1.0, (0, 2): 1.0, (2, 3): 1.0, (0, 4): 1.0})
GATES = circuit("twolocal", 4).remove_final_measurements(inplace=False)


class TestFreezing(QosStageContract):
    stage = "freezing"
    circuit = circuit("qaoa-p", 5)
    options = QosOptions(objective=PATH)
    keeps_result = False


class TestCutting(QosStageContract):
    stage = "cutting"
    circuit = circuit("w", 5)


class TestCuttingValues(QosStageContract):
    stage = "cutting"
    circuit = GATES
    observables = ("ZZII", {"XIIX": 0.5, "IZIZ": -1.0})


class TestReuse(QosStageContract):
    stage = "reuse"
    circuit = circuit("bv", 5)


class TestReadout(QosStageContract):
    stage = "readout"
    circuit = circuit("ghz", 3)


class TestTwirling(QosStageContract):
    stage = "twirling"
    circuit = circuit("ghz", 3)


class TestDecoupling(QosStageContract):
    stage = "dd"
    circuit = circuit("ghz", 3)


class TestZeroNoise(QosStageContract):
    stage = "zne"
    circuit = GATES
    observables = ("ZZII",)


def test_every_one_is_here() -> None:
    tested = {suite.stage for suite in QosStageContract.__subclasses__() if suite.__module__ == __name__}
    assert tested == set(registry.names(GROUP))
