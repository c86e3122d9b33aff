"""Where each amplitude of a distributed state vector is, and the steps that bring qubits to where gates can act.

An address has n bits, the most significant first: the first g name the rank, the others the place in the rank's
memory. The basis state x of the amplitude at address p is ``rows @ p`` modulo 2, bit 0 of x for qubit 0. So a CNOT
moves no amplitude: it adds a row to another. A rotation of a qubit needs two amplitudes that differ in this qubit only;
it can act on a rank's own memory where the qubit is one of the bits there. `layer_steps` says what has to be moved for
that.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


class Gather(msgspec.Struct, frozen=True):
    """Each rank takes its amplitudes in another order: place l gets what is at ``linear @ l + offset @ rank``."""

    linear: Bits
    offset: Bits

    def inverse(self) -> Gather:
        """The step back."""
        back = inverse(self.linear)
        return Gather(back, back @ self.offset % 2)


class Rotate(msgspec.Struct, frozen=True):
    """Rotations of the layer on qubits that are bits of the place: from bit, the most significant is 0, to qubit."""

    layer: int
    qubits: dict[int, int]


class Exchange(msgspec.Struct, frozen=True):
    """The bits of the rank change places with as many bits of the place, the most significant: ranks send blocks."""


Step = Gather | Rotate | Exchange


class Layout:
    """Where the amplitudes are; at first, the first qubits name the rank."""

    def __init__(self, qubits: int, rank_bits: int) -> None:
        self.qubits, self.rank_bits = qubits, rank_bits
        self.rows: Bits = np.eye(qubits, dtype=np.uint8)

    def cnots(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Let CNOTs act."""
        for control, target in pairs:
            self.rows[target] ^= self.rows[control]

    def layer_steps(self, layer: int) -> list[Step]:
        """The steps by which all rotations of a layer act; the layout is then the one after them.

        With at least twice as many qubits as rank bits it takes two exchanges at most, and one where the ranks' bits
        depend on few qubits: those are rotated after it, all others before it.
        """
        steps: list[Step] = []
        pending = set(range(self.qubits))
        while pending:
            fixed, named = self._of_ranks()
            order = self._order(fixed, pending & named)
            steps += self._gather(order)
            rotated = pending - named
            steps.append(Rotate(layer, {bit: qubit for bit, qubit in enumerate(order) if qubit in rotated}))
            pending -= rotated
            if pending:
                steps.append(self._exchange())
        return steps

    def _order(self, fixed: list[int], later: set[int]) -> list[int]:
        """The qubits that are bits of the place next, all but the fixed ones.

        First those that leave with an exchange, if one follows, as far as possible none that is rotated after it; then
        those that are; then the others. Apart from that as they lie now, so that long runs of amplitudes stay together.
        """
        now = self._in_memory()
        order = [qubit for qubit in range(self.qubits) if qubit not in fixed]
        order.sort(key=lambda qubit: now.index(qubit) if qubit in now else -1)
        leaving = sorted(order, key=later.__contains__)[: self.rank_bits] if later else []
        order.sort(key=lambda qubit: (qubit not in leaving, qubit not in later))
        return order

    def _of_ranks(self) -> tuple[list[int], set[int]]:
        """As many qubits as the rank has bits, which the rank and the other qubits determine; and all qubits on which
        the rank depends."""
        functions = inverse(self.rows)[: self.rank_bits]
        named = set(np.flatnonzero(functions.any(axis=0)).tolist())
        return pivots(functions), named

    def _in_memory(self) -> list[int]:
        """The qubits that are bits of the place now, in their order there."""
        bits = {row.tobytes(): qubit for qubit, row in enumerate(self.rows)}
        units = np.eye(self.qubits, dtype=np.uint8)[self.rank_bits :]
        return [bits[unit.tobytes()] for unit in units if unit.tobytes() in bits]

    def _gather(self, order: list[int]) -> list[Step]:
        """The step after which these qubits are the bits of the place; none where they are already."""
        ranks = self.rank_bits
        wanted = self.rows[order]
        if (wanted == np.eye(self.qubits, dtype=np.uint8)[ranks:]).all():
            return []
        linear = inverse(wanted[:, ranks:])
        offset = linear @ wanted[:, :ranks] % 2
        before = np.eye(self.qubits, dtype=np.uint8)  # the old address from the new one
        before[ranks:, ranks:], before[ranks:, :ranks] = linear, offset
        self.rows = self.rows @ before % 2
        return [Gather(linear, offset)]

    def _exchange(self) -> Step:
        ranks = self.rank_bits
        order = [*range(ranks, 2 * ranks), *range(ranks), *range(2 * ranks, self.qubits)]
        self.rows = self.rows[:, order]
        return Exchange()


def inverse(matrix: Bits) -> Bits:
    """The inverse modulo 2."""
    size = len(matrix)
    both = np.hstack([matrix, np.eye(size, dtype=np.uint8)])
    for column in range(size):
        row = column + int(both[column:, column].argmax())
        both[[column, row]] = both[[row, column]]
        others = both[:, column].astype(bool)
        others[column] = False
        both[others] ^= both[column]
    return both[:, size:]


def pivots(matrix: Bits) -> list[int]:
    """Columns, as many as there are rows, that are independent modulo 2; the rows must be."""
    left, found = matrix.copy(), []
    for number in range(len(left)):
        column = int(left[number].argmax())
        found.append(column)
        others = left[:, column].astype(bool)
        others[number] = False
        left[others] ^= left[number]
    return found
