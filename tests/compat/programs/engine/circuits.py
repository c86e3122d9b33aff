"""What the tasks of these programs run, in a package of the programs' own."""

from __future__ import annotations

import math
import os

EXTRA = os.environ.get("COMPAT_EXTRA", "")


def expectation(angle: float, layers: int = 1, shift: float = 0.0) -> tuple[float, float]:
    """The expectation value of Z after ``layers`` rotations about X, with the angle."""
    return angle, math.cos(angle * layers) + shift


def unstable(angle: float) -> float:
    """A task that fails."""
    raise ValueError(f"no value at {angle}")
