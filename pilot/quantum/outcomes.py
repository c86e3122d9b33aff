"""What one circuit gave: its distinct outcomes, each with its weight, register by register."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from qiskit import QuantumCircuit


#: Registers whose names begin so hold bits that a program uses for itself: no bit string of all registers shows them.
LOCAL_REGISTER = "_local"


class Register(NamedTuple):
    """A classical register: its name and the places of its bits among the circuit's classical bits."""

    name: str
    places: tuple[int, ...]


def registers_of(circuit: QuantumCircuit) -> tuple[Register, ...]:
    """The circuit's classical registers in the circuit's order."""
    place = {clbit: index for index, clbit in enumerate(circuit.clbits)}
    return tuple(Register(register.name, tuple(place[bit] for bit in register)) for register in circuit.cregs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """The distinct outcomes of one circuit and how often each came, or how probable each is.

    Bits are ordered as Qiskit orders them: bit 0 of a register is its least significant and stands rightmost
    in a bit string; of several registers the circuit's first stands rightmost. Bits outside every register stand
    where the circuit has them: those next to one another are a group of their own, to the right of the first
    register that has a bit behind them. (Qiskit's `get_counts` leaves them out.)
    """

    #: The classical registers in the circuit's order.
    registers: tuple[Register, ...]
    #: How many classical bits the circuit has, those outside every register included.
    num_bits: int
    #: `(n_outcomes, ceil(num_bits / 8))` bytes; classical bit `j` is bit `j % 8` of byte `j // 8`.
    packed: NDArray[np.uint8]
    #: `(n_outcomes,)`: counts when the circuit was sampled, probabilities when it was not.
    weights: NDArray[np.int64] | NDArray[np.float64]
    #: How many times the circuit was sampled; None: not at all, the weights are exact.
    shots: int | None
    #: Where these are several random circuits' outcomes put together: those of each. Values scatter between them.
    copies: tuple[Outcomes, ...] = ()
    #: How many times as strong the noise was made on purpose.
    noise_factor: float = 1.0

    @classmethod
    def from_bits(
        cls,
        bits: NDArray[np.bool_],
        weights: NDArray[np.int64] | NDArray[np.float64],
        *,
        registers: tuple[Register, ...],
        shots: int | None,
    ) -> Self:
        """Pack `bits`, of shape `(n_outcomes, num_bits)`, one column a classical bit."""
        packed = np.packbits(bits, axis=1, bitorder="little")
        return cls(registers=registers, num_bits=bits.shape[1], packed=packed, weights=weights, shots=shots)

    def bits(self, register: str | None = None) -> NDArray[np.uint8]:
        """The outcomes as zeros and ones, `(n_outcomes, width)`: column `j` is bit `j` of the register.

        Args:
            register: a register's name; without it, all classical bits of the circuit.

        Raises:
            KeyError: the circuit has no register of that name.
        """
        bits = np.unpackbits(self.packed, axis=1, count=self.num_bits, bitorder="little")
        if register is None:
            return bits
        return bits[:, self._places(register)]

    def get_counts(self, register: str | None = None) -> dict[str, float]:
        """Weight by bit string, as Qiskit's `get_counts` writes it: registers set apart by a space.

        Args:
            register: count this register alone, whatever the others hold.

        Raises:
            KeyError: the circuit has no register of that name.
        """
        groups = self._groups() if register is None else [self._places(register)]
        counts: dict[str, float] = {}
        for text, weight in zip(self._texts(groups), self.weights.tolist(), strict=True):
            counts[text] = counts.get(text, 0) + weight
        return counts

    def _texts(self, groups: list[list[int]]) -> Iterator[str]:
        """The bit string of each outcome, from one text of all of them: there may be millions."""
        columns = [place for places in reversed(groups) for place in (*places[::-1], self.num_bits)][:-1]
        digits = np.full((len(self.weights), self.num_bits + 1), ord(" "), dtype=np.uint8)
        digits[:, :-1] = self.bits() + ord("0")
        text = digits[:, columns].tobytes().decode()
        width = len(columns)
        return (text[first * width : (first + 1) * width] for first in range(len(self.weights)))

    def _groups(self) -> list[list[int]]:
        """The registers' bits and the runs of bits outside registers, in the order of the circuit."""
        loose = sorted(set(range(self.num_bits)).difference(*(entry.places for entry in self.registers)))
        groups: list[list[int]] = []
        for entry in self.registers:
            before = [place for place in loose if place < max(entry.places, default=0)]
            loose = loose[len(before) :]
            groups += _runs(before)
            if not entry.name.startswith(LOCAL_REGISTER):
                groups.append(list(entry.places))
        return groups + _runs(loose)

    def _places(self, register: str) -> list[int]:
        for name, places in self.registers:
            if name == register:
                return list(places)
        raise KeyError(f"no classical register {register!r}; there are {[entry.name for entry in self.registers]}")


def _runs(places: list[int]) -> list[list[int]]:
    """Ascending numbers, those that follow one another together."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
