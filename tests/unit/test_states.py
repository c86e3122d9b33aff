"""The tables of states, over the full square."""

from __future__ import annotations

import itertools

import pytest

from pilot.errors import StateError
from pilot.states import PILOT_STEPS, TASK_STEPS, PilotState, TaskState, advance, is_final

#: The steps that the docstrings promise, written out once more: from → to, one letter a state.
#: Pilots: New Queued Starting Active dRaining; Done Failed Cancelled.
PILOT_LETTERS = dict(zip("NQSARDFC", PilotState, strict=True))
PILOT_ALLOWED = {"N": "QDFC", "Q": "QSADFC", "S": "QADFC", "A": "QRDFC", "R": "QDFC", "D": "", "F": "", "C": ""}
#: Tasks: Waiting Queued Bound Running; Done Failed Cancelled.
TASK_LETTERS = dict(zip("WQBRDFC", TaskState, strict=True))
TASK_ALLOWED = {"W": "QFC", "Q": "BFC", "B": "QRDFC", "R": "QDFC", "D": "", "F": "", "C": ""}

SQUARE = [
    (letters[one], letters[two], two in allowed[one])
    for letters, allowed in ((PILOT_LETTERS, PILOT_ALLOWED), (TASK_LETTERS, TASK_ALLOWED))
    for one, two in itertools.product(letters, repeat=2)
]


@pytest.mark.parametrize("current, target, allowed", SQUARE, ids=lambda value: getattr(value, "name", str(value)))
def test_step(current: PilotState | TaskState, target: PilotState | TaskState, allowed: bool) -> None:
    if allowed:
        assert advance("it", current, target) is target
        return
    with pytest.raises(StateError, match=f"it: no step from {current.value} to {target.value}") as caught:
        advance("it", current, target)
    assert caught.value.uid == "it"


def test_the_square_is_full() -> None:
    assert len(SQUARE) == len(PilotState) ** 2 + len(TaskState) ** 2
    assert set(PILOT_STEPS) == set(PilotState)
    assert set(TASK_STEPS) == set(TaskState)


def test_final_states_are_those_without_a_next_one() -> None:
    assert {state.value for state in (*PilotState, *TaskState) if is_final(state)} == {"done", "failed", "cancelled"}


@pytest.mark.parametrize("steps", [PILOT_STEPS, TASK_STEPS], ids=["pilots", "tasks"])
def test_every_state_can_end(steps: dict) -> None:
    for state in steps:
        reached, edge = {state}, {state}
        while edge:
            edge = {after for one in edge for after in steps[one]} - reached
            reached |= edge
        assert any(is_final(one) for one in reached)
