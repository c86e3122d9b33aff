"""Properties and features beside closed forms, networkx and Qiskit."""

from __future__ import annotations

import networkx
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit.random import random_circuit
from qiskit.converters import circuit_to_dag

from pilot.qos.families import circuit
from pilot.qos.features import Features, properties_of


@pytest.mark.parametrize("qubits", [3, 8])
def test_ghz(qubits: int) -> None:
    """A chain: one gate after another, and each qubit is busy with two."""
    found = properties_of(circuit("ghz", qubits))
    assert (found.qubits, found.depth, found.measurements) == (qubits, qubits, qubits)
    assert (found.gates_1q, found.gates_2q, found.gates) == (1, qubits - 1, (("cx", qubits - 1), ("h", 1)))
    assert found.features == Features(
        communication=pytest.approx(2 / qubits),
        critical_depth=1.0,
        entanglement_ratio=pytest.approx((qubits - 1) / qubits),
        parallelism=0.0,
        liveness=pytest.approx((2 * qubits - 1) / qubits**2),
        measurement=0.0,
    )


def test_gates_that_run_at_the_same_time() -> None:
    made = QuantumCircuit(4)
    for _ in range(3):
        made.h(range(4))
    made.measure_all()
    found = properties_of(made).features
    assert (found.parallelism, found.liveness, found.communication, found.critical_depth) == (1.0, 1.0, 0.0, 0.0)


def test_measurements_in_the_middle_and_resets_are_layers() -> None:
    made = QuantumCircuit(2, 2)
    made.h(0)
    made.measure(0, 0)
    made.reset(0)
    made.cx(0, 1)
    made.measure([0, 1], [0, 1])
    found = properties_of(made)
    assert (found.depth, found.measurements, found.gates_2q) == (4, 3, 1)
    assert found.features.measurement == 0.5


def test_circuits_with_next_to_nothing() -> None:
    for made in (QuantumCircuit(1), QuantumCircuit(0), QuantumCircuit(1, 1)):
        assert properties_of(made).features.liveness == 0
    single = QuantumCircuit(1)
    single.x(0)
    assert properties_of(single).features == Features(
        communication=0.0, critical_depth=0.0, entanglement_ratio=0.0, parallelism=0.0, liveness=1.0, measurement=0.0
    )


@pytest.mark.parametrize("seed", range(5))
def test_random_circuits(seed: int) -> None:
    made = random_circuit(5, 8, max_operands=2, seed=seed)
    found = properties_of(made)
    dag = circuit_to_dag(made)
    assert found.depth == made.depth()
    assert found.gates_2q == made.num_nonlocal_gates() and found.gates_1q + found.gates_2q == made.size()
    graph = networkx.Graph(tuple(made.find_bit(qubit).index for qubit in node.qargs) for node in dag.two_qubit_ops())
    assert found.features.communication == pytest.approx(sum(dict(graph.degree).values()) / 20)
    order = networkx.DiGraph()
    for node in dag.op_nodes():
        order.add_node(node._node_id, pair=len(node.qargs) == 2)
        order.add_edges_from((node._node_id, other._node_id) for other in dag.successors(node) if hasattr(other, "op"))
    best = max(
        (len(path), sum(order.nodes[one]["pair"] for one in path))
        for source in order
        for target in order
        for path in networkx.all_simple_paths(order, source, target)
    )
    assert found.features.critical_depth == pytest.approx(best[1] / found.gates_2q)
    assert 0 <= min(v for v in (found.features.parallelism, found.features.liveness)) <= 1
