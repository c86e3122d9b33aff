"""What running a plan takes: a model with a few measured constants.

A circuit costs its way to a worker and back, the longer the more gates it has, and what the simulator does: for
a state vector each gate on two qubits, and the gates on one qubit that are fused into it, passes over
`2 ** qubits` amplitudes; for a matrix product state, where a state vector does not fit, each gate on two
qubits costs the cube of the bond between them, of which the gates across it give an upper bound. The
reconstruction costs its multiplications.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pilot.quantum.circuits import MAX_DEFERRED_QUBITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit import QuantumCircuit

    from pilot.quantum.cutting.cut_plan import CutPlan
    from pilot.quantum.cutting.fragments import Fragment

#: Bytes of one amplitude, and of one entry of a matrix product state.
_AMPLITUDE = 16
#: Gates that a bond is at most doubled by; all others at most square its factor.
_RANK_TWO = frozenset(
    {"cx", "cy", "cz", "ch", "cp", "crx", "cry", "crz", "cs", "csdg", "csx", "rxx", "ryy", "rzz", "ecr"}
)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds on one slot. The defaults were measured on one core of a server of 2023; `calibrate` measures them."""

    #: Of a circuit without gates, with its way there and back.
    per_circuit: float = 4e-3
    #: Of one gate more, whatever its qubits: it is packed, unpacked and looked at.
    per_gate: float = 3e-5
    #: Of one gate on two qubits, an amplitude of the state vector.
    per_amplitude: float = 1e-8
    #: Of one gate between neighbours in a matrix product state, times the bond dimension cubed.
    per_bond: float = 2e-8
    #: Of one product of the reconstruction, which runs where the plan does.
    per_product: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The slots of one pilot, as far as predictions go."""

    name: str = ""
    #: Slots on each node, and nodes.
    slots: int = 1
    nodes: int = 1
    #: Bytes of main memory on each node, for all of its slots.
    memory: float = math.inf
    costs: Costs = field(default_factory=Costs)

    def at_once(self, memory: float) -> int:
        """How many circuits of so many bytes it runs side by side."""
        fitting = math.inf if math.isinf(self.memory) else self.memory // max(1.0, memory)
        return self.nodes * int(min(self.slots, fitting))


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a plan is expected to take."""

    #: In all; infinite: it cannot run.
    seconds: float
    run_seconds: float
    reconstruct_seconds: float
    #: Bytes of the largest state.
    memory: float
    #: Why it cannot run; "" if it can.
    problem: str = ""

    def __str__(self) -> str:
        return self.problem or f"{self.seconds:.3g} s"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to run the circuit that was considered."""

    #: Most qubits of a piece that were allowed.
    max_qubits: int
    #: How many cuts; 0: not cut.
    cuts: int
    overhead: float
    num_distinct: int
    prediction: Prediction
    #: Which limit it breaks; "" if none.
    rejected: str = ""

    def __str__(self) -> str:
        what = f"pieces of at most {self.max_qubits} qubits" if self.cuts else "not cut"
        return f"{what}: {self.rejected or self.prediction}"


@dataclass(frozen=True, kw_only=True)
class Load:
    """Circuits that cost the same."""

    number: int
    gates: int
    #: Gates on two qubits times amplitudes of a state vector, and the bytes of that.
    amplitudes: float
    vector_memory: float
    #: Gates times cubed bonds of a matrix product state, and the bytes of that.
    bonds: float
    bond_memory: float

    def memory(self, limit: float) -> float:
        """Bytes of its state: of a state vector if that keeps to the limit, else of the smaller state."""
        return self.vector_memory if self.vector_memory <= limit else min(self.vector_memory, self.bond_memory)

    def seconds(self, workers: Workers) -> float:
        """Of one of the circuits on one slot; infinite where no state of it fits."""
        costs = workers.costs
        way = costs.per_circuit + self.gates * costs.per_gate
        if self.vector_memory <= workers.memory:
            return way + self.amplitudes * costs.per_amplitude
        if self.bond_memory <= workers.memory:
            return way + self.bonds * costs.per_bond
        return math.inf


def predict(plan: CutPlan, workers: Sequence[Workers] = (Workers(),)) -> Prediction:
    """What `plan` takes on these pilots together.

    Circuits go to whichever slot is free: a pilot does as large a part of the work as it is fast, and nothing
    is over before the longest circuit is.
    """
    loads = [load for fragment in plan.fragments for load in loads_of(fragment)]
    memory = max(load.memory(max(each.memory for each in workers)) for load in loads)
    able = [each for each in workers if all(math.isfinite(load.seconds(each)) for load in loads)]
    speed = sum(1 / _alone(loads, each) for each in able)
    reconstruct = _products(plan) * workers[0].costs.per_product if workers else 0.0
    if not able:
        most = max(each.memory for each in workers)
        problem = f"a state of {plan.width} qubits takes {_gib(memory)} of memory, {_gib(most)} are there"
        return Prediction(
            seconds=math.inf,
            run_seconds=math.inf,
            reconstruct_seconds=reconstruct,
            memory=memory,
            problem=problem,
        )
    longest = max(min(load.seconds(each) for each in able) for load in loads)
    run = max(1 / speed, longest)
    return Prediction(seconds=run + reconstruct, run_seconds=run, reconstruct_seconds=reconstruct, memory=memory)


def loads_of(fragment: Fragment) -> list[Load]:
    """The fragment's subexperiments, by how many measurements at its cuts have to be put off to the end."""
    circuit, measures = fragment.circuit, fragment.measures()
    width, pairs = circuit.num_qubits, max(1, circuit.num_nonlocal_gates())
    bonds, bond_memory = bond_estimate(circuit)
    loads = []
    for extra, number in zip(*np.unique(measures, return_counts=True), strict=True):
        wide = width + int(extra)
        held = wide if wide <= MAX_DEFERRED_QUBITS else width  # else it follows the branches one by one
        loads.append(
            Load(
                number=int(number) * len(fragment.groups),
                gates=circuit.size(),
                amplitudes=(pairs + int(extra)) * 2.0**wide,
                vector_memory=_AMPLITUDE * 2.0**held,
                bonds=bonds * 2.0 ** int(extra),
                bond_memory=bond_memory,
            )
        )
    return loads


