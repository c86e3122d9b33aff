"""Lyapunov exponents of the logistic map, one task for each rate, with a manager and a pilot."""

import math
from tempfile import TemporaryDirectory

from pilot import PilotDescription, PilotManager


def exponent(rate: float, steps: int = 20_000) -> float:
    if not 0 < rate <= 4:
        raise ValueError(f"the rate must be above 0 and at most 4, not {rate}")
    x, total = 0.3, 0.0
    for _ in range(steps):
        x = rate * x * (1 - x)
        total += math.log(abs(rate * (1 - 2 * x)) + 1e-300)
    return total / steps


if __name__ == "__main__":
    with TemporaryDirectory() as folder, PilotManager(f"{folder}/session") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2))  # resource="slurm://", … on a cluster
        rates = [3.2, 3.5, 3.7, 4.0]
        for rate, task in zip(rates, manager.map(exponent, rates, timeout=300), strict=True):
            print(f"r = {rate}: {task.result():+.4f}")
        wrong = manager.submit_task(exponent, 5.0)
        print("failed:", "ValueError" in repr(wrong.exception()))
