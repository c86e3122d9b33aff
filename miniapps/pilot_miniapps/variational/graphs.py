"""The greatest cut of a graph: QAOA, and all cuts counted."""

from __future__ import annotations

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from pilot_miniapps.variational.problems import Problem

#: QAOA with one layer cuts at least this share of the greatest cut of a 3-regular graph (Farhi et al.,
#: arXiv:1411.4028, section IV).
GUARANTEED = 0.6924


def edges_of(nodes: int, seed: int) -> list[tuple[int, int]]:
    """The edges of a random graph in which each node has three."""
    import networkx

    return sorted((min(edge), max(edge)) for edge in networkx.random_regular_graph(3, nodes, seed=seed).edges)


def greatest_cut(nodes: int, edges: list[tuple[int, int]]) -> int:
    """The most edges between two sets of nodes, by counting them for all ``2 ** (nodes - 1)`` cuts."""
    sides = np.arange(2 ** (nodes - 1))[:, None] >> np.arange(nodes) & 1
    return int(sum(sides[:, one] != sides[:, other] for one, other in edges).max())  # type: ignore[union-attr]


def problem(nodes: int, layers: int, seed: int) -> Problem:
    """QAOA for `edges_of` these nodes: the energy is minus the mean number of edges that are cut. A worker runs it.

    A layer is ``exp(-i g H)`` with the Hamiltonian H and ``exp(-i b/4 ΣX)``. The eigenvalues of H are whole numbers
    from minus the greatest cut to 0, so the energy is a trigonometric polynomial in g of that degree. It does not
    change when all bits are flipped; between states that do not either, eigenvalues of ΣX differ by multiples of 4 up
    to 2 ``nodes``: the degree in b is half of the nodes.
    """
    edges = edges_of(nodes, seed)
    circuit = QuantumCircuit(nodes, name=f"maxcut-{nodes}")
    circuit.h(range(nodes))
    for layer in range(layers):
        cost, mixer = Parameter(f"t{2 * layer:03}"), Parameter(f"t{2 * layer + 1:03}")
        for one, other in edges:
            circuit.rzz(cost, one, other)
        circuit.rx(mixer / 2, range(nodes))
    terms = [("ZZ", [one, other], 0.5) for one, other in edges]
    energy = SparsePauliOp.from_sparse_list([*terms, ("", [], -len(edges) / 2)], num_qubits=nodes)
    degrees = (greatest_cut(nodes, edges), nodes // 2) * layers
    ramp = [(layer + 1) / (layers + 1) for layer in range(layers)]
    start = tuple(angle for up in ramp for angle in (0.8 * up, -2.4 * (1 - up)))
    return Problem(f"max-cut {nodes}", circuit, energy, degrees, start)
