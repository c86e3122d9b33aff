"""How a chosen variant runs: the calls for a device, and what makes the result of their outcomes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pilot.interfaces import Map, Part, WorkFunction
from pilot.qos.mitigator.results import QosResult, Solution, spread_of
from pilot.qos.mitigator.variants import Nested
from pilot.quantum.expectation import Expectation
from pilot.quantum.mitigation import Readout
from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from pilot.qos.mitigator.goals import Goal
    from pilot.qos.mitigator.mitigator import Choice
    from pilot.qos.mitigator.variants import Merge, Variant


#: With fewer circuits the way of a task to a pilot takes longer than what it does.
MANY = 32


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
class MapTask(WorkFunction):
    """One of the lowest merges, as a task: it gets the outcomes of the jobs that ran its circuits."""

    merge: Merge
    #: Of each outcome that it takes: the place of its job among the results, and its place there.
    places: tuple[tuple[int, int], ...]

    def __call__(self, results: Sequence[Sequence[Outcomes]]) -> Any:
        """What the merge gives."""
        return self.merge([results[job][place] for job, place in self.places], None)


@dataclass(frozen=True, eq=False)
class Combination(WorkFunction):
    """Makes the `QosResult` of what the jobs gave, or of what was mapped of it. It is a task of its own."""

    choice: Choice
    calls: tuple[Call, ...]
    #: Wall clock when the decision was made.
    begun: float
    #: It gets the results of maps.
    mapped: bool = False

    @classmethod
    def of(cls, choice: Choice, calls: Sequence[Call], *, mapped: bool = False) -> Combination:
        """That of a choice; circuits do not travel with it."""
        goal = replace(choice.goal, circuit=None, observables=None)
        variant = replace(choice.variant, circuits=(None,) * len(choice.variant.circuits))
        return cls(replace(choice, goal=goal, variant=variant, ranked=()), tuple(calls), time.time(), mapped)

    def __call__(self, results: Sequence[Any]) -> QosResult:
        """Of the outcomes of each job, in the order of `calls`: of each circuit with each noise factor."""
        begun, variant = time.time(), self.choice.variant
        if self.mapped:
            assert isinstance(variant.merge, Nested)
            found = variant.merge.reduce(iter(results), None)
        else:
            places = places_of(self.calls, len(variant.factors))
            found = variant.merge([results[job][place] for job, place in places], None)
        made = result_of(self.choice, found)
        seconds = {**made.seconds, "run": begun - self.begun, "combine": time.time() - begun}
        return replace(made, seconds=seconds)


def places_of(calls: Sequence[Call], factors: int) -> list[tuple[int, int]]:
    """Of the outcomes of all circuits, in the order of the variant: which job has them, and where there. Each circuit
    has one with each noise factor."""
    found: dict[int, tuple[int, int]] = {}
    for job, call in enumerate(calls):
        for number, place in enumerate(call.places):
            found[place] = (job, number)
    return [(job, number * factors + factor) for _, (job, number) in sorted(found.items()) for factor in range(factors)]


def maps_of(variant: Variant, calls: Sequence[Call]) -> tuple[Map, ...]:
    """Tasks that do a part of the merge each; none where there is little to do."""
    if len(variant.circuits) < MANY or not isinstance(variant.merge, Nested):
        return ()
    places = places_of(calls, len(variant.factors))
    found = []
    for merge, its in variant.merge.maps():
        jobs = sorted({job for job, _ in places[its]})
        mine = tuple((jobs.index(job), place) for job, place in places[its])
        found.append(Map(part=Part(function=MapTask(merge, mine), args=()), parts=tuple(jobs)))
    return tuple(found)


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
