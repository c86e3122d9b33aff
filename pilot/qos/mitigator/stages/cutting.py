"""Gate and wire cutting by `pilot.quantum.cutting`: narrower circuits instead of each circuit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pilot.errors import DescriptionError
from pilot.qos.mitigator.phases import in_phases
from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Replacement, Step, Variant
from pilot.quantum.cutting import CutPlan, plan
from pilot.quantum.expectation import Expectation

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from pilot.quantum.outcomes import Outcomes
    from pilot.quantum.runner import Runner

#: Pieces that circuits are cut into at most, of about the same size.
MOST_PIECES = 4


@dataclass(frozen=True)
class Cutting(QosStage):
    """Cuts circuits into two, three, … pieces, as long as the budget allows.

    Where a circuit falls apart without cuts, its pieces run alone. Which cuts are taken is the search of
    qiskit-addon-cutting: those with the least overhead for pieces of that size. CX RZ CX is cut as one gate, RZZ, which
    takes one cut in the place of two and, for small angles, less overhead.
    """

    #: Cut wires too, not gates alone.
    wires: bool = True
    required: bool = False

    name = "cutting"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """One for each number of pieces, in which something is cut or falls apart."""
        seen: set[tuple[tuple[Any, ...], ...]] = set()
        widest = max(circuit.num_qubits for circuit in variant.circuits)
        for size in _sizes(widest):
            plans = self._plans(variant, context, size)
            if plans is None:
                return
            cuts = tuple(tuple((cut.kind, cut.qubits) for cut in one.cuts) for one in plans)
            if cuts in seen or all(len(one.fragments) == 1 for one in plans):
                continue
            seen.add(cuts)
            step = Step(stage=self.name, text=_text(plans), spent=max(len(one.cuts) for one in plans))
            overhead = max(one.overhead for one in plans)
            if context.goal.observables is None:
                yield variant.replaced([_replacement(one, knit) for one in plans], step, overhead)
            else:
                yield variant.instead(_replacement(plans[0], knit_values), step, overhead)

    def _plans(self, variant: Variant, context: Context, size: int) -> list[CutPlan] | None:
        """Of each circuit; None: one cannot be cut within the limits, and into narrower pieces neither."""
        observables = context.goal.observables
        circuits = variant.circuits if observables is None else (context.goal.circuit,)
        if observables is not None and variant.steps:
            return None
        found = []
        for circuit in circuits:
            try:
                one = plan(
                    in_phases(circuit),
                    None if observables is None else list(observables),
                    size,
                    max_overhead=context.options.max_overhead,
                    max_subexperiments=context.options.max_circuits,
                    wires=self.wires,
                )
            except DescriptionError:
                return None
            if len(one.cuts) > context.left(variant):
                return None
            found.append(one)
        return found


def _sizes(width: int) -> list[int]:
    """Qubits of pieces, the widest first. A cut wire has a qubit in both of its pieces, so some have room for it."""
    found = {-(-width // pieces) + more for pieces in range(1, MOST_PIECES + 1) for more in (0, 1)}
    return sorted((size for size in found if 2 <= size <= width or size == width == 1), reverse=True)


def _replacement(one: CutPlan, merge: Callable[..., Any]) -> Replacement:
    weights = one.weights
    return Replacement(
        circuits=tuple(_named(one)),
        shares=(weights / weights.sum()).tolist(),
        groups=[number for number, fragment in enumerate(one.fragments) for _ in range(fragment.num_experiments)],
        merge=partial(merge, one),
    )


def _named(one: CutPlan) -> Iterator[QuantumCircuit]:
    for number, circuit in enumerate(one.experiments()):
        circuit.name = f"subexperiment {number}"
        yield circuit


def knit(one: CutPlan, outcomes: Sequence[Outcomes], manager: Runner | None) -> Outcomes:
    """The distribution of a cut circuit."""
    found = one.combine(list(outcomes), manager=manager).distribution
    assert found is not None
    return found


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
