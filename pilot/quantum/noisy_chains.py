"""The state of many noisy qubits that are little entangled, as a chain of small arrays.

It is the state of `pilot.quantum.noisy_states`, the expectation values of all Pauli strings, as a matrix product: an
array `(left, 4, right)` for each qubit, `(left, 2, right)` for a bit that was measured on the way (Vidal, Phys. Rev.
Lett. 91, 147902; for operators, Zwolak and Vidal, ibid. 93, 207205). Noise is followed once for all shots. What that
takes depends on how far both sides of a bond are correlated: hundredths of a second for 24 qubits in a GHZ state, more
than there is for a random circuit. So a chain counts what its steps take, and gives up beyond a limit.

Singular values that come to `CUT` together are left out where two sites are parted. This moves the probabilities
of all outcomes by `CUT / 2` at most, in total variation: half the trace norm of an operator, which is at most the
Euclidean norm of its Pauli expectation values, and which no later step makes larger.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import rustworkx

from pilot.quantum.noisy_states import FOUND, GROUND, IDENTITY, product

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    #: The next site; for each beginning of an outcome what is on the left of the site, how many shots, and the bits.
    _Beginnings = tuple[int, Array, NDArray[np.int64], NDArray[np.bool_]]

#: What is left out of the state at each step.
CUT = 1e-7
#: The same, as a part of the state's norm: nothing smaller than errors of rounding is kept.
_ROUNDING = 1e-15
#: Seconds to part two sites, and for each unit of rows × columns × the smaller of both. Measured with numpy 2.2 on one
#: core; the latter for 256 to 1024 rows.
_STEP = 2e-4
_PART = 6e-10
#: Two sites together have so many values at most: 128 MB, and four more of that size while they are parted.
_MAX_VALUES = 1 << 24
#: Outcomes are drawn for so many different beginnings at a time.
_ROWS = 1 << 14
#: Probabilities of a bit, `(0, 1)`, as its expectation values of I and Z, and twice the way back.
_SIGNS = np.array([[1.0, 1.0], [1.0, -1.0]])


class TooEntangled(Exception):
    """A chain would take more than its limit."""


class NoisyChain:
    """Qubits that all begin in 0, and no bits.

    Args:
        qubits: any keys, in the order of the chain; `in_line` finds one.
        limit: seconds that all steps are predicted to take at most. The clock is not asked: the same circuit always
            ends in the same way.
    """

    def __init__(self, qubits: Iterable[Hashable], limit: float) -> None:
        #: What each site stands for.
        self._axes: list[Hashable] = list(qubits)
        self._sites: list[Array] = [GROUND.reshape(1, 4, 1) for _ in self._axes]
        #: Sites on both sides of this one are orthogonal, so that what is left out there is small as a whole.
        self._centre = 0
        #: Done to single sites, but not yet to their arrays.
        self._pending: dict[Hashable, Array] = {}
        self._left = limit

    @property
    def size(self) -> int:
        """How many values the site has that was changed last."""
        return self._sites[self._centre].size

    def apply(self, transfer: Array, qubits: Sequence[Hashable]) -> None:
        """Let something happen to one or two qubits.

        Args:
            transfer: as for `NoisyState.apply`.
            qubits: of the chain.

        Raises:
            TooEntangled: it would take more than the limit.
        """
        pending = [self._pending.pop(qubit, IDENTITY) for qubit in qubits]
        if len(qubits) == 1:
            self._pending[qubits[0]] = transfer @ pending[0]
            return
        transfer = transfer @ product(pending[1], pending[0])
        first, last = sorted(self._axes.index(qubit) for qubit in qubits)
        for place in range(last - 1, first, -1):
            self._swap(place)
        joined = self._joined(first)
        ends = joined.shape[0], joined.shape[-1]
        if self._axes[first] == qubits[0]:  # the last qubit is the highest digit
            transfer = transfer.reshape(4, 4, 4, 4).transpose(1, 0, 3, 2).reshape(16, 16)
        joined = np.einsum("ab,lbr->lar", transfer, joined.reshape(ends[0], 16, ends[1]), optimize=True)
        self._part(first, joined.reshape(ends[0], 4, 4, ends[1]))
        for place in range(first + 1, last):
            self._swap(place)

    def measure(self, qubit: Hashable, bit: Hashable, confusion: Array, *, keep: bool = True) -> None:
        """Measure a qubit into a bit, which forgets what it was; arguments as for `NoisyState.measure`.

        Raises:
            TooEntangled: it would take more than the limit.
        """
        if bit in self._axes:
            self._axes[self._axes.index(bit)] = object()
            self._pending.pop(bit, None)
        found: Array = np.tensordot(_SIGNS @ confusion, FOUND @ self._pending.pop(qubit, IDENTITY), axes=1).astype(
            float
        )
        place = self._axes.index(qubit)
        if not keep:
            self._axes[place] = bit
            self._pending[bit] = found[:, 0]
            return
        self._move_centre(place)
        both = np.einsum("abc,lcr->labr", found, self._sites[place])
        self._axes.insert(place, bit)
        self._sites.insert(place, both)  # its place: both are parted into it and the next one
        self._part(place, both)

    def sample(
        self, bits: Sequence[Hashable], shots: int, random: np.random.Generator, going_on: Callable[[], None]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Outcomes and how often each came, `(n_outcomes, n_bits)` and `(n_outcomes,)`.

        Shots that begin with the same bits go along the chain together.

        Args:
            bits: that were measured.
            shots: samples.
            random: they are drawn from it.
            going_on: called again and again; what it raises ends it.
        """
        column = {bit: number for number, bit in enumerate(bits)}
        sites, columns = self._measured(), [column.get(axis) for axis in self._axes]
        rights: list[Array] = [np.ones(1)]  # what is behind each site, whatever comes out there
        for site in reversed(sites):
            rights.append(site[:, 0] @ rights[-1])
        rights.reverse()
        found = []
        waiting: list[_Beginnings] = [(0, np.ones((1, 1)), np.array([shots]), np.zeros((1, len(bits)), dtype=bool))]
        while waiting:
            going_on()
            place, lefts, counts, table = waiting.pop()
            if place == len(sites):
                found.append((table, counts))
            elif len(counts) > _ROWS:
                half = len(counts) // 2
                waiting += [(place, lefts[its], counts[its], table[its]) for its in (slice(half), slice(half, None))]
            elif (own := columns[place]) is None:
                waiting.append((place + 1, _scaled(lefts @ sites[place][:, 0]), counts, table))
            else:
                drawn = _drawn(sites[place], rights[place + 1], lefts, counts, random)
                table = table[np.concatenate([rows for _, rows, _ in drawn])]
                table[len(drawn[0][1]) :, own] = True
                lefts, _, counts = (np.concatenate(some) for some in zip(*drawn, strict=True))
                waiting.append((place + 1, lefts, counts, table))
        tables, times = zip(*found, strict=True)
        return np.concatenate(tables), np.concatenate(times)

    def _measured(self) -> list[Array]:
        """All sites, with what was done to them alone."""
        return [
            np.einsum("ab,lbr->lar", self._pending[axis], site) if axis in self._pending else site
            for axis, site in zip(self._axes, self._sites, strict=True)
        ]

    def _swap(self, place: int) -> None:
        """Let a site and the next one change places."""
        self._axes[place : place + 2] = self._axes[place + 1], self._axes[place]
        self._part(place, self._joined(place).transpose(0, 2, 1, 3))

    def _joined(self, place: int) -> Array:
        """A site and the next one as one array `(left, one, other, right)`; the centre is one of them."""
        self._move_centre(place if self._centre <= place else place + 1)
        return np.tensordot(self._sites[place], self._sites[place + 1], axes=1).astype(float, copy=False)

    def _part(self, place: int, joined: Array) -> None:
        """Make two sites of an array `(left, one, other, right)`; the second is the centre from then on."""
        left, one, other, right = joined.shape
        rows, columns = left * one, other * right
        self._left -= _STEP + _PART * rows * columns * min(rows, columns)
        if self._left < 0 or joined.size > _MAX_VALUES:
            raise TooEntangled
        begin, values, end = np.linalg.svd(joined.reshape(rows, columns), full_matrices=False)
        beyond = np.sqrt(np.cumsum(values[::-1] ** 2))[::-1]
        kept = max(1, int((beyond > max(CUT, _ROUNDING * beyond[0])).sum()))
        self._sites[place] = begin[:, :kept].reshape(left, one, kept)
        self._sites[place + 1] = (values[:kept, None] * end[:kept]).reshape(kept, other, right)
        self._centre = place + 1

    def _move_centre(self, place: int) -> None:
        sites = self._sites
        for here in range(self._centre, place):
            left, values, right = sites[here].shape
            onto, rest = np.linalg.qr(sites[here].reshape(left * values, right))
            sites[here] = onto.reshape(left, values, -1)
            sites[here + 1] = np.tensordot(rest, sites[here + 1], axes=1)
        for here in range(self._centre, place, -1):
            left, values, right = sites[here].shape
            onto, rest = np.linalg.qr(sites[here].reshape(left, values * right).T)
            sites[here] = onto.T.reshape(-1, values, right)
            sites[here - 1] = np.tensordot(sites[here - 1], rest.T, axes=1)
        self._centre = place


