"""Qernels never change, and go from stage to stage as the table says."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from itertools import product

import pytest

from pilot.errors import StateError
from pilot.qos.families import circuit
from pilot.qos.qernel import NEXT, Progress, Qernel, Stage


def test_a_qernel_is_what_was_given() -> None:
    made = circuit("ghz", 4)
    one = Qernel.of(1, made, 100, {"min_fidelity": 0.5}, (7,))
    made.x(0)
    assert one.circuit == circuit("ghz", 4) and one.circuit is not one.circuit
    assert one.properties.gates_2q == 3 and one.parents == (7,)
    with pytest.raises(FrozenInstanceError):
        one.shots = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        one.wanted["min_fidelity"] = 0.1  # type: ignore[index]


@pytest.mark.parametrize(("stage", "target"), list(product(Stage, Stage)))
def test_stages(stage: Stage, target: Stage) -> None:
    progress = Progress([(stage, 1.0)])
    if target in NEXT[stage]:
        progress.advance(target, 2.0)
        assert progress.stage is target
    else:
        with pytest.raises(StateError, match=f"from {stage.value} to no {target.value}"):
            progress.advance(target, 2.0)


def test_ends_are_ends_and_all_else_can_end() -> None:
    ends = {stage for stage in Stage if not NEXT[stage]}
    assert ends == {Stage.DONE, Stage.FAILED, Stage.CANCELLED}
    assert all(NEXT[stage] & ends for stage in Stage if stage not in ends)


def test_time_in_each_stage() -> None:
    progress = Progress([(Stage.SUBMITTED, 10.0)])
    for stage, at in ((Stage.ESTIMATED, 11.0), (Stage.SCHEDULED, 15.0), (Stage.RUNNING, 16.0)):
        progress.advance(stage, at)
    progress.advance(Stage.SCHEDULED, 18.0)  # its worker died
    assert progress.seconds(20.0) == {
        Stage.SUBMITTED: 1.0,
        Stage.ESTIMATED: 4.0,
        Stage.SCHEDULED: 3.0,
        Stage.RUNNING: 2.0,
    }
    progress.advance(Stage.DONE, 25.0)
    assert progress.seconds(99.0)[Stage.DONE] == 0 and sum(progress.seconds(99.0).values()) == 15.0
