"""Arguments of calls that are meant for the task, in a task as in a program."""

from __future__ import annotations

from typing import Any

import pytest

from pilot import CurrentManager, DescriptionError

in_a_task: Any = CurrentManager(None, None, 1)  # type: ignore[arg-type]  # refused before anything is sent


@pytest.mark.parametrize("field", ["priority", "retries", "num_gpus", "pilot", "depends_on"])
def test_a_field_of_the_task_is_refused_when_a_task_submits(field: str) -> None:
    with pytest.raises(DescriptionError, match=rf"abs has no argument '{field}'.*TaskDescription\(function=abs, args="):
        in_a_task.submit_task(abs, 1, **{field: 3})


def test_a_key_that_the_function_could_want_itself_is_refused_when_a_task_submits() -> None:
    with pytest.raises(DescriptionError, match="has an argument of this name itself"):
        in_a_task.submit_task(sorted, [3, 1, 2], key="mine")
