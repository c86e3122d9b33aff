"""What a rank does with its own amplitudes: an array of 2^m complex numbers, bit 0 of the place the most significant.

Rotations of several qubits act together, as one matrix product on their Kronecker product, and in pieces that stay in a
core's cache: so numpy's BLAS does the work, and each pass through memory serves many gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Amplitudes = NDArray[np.complex128]
#: Bits of a piece that stays in the cache of a core: 2^14 amplitudes are 256 KiB.
PIECE_BITS = 14
#: Most qubits whose rotations act as one matrix.
BLOCK_BITS = 4


def product_state(vectors: Amplitudes, factor: complex) -> Amplitudes:
    """The state in which each qubit has its vector, of shape ``(m, 2)``, times the factor."""
    half = len(vectors) // 2
    return np.multiply.outer(factor * kronecker(vectors[:half]), kronecker(vectors[half:])).reshape(-1)


def kronecker(factors: Amplitudes) -> Amplitudes:
    """The Kronecker product of vectors or of matrices; 1 for none."""
    return reduce(np.kron, factors, np.ones((1,) * (factors.ndim - 1), factors.dtype))


def contract(state: Amplitudes, vectors: Amplitudes) -> Amplitudes:
    """For each qubit, the sum of the state times the product of the others' vectors; of shape ``(m, 2)``, as these."""
    half = len(vectors) // 2
    high, low = kronecker(vectors[:half]), kronecker(vectors[half:])
    table = state.reshape(len(high), len(low))
    return np.concatenate([_contract(table @ low, vectors[:half]), _contract(high @ table, vectors[half:])])


def _contract(state: Amplitudes, vectors: Amplitudes) -> Amplitudes:
    results = np.empty_like(vectors)
    for qubit in range(len(vectors)):
        above, below = kronecker(vectors[:qubit]), kronecker(vectors[qubit + 1 :])
        results[qubit] = above @ (state.reshape(len(above), 2, len(below)) @ below)
    return results


def gather(source: Amplitudes, linear: NDArray[np.uint8], offset: int, out: Amplitudes) -> None:
    """Put the source's amplitude at ``linear @ l`` modulo 2, XOR `offset`, at each place l of `out`."""
    size = len(linear)
    columns = np.left_shift(1, np.arange(size)[::-1], dtype=np.int64) @ linear.astype(np.int64)
    low_bits = min(size, PIECE_BITS)
    low = _spans(columns[size - low_bits :])
    plain = bool((low == np.arange(len(low))).all())
    pieces = out.reshape(-1, len(low))
    for piece, start in zip(pieces, _spans(columns[: size - low_bits]) ^ offset, strict=True):
        if plain and start % len(low) == 0:
            piece[:] = source[start : start + len(low)]
        else:
            np.take(source, low ^ start, out=piece, mode="wrap")


