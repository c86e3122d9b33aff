"""The error of a mean over correlated data, by the jackknife over blocks, with Ray."""

import numpy as np
import ray


@ray.remote
def mean_without(series: np.ndarray, block: int, size: int) -> float:
    kept = np.delete(series, slice(block * size, (block + 1) * size))
    return float(kept.mean())


@ray.remote
class Smoother:
    """Keeps a kernel, which is made once."""

    def __init__(self, width: int) -> None:
        kernel = np.exp(-(np.linspace(-2, 2, width) ** 2))
        self.kernel = kernel / kernel.sum()

    def peak(self, series: np.ndarray) -> float:
        return float(np.convolve(series, self.kernel, "valid").max())


if __name__ == "__main__":
    noise = np.random.default_rng(5).normal(size=40_000)
    correlated = np.convolve(noise, np.ones(20) / 20, "valid")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error")
    series = ray.put(correlated)
    for size in (1000, 2000):
        count = len(correlated) // size
        means = np.array(ray.get([mean_without.remote(series, block, size) for block in range(count)]))
        print(f"blocks of {size}: error {np.sqrt((count - 1) * means.var()):.5f}")
    smoother = Smoother.remote(101)
    print(f"peak {ray.get(smoother.peak.remote(series)):.4f}")
    ready, _ = ray.wait([mean_without.remote(series, block, 1000) for block in range(4)], num_returns=1)
    print(len(ready), "is ready")
    ray.shutdown()
