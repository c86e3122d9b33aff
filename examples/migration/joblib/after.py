"""How often a square of sites is crossed by a cluster of occupied ones (percolation), with joblib on a pilot."""

import random

from joblib import Parallel, delayed, parallel_config

from pilot import PilotDescription, PilotManager, register_joblib


def is_crossed(density: float, seed: int, size: int = 24) -> bool:
    """Whether occupied neighbours lead from the top row to the bottom row."""
    chance = random.Random(seed)
    square = [[chance.random() < density for _ in range(size)] for _ in range(size)]
    front = [(0, column) for column in range(size) if square[0][column]]
    seen = set(front)
    while front:
        row, column = front.pop()
        if row == size - 1:
            return True
        for place in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if place not in seen and all(0 <= one < size for one in place) and square[place[0]][place[1]]:
                seen.add(place)
                front.append(place)
    return False


if __name__ == "__main__":
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2))
        register_joblib(manager)
        with parallel_config(backend="pilot", n_jobs=2):
            for density in (0.5, 0.593, 0.7):
                crossed = Parallel()(delayed(is_crossed)(density, seed) for seed in range(200))
                print(f"density {density}: {sum(crossed) / len(crossed):.3f} of the squares")
