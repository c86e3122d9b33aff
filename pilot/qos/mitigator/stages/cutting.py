"""Gate and wire cutting by `pilot.quantum.cutting`: narrower circuits instead of each circuit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pilot.errors import DescriptionError
from pilot.qos.mitigator.phases import in_phases
from pilot.qos.mitigator.splits import Splits
from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Merge, Nested, Replacement, Step, Variant
from pilot.quantum.cutting import CutPlan, Distribution, Prediction, plan
from pilot.quantum.cutting.distributions import Readout, reconstruct_distribution
from pilot.quantum.expectation import Expectation

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from pilot.quantum.cutting.decomposition import Decomposition
    from pilot.quantum.cutting.fragments import Fragment, Readouts
    from pilot.quantum.outcomes import Outcomes
    from pilot.quantum.runner import Runner

#: With more cuts than this a decomposition has more than a million terms.
MOST_CUTS = 7


@dataclass(frozen=True)
class Cutting(QosStage):
    """Cuts circuits so that their largest pieces have as few gates between qubits as possible, for each number of cuts.

    Where a circuit falls apart without cuts, its pieces run alone. CX RZ CX is cut as one gate, RZZ, which takes one
    cut in the place of two and, for small angles, less overhead.
    """

    #: Cut wires too, not gates alone.
    wires: bool = True
    required: bool = False

    name = "cutting"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """One for each number of cuts that makes the largest piece smaller; and one without any where a circuit falls
        apart."""
        observables = context.goal.observables
        if observables is not None and variant.steps:
            return
        gates = [in_phases(one) for one in (variant.circuits if observables is None else (context.goal.circuit,))]
        splits = [Splits.of(one, wires=self.wires) for one in gates]
        seen: set[tuple[tuple[tuple[int, ...], ...], ...]] = set()
        for cuts in range(min(context.left(variant), MOST_CUTS) + 1):
            marked = [one and one.best(cuts, context.options.max_overhead) for one in splits]
            plans = _plans([cut or whole for cut, whole in zip(marked, gates, strict=True)], context)
            if plans is None:
                return
            places = tuple(tuple(cut.qubits for cut in one.cuts) for one in plans)
            if places in seen or all(len(one.fragments) == 1 for one in plans):
                continue
            seen.add(places)
            step = Step(stage=self.name, text=_text(plans), spent=max(len(one.cuts) for one in plans))
            overhead = max(one.overhead for one in plans)
            if observables is None:
                yield variant.replaced([_replacement(one, knitting(one)) for one in plans], step, overhead)
            else:
                yield variant.instead(_replacement(plans[0], partial(knit_values, plans[0])), step, overhead)


def _plans(circuits: Sequence[QuantumCircuit], context: Context) -> list[CutPlan] | None:
    """Of circuits with marked cuts; None: one has what cannot be cut, or is beyond the limits."""
    observables = context.goal.observables
    found = []
    for circuit in circuits:
        try:
            one = plan(circuit, None if observables is None else list(observables), predict=_nothing)
        except DescriptionError:
            return None
        if one.num_distinct > context.options.max_circuits:
            return None
        found.append(one)
    return found


def _nothing(one: CutPlan) -> Prediction:
    """What a plan takes is not asked: the mitigator predicts what it gives."""
    return Prediction(seconds=0.0, run_seconds=0.0, reconstruct_seconds=0.0, memory=0.0)


def _replacement(one: CutPlan, merge: Merge) -> Replacement:
    weights = one.weights
    return Replacement(
        circuits=tuple(_named(one)),
        shares=(weights / weights.sum()).tolist(),
        groups=[number for number, fragment in enumerate(one.fragments) for _ in range(fragment.num_experiments)],
        merge=merge,
    )


def _named(one: CutPlan) -> Iterator[QuantumCircuit]:
    for number, circuit in enumerate(one.experiments()):
        circuit.name = f"subexperiment {number}"
        yield circuit


def knitting(one: CutPlan) -> Nested:
    """What makes the distribution of a cut circuit: the quasi-distributions of each piece, and then their products."""
    return Nested(
        partial(knit, one.decomposition, one.places, one.readout),
        tuple(partial(quasi_distributions, fragment) for fragment in one.fragments),
        tuple(fragment.num_experiments for fragment in one.fragments),
    )


def quasi_distributions(fragment: Fragment, outcomes: Sequence[Outcomes], manager: Runner | None) -> Readouts:
    """Of one piece, for each choice of the operations at its cuts."""
    return fragment.readouts(list(outcomes))


def knit(
    decomposition: Decomposition,
    places: Sequence[tuple[int, int] | None],
    readout: Readout | None,
    readouts: Sequence[Readouts],
    manager: Runner | None,
) -> Distribution:
    """The distribution of a cut circuit, from the quasi-distributions of its pieces."""
    assert readout is not None
    return reconstruct_distribution(decomposition, readouts, places, readout, manager=manager)


def knit_values(one: CutPlan, outcomes: Sequence[Outcomes], manager: Runner | None) -> Expectation:
    """The values of a cut circuit."""
    found = one.combine(list(outcomes), manager=manager)
    return Expectation(values=found.values, standard_errors=found.standard_errors, terms=())


def _text(plans: Sequence[CutPlan]) -> str:
    one = max(plans, key=lambda each: len(each.cuts))
    width = max(each.width for each in plans)
    pieces = f"{max(len(each.fragments) for each in plans)} pieces of at most {width} qubits"
    if not one.cuts:
        return f"{pieces}, which it falls apart into"
    cuts = ", ".join(f"{cut.name} on {list(cut.qubits)}" for cut in one.cuts)
    return f"{pieces}, cut at {cuts}"
