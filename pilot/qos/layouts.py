"""Where a compiled circuit may be on a device: its gates on other qubits that are connected in the same way.

The layouts are subgraphs of the coupling graph (VF2), as in mapomatic (Nation and Treinish, PRX Quantum 4, 010327). The
cost of one is about -log of the probability that nothing goes wrong, with the idle times of the first layout; it only
orders them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import rustworkx
from qiskit import QuantumCircuit

from pilot.quantum.device_noise import DeviceNoise

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit.transpiler import Target

#: Layouts of a circuit that are looked at, and steps of the search for them.
MOST_FOUND, MOST_STEPS = 5000, 1_000_000
#: Of these, the cheapest on different qubits are kept.
MOST_KEPT = 1000
#: Arrangements of several circuits that are kept while the next circuit is added.
BEAM = 500


class Layout(NamedTuple):
    """A circuit on a device."""

    #: On the qubits that it uses alone.
    circuit: QuantumCircuit
    #: Which of the device these are, in order.
    qubits: tuple[int, ...]

    def on(self, qubits: int) -> QuantumCircuit:
        """The circuit on all qubits of the device."""
        whole = QuantumCircuit(qubits, name=self.circuit.name)
        whole.add_bits(self.circuit.clbits)
        for register in self.circuit.cregs:
            whole.add_register(register)
        return whole.compose(self.circuit, list(self.qubits), self.circuit.clbits)


class Layouts(NamedTuple):
    """Those of one circuit, the cheapest first."""

    layouts: list[Layout]
    #: `(n_layouts,)`.
    costs: NDArray[np.float64]
    #: `(n_layouts, n_qubits)`: True for the device's qubits that each uses.
    masks: NDArray[np.bool_]

    @classmethod
    def together(cls, some: Sequence[Layouts]) -> Layouts:
        """Those of all, the cheapest on each set of qubits."""
        layouts = [one for each in some for one in each.layouts]
        costs, masks = np.concatenate([one.costs for one in some]), np.concatenate([one.masks for one in some])
        order = np.argsort(costs, kind="stable")
        order = order[np.isfinite(costs[order])]
        _, first = np.unique(np.packbits(masks[order], axis=1), axis=0, return_index=True)
        order = order[np.sort(first)][:MOST_KEPT]
        return cls([layouts[at] for at in order], costs[order], masks[order])


class Device:
    """What layouts on a device cost."""

    def __init__(self, target: Target) -> None:
        """Make it for a target with its errors and durations."""
        self.qubits = int(target.num_qubits)
        self._target = target
        self._noise = DeviceNoise(target)
        self._tables: dict[tuple[str, int], NDArray[np.float64]] = {}
        coupling = target.build_coupling_map()
        #: The pairs of qubits that gates act on; without a coupling all of them.
        self.graph = (
            rustworkx.generators.complete_graph(self.qubits)
            if coupling is None
            else coupling.graph.to_undirected(multigraph=False)
        )

    def near(self, distance: int) -> NDArray[np.bool_]:
        """`(n_qubits, n_qubits)`: True where a qubit is at most this far from another, in gates; each is 0 from
        itself."""
        steps = rustworkx.distance_matrix(self.graph, null_value=np.inf)
        found: NDArray[np.bool_] = steps <= distance
        return found

    def layouts(self, compiled: QuantumCircuit) -> Layouts:
        """Where a circuit may be.

        Args:
            compiled: for the device, without control flow.

        Raises:
            QPUError: it is not compiled for this target.
        """
        small, active = self._noise.reduce(compiled)
        places = np.array([active, *self._mapped(small, len(active))])
        costs = self._costs(small, active, places)
        masks = np.zeros((len(places), self.qubits), bool)
        np.put_along_axis(masks, places, True, axis=1)
        found = Layouts([Layout(small, tuple(row)) for row in places.tolist()], costs, masks)
        return Layouts.together([found])

    def _mapped(self, small: QuantumCircuit, width: int) -> list[tuple[int, ...]]:
        """Places of its qubits such that gates act on pairs that are connected."""
        wire = {qubit: at for at, qubit in enumerate(small.qubits)}
        pairs = {
            (min(places), max(places))
            for entry in small.data
            if len(entry.qubits) == 2 and entry.name != "barrier"
            for places in [[wire[qubit] for qubit in entry.qubits]]
        }
        pattern = rustworkx.PyGraph(multigraph=False)
        pattern.add_nodes_from(range(width))
        pattern.add_edges_from_no_data(sorted(pairs))
        if len(self.graph) < width:
            return []
        matches = rustworkx.vf2_mapping(
            self.graph, pattern, subgraph=True, induced=False, id_order=False, call_limit=MOST_STEPS
        )
        return [tuple(sorted(match, key=match.__getitem__)) for match in map(dict, islice(matches, MOST_FOUND))]

    def _costs(self, small: QuantumCircuit, active: Sequence[int], places: NDArray[np.intp]) -> NDArray[np.float64]:
        scheduled = self._noise.schedule(small, active)
        wire = {qubit: at for at, qubit in enumerate(scheduled.qubits)}
        uses: Counter[tuple[str, tuple[int, ...]]] = Counter()
        idle = np.zeros(len(active))
        for entry in scheduled.data:
            its = tuple(wire[qubit] for qubit in entry.qubits)
            if entry.name == "delay":
                idle[its[0]] += self._noise.scheduler.seconds(entry.operation)
            else:
                uses[entry.name, its] += 1
        times = np.array([self._noise.times(qubit) for qubit in range(self.qubits)])[places]
        costs: NDArray[np.float64] = -np.log(
            (1 + np.exp(-idle / times[..., 0]) + 2 * np.exp(-idle / times[..., 1])) / 4
        ).sum(axis=1)
        for (name, its), count in uses.items():
            costs += count * self._table(name, len(its))[tuple(places[:, at] for at in its)]
        return costs

    def _table(self, name: str, width: int) -> NDArray[np.float64]:
        """`(n_qubits,)` or `(n_qubits, n_qubits)`: what an instruction costs; infinite where the device has it not. One
        in the other direction costs as much: it takes gates on one qubit more (`Regions.written`)."""
        if (name, width) not in self._tables:
            table = np.full((self.qubits,) * width, np.inf)
            size = 2**width
            for qubits, properties in (self._target[name] or {None: None}).items():
                error = min(getattr(properties, "error", None) or 0.0, size / (size + 1))
                scale = 1.0 if name == "measure" else (size + 1) / size
                table[... if qubits is None else qubits] = -np.log(max(1 - error * scale, 1e-12))
            self._tables[name, width] = np.minimum(table, table.T)
        return self._tables[name, width]


def _least(values: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Places of the least finite values, in order."""
    places = np.flatnonzero(np.isfinite(values))
    if len(places) > most:
        places = places[np.argpartition(values[places], most)[:most]]
    return places[np.argsort(values[places], kind="stable")]


def arrange(some: Sequence[Layouts], near: NDArray[np.bool_], most: int) -> list[tuple[int, ...]]:
    """Ways to have circuits on a device at the same time, the cheapest first: one layout of each, such that no qubit of
    one is near a qubit of another.

    Args:
        some: those of each circuit, at least one.
        near: `(n_qubits, n_qubits)`.
        most: how many ways.

    Returns:
        For each way the number of the layout of each circuit. A search that keeps the `BEAM` cheapest ways for the
        first circuits.
    """
    reach = near.astype(np.float32)
    chosen = np.arange(len(some[0].costs))[:BEAM, None]
    costs, taken = some[0].costs[:BEAM], some[0].masks[:BEAM]
    for its in some[1:]:
        if not len(costs) or not len(its.costs):
            return []
        blocked = (taken.astype(np.float32) @ reach) @ its.masks.T.astype(np.float32) > 0.5
        sums = np.where(blocked, np.inf, costs[:, None] + its.costs)
        order = _least(sums.ravel(), BEAM)
        before, following = np.unravel_index(order, sums.shape)
        chosen = np.column_stack([chosen[before], following])
        costs, taken = sums.ravel()[order], taken[before] | its.masks[following]
    return [tuple(row) for row in chosen[:most].tolist()]