def _drawn(
    site: Array, right: Array, lefts: Array, counts: NDArray[np.int64], random: np.random.Generator
) -> list[tuple[Array, NDArray[np.int64], NDArray[np.int64]]]:
    """Of the shots with each beginning, those that find 0 and those that find 1 at a site.

    Returns:
        for 0 and for 1: what is on the left of the next site; which beginnings these are; how many shots.
    """
    followed = [lefts @ (site[:, 0] + sign * site[:, 1]) for sign in (1.0, -1.0)]
    zeros, ones = (np.clip(one @ right, 0.0, None) for one in followed)
    both = zeros + ones
    found = random.binomial(counts, np.divide(ones, both, out=np.zeros_like(both), where=both > 0))
    drawn = []
    for after, times in zip(followed, (counts - found, found), strict=True):
        rows = np.flatnonzero(times)
        drawn.append((_scaled(after[rows]), rows, times[rows]))
    return drawn


def _scaled(rows: Array) -> Array:
    """Each row so that its largest value is 1: probabilities of long outcomes are too small for numbers."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scaled: Array = rows / np.where(largest > 0, largest, 1.0)
    return scaled


def in_line(qubits: Sequence[Hashable], pairs: Iterable[tuple[Hashable, Hashable]]) -> list[Hashable]:
    """The qubits in an order in which those of most pairs are near each other.

    Each connected part is in the order of its Fiedler vector: the one that makes the sum of the squared distances of
    all pairs least, for places that need not be whole numbers (Juvan and Mohar, Discrete Appl. Math. 36, 153).

    Args:
        qubits: all.
        pairs: of two qubits that have a gate; one that comes often counts often.
    """
    number = {qubit: index for index, qubit in enumerate(qubits)}
    graph = rustworkx.PyGraph()
    graph.add_nodes_from(range(len(qubits)))
    graph.add_edges_from([(number[one], number[other], 1.0) for one, other in pairs])
    weights = rustworkx.adjacency_matrix(graph, weight_fn=float)
    found: list[Hashable] = []
    for part in rustworkx.connected_components(graph):
        its = sorted(part)
        near = weights[np.ix_(its, its)]
        _, vectors = np.linalg.eigh(np.diag(near.sum(axis=0)) - near)
        order = np.argsort(vectors[:, min(1, len(its) - 1)], kind="stable")
        found += [qubits[its[place]] for place in order.tolist()]
    return found
