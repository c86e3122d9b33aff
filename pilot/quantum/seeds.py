"""Seeds for many circuits from one."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from pilot.errors import DescriptionError


def draw_seeds(seed: np.random.Generator | int | None, number: int) -> list[int]:
    """So many seeds of 31 bits, which is what Aer takes.

    An integer gives the same ones at each call, a generator goes on from call to call, None is random.

    Raises:
        DescriptionError: the seed is another thing.
    """
    if isinstance(seed, np.random.Generator):
        return [int(one) for one in seed.integers(1 << 31, size=number)]
    if seed is not None and (not isinstance(seed, Integral) or isinstance(seed, bool) or int(seed) < 0):
        raise DescriptionError(
            f"seed: {seed!r} was given; allowed: a whole number of at least 0, or None", field="seed", given=seed
        )
    return [int(one) for one in np.random.SeedSequence(seed).generate_state(number) >> 1]
