"""Lyapunov exponents of the logistic map on pilots that are Slurm jobs."""

import math

from pilot import PilotDescription, PilotManager


def exponent(rate: float, steps: int = 20_000) -> float:
    x, total = 0.3, 0.0
    for _ in range(steps):
        x = rate * x * (1 - x)
        total += math.log(abs(rate * (1 - 2 * x)) + 1e-300)
    return total / steps


if __name__ == "__main__":
    job = PilotDescription(resource="slurm://", queue="cpu", cores_per_node=2, memory="1 GB", walltime="00:10:00")
    with PilotManager("session") as manager:
        pilots = [manager.submit_pilot(job) for _ in range(2)]
        rates = [3.2, 3.5, 3.7, 4.0]
        for rate, found in zip(rates, manager.get_results(manager.map(exponent, rates)), strict=True):
            print(f"r = {rate}: {found:+.4f}")
