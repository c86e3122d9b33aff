"""Frozen QAOA beside the whole circuit at equal shots, on a device with exact noise. Workers run it."""

from __future__ import annotations

import itertools
from statistics import fmean

import msgspec
import numpy as np

from pilot.qos.families import circuit
from pilot.qos.mitigator import Ising, Mitigator, QosOptions
from pilot.qos.mitigator.running import result_of
from pilot_miniapps.qos_mitigator.cases import problem_of
from pilot_miniapps.qos_mitigator.machine import LEVEL, machine


class Frozen(msgspec.Struct, frozen=True):
    """One graph.

    Attributes:
        family: of the graph.
        seed: of the graph.
        full: the approximation ratio of the whole circuit's mean energy, for each seed.
        frozen: of the outcomes of all sub-problems together.
        best: of the sub-problem with the least mean energy.
        solved: of the best outcome of the frozen circuits.
        equal: the energies of all sub-problems with all spins frozen are those of the problem.
        name: what was done.
    """

    family: str
    seed: int
    full: list[float]
    frozen: list[float]
    best: list[float]
    solved: list[float]
    equal: bool
    name: str


def frozen(snapshot: str, family: str, qubits: int, seed: int, shots: int, seeds: int) -> Frozen:
    """One graph; freezing alone, without other stages."""
    device = machine(snapshot)
    made = circuit(family, qubits, seed)
    problem = problem_of(family, made)
    assert problem is not None
    options = QosOptions(objective=problem, stages=("freezing",))
    choice = Mitigator(device.info, options, LEVEL).choose(made, shots)
    goal = choice.goal
    full = [problem.quality(goal.energy(device.run(goal.base(), shots, number))) for number in range(seeds)]
    results = [result_of(choice, device.run(choice.variant, shots, 1000 + number)) for number in range(seeds)]
    mixed = [problem.quality(one.energy or 0.0) for one in results]
    best = [problem.quality(min(one.energies.values(), default=one.energy or 0.0)) for one in results]
    solved = [problem.quality(one.solution.energy) for one in results if one.solution is not None]
    return Frozen(family, seed, full, mixed, best, solved, _is_equal(problem), choice.variant.name)


def _is_equal(problem: Ising) -> bool:
    """All spins frozen, one state after another, beside the energies of all states."""
    spins = tuple(range(problem.size))
    constants = [
        problem.frozen(dict(zip(spins, values, strict=True))).constant
        for values in itertools.product((1, -1), repeat=problem.size)
    ]
    bits = np.array(list(itertools.product((0, 1), repeat=problem.size)))
    return bool(np.allclose(constants, problem.energies(bits), atol=1e-12))


def mean(found: list[list[float]]) -> float:
    """Over graphs and seeds."""
    return fmean(value for one in found for value in one)
