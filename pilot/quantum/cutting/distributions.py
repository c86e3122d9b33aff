"""The distribution of the whole circuit's measured bits, from the quasi-distributions of its pieces.

An outcome `x` of the circuit is an outcome `x_f` of each fragment's measured qubits, and its quasi-probability
is the sum that `reconstruction` writes for expectation values, with one quasi-probability of each fragment for
the means:

    P(x) = Σ_t c_t ∏_f q[f, a_f(t)](x_f)

Values below zero and a sum other than one are the shots' noise: `nearest` finds the probabilities that are
closest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.quantum.cutting.contraction import NOTHING, Block, block_on_grid, likely_outcomes
from pilot.quantum.cutting.reconstruction import PARALLEL_PRODUCTS, reconstruct
from pilot.quantum.cutting.results import Distribution
from pilot.quantum.outcomes import Register, nearest_probabilities, registers_of
from pilot.quantum.runner import gather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.quantum.cutting.decomposition import Decomposition
    from pilot.quantum.cutting.fragments import Readouts
    from pilot.quantum.runner import Runner

#: Outcomes that a distribution has at most by default: all of 20 bits.
MAX_OUTCOMES = 1 << 20
#: Numbers that a block of outcomes may take while it is computed: 128 MiB for each array.
_BLOCK_NUMBERS = 1 << 24
#: Outcomes that are computed together one by one.
_LIST = 1 << 12


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Which qubit each classical bit of the user's circuit is read from."""

    registers: tuple[Register, ...]
    num_bits: int
    #: Pairs of a classical bit and the qubit that is measured into it; bits in none stay 0.
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, circuit: QuantumCircuit) -> Readout:
        """The measurements at the circuit's end; of a circuit without any, all qubits in a register `meas`."""
        qubit_of = {
            circuit.find_bit(entry.clbits[0]).index: circuit.find_bit(entry.qubits[0]).index
            for entry in circuit.data
            if entry.operation.name == "measure"
        }
        if qubit_of:
            return cls(registers=registers_of(circuit), num_bits=circuit.num_clbits, pairs=tuple(qubit_of.items()))
        every = tuple(range(circuit.num_qubits))
        return cls(
            registers=(Register("meas", every),), num_bits=len(every), pairs=tuple(zip(every, every, strict=True))
        )

    @property
    def qubits(self) -> tuple[int, ...]:
        """The measured qubits in ascending order."""
        return tuple(sorted({qubit for _, qubit in self.pairs}))


def reconstruct_distribution(
    decomposition: Decomposition,
    readouts: Sequence[Readouts],
    places: Sequence[tuple[int, int] | None],
    readout: Readout,
    *,
    manager: Runner | None = None,
    project: bool = True,
    max_outcomes: int = MAX_OUTCOMES,
) -> Distribution:
    """The distribution from what each fragment's measured qubits gave.

    Args:
        decomposition: coefficients and choices.
        readouts: one for each fragment.
        places: for each qubit of the whole circuit its fragment and its column among that one's measured
            bits; None: it has no gate, so its bit is 0.
        readout: where the user wants which qubit.
        manager: runs blocks of outcomes as tasks when there is much to do.
        project: give the nearest probabilities; otherwise the quasi-probabilities themselves as weights.
        max_outcomes: list so many at most, the most probable ones. With exact quasi-probabilities none that
            is more probable than one in `max_outcomes` is missing.
    """
    masses = [each.masses for each in readouts]
    whole = math.prod(each.quasi.shape[1] for each in readouts) <= max_outcomes
    readouts = [_pruned(decomposition, readouts, masses, number, max_outcomes) for number in range(len(readouts))]
    arrays = [each.arrays() for each in readouts]
    quasi, variances = [pair[0] for pair in arrays], [pair[1] for pair in arrays]
    shape = tuple(each.shape[1] for each in quasi)
    if whole:
        block = _whole_grid(decomposition, quasi, variances, manager)
        index = np.unravel_index(np.arange(math.prod(shape)), shape)
    else:
        index = likely_outcomes(decomposition, quasi, masses, max_outcomes)
        block = _listed(decomposition, quasi, variances, index, manager)
    listed = np.flatnonzero((np.abs(block.values) > NOTHING) | (block.variances > 0))
    if not len(listed):  # cannot be with real outcomes, but a distribution without any outcome is useless
        listed = np.array([0])
    values, errors = block.values[listed], np.sqrt(block.variances[listed])
    bits = np.zeros((len(listed), readout.num_bits), dtype=bool)
    for clbit, qubit in readout.pairs:
        if (place := places[qubit]) is not None:
            fragment, column = place
            bits[:, clbit] = readouts[fragment].bits[index[fragment][listed], column]
    total = float(decomposition.coefficients @ _products(decomposition, masses))
    missing = 0.0 if whole else total - float(values.sum())
    return Distribution(
        registers=readout.registers,
        num_bits=readout.num_bits,
        packed=np.packbits(bits, axis=1, bitorder="little"),
        weights=nearest(values, min(1.0, max(0.0, 1 - missing / total)) if total > 0 else 1.0) if project else values,
        shots=None,
        quasi=values,
        standard_errors=errors,
        missing=missing,
    )


