"""An ensemble of random circuits, one task each, against one bare Ray task per circuit with `transpile` inside.

The ensemble of figure 3 of the Pilot-Quantum paper (arXiv 2412.18519): 1,024 random circuits, 2 to 20 qubits here.
The bare task is what a user writes first: the circuit pickled, transpiled for Aer and run. Both sides have Qiskit
imported on each worker before the clock starts, and run the circuits of one width after the other, for a table by
width. `distance` is how far the counts of the narrow circuits are from the exact probabilities (total variation,
mean): the same on both sides, since both sample the same distributions.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import _bench
import numpy as np

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

SHOTS = 1024
#: Up to here the exact probabilities are few enough for a thousand shots to show them.
NARROW = 5


def random_circuits(number: int, width: int) -> list[QuantumCircuit]:
    """Circuits on so many qubits, ten layers deep, all qubits measured; the same ones each time."""
    from qiskit.circuit.random import random_circuit

    return [random_circuit(width, depth=10, measure=True, seed=1000 * width + seed) for seed in range(number)]


def transpile_and_run(circuit: QuantumCircuit, seed: int) -> dict[str, int]:
    """The bare task."""
    from qiskit import transpile
    from qiskit_aer import AerSimulator

    simulator = AerSimulator(max_parallel_threads=1)
    job = simulator.run(transpile(circuit, simulator), shots=SHOTS, seed_simulator=seed)
    return job.result().get_counts()


def measure(contestant: Any, circuits: int, widest: int) -> _bench.Figures:
    """Seconds by width, and the distance."""
    run = through_pilot if isinstance(contestant, _bench.Ours) else through_engine
    widths = range(2, widest + 1)
    shares = [circuits // len(widths) + (place < circuits % len(widths)) for place in range(len(widths))]
    figures: _bench.Figures = {}
    distances = []
    with contestant as engine:
        run(engine, random_circuits(8, 2))  # Qiskit is imported on both workers
        for width, share in zip(widths, shares, strict=True):
            work = random_circuits(share, width)
            began = perf_counter()
            counts = run(engine, work)
            figures[str(width)] = perf_counter() - began
            if width <= NARROW:
                distances += [distance(*pair) for pair in zip(work, counts, strict=True)]
    return {**figures, "distance": float(np.mean(distances))}


def through_engine(engine: Any, circuits: list[QuantumCircuit]) -> list[dict[str, int]]:
    return engine.gather([engine.submit(transpile_and_run, each, seed) for seed, each in enumerate(circuits)])


def through_pilot(engine: _bench.Ours, circuits: list[QuantumCircuit]) -> list[dict[str, int]]:
    from pilot import TaskDescription

    tasks = engine.manager.submit_tasks(
        TaskDescription(circuit=each, shots=SHOTS, seed=seed) for seed, each in enumerate(circuits)
    )
    return [outcomes.get_counts() for outcomes in engine.gather(tasks)]


def distance(circuit: QuantumCircuit, counts: dict[str, int]) -> float:
    """Total variation between the counts and the exact probabilities."""
    from qiskit.quantum_info import Statevector

    exact = Statevector(circuit.remove_final_measurements(inplace=False)).probabilities_dict()
    outcomes = exact.keys() | counts.keys()
    return sum(abs(exact.get(each, 0) - counts.get(each, 0) / SHOTS) for each in outcomes) / 2


def main() -> None:
    parser = _bench.arguments(__doc__, engines=["ray"], repeat=1)
    parser.add_argument("--circuits", type=int, default=1024, help="how many circuits, evenly over the widths")
    parser.add_argument("--widest", type=int, default=20, help="qubits of the widest ones")
    options = parser.parse_args()

    rows = []
    for engine in options.engine:
        bare, ours = _bench.compare(engine, repeat=options.repeat, circuits=options.circuits, widest=options.widest)
        widths = [str(width) for width in range(2, options.widest + 1)]
        groups = {width: [width] for width in widths}
        groups["2 to 12"] = [width for width in widths if int(width) <= 12]
        groups["all"] = widths
        for name, group in groups.items():
            seconds = [sum(side[width] for width in group) for side in (bare, ours)]
            rows.append(
                {
                    "engine": engine,
                    "qubits": name,
                    "bare s": seconds[0],
                    "ours s": seconds[1],
                    "times faster": seconds[0] / seconds[1],
                    "bare distance": bare["distance"] if name == "all" else "",
                    "our distance": ours["distance"] if name == "all" else "",
                }
            )
    title = f"{options.circuits} random circuits, one task each, {SHOTS} shots"
    _bench.show(title, rows, options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
