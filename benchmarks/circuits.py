"""Random circuits, one task each, against one bare Ray task per circuit with `transpile` inside.

The bare task is what a user writes first: the circuit pickled, transpiled for Aer and run. Both sides have
Qiskit imported on each worker before the clock starts. `distance` is how far the counts of the narrow
circuits are from the exact probabilities (total variation, mean): the same on both sides, since both sample
the same distributions.
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


def random_circuits(number: int) -> list[QuantumCircuit]:
    """Circuits on 2 to 12 qubits, ten layers deep, all qubits measured; the same ones each time."""
    from qiskit.circuit.random import random_circuit

    widths = np.random.default_rng(11).integers(2, 13, size=number)
    return [random_circuit(int(width), depth=10, measure=True, seed=seed) for seed, width in enumerate(widths)]


def transpile_and_run(circuit: QuantumCircuit, seed: int) -> dict[str, int]:
    """The bare task."""
    from qiskit import transpile
    from qiskit_aer import AerSimulator

    simulator = AerSimulator(max_parallel_threads=1)
    job = simulator.run(transpile(circuit, simulator), shots=SHOTS, seed_simulator=seed)
    return job.result().get_counts()


def measure(contestant: Any, circuits: int) -> _bench.Figures:
    run = through_pilot if isinstance(contestant, _bench.Ours) else through_engine
    work = random_circuits(circuits)
    with contestant as engine:
        run(engine, work[:8])  # Qiskit is imported on both workers
        began = perf_counter()
        counts = run(engine, work)
        seconds = perf_counter() - began
    return {"seconds": seconds, "distance": distance(work, counts)}


def through_engine(engine: Any, circuits: list[QuantumCircuit]) -> list[dict[str, int]]:
    return engine.gather([engine.submit(transpile_and_run, each, seed) for seed, each in enumerate(circuits)])


def through_pilot(engine: _bench.Ours, circuits: list[QuantumCircuit]) -> list[dict[str, int]]:
    from pilot.quantum.circuits import pack, run_circuits

    tasks = [engine.submit(run_circuits, pack(each), SHOTS, (seed,)) for seed, each in enumerate(circuits)]
    return [outcomes.get_counts() for (outcomes,) in engine.gather(tasks)]


def distance(circuits: list[QuantumCircuit], counts: list[dict[str, int]]) -> float:
    """Mean total variation between the counts of the narrow circuits and their exact probabilities."""
    from qiskit.quantum_info import Statevector

    distances = []
    for circuit, its_counts in zip(circuits, counts, strict=True):
        if circuit.num_qubits <= NARROW:
            exact = Statevector(circuit.remove_final_measurements(inplace=False)).probabilities_dict()
            outcomes = exact.keys() | its_counts.keys()
            gaps = (abs(exact.get(each, 0) - its_counts.get(each, 0) / SHOTS) for each in outcomes)
            distances.append(sum(gaps) / 2)
    return float(np.mean(distances))


def main() -> None:
    parser = _bench.arguments(__doc__, engines=["ray"], repeat=1)
    parser.add_argument("--circuits", type=int, default=1024, help="how many circuits")
    options = parser.parse_args()

    rows = []
    for engine in options.engine:
        bare, ours = _bench.compare(engine, repeat=options.repeat, circuits=options.circuits)
        rows.append(
            {
                "engine": engine,
                "circuits": options.circuits,
                "bare s": bare["seconds"],
                "ours s": ours["seconds"],
                "times faster": bare["seconds"] / ours["seconds"],
                "bare distance": bare["distance"],
                "our distance": ours["distance"],
            }
        )
    _bench.show(f"Random circuits of 2 to 12 qubits, {SHOTS} shots", rows, options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
