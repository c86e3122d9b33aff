"""Nine families of circuits with which schedulers and estimators are compared, at any width.

They are those of the evaluation of QOS (arXiv 2406.19120, section 9), written from their definitions. All measure their
qubits at the end into one register; bit i is that of qubit i. Numbers that a definition leaves open are drawn from a
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import acos, atan, pi, sqrt

import numpy as np
import rustworkx
from qiskit import QuantumCircuit

from pilot.errors import DescriptionError, did_you_mean

#: Qubits that the families are meant for.
LEAST, MOST = 3, 24


def circuit(family: str, qubits: int, seed: int = 0) -> QuantumCircuit:
    """The circuit of a family, with its measurements.

    Args:
        family: one of `FAMILIES`.
        qubits: 3 to 24.
        seed: of angles, data and graphs; the same seed gives the same circuit.

    Raises:
        DescriptionError: there is no such family, or it has no circuit of this width.
    """
    if family not in FAMILIES:
        raise DescriptionError(
            f"family: {family!r} is not valid{did_you_mean(family, FAMILIES)}; there are {', '.join(FAMILIES)}",
            field="family",
            given=family,
        )
    if not LEAST <= qubits <= MOST:
        raise DescriptionError(
            f"qubits: {qubits!r} is not valid; expected a whole number from {LEAST} to {MOST}",
            field="qubits",
            given=qubits,
        )
    made = FAMILIES[family](qubits, np.random.default_rng([qubits, seed]))
    made.name = f"{family}-{qubits}"
    return made


def ghz(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """All qubits 0 or all 1, made along a chain (Greenberger, Horne and Zeilinger)."""
    made = QuantumCircuit(qubits)
    made.h(0)
    for one in range(qubits - 1):
        made.cx(one, one + 1)
    made.measure_all()
    return made


def w(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """One qubit is 1, each with the same probability (Dür, Vidal and Cirac): the 1 is handed on along a chain."""
    made = QuantumCircuit(qubits)
    made.x(0)
    for one in range(qubits - 1):
        angle = acos(sqrt(1 / (qubits - one)))  # keeps the 1 here with this probability
        made.ry(-angle, one + 1)
        made.cz(one, one + 1)
        made.ry(angle, one + 1)
        made.cx(one + 1, one)
    made.measure_all()
    return made


def bv(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """Finds a secret with one question (Bernstein and Vazirani): all ones, which takes most gates.

    The last qubit is the oracle's and is not measured.
    """
    made = QuantumCircuit(qubits, qubits - 1)
    made.x(qubits - 1)
    made.h(range(qubits))
    for one in range(qubits - 1):
        made.cx(one, qubits - 1)
    made.h(range(qubits - 1))
    made.measure(range(qubits - 1), range(qubits - 1))
    return made


def hs(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """One Trotter step of a chain of spins in a transverse field, from the state |+…+>: ``exp(-i t ΣX) exp(-i t ΣZZ)``
    with t = 1/4, as in SupermarQ (arXiv 2202.11045, section IV)."""
    made = QuantumCircuit(qubits)
    made.h(range(qubits))
    _phases(made, _chain(qubits), 0.5)
    made.h(range(qubits))
    made.rz(0.5, range(qubits))
    made.h(range(qubits))
    made.measure_all()
    return made


def qsvm(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """A value of a quantum kernel (Havlíček et al., Nature 567, 209): two points in the ZZ feature map along a chain,
    one of them inverted. The phases of the two commute, so they are written as one. The probability of all zeros is the
    kernel of the points, whose coordinates are between 0 and pi."""
    one, other = random.uniform(0, pi, (2, qubits))
    made = QuantumCircuit(qubits)
    made.h(range(qubits))
    for qubit in range(qubits):
        made.p(2 * (one[qubit] - other[qubit]), qubit)
    for low, high in _chain(qubits):
        made.cx(low, high)
        made.p(2 * (_product(one, low, high) - _product(other, low, high)), high)
        made.cx(low, high)
    made.h(range(qubits))
    made.measure_all()
    return made


def twolocal(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """Rotations about Y by angles that are drawn, and CX gates along a chain, in two layers; rotations at the end."""
    return _ansatz(qubits, 2, random)


def vqe(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """Rotations about Y, CX gates along a chain, rotations again: the ansatz of hardware (Kandala et al., Nature 549,
    242) with one layer; the angles are drawn."""
    return _ansatz(qubits, 1, random)


def qaoa_r(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """QAOA with one layer for the greatest cut of a random graph in which each node has three edges; of an odd number
    of nodes, of such a graph without its last node."""
    graph = rustworkx.random_regular_graph(qubits + qubits % 2, 3, seed=int(random.integers(2**31)))
    return _qaoa(qubits, [edge for edge in sorted(graph.edge_list()) if max(edge) < qubits], 3)


def qaoa_p(qubits: int, random: np.random.Generator) -> QuantumCircuit:
    """The same for a random tree whose degrees follow a power law: each node is joined to an earlier one, with a
    probability in proportion to its edges (Barabási and Albert, Science 286, 509)."""
    edges = [(0, 1)]
    for node in range(2, qubits):
        edges.append((edges[random.integers(len(edges))][random.integers(2)], node))
    return _qaoa(qubits, edges, 2)


Family = Callable[[int, np.random.Generator], QuantumCircuit]

FAMILIES: dict[str, Family] = {
    "ghz": ghz,
    "w": w,
    "bv": bv,
    "hs": hs,
    "qsvm": qsvm,
    "twolocal": twolocal,
    "vqe": vqe,
    "qaoa-r": qaoa_r,
    "qaoa-p": qaoa_p,
}


def _chain(qubits: int) -> list[tuple[int, int]]:
    return [(one, one + 1) for one in range(qubits - 1)]


def _product(point: np.ndarray[tuple[int], np.dtype[np.float64]], low: int, high: int) -> float:
    """The phase of two coordinates in the ZZ feature map."""
    return float((pi - point[low]) * (pi - point[high]))


def _phases(made: QuantumCircuit, edges: Iterable[tuple[int, int]], angle: float) -> None:
    """``exp(-i angle/2 ZZ)`` on each edge."""
    for low, high in edges:
        made.cx(low, high)
        made.rz(angle, high)
        made.cx(low, high)


def _ansatz(qubits: int, layers: int, random: np.random.Generator) -> QuantumCircuit:
    angles = random.uniform(0, 2 * pi, (layers + 1, qubits))
    made = QuantumCircuit(qubits)
    for layer in range(layers + 1):
        for qubit in range(qubits):
            made.ry(angles[layer, qubit], qubit)
        if layer < layers:
            for low, high in _chain(qubits):
                made.cx(low, high)
    made.measure_all()
    return made


def _qaoa(qubits: int, edges: Iterable[tuple[int, int]], degree: int) -> QuantumCircuit:
    """One layer with the best angles for graphs of this degree without triangles (Wang et al., arXiv 1706.02998)."""
    made = QuantumCircuit(qubits)
    made.h(range(qubits))
    _phases(made, edges, -atan(1 / sqrt(degree - 1)))
    made.rx(pi / 4, range(qubits))
    made.measure_all()
    return made
