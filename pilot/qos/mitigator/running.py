"""How a chosen variant runs: the calls for a device, and what makes the result of their outcomes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pilot.interfaces import WorkFunction
from pilot.qos.mitigator.results import QosResult, Solution, spread_of
from pilot.quantum.expectation import Expectation
from pilot.quantum.mitigation import Readout
from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from pilot.qos.mitigator.goals import Goal
    from pilot.qos.mitigator.mitigator import Choice


class Call(NamedTuple):
    """Circuits that run in one job."""

    #: Their places in the variant.
    places: tuple[int, ...]
    #: Of each.
    shots: tuple[int, ...]


def calls_of(choice: Choice) -> list[Call]:
    """The jobs of a variant: one a group of circuits, so that groups run on several devices; where the readout is
    measured, all in one, since it is measured for each job."""
    variant = choice.variant
    shots = variant.shots(choice.shots).tolist()
    together = any(isinstance(one, Readout) for one in variant.mitigation)
    places: dict[int, list[int]] = {}
    for place, group in enumerate(variant.groups):
        places.setdefault(0 if together else group, []).append(place)
    return [Call(tuple(its), tuple(shots[place] for place in its)) for its in places.values()]


@dataclass(frozen=True, eq=False)
class Combination(WorkFunction):
    """Makes the `QosResult` of what the jobs gave. It is a task of its own."""

    choice: Choice
    calls: tuple[Call, ...]
    #: Wall clock when the decision was made.
    begun: float

    @classmethod
    def of(cls, choice: Choice, calls: Sequence[Call]) -> Combination:
        """That of a choice; circuits do not travel with it."""
        goal = replace(choice.goal, circuit=None, observables=None)
        variant = replace(choice.variant, circuits=(None,) * len(choice.variant.circuits))
        return cls(replace(choice, goal=goal, variant=variant, ranked=()), tuple(calls), time.time())

    def __call__(self, results: Sequence[Sequence[Outcomes]]) -> QosResult:
        """Of the outcomes of each job, in the order of `calls`: of each circuit with each noise factor."""
        begun = time.time()
        factors = len(self.choice.variant.factors)
        by_place: dict[int, Sequence[Outcomes]] = {}
        for call, outcomes in zip(self.calls, results, strict=True):
            for number, place in enumerate(call.places):
                by_place[place] = outcomes[number * factors : (number + 1) * factors]
        every = [one for place in sorted(by_place) for one in by_place[place]]
        found = self.choice.variant.merge(every, None)
        made = result_of(self.choice, found)
        seconds = {**made.seconds, "run": begun - self.begun, "combine": time.time() - begun}
        return replace(made, seconds=seconds)


def result_of(choice: Choice, found: Outcomes | Expectation) -> QosResult:
    """The result, from what the merge of the variant gave."""
    variant, goal = choice.variant, choice.goal
    distribution = None if isinstance(found, Expectation) else found
    energy = solution = None
    if goal.problem is not None and distribution is not None:
        energy, solution = goal.energy(distribution), _solution(goal, distribution)
    calibrating = sum(2 * one.shots for one in variant.mitigation if isinstance(one, Readout))
    decided = {f"decide: {stage}": seconds for stage, seconds in choice.seconds_of.items()}
    return QosResult(
        distribution=distribution,
        values=found.values if isinstance(found, Expectation) else None,
        spread=found.standard_errors if isinstance(found, Expectation) else spread_of(found),
        energy=energy,
        solution=solution,
        energies=_by_frozen_bits(choice, distribution),
        steps=variant.steps,
        considered=choice.considered,
        reason=choice.reason,
        circuits=len(variant.circuits) * len(variant.factors),
        shots=int(variant.shots(choice.shots).sum()) * len(variant.factors) + calibrating,
        seconds={"decide": choice.seconds, **decided},
    )


def _solution(goal: Goal, found: Outcomes) -> Solution:
    seen = found.weights > 0
    energies = np.where(seen, goal.energies(found), np.inf)
    best = int(np.argmin(energies))
    bits = found.bits()[best][list(goal.bits)]
    return Solution(bits="".join(map(str, bits[::-1])), energy=float(energies[best]))


def _by_frozen_bits(choice: Choice, found: Outcomes | None) -> dict[str, float]:
    """The mean energy of each sub-problem."""
    frozen = sorted(qubit for step in choice.variant.steps for qubit in step.frozen)
    if not frozen or found is None:
        return {}
    goal = choice.goal
    bits = found.bits()[:, [goal.bits[qubit] for qubit in frozen]]
    energies, weights = goal.energies(found), found.weights
    by_bits: dict[str, Any] = {}
    for text in sorted({"".join(map(str, row)) for row in bits}):
        its = (bits == [int(digit) for digit in text]).all(axis=1)
        by_bits[text] = float(energies[its] @ weights[its] / weights[its].sum())
    return by_bits
