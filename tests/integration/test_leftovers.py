"""The check that no process is left behind does see one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import PilotManager
from pilot.manager import opening


def test_a_marked_process_is_seen_until_it_ends(
    leftovers: Callable[[], list[psutil.Process]], eventually: Callable[..., object]
) -> None:
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "PILOT_AGENT": "a test"}) as process:
        try:
            eventually(lambda: process.pid in {seen.pid for seen in leftovers()})
        finally:
            process.kill()
    eventually(lambda: process.pid not in {seen.pid for seen in leftovers()})


def test_an_unmarked_process_is_not(leftovers: Callable[[], list[psutil.Process]]) -> None:
    assert os.getpid() not in {seen.pid for seen in leftovers()}


def test_a_manager_that_is_interrupted_while_it_opens_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*args: Any, **keywords: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setenv("QUANTUM_PILOT_SESSIONS", str(tmp_path))
    monkeypatch.setattr(opening, "Controller", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PilotManager()
    assert not list(tmp_path.iterdir())
