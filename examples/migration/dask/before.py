"""The spectrum of a disordered chain, averaged over seeds, with Dask's Client."""

import numpy as np
from dask.distributed import Client, as_completed


def spectrum(hopping: np.ndarray, seed: int) -> np.ndarray:
    return np.linalg.eigvalsh(hopping + np.diag(np.random.default_rng(seed).uniform(-1, 1, len(hopping))))


def averaged(spectra: list[np.ndarray]) -> np.ndarray:
    return np.mean(spectra, axis=0)


if __name__ == "__main__":
    matrix = np.eye(200, k=1) + np.eye(200, k=-1)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        hopping = client.scatter(matrix, broadcast=True)
        spectra = [client.submit(spectrum, hopping, seed) for seed in range(20)]
        mean = client.submit(averaged, spectra).result()
        print(f"lowest {mean[0]:.4f}, highest {mean[-1]:.4f}")

        widths = client.map(np.ptp, spectra)
        print(f"mean width {np.mean(client.gather(widths)):.4f}")
        print(f"greatest {max(future.result()[-1] for future in as_completed(spectra)):.4f}")

        wrong = client.submit(np.linalg.inv, np.zeros((2, 2)), retries=1)
        print(type(wrong.exception()).__name__)
