"""Which circuits are estimated when QPUs report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from pilot import PilotDescription
from pilot.manager.asked import Alike, Asked
from pilot.manager.estimating import Estimating
from pilot.resources import ANY_QPU, PLAIN, QPUInfo, Resources
from pilot.states import PilotState


class Pilots(dict[str, Any]):
    """Counts how often all of them are looked at."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


def asked(number: int, sent: list[int]) -> Any:
    """What is to be estimated, which notes when it is."""

    def work(*args: Any, final: bool) -> Any:
        sent.append(number)
        raise NotImplementedError

    terms = msgspec.structs.replace(PLAIN, resources=Resources(num_cpus=0.0, qpu=ANY_QPU))
    one = Asked.__new__(Asked)
    one.parts, one.infos, one.key = {number: SimpleNamespace(terms=terms)}, None, Alike.key(terms)
    one.estimator, one.sample, one.wanted = SimpleNamespace(work=work), None, None
    one.gate = SimpleNamespace(id=1000 + number, name="estimate")
    return one


def test_circuits_that_wait_cost_nothing_while_qpus_report_what_is_known(monkeypatch: Any) -> None:
    def pilot(calibrated: float) -> Any:
        info = QPUInfo(name="fake:lima", qubits=5, calibrated=calibrated)
        description = PilotDescription(qpus=["fake:lima"])
        return SimpleNamespace(state=PilotState.ACTIVE, names=("p",), description=description, qpus=[info])

    pilots, sent = Pilots(p=pilot(1.0)), list[int]()
    state: Any = SimpleNamespace(pilots=pilots, scalers={}, functions={})
    estimating = Estimating(state, SimpleNamespace(), lambda event: None)  # type: ignore[arg-type]
    monkeypatch.setattr(Estimating, "_send", lambda self, asked, work, args: None)
    for number in range(100):
        estimating._begin(asked(number, sent))
    assert sent == list(range(100))
    before = pilots.looks
    for _ in range(50):
        estimating.look()
    assert pilots.looks == before + 50 and len(sent) == 100
    pilots["p"] = pilot(2.0)
    estimating.look()
    assert sent[100:] == list(range(100))
