"""What a worker keeps of functions with an initializer."""

from __future__ import annotations

import pytest

from pilot.worker import initialized
from pilot.worker.initialized import Initialized


def note(number: int) -> None:
    state = initialized.worker_state()
    state[number] = state.get(number, 0) + 1


def test_a_worker_keeps_the_functions_that_ran_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initialized, "_ready", {})
    monkeypatch.setattr(initialized, "_state", {})
    monkeypatch.setattr(initialized, "MOST_READY", 3)
    works = [Initialized.of(abs, note, (number,)) for number in range(100)]
    for work in works:
        assert (works[0](-1), work(-2)) == (1, 2)  # the first one runs again and again
        assert len(initialized._ready) <= 3
    assert initialized.worker_state() == dict.fromkeys(range(100), 1)
    assert works[1](-3) == 3
    assert initialized.worker_state()[1] == 2
