"""`MultiProgrammer`: which circuits share a QPU, after section 7 of the QOS paper (arXiv 2406.19120).

Circuits are taken in their order. To the first one those of the next are added that go best with it, as long as all
keep most of their fidelity. Unlike the paper, more than two may share, each program counts once in the
utilisation, and the least score is a setting that is off: the loss decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

from pilot.errors import invalid
from pilot.qos.compatibility import effective_utilisation, score
from pilot.qos.placement import Known, Placed, Placement
from pilot.quantum.bundles import Bundle, Bundler, Member
from pilot.quantum.fidelities import ideal_of

if TYPE_CHECKING:
    from pilot.quantum.compilation import Compiler

#: The circuits behind the first that are looked at, and how many are tried for each place in a bundle.
WINDOW, MOST_TRIED = 24, 12


@dataclass(frozen=True, kw_only=True)
class MultiProgrammer(Bundler):
    """Puts circuits on one QPU at the same time, on qubits of their own.

    Attributes:
        max_loss: a circuit loses no more than this part of the probability that nothing goes wrong, which it has alone,
            by the calibration; ε of the paper. The fidelity of its outcomes loses less.
        buffer: free qubits between two circuits, 0 to 2, as the calibration knows nothing of crosstalk that is not
            declared.
        policy: "restrict": circuits share only where the places that they were compiled for do not overlap.
            "re-evaluate": else they get other places, or are compiled again with the qubits of the others masked.
        most: circuits of a bundle at most.
        rank: what is tried first of the circuits that may join: those with which the QPU's qubits are used most of the
            time ("utilisation"), or those with the best `score`, as in the paper. As the loss is computed, the score's
            guesses at it only cost utilisation (``pilot run qos-multiprogramming`` has both).
        least_score: circuits whose `score` is less do not share; the paper has 0.75. None: the loss alone decides.
    """

    max_loss: float = 0.1
    buffer: int = 1
    policy: Literal["restrict", "re-evaluate"] = "re-evaluate"
    most: int = 4
    least_score: float | None = None
    rank: Literal["utilisation", "score"] = "utilisation"

    def __post_init__(self) -> None:
        _check("max_loss", self.max_loss, 0.0, 1.0, "a number from 0 to 1")
        _check("buffer", self.buffer, 0, 2, "0, 1 or 2 qubits", whole=True)
        _check("most", self.most, 1, 64, "a whole number from 1 to 64", whole=True)
        if self.least_score is not None:
            _check("least_score", self.least_score, 0.0, 1.0, "a number from 0 to 1, or None")
        if self.rank not in ("utilisation", "score"):
            raise invalid("rank", self.rank, "'utilisation' or 'score'")
        if self.policy not in ("restrict", "re-evaluate"):
            raise invalid("policy", self.policy, "'restrict' or 're-evaluate'")

    def bundles(self, members: Sequence[Member], compiler: Compiler, level: int, floor: float = 0.0) -> list[Bundle]:
        if compiler.target is None or compiler.fidelities is None:  # no errors are known: no loss can be predicted
            return [Bundle.alone(number, one.compiled) for number, one in enumerate(members)]
        return _Choice(self, _placement(self, compiler), level, floor).bundles(members)


class _Choice:
    """One decision about some circuits."""

    def __init__(self, wanted: MultiProgrammer, placement: Placement, level: int, floor: float) -> None:
        self._wanted, self._placement = wanted, placement
        self._level, self._floor = level, floor
        self._qubits = placement.device.qubits

    def bundles(self, members: Sequence[Member]) -> list[Bundle]:
        found = []
        left: dict[int, Known] = {}
        for number, one in enumerate(members):
            if one.circuit.has_control_flow_op():  # its schedule is not known before it runs
                found.append(Bundle.alone(number, one.compiled))
            else:
                left[number] = self._placement.know(one, self._level)
        while left:
            bundle = self._bundle(left)
            found.append(bundle)
            for number in bundle.members:
                del left[number]
        return found

    def _bundle(self, left: dict[int, Known]) -> Bundle:
        """The first circuit with those that share with it."""
        first = next(iter(left))
        chosen, placed = [first], Placed((left[first].compiled,), (1.0,))
        while len(chosen) < self._wanted.most:
            for other in self._ranked(chosen, left):
                better = self._place([left[one] for one in (*chosen, other)])
                if better is not None:
                    chosen, placed = [*chosen, other], better
                    break
            else:
                break
        return Bundle(tuple(chosen), placed.circuits, placed.relative)

    def _ranked(self, chosen: Sequence[int], left: dict[int, Known]) -> list[int]:
        """Those that may go with the chosen ones, the best first."""
        programs = [left[one].program for one in chosen]
        room = self._qubits - sum(one.qubits for one in programs)
        key = score if self._wanted.rank == "score" else effective_utilisation
        window = [one for one in list(left)[: WINDOW + len(chosen)] if one not in chosen]
        together = {one: [*programs, left[one].program] for one in window if left[one].program.qubits <= room}
        least = self._wanted.least_score
        allowed = [one for one, its in together.items() if least is None or score(its, self._qubits) >= least]
        return sorted(allowed, key=lambda one: -key(together[one], self._qubits))[:MOST_TRIED]

    def _place(self, some: Sequence[Known]) -> Placed | None:
        """Where circuits run together; None: one of them would lose too much."""
        placed = self._placement.as_compiled(some)
        if placed is not None and self._is_good(some, placed):
            return placed
        if self._wanted.policy == "restrict":
            return None
        placed = self._placement.again(some, self._level)
        return placed if placed is not None and self._is_good(some, placed) else None

    def _is_good(self, some: Sequence[Known], placed: Placed) -> bool:
        if min(placed.relative) < 1 - self._wanted.max_loss:
            return False
        if not self._floor:
            return True
        fidelities = self._placement.fidelities
        return all(
            fidelities.estimate(circuit, ideal_of(known.circuit)).value * placed.quiet >= self._floor
            for known, circuit in zip(some, placed.circuits, strict=True)
        )


#: Of each device's compiler: that for its calibration, by the settings that it depends on.
_placements: WeakKeyDictionary[Compiler, dict[tuple[int, float], Placement]] = WeakKeyDictionary()


def _placement(wanted: MultiProgrammer, compiler: Compiler) -> Placement:
    known = _placements.setdefault(compiler, {})
    key = (wanted.buffer, 1 - wanted.max_loss)
    if key not in known or known[key].target is not compiler.target:  # another calibration
        known[key] = Placement(compiler, *key)
    return known[key]


def _check(name: str, given: object, least: float, most: float, expected: str, *, whole: bool = False) -> None:
    kinds = int if whole else int | float
    if isinstance(given, bool) or not isinstance(given, kinds) or not least <= given <= most:
        raise invalid(name, given, expected)
