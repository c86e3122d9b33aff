"""Optimisation problems of spins: their energies, and what is left of them when some spins are fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.errors import DescriptionError, invalid
from pilot.quantum.observables import operators

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

#: Spins of problems whose least and greatest energies are found by trying all states.
MOST_TRIED = 20
_EXPECTED = (
    "a graph of networkx or rustworkx (MaxCut), an operator of Z and ZZ alone in any form that observables takes, "
    "or a pilot.qos.mitigator.Ising"
)


@dataclass(frozen=True, kw_only=True)
class Ising:
    """``E(s) = constant + Σ_i fields[i] s_i + Σ_(i<j) couplings[i, j] s_i s_j``, which is to be small.

    Spin ``i`` is +1 where bit ``i`` is 0, and -1 where it is 1.

    Raises:
        DescriptionError: a number is not finite, or a coupling is not of two different spins in ascending order.
    """

    #: `(n_spins,)`.
    fields: tuple[float, ...]
    couplings: Mapping[tuple[int, int], float]
    constant: float = 0.0

    def __post_init__(self) -> None:
        numbers = [*self.fields, *self.couplings.values(), self.constant]
        if not all(math.isfinite(number) for number in numbers):
            raise invalid("objective", numbers, "finite numbers")
        for one, other in self.couplings:
            if not 0 <= one < other < self.size:
                raise invalid("objective", (one, other), f"pairs of spins i < j, below {self.size}")

    @classmethod
    def of(cls, given: Any, size: int) -> Ising:
        """The problem that a user's objective describes.

        Args:
            given: a graph, whose nodes are qubits and whose edges may have a ``weight``: ``E = Σ w s_i s_j``, which is
                least for the greatest cut; an operator; or a problem.
            size: qubits of the circuit.

        Raises:
            DescriptionError: it is none of these, or for another number of qubits.
        """
        if isinstance(given, cls):
            if given.size != size:
                raise invalid("objective", given.size, f"a problem of {size} spins, one for each qubit of the circuit")
            return given
        if (edges := _edges(given)) is not None:
            return cls(fields=(0.0,) * size, couplings=_couplings(edges, size))
        try:
            found = operators(given, size)
        except DescriptionError as error:
            raise invalid("objective", given, f"{_EXPECTED}: {error}") from error
        if len(found) != 1 or any(operator.paulis.x.any() for operator in found):
            raise invalid("objective", given, _EXPECTED)
        return cls._of_operator(found[0], size)

    @classmethod
    def _of_operator(cls, operator: Any, size: int) -> Ising:
        fields, couplings, constant = [0.0] * size, dict[tuple[int, int], float](), 0.0
        for row, coefficient in zip(operator.paulis.z, operator.coeffs.real.tolist(), strict=True):
            places = tuple(int(place) for place in np.flatnonzero(row))
            if len(places) > 2:
                raise invalid("objective", places, "products of two Z at most")
            if len(places) == 2:
                couplings[places] = couplings.get(places, 0.0) + coefficient
            elif places:
                fields[places[0]] += coefficient
            else:
                constant += coefficient
        return cls(fields=tuple(fields), couplings=couplings, constant=constant)

    @property
    def size(self) -> int:
        """Its spins."""
        return len(self.fields)

    @property
    def is_symmetric(self) -> bool:
        """True where a state and the one with all spins turned have the same energy."""
        return not any(self.fields)

    def energies(self, bits: ArrayLike) -> NDArray[np.float64]:
        """`(n_states,)`.

        Args:
            bits: `(n_states, n_spins)` of 0 and 1.
        """
        spins = 1.0 - 2.0 * np.asarray(bits, dtype=np.float64)
        found: NDArray[np.float64] = self.constant + spins @ np.array(self.fields)
        for (one, other), value in self.couplings.items():
            found = found + value * spins[:, one] * spins[:, other]
        return found

    def bounds(self) -> tuple[float, float]:
        """The least and the greatest energy; with more than `MOST_TRIED` spins, bounds of them."""
        if self.size > MOST_TRIED:
            reach = sum(map(abs, self.fields)) + sum(map(abs, self.couplings.values()))
            return self.constant - reach, self.constant + reach
        states = np.arange(1 << self.size)
        bits = (states[:, None] >> np.arange(self.size)) & 1
        energies = self.energies(bits)
        return float(energies.min()), float(energies.max())

    def quality(self, energy: float) -> float:
        """1 for the least energy, 0 for the greatest: the approximation ratio."""
        least, greatest = self.bounds()
        return (greatest - energy) / (greatest - least) if greatest > least else 1.0

    def degrees(self) -> list[float]:
        """Of each spin, the sum of the sizes of its couplings."""
        found = [0.0] * self.size
        for pair, value in self.couplings.items():
            for spin in pair:
                found[spin] += abs(value)
        return found

    def frozen(self, spins: Mapping[int, int]) -> Ising:
        """The problem of the other spins, in their order, where these are +1 or -1: it has the same energies."""
        left = (spin for spin in range(self.size) if spin not in spins)
        number = {spin: place for place, spin in enumerate(left)}
        fields = [self.fields[spin] for spin in number]
        constant = self.constant + sum(self.fields[spin] * value for spin, value in spins.items())
        couplings: dict[tuple[int, int], float] = {}
        for (one, other), value in self.couplings.items():
            if one in spins and other in spins:
                constant += value * spins[one] * spins[other]
            elif one in spins:
                fields[number[other]] += value * spins[one]
            elif other in spins:
                fields[number[one]] += value * spins[other]
            else:
                couplings[number[one], number[other]] = value
        return Ising(fields=tuple(fields), couplings=couplings, constant=constant)


def _edges(given: Any) -> Iterable[tuple[int, int, float]] | None:
    """Of a graph; None: it is none."""
    if hasattr(given, "weighted_edge_list"):  # rustworkx
        return [(one, other, _weight(value)) for one, other, value in given.weighted_edge_list()]
    if hasattr(given, "nodes") and hasattr(given, "edges") and callable(given.edges):  # networkx
        return [(one, other, _weight(value)) for one, other, value in given.edges(data="weight")]
    return None


def _weight(value: Any) -> float:
    if isinstance(value, Mapping):
        value = value.get("weight")
    try:
        return 1.0 if value is None else float(value)
    except (TypeError, ValueError):
        raise invalid("objective", value, "edges whose weight is a number, or that have none") from None


def _couplings(edges: Iterable[tuple[int, int, float]], size: int) -> dict[tuple[int, int], float]:
    couplings: dict[tuple[int, int], float] = {}
    for one, other, weight in edges:
        if not all(isinstance(node, Integral) and 0 <= node < size for node in (one, other)) or one == other:
            raise invalid("objective", (one, other), f"edges between two different nodes 0 to {size - 1}, the qubits")
        pair = (int(min(one, other)), int(max(one, other)))
        couplings[pair] = couplings.get(pair, 0.0) + weight
    return couplings
