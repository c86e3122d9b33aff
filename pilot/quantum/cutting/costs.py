"""What running a plan takes: estimates of `quantum.costs` for its circuits, and a few constants measured on the pilots.

A circuit costs its way to a worker and back, what each simulation starts with, and the simulation itself. The
last two are estimated for a reference machine: by state vector where that fits into memory, else by matrix
product state, as workers do; pilots are slower at the simulation itself by a factor for each of the two. The
reconstruction costs its multiplications.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pilot.quantum import costs
from pilot.quantum.aer import MAX_DEFERRED_QUBITS, MAX_LISTED_BITS
from pilot.quantum.cutting.results import Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot.quantum.costs import Estimate, SimulationFacts
    from pilot.quantum.cutting.cut_plan import CutPlan
    from pilot.quantum.cutting.fragments import Fragment

#: Samples of a circuit by default: as `CutPlan.run`.
_SHOTS = 4096
#: Bytes of an amplitude.
_AMPLITUDE = 16


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one slot takes. The defaults are those of a core of a server of 2023; `Predictor.calibrate` measures."""

    #: Seconds of a circuit besides what is estimated: its way there and back.
    per_circuit: float = 3e-3
    #: How many times longer than estimated the passes over a state vector take, and over a matrix product state.
    vector_slowness: float = 1.0
    product_slowness: float = 1.0
    #: Seconds of one product of the reconstruction, which runs where the plan does.
    per_product: float = 2e-8


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
class Load:
    """Circuits that cost the same."""

    number: int
    #: Seconds of one of them before its state counts: it is read, and its shots are drawn.
    start: float
    #: Of one of them on the reference machine; None: there is no estimate.
    vector: Estimate
    product: Estimate | None

    def memory(self, limit: float) -> float:
        """Bytes of its state: of a state vector if that keeps to the limit, else of the smaller state."""
        if self.vector.bytes <= limit or self.product is None:
            return self.vector.bytes
        return min(self.vector.bytes, self.product.bytes)

    def seconds(self, workers: Workers) -> float:
        """Of one of the circuits on one slot; infinite where no state of it fits."""
        costs, way = workers.costs, workers.costs.per_circuit + self.start
        if self.vector.bytes <= workers.memory:
            return way + (self.vector.seconds - self.start) * costs.vector_slowness
        if self.product is not None and self.product.bytes <= workers.memory:
            return way + max(0.0, self.product.seconds - self.start) * costs.product_slowness
        return math.inf


def predict(plan: CutPlan, workers: Sequence[Workers] = (Workers(),), *, shots: int | None = _SHOTS) -> Prediction:
    """What `plan` takes on these pilots together, its subexperiments simulated on their slots.

    Circuits go to whichever slot is free: a pilot does as large a part of the work as it is fast, and nothing
    is over before the longest circuit is.

    Args:
        plan: cut or not.
        workers: pilots, at least one.
        shots: of each subexperiment; None: exact.
    """
    least = min(each.memory for each in workers)
    loads = [load for fragment in plan.fragments for load in loads_of(fragment, shots, least)]
    memory = max(load.memory(max(each.memory for each in workers)) for load in loads)
    able = [each for each in workers if all(math.isfinite(load.seconds(each)) for load in loads)]
    speed = sum(1 / _alone(loads, each) for each in able)
    reconstruct = _products(plan) * workers[0].costs.per_product
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


def loads_of(fragment: Fragment, shots: int | None, memory: float = 0.0) -> list[Load]:
    """The fragment's subexperiments, by how many measurements at its cuts have to be put off to the end.

    Args:
        fragment: of a plan.
        shots: of each subexperiment; None: exact.
        memory: bytes; a circuit whose state vector fits is not looked at for other ways.
    """
    measures = fragment.measures()
    loads = []
    for extra in np.unique(measures):
        alike = np.flatnonzero(measures == extra)
        one = fragment.experiment(int(alike[0]), 0)
        about = costs.facts(one, bonds=False)
        if _AMPLITUDE * 2.0 ** (about.qubits + about.midway) > memory:
            about = costs.facts(one)
        branches = 1.0
        if about.qubits + about.midway > MAX_DEFERRED_QUBITS:  # then the simulator follows the branches one by one
            about, branches = replace(about, midway=0), 2.0**about.midway
        start, found = by_method(about, shots)
        vector, product = found["statevector"], found.get("matrix_product_state")
        loads.append(
            Load(
                number=len(alike) * len(fragment.groups),
                start=start,
                vector=replace(vector, seconds=vector.seconds * branches),
                product=product and replace(product, seconds=product.seconds * branches),
            )
        )
    return loads


def by_method(about: SimulationFacts, shots: int | None) -> tuple[float, dict[str, Estimate]]:
    """Estimates by method, of what `aer.run_circuit` does; and the start of each of them."""
    if about.measured <= MAX_LISTED_BITS:  # then counts are drawn from the exact probabilities
        shots = None
    without_state = costs.estimate(replace(about, qubits=0, midway=0, bonds=()), shots)
    start = next(each.seconds for each in without_state if each.method == "statevector")
    return start, {each.method: each for each in costs.estimate(about, shots)}


def _alone(loads: Sequence[Load], workers: Workers) -> float:
    """Seconds for all circuits on one pilot, its slots always busy."""
    return sum(
        load.number * load.seconds(workers) / max(1, workers.at_once(load.memory(workers.memory))) for load in loads
    )


def _products(plan: CutPlan) -> float:
    """Multiplications of the reconstruction, roughly."""
    n_fragments = len(plan.fragments)
    values = float(plan.num_terms * len(plan.paulis) * n_fragments**2)
    if plan.readout is None:
        return values
    outcomes = 2.0 ** min(20, len(plan.readout.qubits))
    return values + outcomes * sum(len(fragment.choices) for fragment in plan.fragments) / 8


def _gib(memory: float) -> str:
    return f"{memory / 2**30:.3g} GiB"
