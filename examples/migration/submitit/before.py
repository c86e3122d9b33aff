"""Lyapunov exponents of the logistic map, one job for each rate, with submitit."""

import math
from tempfile import TemporaryDirectory

import submitit


def exponent(rate: float, steps: int = 20_000) -> float:
    if not 0 < rate <= 4:
        raise ValueError(f"the rate must be above 0 and at most 4, not {rate}")
    x, total = 0.3, 0.0
    for _ in range(steps):
        x = rate * x * (1 - x)
        total += math.log(abs(rate * (1 - 2 * x)) + 1e-300)
    return total / steps


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        executor = submitit.AutoExecutor(folder=folder, cluster="local")  # "slurm" on a cluster
        executor.update_parameters(timeout_min=5, cpus_per_task=1)
        rates = [3.2, 3.5, 3.7, 4.0]
        for rate, job in zip(rates, executor.map_array(exponent, rates), strict=True):
            print(f"r = {rate}: {job.result():+.4f}")
        wrong = executor.submit(exponent, 5.0)
        print("failed:", "ValueError" in str(wrong.exception()))
