"""A state vector spread over MPI ranks: expectation values of Z on each qubit, and their adjoint gradient.

Each of the 2^g ranks holds 2^(n-g) amplitudes. `layout` says which, and what has to be moved for a layer; ranks send
each other blocks in pairs. CNOTs move nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pilot_miniapps.state_vector import amplitudes
from pilot_miniapps.state_vector.amplitudes import Amplitudes
from pilot_miniapps.state_vector.layers import Layer, check
from pilot_miniapps.state_vector.layout import Exchange, Gather, Layout, Rotate, Step

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

#: Amplitudes sent by one call: 1 MiB.
CHUNK = 1 << 16


class Ranks:
    """The ranks of a communicator, and how many bytes this one has handed to MPI; without one, a single rank.

    Raises:
        ValueError: their number is not a power of two.
    """

    def __init__(self, comm: Comm | None = None) -> None:
        self._comm = comm
        self.size, self.rank = (1, 0) if comm is None else (comm.size, comm.rank)
        self.bits = self.size.bit_length() - 1
        if self.size != 1 << self.bits:
            raise ValueError(f"ranks: a power of two is needed, got {self.size}")
        self.bytes_sent = 0

    def exchange(self, state: Amplitudes) -> None:
        """Block k of the state and block j of rank k's change places, where j is this rank. Blocks; collective."""
        blocks = state.reshape(self.size, -1)
        received = np.empty(min(CHUNK, blocks.shape[1]), np.complex128)
        for distance in range(1, self.size):
            other = self.rank ^ distance
            for begin in range(0, blocks.shape[1], CHUNK):
                chunk = blocks[other, begin : begin + CHUNK]
                self._comm.Sendrecv(chunk, other, recvbuf=received, source=other)
                self.bytes_sent += chunk.nbytes
                chunk[:] = received

    def total(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum over the ranks. Blocks; collective."""
        if self.size == 1:
            return values
        result = np.empty_like(values)
        self._comm.Allreduce(values, result)
        self.bytes_sent += values.nbytes
        return result


class Simulation:
    """A circuit on the state |0...0>, run by all of the ranks together.

    Args:
        layers: the circuit.
        ranks: who holds the amplitudes; at most a qubit of two may name the rank.

    Raises:
        ValueError: the ranks are too many for the qubits.
    """

    def __init__(self, layers: Sequence[Layer], ranks: Ranks) -> None:
        self.qubits = check_ranks(check(layers), ranks.size)
        self.layers, self.ranks = layers, ranks
        self._layout = Layout(self.qubits, ranks.bits)
        self._layout.cnots(layers[0].cnots)
        self._steps: list[Step] = []
        for number, layer in enumerate(layers[1:], 1):
            self._steps += self._layout.layer_steps(number)
            self._layout.cnots(layer.cnots)
        self._matrices = [layer.matrices() for layer in layers]
        self._spare = np.empty(1 << (self.qubits - ranks.bits), np.complex128)
        self._state = self._run()

    # ---- values ---------------------------------------------------------------------------------------------

    def values(self) -> NDArray[np.float64]:
        """The expectation value of Z on each qubit. Blocks; collective."""
        ranks, masks = self.ranks.bits, self._layout.rows
        return self.ranks.total(amplitudes.parities(self._state, masks[:, ranks:]) * self._rank_signs(masks))

    def _run(self) -> Amplitudes:
        """The final state. The first layer makes a product state, of which each rank has its part at once."""
        vectors = self._matrices[0][:, :, 0]
        state = amplitudes.product_state(vectors[self.ranks.bits :], self._rank_factor(vectors))
        for step in self._steps:
            match step:
                case Gather():
                    state = self._gather(state, step)
                case Rotate():
                    matrices = self._matrices[step.layer]
                    amplitudes.rotate(state, {bit: matrices[qubit] for bit, qubit in step.qubits.items()})
                case Exchange():
                    self.ranks.exchange(state)
        return state

    def _gather(self, state: Amplitudes, step: Gather) -> Amplitudes:
        """The state in its new order; its memory becomes the spare one."""
        rank = np.array(self._bits_of_rank(), np.uint8)
        bits = step.offset @ rank % 2
        amplitudes.gather(state, step.linear, int("".join(map(str, bits)) or "0", 2), self._spare)
        moved, self._spare = self._spare, state
        return moved

    def _bits_of_rank(self) -> list[int]:
        return [self.ranks.rank >> bit & 1 for bit in reversed(range(self.ranks.bits))]

    def _rank_factor(self, vectors: Amplitudes) -> complex:
        return math.prod((vectors[qubit, bit] for qubit, bit in enumerate(self._bits_of_rank())), start=1 + 0j)

    def _rank_signs(self, masks: NDArray[np.uint8]) -> NDArray[np.float64]:
        return 1 - 2.0 * (masks[:, : self.ranks.bits] @ np.array(self._bits_of_rank(), np.uint8) % 2)

    # ---- gradient -------------------------------------------------------------------------------------------

    def jacobian(self, batch: int = 1) -> NDArray[np.float64]:
        """The derivative of each value by each angle, of shape ``(qubits, layers, qubits, 3)``. Blocks; collective.

        The adjoint method (Jones and Gacon, arXiv:2009.02823): the final state, and Z times it for each qubit, go back
        through the circuit together. All angles of a layer's rotations follow from overlaps of the two after it.

        Args:
            batch: how many of the qubits go back at a time, each with a state vector of its own.
        """
        result = np.zeros((self.qubits, len(self.layers), self.qubits, 3))
        for begin in range(0, self.qubits, batch):
            observed = range(begin, min(begin + batch, self.qubits))
            for layer, qubit, which, overlap in self._back(observed):
                generators = self.layers[layer].generators()[qubit]
                result[observed[which], layer, qubit] = 2 * np.einsum("gab,ab->g", generators, overlap).real
        return self.ranks.total(result)

    def _back(self, observed: range) -> Iterator[tuple[int, int, int, Amplitudes]]:
        """This rank's share of the overlaps, as (layer, qubit, number of the observed one, matrix). The states that
        are multiplied with Z are kept as their conjugates."""
        masks = self._layout.rows
        factors = self._rank_signs(masks)
        ket = self._state.copy()
        bras = [amplitudes.signed_conjugate(ket, masks[qubit, self.ranks.bits :], factors[qubit]) for qubit in observed]
        for step in reversed(self._steps):
            match step:
                case Gather():
                    back = step.inverse()
                    ket = self._gather(ket, back)
                    bras = [self._gather(bra, back) for bra in bras]
                case Rotate():
                    matrices = {bit: self._matrices[step.layer][qubit] for bit, qubit in step.qubits.items()}
                    for which, bra in enumerate(bras):
                        for bit, overlap in amplitudes.overlaps(bra, ket, list(step.qubits)).items():
                            yield step.layer, step.qubits[bit], which, overlap
                        amplitudes.rotate(bra, {bit: matrix.T for bit, matrix in matrices.items()})
                    amplitudes.rotate(ket, {bit: matrix.conj().T for bit, matrix in matrices.items()})
                case Exchange():
                    for state in (ket, *bras):
                        self.ranks.exchange(state)
        yield from self._back_to_product(bras)

    def _back_to_product(self, bras: list[Amplitudes]) -> Iterator[tuple[int, int, int, Amplitudes]]:
        """The overlaps in the first layer, whose state is a product: sums over all other qubits' vectors."""
        vectors = self._matrices[0][:, :, 0]
        ranks = self.ranks.bits
        bits = self._bits_of_rank()
        for which, bra in enumerate(bras):
            sums = amplitudes.contract(bra, vectors[ranks:])
            whole = sums[0] @ vectors[ranks]
            for qubit, vector in enumerate(vectors):
                if qubit < ranks:
                    others = [vectors[other, bit] for other, bit in enumerate(bits) if other != qubit]
                    part = np.zeros(2, np.complex128)
                    part[bits[qubit]] = whole * math.prod(others, start=1 + 0j)
                else:
                    part = sums[qubit - ranks] * self._rank_factor(vectors)
                yield 0, qubit, which, np.outer(part, vector)


def check_ranks(qubits: int, ranks: int) -> int:
    """The number of qubits, where these ranks can hold them.

    Raises:
        ValueError: a power of two is needed, and at least twice as many qubits as the rank has bits.
    """
    bits = max(ranks, 1).bit_length() - 1
    if ranks != 1 << bits:
        raise ValueError(f"ranks: a power of two is needed, got {ranks}")
    if qubits < 2 * bits or not qubits:
        most = 1 << (qubits // 2)
        raise ValueError(
            f"ranks: {ranks} hold too few local qubits of {qubits}; at most {most} ranks, or at least "
            f"{max(2 * bits, 1)} qubits"
        )
    return qubits
