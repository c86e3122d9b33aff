"""Which simulated circuits share a QPU, and what they lose by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from pilot.qos.simulation.jobs import Kind


class Relative(Protocol):
    """What is true of circuits that run on a QPU at the same time."""

    def __call__(self, qpu: str, kinds: Sequence[Kind], /) -> Sequence[tuple[float, float]] | None:
        """For each of several circuits, over what it has alone: the probability that nothing goes wrong, by which it is
        decided, and the fidelity; None: they have no room."""


class Group(NamedTuple):
    """Tasks that run at the same time."""

    #: Their numbers.
    members: tuple[int, ...]
    #: The fidelity of each, over that alone.
    relative: tuple[float, ...]


class Bundling:
    """Puts the tasks of one batch together, as a QPU's worker does, with what they lose from a table or a formula."""

    def __init__(self, relative: Relative, max_loss: float = 0.1, most: int = 4) -> None:
        """Make it.

        Args:
            relative: what is lost.
            max_loss: of the probability that nothing goes wrong, a part of it, at most.
            most: tasks of a group.
        """
        self._relative, self._max_loss, self._most = relative, max_loss, most

    def groups(self, qpu: str, kinds: Sequence[Kind]) -> list[Group]:
        """Each task in one group; those that do not share alone."""
        left, found = list(range(len(kinds))), []
        while left:
            chosen, relative = [left.pop(0)], [1.0]
            for other in list(left):
                if len(chosen) == self._most or not kinds[chosen[0]].terms.shares_qpu:
                    break
                if not kinds[other].terms.shares_qpu:
                    continue
                its = self._relative(qpu, [kinds[one] for one in (*chosen, other)])
                if its is not None and min(success for success, _ in its) >= 1 - self._max_loss:
                    chosen, relative = [*chosen, other], [fidelity for _, fidelity in its]
                    left.remove(other)
            found.append(Group(tuple(chosen), tuple(relative)))
        return found


#: Relative success and fidelity of two circuits by the part of the qubits that both have: measured on a snapshot of 27
#: qubits by ``pilot run qos-multiprogramming``.
USE = (0.0, 0.296, 0.593, 0.889)
SUCCESS = (1.0, 0.99, 0.95, 0.8)
FIDELITY = (1.0, 0.998, 0.985, 0.9)


class ByUse:
    """The loss grows with the part of the qubits that all circuits have together."""

    def __init__(self, qubits: int = 27) -> None:
        """Make it; ``qubits``: of each QPU."""
        self._qubits = qubits

    def __call__(self, qpu: str, kinds: Sequence[Kind]) -> Sequence[tuple[float, float]] | None:
        use = sum(kind.qubits for kind in kinds) / self._qubits
        if use > USE[-1] or any(kind.qubits == 0 for kind in kinds):
            return None
        return [(float(np.interp(use, USE, SUCCESS)), float(np.interp(use, USE, FIDELITY)))] * len(kinds)
