"""The page of states has the states and steps of the library, and its diagrams have them too."""

from __future__ import annotations

import re

import page_blocks
import pytest

from pilot.states import PILOT_STEPS, TASK_STEPS

PAGE = (page_blocks.DOCS / "explanation/states.md").read_text()


@pytest.mark.parametrize(("heading", "steps"), [("Tasks", TASK_STEPS), ("Pilots", PILOT_STEPS)])
def test_the_tables_are_those_of_the_library(heading, steps) -> None:  # type: ignore[no-untyped-def]
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| [^|]+ \|([^|]*)\|$", section, re.MULTILINE)
    shown = {state: set(filter(None, following.strip().split(", "))) for state, following in rows if state != "state"}
    assert shown == {state.value: {one.value for one in following} for state, following in steps.items()}


@pytest.mark.parametrize(("name", "steps"), [("task", TASK_STEPS), ("pilot", PILOT_STEPS)])
def test_the_diagrams_have_the_states_and_steps(name, steps) -> None:  # type: ignore[no-untyped-def]
    drawing = (page_blocks.DOCS / f"images/{name}_states.svg").read_text()
    assert set(re.findall(r">(\w+)</text>", drawing)) == {state.value for state in steps}
    arrows = {f"{state.value}-{one.value}" for state, following in steps.items() for one in following - {state}}
    assert set(re.findall(r'id="([a-z]+-[a-z]+)"', drawing)) == arrows
