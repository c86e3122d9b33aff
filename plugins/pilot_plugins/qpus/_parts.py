"""Parts of a circuit that share no qubit and no bit: they are simulated one by one, and drawn independently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import rustworkx

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from pilot.quantum.outcomes import Outcomes


def parts_of(circuit: QuantumCircuit) -> list[QuantumCircuit]:
    """The parts that measure something, each on all qubits and bits of the circuit; together they do what it does."""
    wires = {wire: number for number, wire in enumerate((*circuit.qubits, *circuit.clbits))}
    graph = rustworkx.PyGraph()
    graph.add_nodes_from(range(len(wires)))
    its = [[wires[wire] for wire in (*entry.qubits, *entry.clbits)] for entry in circuit.data]
    graph.add_edges_from_no_data([(one[0], other) for one in its for other in one[1:]])
    part_of = {wire: number for number, some in enumerate(rustworkx.connected_components(graph)) for wire in some}
    measured = dict.fromkeys(part_of[some[0]] for entry, some in zip(circuit.data, its, strict=True) if entry.clbits)
    parts: dict[int, QuantumCircuit] = {number: circuit.copy_empty_like() for number in measured}
    for entry, some in zip(circuit.data, its, strict=True):
        if some and (part := parts.get(part_of[some[0]])) is not None:
            part.append(entry, copy=False)
    return list(parts.values())


def joint(some: Sequence[Outcomes], seed: int) -> Outcomes:
    """Samples of the whole circuit from as many of each of its parts, which are independent: those of each part are
    put in random order. The bits that a part does not measure are 0 there."""
    random = np.random.default_rng(seed)
    rows: Any = 0
    for one in some:
        rows = rows | random.permutation(np.repeat(one.packed, one.weights.astype(np.int64), axis=0))
    packed, weights = np.unique(rows, axis=0, return_counts=True)
    return replace(some[0], packed=packed, weights=weights)
