"""How the processes of a pilot are started and found."""

from __future__ import annotations

import pytest

from pilot.wire.marks import MARK
from pilot.wire.processes import with_threads
from pilot.wire.session import new_mark


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        pytest.param({}, "OPENBLAS_NUM_THREADS", "2", id="the cores of the task"),
        pytest.param({"MKL_NUM_THREADS": "3"}, "MKL_NUM_THREADS", "3", id="the user's own"),
        pytest.param({"MKL_NUM_THREADS": "3"}, "OMP_NUM_THREADS", "2", id="no other one"),
        pytest.param({"OMP_NUM_THREADS": "4"}, "OPENBLAS_NUM_THREADS", "4", id="OpenMP's counts for all"),
        pytest.param({"OMP_NUM_THREADS": "4", "NUMEXPR_NUM_THREADS": "1"}, "NUMEXPR_NUM_THREADS", "1", id="both"),
        pytest.param({"OMP_NUM_THREADS": "4,2"}, "OMP_NUM_THREADS", "4,2", id="a list stays"),
        pytest.param({"OMP_NUM_THREADS": "4,2"}, "OPENBLAS_NUM_THREADS", "4", id="the first of a list"),
        pytest.param({"OMP_NUM_THREADS": "many"}, "OPENBLAS_NUM_THREADS", "2", id="no number"),
    ],
)
def test_numbers_of_threads(given: dict[str, str], name: str, value: str) -> None:
    assert with_threads(2, given)[name] == value


def test_marks_of_a_task_are_below_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "abc.w1")
    assert new_mark().startswith("abc.w1.")
    monkeypatch.delenv(MARK)
    assert "." not in new_mark()