def _spans(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """XORs of all subsets of the columns, in the order of the numbers whose bits choose them."""
    spans = np.zeros(1, np.int64)
    for column in columns:
        spans = (spans[:, None] ^ np.array([0, column])).reshape(-1)
    return spans


def rotate(state: Amplitudes, matrices: Mapping[int, Amplitudes]) -> None:
    """Let 2 by 2 matrices act on bits of the place, in place."""
    bits = _bits(state)
    low_bits = min(bits, PIECE_BITS)
    spare = np.empty((2, 1 << low_bits), np.complex128)
    blocks = [(first - bits + low_bits, matrix) for first, matrix in _blocks(matrices, bits - low_bits, bits)]
    for piece in state.reshape(-1, 1 << low_bits) if blocks else ():
        _rotate_piece(piece, blocks, spare)
    for first, matrix in _blocks(matrices, 0, bits - low_bits):
        _rotate_across(state.reshape(1 << first, len(matrix), -1), matrix, spare[0])


def _rotate_piece(piece: Amplitudes, blocks: list[tuple[int, Amplitudes]], spare: Amplitudes) -> None:
    """Let matrices act on the bits of a piece, each on those from its first one on."""
    source = piece
    for number, (first, matrix) in enumerate(blocks):
        target = piece if 0 < number == len(blocks) - 1 else spare[number % 2]
        _apply(matrix, source, first, target)
        source = target
    if source is not piece:
        piece[:] = source


def _rotate_across(table: Amplitudes, matrix: Amplitudes, spare: Amplitudes) -> None:
    """Let a matrix act on the middle axis of the state, whose bits are above those of a piece."""
    size = len(matrix)
    width = len(spare) // size
    result = spare.reshape(size, width)
    for part in table:
        for column in range(0, part.shape[1], width):
            piece = part[:, column : column + width]
            np.matmul(matrix, piece, out=result)
            piece[:] = result


def _apply(matrix: Amplitudes, source: Amplitudes, first: int, target: Amplitudes) -> None:
    """Let a matrix act on the bits from `first` on of a piece."""
    shape = (1 << first, len(matrix), -1)
    if len(source) == len(matrix) << first:
        np.matmul(source.reshape(shape[:2]), matrix.T, out=target.reshape(shape[:2]))
    else:
        np.matmul(matrix, source.reshape(shape), out=target.reshape(shape))


def _blocks(matrices: Mapping[int, Amplitudes], begin: int, end: int) -> Iterator[tuple[int, Amplitudes]]:
    """Neighbouring bits of the range with the Kronecker product of their matrices, those without any left out."""
    for first, last in _ranges(begin, end):
        its = [bit for bit in range(first, last) if bit in matrices]
        if its:
            first, last = its[0], its[-1] + 1
            yield first, kronecker(np.array([matrices.get(bit, np.eye(2)) for bit in range(first, last)]))


def _ranges(begin: int, end: int) -> list[tuple[int, int]]:
    """The range in parts of nearly equal length, of `BLOCK_BITS` at most."""
    edges = np.linspace(begin, end, -(-(end - begin) // BLOCK_BITS) + 1).round().astype(int).tolist()
    return [(first, last) for first, last in pairwise(edges) if last > first]


def overlaps(left: Amplitudes, right: Amplitudes, wanted: list[int]) -> Mapping[int, Amplitudes]:
    """For each wanted bit the matrix M[a, b]: the sum of left times right (no conjugate) over the places that have a
    and b there and are alike elsewhere."""
    bits = _bits(left)
    low_bits = min(bits, PIECE_BITS)
    found: dict[int, Amplitudes] = {}
    for begin, end in ((0, bits - low_bits), (bits - low_bits, bits)):
        for first, last in _ranges(begin, end):
            its = [bit for bit in range(first, last) if bit in wanted]
            if its:
                first, last = its[0], its[-1] + 1
                whole = _overlap(left, right, first, last)
                found |= {bit: _of_bit(whole, bit - first) for bit in its}
    return found


def _overlap(left: Amplitudes, right: Amplitudes, first: int, last: int) -> Amplitudes:
    size, bits = 1 << (last - first), _bits(left)
    if last == bits:
        return left.reshape(-1, size).T @ right.reshape(-1, size)
    whole = np.zeros((size, size), np.complex128)
    tables = left.reshape(1 << first, size, -1), right.reshape(1 << first, size, -1)
    rows = max(1, (1 << PIECE_BITS) // size // size)
    for row in range(0, 1 << first, rows):
        a, b = (table[row : row + rows] for table in tables)
        whole += (a @ b.transpose(0, 2, 1)).sum(axis=0)
    return whole


def _of_bit(whole: Amplitudes, bit: int) -> Amplitudes:
    above, below = 1 << bit, len(whole) >> (bit + 1)
    return np.einsum("iajibj->ab", whole.reshape(above, 2, below, above, 2, below))


def signs(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """For each place, -1 to the power of how many of its bits are both set and in the mask."""
    result = np.ones(1)
    for bit in mask:
        result = np.multiply.outer(result, [1.0, 1 - 2.0 * bit]).reshape(-1)
    return result


def parities(state: Amplitudes, masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """For each mask, a row of m bits, the sum of the probabilities times `signs`."""
    low_bits = min(_bits(state), PIECE_BITS)
    split = masks.shape[1] - low_bits
    low = np.array([signs(mask[split:]) for mask in masks])
    high = np.array([signs(mask[:split]) for mask in masks])
    sums = np.zeros(len(masks))
    for piece, sign in zip(state.reshape(-1, 1 << low_bits), high.T, strict=True):
        sums += sign * (low @ (piece.real**2 + piece.imag**2))
    return sums


def signed_conjugate(state: Amplitudes, mask: NDArray[np.uint8], factor: float) -> Amplitudes:
    """The conjugate of the state times `signs` of the mask and the factor."""
    half = len(mask) // 2
    result = state.conj()
    table = result.reshape(1 << half, -1)
    table *= factor * signs(mask[:half])[:, None]
    table *= signs(mask[half:])
    return result


def _bits(state: Amplitudes) -> int:
    return len(state).bit_length() - 1
