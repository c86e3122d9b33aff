"""`Variant`: a way to run a circuit: which circuits run, for how many of the shots, and what makes a result of theirs.

Stages make variants of variants: a stage replaces each circuit by others, and what they give becomes the outcomes of
the circuit that they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isclose
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.quantum.outcomes import Outcomes, QuasiOutcomes, nearest_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.quantum.runner import Runner

#: Makes a result of the outcomes of circuits, in their order. With a runner, what is much work becomes tasks.
Merge = Callable[[Sequence[Outcomes], "Runner | None"], Any]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a stage did, for the record."""

    stage: str
    #: In words.
    text: str
    #: Of the budget: frozen qubits and cuts.
    spent: int = 0
    #: Qubits of the whole circuit whose spins are known.
    frozen: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Replacement:
    """What runs in the place of one circuit."""

    circuits: Sequence[QuantumCircuit]
    #: `(n_circuits,)`: the part of the circuit's shots that each gets; they add up to 1.
    shares: Sequence[float]
    #: Circuits of one number differ in a few gates only: cut circuits with other operations at the cuts.
    groups: Sequence[int]
    merge: Merge
    #: The circuits' results are averaged; else they are multiplied.
    averaged: bool = False

    def __post_init__(self) -> None:
        number = len(self.circuits)
        if not number or len(self.shares) != number or len(self.groups) != number:
            counts = f"{number} circuits, {len(self.shares)} shares and {len(self.groups)} groups"
            raise ValueError(f"a replacement has {counts}; expected as many of each, at least one")
        if min(self.shares) < 0 or not isclose(sum(self.shares), 1.0, abs_tol=1e-6):
            raise ValueError(
                f"a replacement has the shares {list(self.shares)}; expected numbers of at least 0, of sum 1"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """A way to run a circuit."""

    circuits: tuple[QuantumCircuit, ...]
    #: `(n_circuits,)`: the part of all shots that each gets; they add up to 1.
    shares: tuple[float, ...]
    #: `(n_circuits,)`: as of `Replacement`.
    groups: tuple[int, ...]
    merge: Merge
    steps: tuple[Step, ...] = ()
    #: How many times the shots of the circuit itself cuts take for the same error.
    overhead: float = 1.0
    #: Stages of `pilot.quantum.mitigation` that stand around the compiled circuits.
    mitigation: tuple[Any, ...] = ()
    #: The part of all shots that measures how wrong the readout is.
    calibration: float = 0.0
    #: Noise factors that each circuit runs with; the shots are shared among them.
    factors: tuple[float, ...] = (1.0,)
    #: The result is the mean of those of so many sets of circuits.
    averaged: int = 1

    @property
    def spent(self) -> int:
        """Frozen qubits and cuts."""
        return sum(step.spent for step in self.steps)

    @property
    def name(self) -> str:
        """What was done, in words; "as it is" where that is nothing."""
        return "; ".join(f"{step.stage}: {step.text}" for step in self.steps) or "as it is"

    @property
    def least(self) -> int:
        """Shots of each circuit at least: what is put together of several circuits needs two of each."""
        return 2 if self.steps else 1

    def spare(self, total: int) -> int:
        """Of so many shots those that do not measure the readout."""
        return int(total * (1 - self.calibration) + 1e-6)

    def shots(self, total: int) -> NDArray[np.int64]:
        """`(n_circuits,)`: of each circuit with each noise factor, at least `least`. They add up to the total less what
        calibrates, where that is enough."""
        spare, shares = self.spare(total) // len(self.factors), np.array(self.shares)
        few: NDArray[np.bool_] = np.zeros(len(shares), bool)  # those that get the least
        while True:
            left = max(spare - self.least * int(few.sum()), 0)
            wanted = np.where(few, self.least, shares * (left / max(float(shares[~few].sum()), 1e-300)))
            fewer = few | (wanted < self.least)
            if (fewer == few).all():
                break
            few = fewer
        dealt = np.floor(wanted + 1e-9).astype(np.int64)
        dealt[np.argsort(dealt - wanted, kind="stable")[: max(spare - int(dealt.sum()), 0)]] += 1
        return dealt

    def replaced(self, parts: Sequence[Replacement], step: Step, overhead: float = 1.0) -> Variant:
        """The variant with each circuit replaced by others.

        Args:
            parts: one a circuit.
            step: for the record.
            overhead: of the cuts that this makes.
        """
        groups: list[int] = []
        for part in parts:
            first = max(groups, default=-1) + 1
            groups += [first + number for number in part.groups]
        sizes = tuple(len(part.circuits) for part in parts)
        return replace(
            self,
            circuits=tuple(circuit for part in parts for circuit in part.circuits),
            shares=tuple(share * its for share, part in zip(self.shares, parts, strict=True) for its in part.shares),
            groups=tuple(groups),
            merge=Nested(self.merge, tuple(part.merge for part in parts), sizes),
            steps=(*self.steps, step),
            overhead=self.overhead * overhead,
            averaged=self.averaged * max(len(part.circuits) if part.averaged else 1 for part in parts),
        )

    def instead(self, part: Replacement, step: Step, overhead: float = 1.0) -> Variant:
        """The variant with all circuits replaced by those of a part, whose merge gives the result."""
        return replace(
            self,
            circuits=tuple(part.circuits),
            shares=tuple(part.shares),
            groups=tuple(part.groups),
            merge=part.merge,
            steps=(*self.steps, step),
            overhead=self.overhead * overhead,
        )

    def around(self, stage: Any, step: Step, *, calibration: float = 0.0) -> Variant:
        """The variant with a stage of `pilot.quantum.mitigation` around its circuits."""
        return replace(
            self,
            mitigation=(*self.mitigation, stage),
            calibration=self.calibration + calibration,
            steps=(*self.steps, step),
        )


def as_it_is(circuit: QuantumCircuit) -> Variant:
    """The circuit itself; the result is the distribution of its outcomes."""
    return Variant(circuits=(circuit,), shares=(1.0,), groups=(0,), merge=single)


def single(outcomes: Sequence[Outcomes], manager: Runner | None = None) -> Outcomes:
    """The outcomes of the only circuit, as counts or probabilities that are not negative."""
    (outcome,) = outcomes
    return proper(outcome)


def proper(outcome: Outcomes) -> Outcomes:
    """Outcomes whose weights are not negative: of corrected ones, the nearest."""
    if not isinstance(outcome, QuasiOutcomes):
        return outcome
    total = float(outcome.weights.sum())
    weights = total * nearest_probabilities(outcome.weights / total)
    kept = weights > 0
    return Outcomes(
        registers=outcome.registers,
        num_bits=outcome.num_bits,
        packed=outcome.packed[kept],
        weights=weights[kept],
        shots=outcome.shots,
    )


@dataclass(frozen=True, eq=False)
class Nested:
    """A merge of merges: each of the inner ones takes some of the outcomes, and the outer one what they give.

    The lowest merges are the map of a map-reduce, and all else is its reduce.
    """

    outer: Merge
    inner: tuple[Merge, ...]
    #: How many outcomes each inner merge takes.
    sizes: tuple[int, ...]

    def __call__(self, outcomes: Sequence[Outcomes], manager: Runner | None) -> Any:
        """The result of the outcomes of all circuits."""
        return self.reduce(iter([merge(outcomes[places], manager) for merge, places in self.maps()]), manager)

    def maps(self, first: int = 0) -> list[tuple[Merge, slice]]:
        """The lowest merges, and which outcomes each takes; they are counted from `first`."""
        found: list[tuple[Merge, slice]] = []
        for merge, size in zip(self.inner, self.sizes, strict=True):
            if isinstance(merge, Nested):
                found += merge.maps(first)
            else:
                found.append((merge, slice(first, first + size)))
            first += size
        return found

    def reduce(self, mapped: Iterator[Any], manager: Runner | None) -> Any:
        """The result of what the lowest merges gave, in their order."""
        every = [merge.reduce(mapped, manager) if isinstance(merge, Nested) else next(mapped) for merge in self.inner]
        return self.outer(every, manager)
