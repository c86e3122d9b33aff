"""Qubit freezing: a circuit of an optimisation becomes several narrower ones, in which some spins are known.

After Ayanzadeh et al., "FrozenQubits" (ASPLOS 2023), and QOS (arXiv 2406.19120, section 5.1). The user's angles are
kept in every layer, and outcomes are put together to those of the whole problem.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pilot.qos.mitigator.phases import frozen, is_mirrored, steps_of
from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Replacement, Step, Variant, proper
from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from pilot.qos.mitigator.ising import Ising
    from pilot.quantum.runner import Runner


@dataclass(frozen=True)
class Freezing(QosStage):
    """Freezes the qubits with the strongest couplings, one more in each variant. Only with an ``objective``."""

    required: bool = False

    name = "freezing"

    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """One for each number of qubits, as the budget allows."""
        problem, circuit = context.goal.problem, context.goal.circuit
        if problem is None or variant.steps:
            return
        steps = steps_of(circuit)
        mirrored = problem.is_symmetric and is_mirrored(steps)
        spins: list[int] = []
        for number in range(1, min(context.left(variant), circuit.num_qubits - 1) + 1):
            if number - mirrored >= context.options.max_circuits.bit_length():
                return
            spins.append(_strongest(problem, spins))
            assignments = values_of(spins, mirrored=mirrored)
            merge = partial(
                merged,
                [{context.goal.bits[spin]: int(value < 0) for spin, value in one.items()} for one in assignments],
                context.goal.bits if mirrored else (),
            )
            part = Replacement(
                circuits=[frozen(circuit, steps, one) for one in assignments],
                shares=[1 / len(assignments)] * len(assignments),
                groups=list(range(len(assignments))),
                merge=merge,
                averaged=True,
            )
            text = f"qubits {spins}, {len(assignments)} circuits"
            yield variant.replaced([part], Step(stage=self.name, text=text, spent=number, frozen=tuple(spins)))


def values_of(spins: Sequence[int], *, mirrored: bool) -> list[dict[int, int]]:
    """All values of these spins; `mirrored`: those whose first is +1, the others mirror them."""
    found = [dict(zip(spins, values, strict=True)) for values in itertools.product((1, -1), repeat=len(spins))]
    return found[: len(found) // 2] if mirrored and spins else found


def _strongest(problem: Ising, spins: Sequence[int]) -> int:
    """That with the strongest couplings to those that are not frozen yet."""
    left = problem.frozen(dict.fromkeys(spins, 1))
    names = [spin for spin in range(problem.size) if spin not in spins]
    degrees = left.degrees()
    return names[max(range(len(names)), key=degrees.__getitem__)]


def merged(
    bits: Sequence[Mapping[int, int]], mirrored: Sequence[int], outcomes: Sequence[Outcomes], manager: Runner | None
) -> Outcomes:
    """The outcomes of the whole problem: those of all its parts, each with the same weight.

    Args:
        bits: of each part, the values of the classical bits of its frozen qubits.
        mirrored: bits; each outcome counts half, and half with all of these turned. Empty: it does not.
        outcomes: one a part.
        manager: not used.
    """
    found, weights = [], []
    for fixed, outcome in zip(bits, map(proper, outcomes), strict=True):
        its = outcome.bits().astype(bool)
        for place, value in fixed.items():
            its[:, place] = value
        share = outcome.weights / outcome.weights.sum() / len(bits)
        if mirrored:
            turned = its.copy()
            turned[:, list(mirrored)] ^= True
            its, share = np.concatenate([its, turned]), np.concatenate([share, share]) / 2
        found.append(its)
        weights.append(share)
    packed = np.packbits(np.concatenate(found), axis=1, bitorder="little")
    distinct, number = np.unique(packed, axis=0, return_inverse=True)
    summed = np.bincount(number.reshape(-1), np.concatenate(weights), len(distinct))
    shots = None if any(one.shots is None for one in outcomes) else sum(one.shots or 0 for one in outcomes)
    first = outcomes[0]
    return replace(_plain(first), packed=distinct, weights=summed * (shots or 1), shots=shots)


def _plain(outcome: Outcomes) -> Outcomes:
    """Outcomes alone, of whatever kind of them."""
    return Outcomes(
        registers=outcome.registers,
        num_bits=outcome.num_bits,
        packed=outcome.packed,
        weights=outcome.weights,
        shots=outcome.shots,
    )
