"""What type checkers make of the public names: `tests/typing` states each type, and which calls are errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests/typing"
CHECKERS = {
    "mypy": ["mypy", "--strict", str(CASES)],
    "pyright": ["basedpyright", "--pythonpath", sys.executable, "--project", str(CASES)],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_types_are_as_stated(checker: str) -> None:
    done = subprocess.run([sys.executable, "-m", *CHECKERS[checker]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
