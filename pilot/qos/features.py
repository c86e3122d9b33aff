"""Static properties of a circuit: sizes, gates by kind, and the six features of SupermarQ.

The features are those of Tomesh et al. (arXiv 2202.11045, section III), each between 0 and 1. They are of the gates and
of the measurements and resets in the middle: barriers and measurements at the end are left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import CircuitInstruction

#: Instructions that are no operations.
_NONE = frozenset({"barrier", "delay"})


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """SupermarQ's features."""

    #: The mean share of the other qubits that a qubit interacts with.
    communication: float
    #: The share of the gates on two qubits that are on the longest path; of several such paths that with most.
    critical_depth: float
    #: The share of gates that act on two qubits.
    entanglement_ratio: float
    #: How many gates run at the same time, beyond one, of the most that could.
    parallelism: float
    #: The share of time in which a qubit is busy.
    liveness: float
    #: The share of layers with a measurement in the middle, or a reset.
    measurement: float


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a circuit before it is compiled."""

    qubits: int
    clbits: int
    #: Layers; each operation is in the first that it can be in.
    depth: int
    #: Gates on one qubit, on two, and on more.
    gates_1q: int
    gates_2q: int
    gates_more: int
    #: How often each gate occurs, by name, in the order of names.
    gates: tuple[tuple[str, int], ...]
    #: All of them, those at the end included.
    measurements: int
    features: Features


class _Step(NamedTuple):
    """An operation in its layer, from 1 on."""

    entry: CircuitInstruction
    qubits: tuple[int, ...]
    layer: int


def properties_of(circuit: QuantumCircuit) -> Properties:
    """The properties of a circuit; control flow counts as one operation on its qubits."""
    steps = _steps(circuit)
    gates = [step for step in steps if step.entry.name not in ("measure", "reset")]
    by_name: dict[str, int] = {}
    for step in gates:
        by_name[step.entry.name] = by_name.get(step.entry.name, 0) + 1
    pairs = sum(len(step.qubits) == 2 for step in gates)
    return Properties(
        qubits=circuit.num_qubits,
        clbits=circuit.num_clbits,
        depth=max((step.layer for step in steps), default=0),
        gates_1q=sum(len(step.qubits) == 1 for step in gates),
        gates_2q=pairs,
        gates_more=sum(len(step.qubits) > 2 for step in gates),
        gates=tuple(sorted(by_name.items())),
        measurements=sum(entry.name == "measure" for entry in circuit.data),
        features=_features(circuit.num_qubits, steps, len(gates), pairs),
    )


def _steps(circuit: QuantumCircuit) -> list[_Step]:
    """All operations but measurements at the end."""
    last = {
        qubit: number for number, entry in enumerate(circuit.data) if entry.name not in _NONE for qubit in entry.qubits
    }
    free: dict[Hashable, int] = {}
    steps = []
    for number, entry in enumerate(circuit.data):
        if entry.name in _NONE or (entry.name == "measure" and last[entry.qubits[0]] == number):
            continue
        wires = (*entry.qubits, *entry.clbits)
        layer = 1 + max((free.get(wire, 0) for wire in wires), default=0)
        free.update(dict.fromkeys(wires, layer))
        steps.append(_Step(entry, tuple(circuit.find_bit(qubit).index for qubit in entry.qubits), layer))
    return steps


def _features(qubits: int, steps: Sequence[_Step], gates: int, pairs: int) -> Features:
    depth = max((step.layer for step in steps), default=0)
    neighbours = {(one, other) for step in steps for one in step.qubits for other in step.qubits if one != other}
    middle = {step.layer for step in steps if step.entry.name in ("measure", "reset")}
    many = max(qubits - 1, 1)
    return Features(
        communication=len(neighbours) / (qubits * many) if qubits else 0.0,
        critical_depth=_on_longest_path(steps) / pairs if pairs else 0.0,
        entanglement_ratio=pairs / gates if gates else 0.0,
        parallelism=max(0.0, (len(steps) / depth - 1) / many) if depth else 0.0,
        liveness=sum(len(step.qubits) for step in steps) / (qubits * depth) if depth else 0.0,
        measurement=len(middle) / depth if depth else 0.0,
    )


def _on_longest_path(steps: Sequence[_Step]) -> int:
    """Gates on two qubits, on that of the longest paths that has most of them."""
    best: dict[int, tuple[int, int]] = {}  # by qubit: the length of the longest path to here, and its gates on two
    for step in steps:
        length, pairs = max((best.get(qubit, (0, 0)) for qubit in step.qubits), default=(0, 0))
        found = (length + 1, pairs + (len(step.qubits) == 2 and step.entry.name not in ("measure", "reset")))
        best.update(dict.fromkeys(step.qubits, found))
    return max(best.values(), default=(0, 0))[1]
