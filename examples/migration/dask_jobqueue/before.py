"""Lyapunov exponents of the logistic map on workers that are Slurm jobs, with dask-jobqueue."""

import math

from dask.distributed import Client
from dask_jobqueue import SLURMCluster


def exponent(rate: float, steps: int = 20_000) -> float:
    x, total = 0.3, 0.0
    for _ in range(steps):
        x = rate * x * (1 - x)
        total += math.log(abs(rate * (1 - 2 * x)) + 1e-300)
    return total / steps


if __name__ == "__main__":
    cluster = SLURMCluster(queue="cpu", cores=2, processes=2, memory="1 GB", walltime="00:10:00")
    cluster.scale(jobs=2)
    with cluster, Client(cluster) as client:
        rates = [3.2, 3.5, 3.7, 4.0]
        for rate, found in zip(rates, client.gather(client.map(exponent, rates)), strict=True):
            print(f"r = {rate}: {found:+.4f}")
