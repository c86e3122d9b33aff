"""What one circuit gave: its distinct outcomes, each with its weight, register by register."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from pilot import html
from pilot.errors import QPUError, invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit


_HEXADECIMAL = re.compile("0x[0-9a-fA-F]+")
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

    @classmethod
    def from_counts(cls, circuit: QuantumCircuit, counts: Mapping[str, float], shots: int | None) -> Self:
        """Outcomes of `circuit` from its counts, or from its probabilities where `shots` is None.

        Args:
            circuit: that ran.
            counts: by bit string as Qiskit writes it (bit 0 rightmost, registers set apart by a space), or by
                hexadecimal number (``0x1f``).
            shots: how many times the circuit was sampled.

        Raises:
            QPUError: a key has other digits, or other than one for each classical bit; or a count is not whole or
                negative, or all are 0.
        """
        bits = np.zeros((len(counts), circuit.num_clbits), dtype=bool)
        registers = registers_of(circuit)
        by_register = [place for register in registers for place in register.places]
        for row, text in zip(bits, map(str, counts), strict=True):
            if _HEXADECIMAL.fullmatch(text) and not (number := int(text, 16)) >> len(row):
                octets = number.to_bytes(-(-len(row) // 8), "little")
                row[:] = np.unpackbits(np.frombuffer(octets, np.uint8), count=len(row), bitorder="little")
                continue
            digits = text.replace(" ", "")[::-1]
            places = by_register if " " in text or len(digits) != len(row) else range(len(row))
            if len(places) != len(digits) or not set(digits) <= {"0", "1"}:
                raise QPUError(f"circuit {circuit.name!r} has {len(row)} bits, its counts have the key {text!r}")
            row[list(places)] = [digit == "1" for digit in digits]
        weights = np.array(list(counts.values()), np.float64)
        if shots is not None and ((weights % 1).any() or (weights < 0).any() or not weights.any()):
            what = "counts that are not whole numbers of at least 0, or none"
            raise QPUError(f"circuit {circuit.name!r}: {shots} shots gave {what}")
        return cls.from_bits(
            bits, weights if shots is None else weights.astype(np.int64), registers=registers, shots=shots
        )

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

    def _repr_html_(self) -> str:
        counts = sorted(self.get_counts().items(), key=lambda item: (-item[1], item[0]))
        how = "probabilities" if self.shots is None else f"{self.shots} shots"
        return html.bars(counts, f"{how}, {len(counts)} outcomes")

    def plot(self, ax: Axes | None = None, *, register: str | None = None, most: int = 32, **options: Any) -> Axes:
        """A histogram of the outcomes, in the order of their bits.

        Args:
            ax: matplotlib's axes to draw in; None: those of a new figure.
            register: count this register alone.
            most: so many outcomes, those that came most often, have a bar; the axis says what the others add up to.
            **options: of matplotlib's `Axes.bar`.

        Raises:
            KeyError: the circuit has no register of that name.
            PluginError: matplotlib is not installed.
        """
        from pilot import plots

        y = "counts" if self.shots is not None else "probability"
        return plots.histogram({"": self.get_counts(register)}, ax, y=y, most=most, **options)

    def get_counts(self, register: str | None = None) -> dict[str, float]:
        """Weight by bit string, as Qiskit's `get_counts` writes it: registers set apart by a space.

        Args:
            register: count this register alone, without regard to the others.

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuasiOutcomes(Outcomes):
    """Outcomes whose weights had the errors of the readout undone, with the counts that were measured.

    Weights add up to the number of shots (to 1 where the outcomes are exact) and may be negative. They are what counts
    and states are made of; values and their errors come from what was measured.
    """

    #: What was counted, or how probable it was, before.
    measured: Outcomes
    #: `(num_bits, 2, 2)`: the inverse of each classical bit's readout matrix `P(read | prepared)`; the identity
    #: where a bit was not corrected.
    inverses: NDArray[np.float64]
    #: `(num_bits, 2)`: one standard deviation of how often each bit reads 1 when 0 was prepared, and when 1 was.
    deviations: NDArray[np.float64]
    #: `(num_bits,)`: the qubit that each bit was read from; -1 where it was not corrected.
    qubits: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What was sampled, and what each sample adds to the means of some parities: `frequencies @ values`."""

    #: `(n_outcomes,)`: never negative, of sum 1.
    frequencies: NDArray[np.float64]
    #: `(n_outcomes, n_masks)`.
    values: NDArray[np.float64]
    #: `(n_masks,)`: the largest size that a value can have.
    bounds: NDArray[np.float64]


def contributions(outcomes: Outcomes, places: Sequence[int], masks: NDArray[np.bool_]) -> Samples:
    """What each sample adds to the means of some parities.

    - Counts: a sample adds +1 or -1.
    - `QuasiOutcomes`: a sample adds the product, over the parity's bits, of `B[0, b] - B[1, b]`, with `b` the
      bit that was read and `B` the inverse of its readout matrix: the unbiased estimator of the parity (Bravyi
      et al., PRA 103 042605, 2021, section II). Bits outside the parity have no part in it.
    - Other weights, some negative: only the weights are known, so they count as sampled in proportion to their
      sizes, and a sample adds its sign times the sum of all sizes (quasi-probability sampling; Temme, Bravyi and
      Gambetta, PRL 119 180509, 2017).

    Args:
        outcomes: of one circuit.
        places: of the classical bits that the parities are of.
        masks: `(n_masks, len(places))`: which of these belong to each parity.
    """
    if isinstance(outcomes, QuasiOutcomes):
        factors = (outcomes.inverses[:, 0] - outcomes.inverses[:, 1])[list(places)]
        bits = outcomes.measured.bits()[:, list(places)]
        values, bounds = np.ones((len(bits), len(masks))), np.ones(len(masks))
        for column, factor in enumerate(factors):
            values *= np.where(masks[:, column], factor[bits[:, column]][:, None], 1.0)
            bounds *= np.where(masks[:, column], np.abs(factor).max(), 1.0)
        return Samples(outcomes.measured.weights / outcomes.measured.weights.sum(), values, bounds)
    weights = outcomes.weights / outcomes.weights.sum()
    sizes = np.abs(weights)
    overhead = sizes.sum()
    signed = parities(outcomes.bits()[:, list(places)], masks)
    signed *= (overhead * np.where(weights < 0, -1.0, 1.0))[:, None]
    return Samples(sizes / overhead, signed, np.full(len(masks), overhead))


def parities(bits: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """+1 or -1, `(n_outcomes, n_masks)`: the product of the signs of those bits that are in the mask."""
    odd = (bits.astype(np.float64) @ masks.T.astype(np.float64)) % 2
    signs: NDArray[np.float64] = 1.0 - 2.0 * odd
    return signs


def nearest_probabilities(weights: ArrayLike) -> NDArray[np.float64]:
    """The probabilities nearest to real `weights` of sum 1, by Euclidean distance.

    Negative weights become zero and what they lacked is taken evenly from the others (Smolin, Gambetta and
    Smith, PRL 108 070502, 2012).

    Args:
        weights: `(n,)`, n at least 1.
    """
    given = np.asarray(weights, dtype=np.float64)
    falling = np.sort(given)[::-1]
    excess = (np.cumsum(falling) - 1.0) / np.arange(1, len(given) + 1)
    kept = int(np.flatnonzero(falling > excess)[-1])
    probabilities: NDArray[np.float64] = (given - excess[kept]).clip(min=0.0)
    return probabilities


def draw_seeds(seed: np.random.Generator | int | Sequence[int] | None, number: int) -> list[int]:
    """So many seeds of 31 bits, which is what Aer takes.

    An integer, or several, give the same ones at each call, a generator goes on from call to call, None is random.

    Raises:
        DescriptionError: the seed is another thing.
    """
    if isinstance(seed, np.random.Generator):
        return [int(one) for one in seed.integers(1 << 31, size=number)]
    if not (seed is None or isinstance(seed, list | tuple) or is_whole(seed, 0)):
        raise invalid("seed", seed, "a whole number of at least 0, or None")
    return [int(one) for one in np.random.SeedSequence(seed).generate_state(number) >> 1]


def is_whole(given: object, least: int = 1) -> bool:
    """A whole number of at least ``least``."""
    return isinstance(given, Integral) and not isinstance(given, bool) and int(given) >= least