def bond_estimate(circuit: QuantumCircuit) -> tuple[float, float]:
    """Upper bounds for the circuit as a matrix product state, its qubits in a row.

    A bond's dimension is at most doubled by each controlled gate across it, times four by any other gate on two
    qubits, and at most that of the smaller side.

    Returns:
        The sum over all gates on two qubits and all bonds that each crosses of the bond's dimension cubed; the
        bytes of the state.
    """
    width = circuit.num_qubits
    crossed, exponent = np.zeros(width + 1), np.zeros(width + 1)
    for entry in circuit.data:
        if len(entry.qubits) == 2:
            low, high = sorted(circuit.find_bit(qubit).index for qubit in entry.qubits)
            crossed[low + 1 : high + 1] += 1
            exponent[low + 1 : high + 1] += 1 if entry.operation.name in _RANK_TWO else 2
    place = np.arange(width + 1)
    bonds = 2.0 ** np.minimum(exponent, np.minimum(place, width - place))
    return float((crossed * bonds**3).sum()), float(2 * _AMPLITUDE * (bonds[:-1] * bonds[1:]).sum())


def _alone(loads: Sequence[Load], workers: Workers) -> float:
    """Seconds for all circuits on one pilot, its slots always busy."""
    return sum(
        load.number * load.seconds(workers) / max(1, workers.at_once(load.memory(workers.memory))) for load in loads
    )


def _products(plan: CutPlan) -> float:
    """Multiplications of the reconstruction, roughly."""
    n_fragments = len(plan.fragments)
    values = float(plan.num_terms * len(plan.observables) * n_fragments**2)
    if plan.readout is None:
        return values
    outcomes = 2.0 ** min(20, len(plan.readout.qubits))
    return values + outcomes * sum(len(fragment.choices) for fragment in plan.fragments) / 8


def _gib(memory: float) -> str:
    return f"{memory / 2**30:.3g} GiB"
