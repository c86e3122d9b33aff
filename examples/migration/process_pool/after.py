"""The energy of a ring of spins at four temperatures, by Metropolis' method, on a pilot."""

import math
import random
from concurrent.futures import as_completed

from pilot import PilotDescription, PilotExecutor, PilotManager


def energy(temperature: float, seed: int, spins: int = 64, sweeps: int = 400) -> float:
    """Per spin, averaged over the second half of the sweeps."""
    chance = random.Random(seed)
    ring = [1] * spins
    sums = []
    for _ in range(sweeps):
        for _ in range(spins):
            site = chance.randrange(spins)
            cost = 2 * ring[site] * (ring[site - 1] + ring[(site + 1) % spins])
            if cost <= 0 or chance.random() < math.exp(-cost / temperature):
                ring[site] = -ring[site]
        sums.append(-sum(ring[site] * ring[site - 1] for site in range(spins)) / spins)
    return sum(sums[sweeps // 2 :]) / (sweeps - sweeps // 2)


if __name__ == "__main__":
    temperatures = [1.0, 1.5, 2.0, 3.0]
    with PilotManager() as manager, PilotExecutor(manager) as pool:
        manager.submit_pilot(PilotDescription(cores_per_node=2))
        for temperature, found in zip(temperatures, pool.map(energy, temperatures, range(4)), strict=True):
            print(f"T = {temperature}: {found:.4f}, exact {-math.tanh(1 / temperature):.4f}")
        again = [pool.submit(energy, 2.0, seed) for seed in range(10, 16)]
        mean = sum(future.result() for future in as_completed(again)) / len(again)
        print(f"T = 2.0, six seeds: {mean:.4f}")
