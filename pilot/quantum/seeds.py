"""Seeds for many circuits from one."""

from __future__ import annotations

import numpy as np


def draw_seeds(seed: np.random.Generator | int | None, number: int) -> list[int]:
    """So many seeds of 31 bits, which is what Aer takes.

    An integer gives the same ones at each call, a generator goes on from call to call, None is random.
    """
    if isinstance(seed, np.random.Generator):
        return [int(one) for one in seed.integers(1 << 31, size=number)]
    return [int(one) for one in np.random.SeedSequence(seed).generate_state(number) >> 1]
