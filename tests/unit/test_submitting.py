"""What a submission costs where there are many pilots. No manager, no process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pilot.descriptions import PilotDescription
from pilot.errors import NoPilotError
from pilot.manager import capacities
from pilot.manager.submitting import Submitter
from pilot.resources import Resources, Terms
from pilot.states import PilotState


def test_new_terms_look_at_pilots_until_one_fits_and_at_their_hosts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[PilotDescription] = []
    monkeypatch.setattr(capacities, "memory_of", lambda wanted: read.append(wanted) or 1 << 30)
    pilots = {
        id: SimpleNamespace(
            id=id,
            name=id,
            names=(id,),
            description=PilotDescription(cores_per_node=cores),
            state=PilotState.QUEUED,
            reason="",
            qpus=(),
        )
        for id, cores in (("a", 2), ("b", 2), ("c", 8))
    }
    state: Any = SimpleNamespace(check_open=lambda: None, pilots=pilots, scalers={}, servable={})
    submitter = Submitter(state)
    for seconds in range(1, 100):
        submitter.capacities.check(Terms(timeout=float(seconds)))
    assert len(read) == 1
    for seconds in range(1, 100):
        submitter.capacities.check(Terms(Resources(num_cpus=8), timeout=float(seconds)))
    assert len(read) == 3
    pilots["c"].state = PilotState.FAILED
    with pytest.raises(NoPilotError, match="c is failed"):
        submitter.capacities.check(Terms(Resources(num_cpus=8)))
    assert len(read) == 3


def test_terms_that_were_found_servable_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacities, "MOST_TERMS", 10)
    pilot = SimpleNamespace(
        id="a",
        name="a",
        names=("a",),
        description=PilotDescription(cores_per_node=2),
        state=PilotState.QUEUED,
        reason="",
        qpus=(),
    )
    state: Any = SimpleNamespace(check_open=lambda: None, pilots={"a": pilot}, scalers={}, servable={})
    submitter = Submitter(state)
    for seconds in range(1, 100):
        submitter.capacities.check(Terms(timeout=float(seconds)))
        assert len(state.servable) <= 10
