"""Where to cut a circuit so that its largest piece has as few gates between qubits as possible.

A gate between two qubits is an edge between its two wires, and so is what is between two gates of one wire. Cuts of
gates and of wires are then the same: edges that are taken away. One cut splits a circuit where an edge is a bridge
(Tarjan, Inf. Proc. Letters 2, 160, 1974); two where an edge is a bridge once another one is away, and so on.
qiskit-addon-cutting searches for the least overhead with pieces of a given width instead; that is slower, and knows no
limit on the number of cuts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, Gate
from qiskit_addon_cutting.instructions import CutWire
from qiskit_addon_cutting.qpd import QPDBasis, TwoQubitQPDGate

#: Overhead of a cut wire: four operators are measured, and as many states prepared.
WIRE = 16.0
#: Edges of pieces in which pairs, and threes, of edges are looked for that split them together.
MOST_FOR_TWO, MOST_FOR_THREE = 300, 90
#: So many splits of a piece are followed.
FOLLOWED = 4
#: Edges of a circuit at most: a search that is longer than the run helps nobody.
MOST_EDGES = 20_000


class _Edge(NamedTuple):
    """What can be cut."""

    one: int
    other: int
    #: The place of the gate in the circuit; of a wire, that of the gate after which it is cut.
    place: int
    #: Of the wire; None: it is a gate.
    qubit: int | None
    #: Of the shots.
    overhead: float


class _Split(NamedTuple):
    """Edges that are cut. Splits are compared in this order."""

    #: Gates of each piece, the most first.
    sizes: tuple[float, ...]
    #: Of the shots.
    overhead: float
    edges: tuple[int, ...]


@dataclass(frozen=True)
class Splits:
    """The ways to cut a circuit of gates on one or two qubits. Measurements and barriers count for nothing."""

    circuit: QuantumCircuit
    edges: tuple[_Edge, ...]
    #: By node, its edges.
    around: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, circuit: QuantumCircuit, *, wires: bool = True) -> Splits | None:
        """Those of a circuit; None: it has gates that cannot be cut, or too many."""
        edges: list[_Edge] = []
        last: dict[int, tuple[int, int]] = {}  # of each qubit: its last node, and the place of its gate
        node = 0
        for place, entry in enumerate(circuit.data):
            if len(entry.qubits) < 2 or entry.name == "barrier":
                continue
            if len(entry.qubits) > 2 or (overhead := _overhead(entry)) is None or len(edges) > MOST_EDGES:
                return None
            qubits = [circuit.find_bit(qubit).index for qubit in entry.qubits]
            for side, qubit in enumerate(qubits):
                if qubit in last:
                    before, its_place = last[qubit]
                    edges.append(_Edge(before, node + side, its_place, qubit, WIRE if wires else float("inf")))
                last[qubit] = (node + side, place)
            edges.append(_Edge(node, node + 1, place, None, overhead))
            node += 2
        around: list[list[int]] = [[] for _ in range(node)]
        for number, edge in enumerate(edges):
            around[edge.one].append(number)
            around[edge.other].append(number)
        return cls(circuit, tuple(edges), tuple(map(tuple, around)))

    def best(self, cuts: int, max_overhead: float) -> QuantumCircuit | None:
        """The circuit with so many cuts marked, or fewer where more help nothing; None: none helps."""
        found = self._best(_Split(self._sizes(frozenset()), 1.0, ()), cuts, max_overhead)
        return self._marked(found.edges) if found.edges else None

    def _best(self, split: _Split, cuts: int, max_overhead: float) -> _Split:
        """The best split that goes on from one."""
        best = split
        for number in range(1, cuts + 1):
            left = cuts - number
            offers = sorted(self._offers(split, number, max_overhead), key=lambda one: (_least(one.sizes, left), one))
            for offer in offers[:FOLLOWED]:
                best = min(best, self._best(offer, left, max_overhead))
            if offers and number > 1:
                break  # a split by more edges takes more of the budget for one piece
        return best

    def _offers(self, split: _Split, cuts: int, max_overhead: float) -> Iterator[_Split]:
        """Splits of the largest piece by so many more edges."""
        away = frozenset(split.edges)
        nodes = self._pieces(away)[0]
        inside = sorted({edge for node in nodes for edge in self.around[node] if edge not in away})
        if not inside or cuts > len(inside):
            return
        if cuts > 1 and len(inside) > (MOST_FOR_TWO if cuts == 2 else MOST_FOR_THREE):
            return
        for first in itertools.combinations(inside, cuts - 1):
            overhead = split.overhead * prod(self.edges[edge].overhead for edge in first)
            if overhead > max_overhead:
                continue
            for edge, sides in self._bridges(nodes, away.union(first)):
                total = overhead * self.edges[edge].overhead
                if total <= max_overhead * (1 + 1e-9) and max(sides) < split.sizes[0]:
                    sizes = tuple(sorted((*split.sizes[1:], *sides), reverse=True))
                    yield _Split(sizes, total, (*split.edges, *first, edge))

    def _bridges(self, nodes: Sequence[int], away: frozenset[int]) -> Iterator[tuple[int, tuple[float, float]]]:
        """Edges whose loss splits these nodes, and the gates on both sides. A node is half a gate."""
        start, every = nodes[0], set(nodes)
        order: dict[int, int] = {}
        low: dict[int, int] = {}
        halves: dict[int, int] = {}
        stack: list[tuple[int, int, Iterator[int]]] = [(start, -1, iter(self.around[start]))]
        order[start] = low[start] = 0
        halves[start] = self._half(start, away)
        found: list[tuple[int, int]] = []
        while stack:
            node, came, edges = stack[-1]
            for edge in edges:
                if edge == came or edge in away:
                    continue
                other = self.edges[edge].other if self.edges[edge].one == node else self.edges[edge].one
                if other in order:
                    low[node] = min(low[node], order[other])
                    continue
                order[other] = low[other] = len(order)
                halves[other] = self._half(other, away)
                stack.append((other, edge, iter(self.around[other])))
                break
            else:
                stack.pop()
                if stack:
                    above = stack[-1][0]
                    low[above] = min(low[above], low[node])
                    halves[above] += halves[node]
                    if low[node] > order[above]:
                        found.append((came, halves[node]))
        if len(order) < len(every):  # the edges that are away have split it already
            return
        for edge, below in found:
            gate = self.edges[edge].qubit is None
            yield edge, ((below - gate) / 2, (halves[start] - below - gate) / 2)

    def _half(self, node: int, away: frozenset[int]) -> int:
        """1 where the node's gate is not cut."""
        return int(any(self.edges[edge].qubit is None and edge not in away for edge in self.around[node]))

    def _pieces(self, away: frozenset[int]) -> list[list[int]]:
        """Nodes of each piece, the one with most gates first."""
        seen: set[int] = set()
        pieces: list[list[int]] = []
        for start in range(len(self.around)):
            if start in seen:
                continue
            seen.add(start)
            piece = [start]
            for node in piece:
                for edge in self.around[node]:
                    other = self.edges[edge].one + self.edges[edge].other - node
                    if edge not in away and other not in seen:
                        seen.add(other)
                        piece.append(other)
            pieces.append(piece)
        return sorted(pieces, key=lambda its: -sum(self._half(node, away) for node in its)) or [[]]

    def _sizes(self, away: frozenset[int]) -> tuple[float, ...]:
        return tuple(sum(self._half(node, away) for node in its) / 2 for its in self._pieces(away))

    def _marked(self, cut: Sequence[int]) -> QuantumCircuit:
        """The circuit with the cuts of qiskit-addon-cutting."""
        gates = {self.edges[edge].place for edge in cut if self.edges[edge].qubit is None}
        wires: dict[int, list[int]] = {}
        for edge in cut:
            if (qubit := self.edges[edge].qubit) is not None:
                wires.setdefault(self.edges[edge].place, []).append(qubit)
        made = self.circuit.copy_empty_like()
        for place, entry in enumerate(self.circuit.data):
            if place in gates:
                made.append(TwoQubitQPDGate.from_instruction(entry.operation), entry.qubits)
            else:
                made.append(entry)
            for qubit in wires.get(place, ()):
                made.append(CutWire(), [qubit])
        return made


def _least(sizes: Sequence[float], cuts: int) -> float:
    """Gates of the largest piece when pieces are cut so many times more, each where it is best."""
    parts = [1] * len(sizes)
    for _ in range(cuts):
        most = max(range(len(sizes)), key=lambda piece: sizes[piece] / parts[piece])
        parts[most] += 1
    return max(size / its for size, its in zip(sizes, parts, strict=True))


def _overhead(entry: CircuitInstruction) -> float | None:
    """Of a cut gate; None: it cannot be cut."""
    if not isinstance(entry.operation, Gate) or entry.clbits:
        return None
    kind: Any = type(entry.operation)
    return _overhead_of(entry.name, tuple(entry.params), kind)


@lru_cache(maxsize=4096)
def _overhead_of(name: str, params: tuple[float, ...], kind: Any) -> float | None:
    try:
        return float(QPDBasis.from_instruction(kind(*params)).overhead)
    except (ValueError, TypeError):
        return None
