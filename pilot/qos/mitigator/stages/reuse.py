"""Qubit reuse: one qubit is measured and reset, and goes on as another one whose gates all come later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import rustworkx
from qiskit import QuantumCircuit
from qiskit.circuit import Reset

from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Replacement, Step, Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot.quantum.outcomes import Outcomes
    from pilot.quantum.runner import Runner

#: What it costs to join a pair of wires.
Cost = Callable[[tuple[int, int]], tuple[int, ...]]
#: Qubits of circuits that are made narrower to gain something, and to fit a device: the search takes the cube of them.
MOST_TO_GAIN, MOST_TO_FIT = 32, 128


@dataclass(frozen=True)
class Reuse(QosStage):
    """Reuses qubits: as few as the device needs, and as many as there are."""

    required: bool = False

    name = "reuse"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """Two at most. A circuit whose gates depend on outcomes gives none."""
        if context.goal.observables is not None or any(map(_is_dynamic, variant.circuits)):
            return
        width = max(circuit.num_qubits for circuit in variant.circuits)
        last = width
        is_cut = any(step.stage == "cutting" for step in variant.steps)  # its pieces are small already
        for target, most in ((context.info.qubits, MOST_TO_FIT), (1, 0 if is_cut else MOST_TO_GAIN)):
            if target >= last or width > most:
                continue
            made = [reused(circuit, target) for circuit in variant.circuits]
            last = max(circuit.num_qubits for circuit in made)
            if last == width:
                return
            parts = [Replacement(circuits=[one], shares=[1.0], groups=[0], merge=_same) for one in made]
            yield variant.replaced(parts, Step(stage=self.name, text=f"{last} qubits in the place of {width}"))


def reused(circuit: QuantumCircuit, target: int = 1) -> QuantumCircuit:
    """The circuit on fewer qubits, with the same classical bits and the same distribution.

    A pair of qubits is possible where no operation of the first depends on one of the second: the first is then
    measured before the second begins. In each step the pair is taken that adds least to the depth. Where that leaves
    too many qubits, it is the pair whose second begins first, which leaves fewer.

    Args:
        circuit: whose gates do not depend on outcomes.
        target: qubits that are few enough.
    """
    found = _Chains.of(circuit).shortened(target, _Chains.added)
    if len(found.wires) > target:
        fewer = _Chains.of(circuit).shortened(target, _Chains.begins)
        found = min(found, fewer, key=lambda chains: len(chains.wires))
    return found.circuit() if len(found.wires) < circuit.num_qubits else circuit


class _Chains(NamedTuple):
    """A circuit as a graph of operations, and which of its qubits follow one another on one wire."""

    source: QuantumCircuit
    #: Nodes are places in the circuit's data.
    graph: rustworkx.PyDAG
    #: Of each wire, the circuit's qubits that are on it, in order.
    wires: tuple[tuple[int, ...], ...]
    #: By qubit, its first and last operation.
    ends: dict[int, tuple[int, int]]

    @classmethod
    def of(cls, circuit: QuantumCircuit) -> _Chains:
        graph = rustworkx.PyDAG()
        last: dict[object, int] = {}
        ends: dict[int, tuple[int, int]] = {}
        for place, entry in enumerate(circuit.data):
            graph.add_node(place)
            if entry.name == "barrier":  # it stands between times, and what is reused has another time
                continue
            for wire in (*entry.qubits, *entry.clbits):
                if wire in last:
                    graph.add_edge(last[wire], place, None)
                last[wire] = place
            for qubit in entry.qubits:
                number = circuit.find_bit(qubit).index
                ends[number] = (ends.get(number, (place, place))[0], place)
        return cls(circuit, graph, tuple((number,) for number in sorted(ends)), ends)

    def shortened(self, target: int, costs: Callable[[_Chains], Cost]) -> _Chains:
        """With pairs of the least cost joined, until so many wires are left or no pair is possible."""
        chains = self
        while len(chains.wires) > target:
            cost = costs(chains)
            offers = [(cost(pair), pair) for pair in chains.pairs()]
            if not offers:
                break
            chains = chains.joined(min(offers)[1])
        return chains

    def begins(self) -> Cost:
        """Where in the circuit the second wire begins, and where the first one ends."""
        return lambda pair: (self.ends[self.wires[pair[1]][0]][0], self.ends[self.wires[pair[0]][-1]][1])

    def added(self) -> Cost:
        """Operations on the longest path over the end of the first wire and the begin of the second; then the first."""
        before, after = _lengths(self.graph), _lengths(self.graph, backwards=True)
        depth = max(before.values(), default=0)

        def cost(pair: tuple[int, int]) -> tuple[int, ...]:
            through = before[self.ends[self.wires[pair[0]][-1]][1]] + after[self.ends[self.wires[pair[1]][0]][0]]
            return max(depth, through), through

        return cost

    def pairs(self) -> Iterable[tuple[int, int]]:
        """Wires of which the second can go on on the first."""
        after = {wire: rustworkx.descendants(self.graph, self.ends[its[0]][0]) for wire, its in enumerate(self.wires)}
        for one, its in enumerate(self.wires):
            end = self.ends[its[-1]][1]
            for other, theirs in enumerate(self.wires):
                begin = self.ends[theirs[0]][0]
                if one != other and end != begin and end not in after[other]:
                    yield one, other

    def joined(self, pair: tuple[int, int]) -> _Chains:
        """With the second wire on the first."""
        one, other = pair
        graph = self.graph.copy()
        graph.add_edge(self.ends[self.wires[one][-1]][1], self.ends[self.wires[other][0]][0], None)
        wires = [its for number, its in enumerate(self.wires) if number not in pair]
        return self._replace(graph=graph, wires=(self.wires[one] + self.wires[other], *wires))

    def circuit(self) -> QuantumCircuit:
        """On the wires alone."""
        source = self.source
        made = QuantumCircuit(len(self.wires), name=source.name, global_phase=source.global_phase)
        made.add_bits(source.clbits)
        for register in source.cregs:
            made.add_register(register)
        wire = {qubit: number for number, its in enumerate(self.wires) for qubit in its}
        starts: dict[int, list[int]] = {}
        for its in self.wires:
            for qubit in its[1:]:
                starts.setdefault(self.ends[qubit][0], []).append(qubit)
        for place in rustworkx.lexicographical_topological_sort(self.graph, key=lambda node: f"{node:09}"):
            entry = source.data[place]
            if entry.name == "barrier":
                continue
            for qubit in starts.get(place, ()):
                made.append(Reset(), [wire[qubit]])
            qubits = [wire[source.find_bit(qubit).index] for qubit in entry.qubits]
            made.append(entry.operation, qubits, entry.clbits)
        return made


def _lengths(graph: rustworkx.PyDAG, *, backwards: bool = False) -> dict[int, int]:
    """Of each operation, how many are on the longest path to it and it itself; backwards: from it."""
    order = rustworkx.topological_sort(graph)
    nearest = graph.successor_indices if backwards else graph.predecessor_indices
    found: dict[int, int] = {}
    for node in reversed(order) if backwards else order:
        found[node] = 1 + max((found[one] for one in nearest(node)), default=0)
    return found


def _is_dynamic(circuit: QuantumCircuit) -> bool:
    return any(entry.is_control_flow() or entry.name == "store" for entry in circuit.data)


def _same(outcomes: Sequence[Outcomes], manager: Runner | None) -> Outcomes:
    (outcome,) = outcomes
    return outcome
