"""Variational loops through pilots, beside the same circuits without them.

    python benchmarks/variational.py [--repeat 5] [--json FILE]

`iteration_ratio`: an iteration of VQE with 8 qubits (one energy, one step of the optimizer, the same for both) through
`PilotEstimator`, over Qiskit's `StatevectorEstimator`. `gradient_speedup`: a parameter-shift gradient by 96 parameters
on a pilot of two slots, over one of one slot. `broadcast_ratio`: a QNode with 10,000 values on `pilot.qubit`, over
plain `default.qubit`. All pilots are up and have run the same before. Runs of both sides alternate.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import _bench
import numpy as np
import pennylane as qml
from pennylane import numpy as pnp
from qiskit.circuit.library import efficient_su2
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp

from pilot import PilotDescription, PilotManager
from pilot.quantum import PilotEstimator

QUBITS = 8
#: Iterations of VQE in a run.
ITERATIONS = 50
#: The gradient's circuit: so many wires, and layers of two rotations a wire.
WIRES, LAYERS = 16, 3
VALUES = 10_000


def seconds(call: Callable[[], Any]) -> float:
    begun = perf_counter()
    call()
    return perf_counter() - begun


def paired(one: Callable[[], Any], other: Callable[[], Any], repeat: int) -> list[tuple[float, float]]:
    """Seconds of both, in alternating order, after a run of each that does not count."""
    one(), other()
    pairs = []
    for attempt in range(repeat):
        if attempt % 2 == 0:
            first, second = seconds(one), seconds(other)
        else:
            second, first = seconds(other), seconds(one)
        pairs.append((first, second))
    return pairs


def vqe(estimator: Any) -> float:
    """Iterations of SPSA on a transverse Ising chain; gives the last energy."""
    ansatz = efficient_su2(QUBITS, reps=2)
    terms = [("ZZ", [i, i + 1], 1.0) for i in range(QUBITS - 1)] + [("X", [i], 0.7) for i in range(QUBITS)]
    hamiltonian = SparsePauliOp.from_sparse_list(terms, num_qubits=QUBITS)
    rng = np.random.default_rng(7)
    angles = rng.uniform(size=ansatz.num_parameters)
    energy = 0.0
    for _ in range(ITERATIONS):
        shift = 0.1 * rng.choice([-1.0, 1.0], size=len(angles))
        plus, minus = (
            float(estimator.run([(ansatz, hamiltonian, x)]).result()[0].data.evs)
            for x in (angles + shift, angles - shift)
        )
        angles -= 0.2 * (plus - minus) / 2 / shift * 0.1
        energy = plus
    return energy


def rotations(weights: Any) -> Any:
    for layer in weights:
        for wire in range(WIRES):
            qml.RY(layer[wire, 0], wire)
            qml.RZ(layer[wire, 1], wire)
        for wire in range(WIRES):
            qml.CNOT([wire, (wire + 1) % WIRES])
    return qml.expval(qml.Z(0) @ qml.Z(1))


def gradient(manager: PilotManager) -> Callable[[], Any]:
    node = qml.QNode(rotations, qml.device("pilot.qubit", wires=WIRES, manager=manager), diff_method="parameter-shift")
    weights = pnp.array(np.random.default_rng(3).uniform(size=(LAYERS, WIRES, 2)), requires_grad=True)
    return lambda: qml.grad(node)(weights)


def broadcast(device: Any) -> Callable[[], Any]:
    @qml.qnode(device)
    def turned(angles: Any) -> Any:
        qml.RY(angles, 0)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(1))

    angles = np.linspace(0, 3, VALUES)
    return lambda: turned(angles)


def pilot(cores: int) -> PilotManager:
    manager = PilotManager()
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=cores)).wait()
    return manager


def measure(repeat: int) -> dict[str, list[tuple[float, float]]]:
    with pilot(2) as two, pilot(1) as one:
        ours, theirs = PilotEstimator(two), StatevectorEstimator()
        assert abs(vqe(ours) - vqe(theirs)) < 1e-6
        mine, plain = (
            broadcast(device)
            for device in (qml.device("pilot.qubit", wires=2, manager=two), qml.device("default.qubit", wires=2))
        )
        np.testing.assert_allclose(mine(), plain(), atol=1e-9)
        np.testing.assert_allclose(gradient(two)(), gradient(one)(), atol=1e-9)
        return {
            "iteration": paired(lambda: vqe(ours), lambda: vqe(theirs), repeat),
            "gradient": paired(gradient(one), gradient(two), 3 * repeat),
            "broadcast": paired(mine, plain, 3 * repeat),
        }


def main() -> None:
    options = _bench.arguments(__doc__, engines=[], repeat=5).parse_args()
    pairs = measure(options.repeat)
    bars = {
        "iteration": ("iteration_ratio", "<=", 1.3),
        "gradient": ("gradient_speedup", ">=", 1.7),
        "broadcast": ("broadcast_ratio", "<=", 5),
    }
    figures: dict[str, Any] = {
        key: ([first / second for first, second in pairs[name]], _bench.Bar(relation, limit, "ratio"))
        for name, (key, relation, limit) in bars.items()
    }
    rows = [
        {"what": name, "first s": median(first for first, _ in its), "second s": median(second for _, second in its)}
        for name, its in pairs.items()
    ]
    _bench.report("variational", figures, rows=rows, configuration={"repeat": options.repeat}, file=options.json)


if __name__ == "__main__":
    main()
