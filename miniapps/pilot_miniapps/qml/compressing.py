"""What a task of `qml-compression` does: one image becomes the angles of a circuit."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from pilot_miniapps.qml.encoding import QUBITS, Floats, encode
from pilot_miniapps.qml.staircase import Staircase
from pilot_miniapps.qml.sweeping import disentangled, swept


class Compressed(NamedTuple):
    """An image as a circuit, and how long each step took.

    Attributes:
        parameters: the angles, in the order of `Staircase`.
        fidelities: by the matrix product states, after the sweeps, and after BFGS: the square of the overlap.
        iterations: of BFGS.
        seconds: of the sweeps (with the matrix product states), and of BFGS.
        cpu_seconds: the same of the process, all of its threads together.
        threads: the most that a library of this process may use.
    """

    parameters: Floats
    fidelities: tuple[float, float, float]
    iterations: int
    seconds: tuple[float, float]
    cpu_seconds: tuple[float, float]
    threads: int


def compress(image: np.ndarray, layers: int, sweeps: int, iterations: int) -> Compressed:
    """Find the circuit for an image. Runs in a worker, on one thread.

    Args:
        image: shape ``(32, 32, 3)``, ``uint8``.
        layers: of the circuit.
        sweeps: over all gates.
        iterations: of BFGS at most (Nocedal and Wright, "Numerical optimization", 2006, algorithm 6.1).
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_info, threadpool_limits

    circuit = Staircase(QUBITS, layers)
    with threadpool_limits(limits=1):
        times = [_now()]
        target = encode(image / 255)
        gates = disentangled(circuit, target)
        first = _fidelity(circuit, circuit.parameters(gates), target)
        start = circuit.parameters(swept(circuit, gates, target, sweeps))
        times.append(_now())

        def infidelity(parameters: Floats) -> tuple[float, Floats]:
            overlap, gradient = circuit.overlap_and_gradient(parameters, target)
            return 1 - overlap**2, -2 * overlap * gradient

        found = minimize(infidelity, start, jac=True, method="BFGS", options={"maxiter": iterations})
        times.append(_now())
        threads = max([pool["num_threads"] for pool in threadpool_info()], default=1)
    wall, cpu = np.diff(times, axis=0).T.tolist()
    return Compressed(
        parameters=found.x,
        fidelities=(first, _fidelity(circuit, start, target), 1 - float(found.fun)),
        iterations=int(found.nit),
        seconds=tuple(wall),
        cpu_seconds=tuple(cpu),
        threads=threads,
    )


def _fidelity(circuit: Staircase, parameters: Floats, target: Floats) -> float:
    return float(target @ circuit.state(parameters)) ** 2


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def warm_up() -> None:
    """Load what `compress` needs, and run it once. Runs in each worker before the clock starts."""
    compress(np.full((32, 32, 3), 128, np.uint8), layers=1, sweeps=1, iterations=1)