def nearest(quasi: NDArray[np.float64], total: float = 1.0) -> NDArray[np.float64]:
    """The probabilities that are nearest to `quasi` in the 2-norm.

    Smolin, Gambetta and Smith, PRL 108, 070502 (2012): from the lowest up, what is negative becomes zero, and
    its value is spread evenly over the rest. They start from a sum of one; `quasi` is scaled to `total` first
    (shots take it away from that), so that outcomes of 0 stay so.

    Args:
        quasi: `(n_outcomes,)`.
        total: the sum of the result; below one if these are not all outcomes.
    """
    have = quasi.sum()
    return total * nearest_probabilities(quasi / have if have > 0 else quasi / (total or 1.0))


def _products(decomposition: Decomposition, masses: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    product = np.ones(len(decomposition.coefficients))
    for mass, choice in zip(masses, decomposition.choices, strict=True):
        product *= mass[choice]
    return product


def _pruned(
    decomposition: Decomposition,
    readouts: Sequence[Readouts],
    masses: Sequence[NDArray[np.float64]],
    fragment: int,
    limit: int,
) -> Readouts:
    """The fragment's `limit` outcomes that are most probable for any outcomes of the other fragments."""
    readout, choice = readouts[fragment], decomposition.choices[fragment]
    if readout.quasi.shape[1] <= limit:
        return readout
    others = [np.ones_like(mass) if number == fragment else mass for number, mass in enumerate(masses)]
    weights = np.bincount(
        choice, weights=decomposition.coefficients * _products(decomposition, others), minlength=len(readout.shots)
    )
    marginal = readout.quasi.T @ weights
    return readout.only(np.sort(np.argpartition(marginal, -limit)[-limit:]))


def _whole_grid(
    decomposition: Decomposition,
    quasi: list[NDArray[np.float64]],
    variances: list[NDArray[np.float64]],
    manager: Runner | None,
) -> Block:
    """Every combination of the fragments' outcomes, the last fragment's fastest."""
    shape = [each.shape[1] for each in quasi]
    longest = int(np.argmax(shape))
    work = math.prod(shape) * sum(len(each) for each in quasi)
    tasks = work // (4 * PARALLEL_PRODUCTS)  # these are products of matrices, several times as fast
    by_memory = -(-work // _BLOCK_NUMBERS)
    parallel = manager is not None and tasks >= 4
    number = min(shape[longest], max(by_memory, tasks if parallel else 1))
    cuts = np.array_split(np.arange(shape[longest]), number)

    def cut(arrays: list[NDArray[np.float64]], columns: NDArray[np.intp]) -> list[NDArray[np.float64]]:
        return [each[:, columns] if place == longest else each for place, each in enumerate(arrays)]

    arguments: tuple[list[Any], ...] = (
        [decomposition] * number,
        [cut(quasi, columns) for columns in cuts],
        [cut(variances, columns) for columns in cuts],
    )
    if manager is not None and parallel:
        blocks = gather(manager.map(block_on_grid, *arguments))
    else:
        blocks = [block_on_grid(*each) for each in zip(*arguments, strict=True)]
    return Block.joined(blocks, longest)


def _listed(
    decomposition: Decomposition,
    quasi: list[NDArray[np.float64]],
    variances: list[NDArray[np.float64]],
    index: Sequence[NDArray[np.intp]],
    manager: Runner | None,
) -> Block:
    """The outcomes of these numbers: `index` has, for each fragment, `(n_listed,)` of them."""
    n_terms, n_listed = len(decomposition.coefficients), len(index[0])
    work = n_terms * n_listed * len(quasi)
    tasks = work // (PARALLEL_PRODUCTS // 4)
    parallel = manager is not None and tasks >= 4
    number = max(-(-n_listed // _LIST), min(n_listed, tasks if parallel else 1))
    cuts = np.array_split(np.arange(n_listed), number)
    arguments: tuple[list[Any], ...] = (
        [decomposition] * number,
        [[each[:, its[columns]] for each, its in zip(quasi, index, strict=True)] for columns in cuts],
        [[each[:, its[columns]] for each, its in zip(variances, index, strict=True)] for columns in cuts],
    )
    if manager is not None and parallel:
        blocks = gather(manager.map(block_of_list, *arguments))
    else:
        blocks = [block_of_list(*each) for each in zip(*arguments, strict=True)]
    return Block.joined(blocks, 0)


def block_of_list(
    decomposition: Decomposition, quasi: Sequence[NDArray[np.float64]], variances: Sequence[NDArray[np.float64]]
) -> Block:
    """Outcomes one by one: column `k` of each fragment's `(n_choices, n_listed)` arrays is of outcome `k`."""
    result = reconstruct(decomposition, quasi, variances)
    return Block(values=result.values, variances=result.standard_errors**2)
