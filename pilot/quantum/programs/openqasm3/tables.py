"""Values that depend on measured bits: one row for each outcome."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qiskit.circuit import Clbit

#: A variable may depend on so many bits.
MAX_BITS = 10


@dataclass(frozen=True, eq=False)
class Table:
    """A value for each outcome of some bits.

    Attributes:
        bits: on each of them the value depends.
        rows: `2**len(bits)` values; the first bit is the lowest one of a row's number.
        written: how often each bit had been written when its value was read.
    """

    bits: tuple[Clbit, ...]
    rows: tuple[Any, ...]
    written: tuple[int, ...]

    def equals(self, other: object) -> bool:
        return isinstance(other, Table) and self.bits == other.bits and self.rows == other.rows


class Writes(Counter["Clbit"]):
    """How often each bit has been written up to a place of the program."""

    def table(self, bits: Sequence[Clbit]) -> Table:
        """The number that the bits hold now, the first the lowest."""
        check_width(len(bits))
        return Table(tuple(bits), tuple(range(2 ** len(bits))), tuple(self[bit] for bit in bits))


def check_width(number: int) -> None:
    if number > MAX_BITS:
        raise ValueError(f"a value depends on {number} measured bits; at most {MAX_BITS} are supported")


def lifted(function: Callable[..., Any], *operands: Any) -> Any:
    """The function's value; a table where an operand is one, without the bits on which it does not depend."""
    tables = [each for each in operands if isinstance(each, Table)]
    if not tables:
        return function(*operands)
    written: dict[Clbit, int] = {}
    for table in tables:
        written.update(zip(table.bits, table.written, strict=True))
    check_width(len(written))
    bits = tuple(written)
    columns = [_spread(each, bits) for each in operands]
    return _reduced(bits, [function(*row) for row in zip(*columns, strict=True)], written)


def _spread(operand: Any, bits: tuple[Clbit, ...]) -> list[Any]:
    if not isinstance(operand, Table):
        return [operand] * 2 ** len(bits)
    places = [bits.index(bit) for bit in operand.bits]
    return [
        operand.rows[sum((row >> place & 1) << index for index, place in enumerate(places))]
        for row in range(2 ** len(bits))
    ]


def _reduced(bits: tuple[Clbit, ...], rows: list[Any], written: dict[Clbit, int]) -> Any:
    for place in reversed(range(len(bits))):
        low = [value for row, value in enumerate(rows) if not row >> place & 1]
        if low == [value for row, value in enumerate(rows) if row >> place & 1]:
            bits, rows = (*bits[:place], *bits[place + 1 :]), low
    return Table(bits, tuple(rows), tuple(written[bit] for bit in bits)) if bits else rows[0]


def sum_over_bits(table: Table) -> list[tuple[Clbit | None, float]] | None:
    """What each bit that is set adds, and what is there without any; None: the rows are no such sum."""
    base = float(table.rows[0])
    parts = [(bit, float(table.rows[1 << place]) - base) for place, bit in enumerate(table.bits)]
    for row, value in enumerate(table.rows):
        total = base + sum(part for place, (_, part) in enumerate(parts) if row >> place & 1)
        if abs(total - value) > 1e-12 * max(1.0, abs(value)):
            return None
    return [(None, base), *parts] if base else [*parts]
