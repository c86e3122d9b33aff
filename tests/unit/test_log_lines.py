"""Warnings that come in a flood: some are shown, and the others are counted."""

from __future__ import annotations

import logging
import time

import pytest

from pilot.manager.log_lines import MOST_AT_ONCE, LogLines


def test_a_flood_of_warnings_is_a_few_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    lines = LogLines(logging.getLogger("flood"))
    for _ in range(1000):
        lines.warn(2, ": none")
    clock = 1.5
    lines.warn(1, ": late")
    lines.warn(1, ": too soon")
    clock = 60.0
    lines.warn(1, ": later")
    said = caplog.messages
    assert said[:MOST_AT_ONCE] == ["2 task(s) failed: none"] * MOST_AT_ONCE
    assert said[MOST_AT_ONCE:] == [
        "1 task(s) failed: late, and 1980 before that have no line",
        "1 task(s) failed: later, and 1 before that have no line",
    ]
