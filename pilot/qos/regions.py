"""Circuits compiled for a part of a device's qubits, as if it had no others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import rustworkx
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.transpiler import InstructionProperties, Target, TranspilerError

from pilot.qos.layouts import Layout
from pilot.quantum.compilation import SEED, is_mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit.circuit import CircuitInstruction
    from qiskit.transpiler import PassManager

#: Compilers of parts that are kept: each has a target of its own.
MOST_KEPT = 100


def restricted(target: Target, qubits: Sequence[int]) -> Target:
    """A target of these qubits alone; its qubit i is ``qubits[i]``."""
    place = {qubit: at for at, qubit in enumerate(qubits)}
    known = target.qubit_properties
    part = Target(
        num_qubits=len(qubits),
        dt=target.dt,
        granularity=target.granularity,
        min_length=target.min_length,
        pulse_alignment=target.pulse_alignment,
        acquire_alignment=target.acquire_alignment,
        qubit_properties=[known[qubit] for qubit in qubits] if known else None,
    )
    for name in target.operation_names:
        its = target[name]
        if its is None or None in its:
            part.add_instruction(target.operation_from_name(name), name=name)
            continue
        kept: dict[tuple[int, ...], InstructionProperties | None] = {
            tuple(place[one] for one in where): properties
            for where, properties in its.items()
            if all(one in place for one in where)
        }
        if kept:
            part.add_instruction(target.operation_from_name(name), kept, name=name)
    return part


class Regions:
    """Compiles for parts of one device."""

    def __init__(self, target: Target, graph: rustworkx.PyGraph) -> None:
        """Make it for a target, whose pairs of qubits are the edges of a graph."""
        self._target = target
        self._graph = graph
        self._director: PassManager | None = None
        self._managers: dict[tuple[tuple[int, ...], int, int], PassManager] = {}

    def written(self, layout: Layout) -> QuantumCircuit:
        """A circuit on the qubits of a layout, on all qubits of the device; its gates in the directions that they have
        there."""
        whole = layout.on(self._graph.num_nodes())
        if all(self._has(whole, entry) for entry in whole.data):
            return whole
        if self._director is None:
            self._director = generate_preset_pass_manager(
                optimization_level=1,
                target=self._target,
                initial_layout=list(range(whole.num_qubits)),
                seed_transpiler=SEED,
            )
        made: QuantumCircuit = self._director.run(whole)
        return made

    def _has(self, whole: QuantumCircuit, entry: CircuitInstruction) -> bool:
        places = tuple(whole.find_bit(qubit).index for qubit in entry.qubits)
        return entry.name in ("barrier", "delay") or self._target.instruction_supported(entry.name, places)

    def free(self, taken: Iterable[int], least: int) -> list[tuple[int, ...]]:
        """The connected parts without these qubits that have at least so many, the largest first."""
        rest = set(self._graph.node_indices()) - set(taken)
        part = self._graph.subgraph(sorted(rest), preserve_attrs=True)
        names = sorted(rest)
        found = [tuple(sorted(names[at] for at in one)) for one in rustworkx.connected_components(part)]
        return sorted((one for one in found if len(one) >= least), key=lambda one: (-len(one), one))

    def apart(self, first: int, other: int, near: NDArray[np.bool_]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Pairs of connected parts for two circuits. The first part grows from each qubit in turn, always by that which
        leaves the other one most room.

        Args:
            first: qubits of the first part.
            other: qubits of the other part at least.
            near: `(n_qubits, n_qubits)`: no qubit of one part is near one of the other.
        """

        found: dict[tuple[int, ...], tuple[int, ...]] = {}
        for start in self._graph.node_indices():
            mine = [start]
            while len(mine) < first:
                offers = {one for qubit in mine for one in self._graph.neighbors(qubit)}.difference(mine)
                if not offers:
                    break
                mine.append(max(sorted(offers), key=partial(self._room_beside, mine, near)))
            if len(mine) == first and self._room_beside(mine[:-1], near, mine[-1]) >= other:
                found.setdefault(tuple(sorted(mine)), self._beside(mine, near)[0])
        return list(found.items())

    def _beside(self, mine: Sequence[int], near: NDArray[np.bool_]) -> list[tuple[int, ...]]:
        """Connected parts that are not near these qubits, the largest first."""
        return self.free(np.flatnonzero(near[list(mine)].any(axis=0)).tolist(), 1)

    def _room_beside(self, mine: Sequence[int], near: NDArray[np.bool_], one: int) -> int:
        """Qubits of the largest part that is left where one more is taken."""
        return max(map(len, self._beside([*mine, one], near)), default=0)

    def compiled(
        self, circuit: QuantumCircuit, qubits: tuple[int, ...], level: int, tries: int
    ) -> list[QuantumCircuit]:
        """A circuit for these qubits, once for each seed, on all qubits of the device.

        Those that cannot be compiled for them are left out.
        """
        found = []
        for seed in range(SEED, SEED + tries):
            key = (qubits, level, seed)
            if key not in self._managers:
                if len(self._managers) >= MOST_KEPT:
                    self._managers.clear()
                part = restricted(self._target, qubits)
                self._managers[key] = generate_preset_pass_manager(
                    optimization_level=level,
                    target=part,
                    seed_transpiler=seed,
                    translation_method="synthesis" if is_mixed(part) else "translator",
                )
            try:
                its = self._managers[key].run(circuit)
            except TranspilerError:  # these qubits lack something, such as a connection
                continue
            found.append(Layout(its, qubits).on(self._graph.num_nodes()))
        return found
