"""Fragments of a cut circuit over three QPUs with a queue each, against one by one and the balanced lower bound.

The QPUs are fake ones (snapshots of IBM's, with noise) in three pilots on this machine. Each job waits in a simulated
queue before it runs, and each shot takes a set time, so that the devices' own time does not depend on this machine.
The lower bound is one queue and a third of all shots: no division of the circuits among the three ends sooner.
One by one, each circuit is a job of its own on one QPU, sent when the one before is back.
"""

from __future__ import annotations

import statistics
import time

import _bench

QPUS = ("kolkata", "hanoi", "mumbai")


def problem(qubits: int):
    """The ansatz of the cutting mini-app, with its angles, and Z on its top qubit."""
    from qiskit.circuit.library import efficient_su2

    circuit = efficient_su2(qubits, entanglement="linear", reps=2)
    return circuit.assign_parameters([0.4] * circuit.num_parameters), "Z" + "I" * (qubits - 1)


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[], repeat=3)
    parser.add_argument("--qubits", type=int, default=8, help="of the whole circuit")
    parser.add_argument("--max-qubits", type=int, default=4, help="of a fragment")
    parser.add_argument("--shots", type=int, default=200)
    parser.add_argument("--queue", type=float, default=0.5, help="seconds that each job waits")
    parser.add_argument("--shot-time", type=float, default=2e-3, help="seconds a shot")
    options = parser.parse_args()

    from pilot import PilotDescription, PilotManager
    from pilot.quantum.aer import exact_value
    from pilot.quantum.cutting import plan

    circuit, observable = problem(options.qubits)
    planned = plan(circuit, observable, options.max_qubits)
    names = [f"fake:{name}?queue={options.queue}&shot_time={options.shot_time}" for name in QPUS]
    with PilotManager() as manager:
        for name in names:
            manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[name], name=name.split("?")[0]))
        while len(manager.qpus) < len(names):
            time.sleep(0.05)
        planned.run(manager, shots=options.shots, qpu="*", seed=0)  # compiles what each QPU is first given
        spans = []
        for seed in range(1, options.repeat + 1):
            began = time.perf_counter()
            result = planned.run(manager, shots=options.shots, qpu="*", seed=seed)
            spans.append(time.perf_counter() - began)
        began = time.perf_counter()
        for description in planned.descriptions(shots=options.shots, qpu=names[0], seed=0):
            manager.submit_task(description).result()
        one_by_one = time.perf_counter() - began
    bound = options.queue + planned.num_distinct * options.shots * options.shot_time / len(QPUS)
    span = statistics.median(spans)
    rows = [
        {
            "circuits": planned.num_distinct,
            "QPUs": len(QPUS),
            "bound s": bound,
            "ours s": span,
            "ours / bound": span / bound,
            "one by one s": one_by_one,
            "times faster": one_by_one / span,
            "value": result.values[0],
            "standard error": result.standard_errors[0],
            "exact, no noise": exact_value(circuit, observable),
        }
    ]
    _bench.show("Fragments over three fake QPUs with a queue each", rows, options.json)


if __name__ == "__main__":
    main()
