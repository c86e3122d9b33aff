"""Aer and lightning on a GPU against the same on this machine's cores, by width.

Each width is one task through a pilot on each side: a quantum volume circuit for Aer, the adjoint gradient of strongly
entangling layers for lightning. Needs a GPU, qiskit-aer-gpu in the place of qiskit-aer, and pennylane-lightning-gpu;
what is missing is named, and its column stays empty.
"""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

import _bench

DEPTH = 10


def aer(width: int, shots: int, simulator: str) -> float:
    """Seconds of one sampled circuit."""
    from qiskit.circuit.library import quantum_volume

    from pilot.interfaces import Run
    from pilot.worker.device import simulator as simulator_of

    circuit = quantum_volume(width, depth=DEPTH, seed=width)
    circuit.measure_all()
    device = simulator_of(simulator)
    began = perf_counter()
    device.run(Run(circuits=[circuit], shots=shots, seeds=[1]))
    return perf_counter() - began


def lightning(width: int, name: str) -> float:
    """Seconds of one gradient of an expectation value."""
    import pennylane as qml
    from pennylane import numpy

    device = qml.device(name, wires=width)

    @qml.qnode(device, diff_method="adjoint")
    def energy(weights: Any) -> Any:
        qml.StronglyEntanglingLayers(weights, wires=range(width))
        return qml.expval(qml.PauliZ(0))

    shape = qml.StronglyEntanglingLayers.shape(n_layers=2, n_wires=width)
    weights = numpy.array(numpy.random.default_rng(width).uniform(0, 6, shape), requires_grad=True)
    began = perf_counter()
    qml.grad(energy)(weights)
    return perf_counter() - began


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[], repeat=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[20, 22, 24, 26, 28, 30])
    parser.add_argument("--shots", type=int, default=1000)
    options = parser.parse_args()

    import os

    from pilot import PilotDescription, PilotManager, TaskDescription

    cores = len(os.sched_getaffinity(0))
    sides: dict[str, dict[str, Any]] = {"CPU": {"num_cpus": cores}, "GPU": {"num_gpus": 1}}
    rows = []
    with PilotManager() as manager:
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=cores, gpus_per_node=gpus()))
        pilot.wait()
        for width in options.widths:
            row: dict[str, Any] = {"qubits": width}
            for side, needs in sides.items():
                simulator = f"aer:statevector?threads={cores}" if side == "CPU" else "aer:statevector?device=GPU"
                work = {
                    f"Aer {side} s": (aer, (width, options.shots, simulator)),
                    f"lightning {side} s": (
                        lightning,
                        (width, "lightning.qubit" if side == "CPU" else "lightning.gpu"),
                    ),
                }
                for column, (function, arguments) in work.items():
                    row[column] = seconds(manager, TaskDescription(function=function, args=arguments, **needs), options)
            for name in ("Aer", "lightning"):
                times = [row[f"{name} {side} s"] for side in sides]
                row[f"{name} times faster"] = (
                    times[0] / times[1] if all(isinstance(one, float) for one in times) else ""
                )
            rows.append(row)
    _bench.show("On a GPU against all cores", rows, options.json)


def gpus() -> int:
    """GPUs that nvidia-smi lists, one at most."""
    import shutil
    import subprocess

    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return min(1, listed.stdout.count("GPU "))


def seconds(manager: Any, description: Any, options: Any) -> float | str:
    """The median of some runs after a first one; why there is none where it cannot run."""
    try:
        manager.submit_task(description).result()
        return statistics.median(manager.submit_task(description).result() for _ in range(options.repeat))
    except Exception as error:
        print(f"  {description.name or description.function.__name__}{description.args}: {error}")
        return ""


if __name__ == "__main__":
    main()
