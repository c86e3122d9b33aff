"""The error of a mean over correlated data, by the jackknife over blocks, with a manager and a pilot."""

import numpy as np

from pilot import PilotDescription, PilotManager, worker_state


def mean_without(series: np.ndarray, block: int, size: int) -> float:
    kept = np.delete(series, slice(block * size, (block + 1) * size))
    return float(kept.mean())


def peak(series: np.ndarray, width: int) -> float:
    """Its kernel is made once in each worker."""
    state = worker_state()
    if "kernel" not in state:
        kernel = np.exp(-(np.linspace(-2, 2, width) ** 2))
        state["kernel"] = kernel / kernel.sum()
    return float(np.convolve(series, state["kernel"], "valid").max())


if __name__ == "__main__":
    noise = np.random.default_rng(5).normal(size=40_000)
    correlated = np.convolve(noise, np.ones(20) / 20, "valid")
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2))  # engine="ray" for workers in a Ray cluster
        series = manager.put(correlated)
        for size in (1000, 2000):
            count = len(correlated) // size
            tasks = [manager.submit_task(mean_without, series, block, size) for block in range(count)]
            means = np.array(manager.get_results(tasks))
            print(f"blocks of {size}: error {np.sqrt((count - 1) * means.var()):.5f}")
        print(f"peak {manager.submit_task(peak, series, 101).result():.4f}")
        few = [manager.submit_task(mean_without, series, block, 1000) for block in range(4)]
        next(manager.as_completed(few)).result()
        print(1, "is ready")
