"""The spectrum of a disordered chain, averaged over seeds, with a manager and a pilot."""

import numpy as np

from pilot import PilotDescription, PilotManager, TaskDescription


def spectrum(hopping: np.ndarray, seed: int) -> np.ndarray:
    return np.linalg.eigvalsh(hopping + np.diag(np.random.default_rng(seed).uniform(-1, 1, len(hopping))))


def averaged(spectra: list[np.ndarray]) -> np.ndarray:
    return np.mean(spectra, axis=0)


if __name__ == "__main__":
    matrix = np.eye(200, k=1) + np.eye(200, k=-1)
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2))  # engine="dask" for workers in a Dask cluster
        hopping = manager.put(matrix)
        spectra = [manager.submit_task(spectrum, hopping, seed) for seed in range(20)]
        mean = manager.submit_task(averaged, spectra).result()
        print(f"lowest {mean[0]:.4f}, highest {mean[-1]:.4f}")

        widths = manager.map(np.ptp, spectra)
        print(f"mean width {np.mean(manager.get_results(widths)):.4f}")
        print(f"greatest {max(task.result()[-1] for task in manager.as_completed(spectra)):.4f}")

        wrong = manager.submit_task(TaskDescription(function=np.linalg.inv, args=[np.zeros((2, 2))], retries=1))
        print(type(wrong.exception()).__name__)
