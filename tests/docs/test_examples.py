"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))


def run(script: Path) -> str:
    done = subprocess.run([sys.executable, str(script)], cwd=script.parent, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, record_property: Callable[[str, object], None]) -> None:
    if "mitiq" in example.stem and sys.version_info >= (3, 13):
        pytest.skip("mitiq takes Python below 3.13")
    assert run(example)
    record_property("example", example.stem)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) <= 40
