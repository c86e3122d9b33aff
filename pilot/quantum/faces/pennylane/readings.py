"""What PennyLane's measurements read off circuits, and which of them share one.

An observable is read by turning its eigenbasis into the computational one: wire by wire for Pauli operators and
Hadamards, several wires at once for any other. Bits are then eigenvalues. What PennyLane reads off wires itself
(counts, samples and probabilities of wires, measurements of the user's own) goes through its own ``process_samples``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.exceptions import OperatorPropertyUndefined, QuantumFunctionError
from pennylane.measurements import CountsMP, ExpectationMP, ProbabilityMP, SampleMP, VarianceMP
from pennylane.wires import Wires

from pilot.quantum.faces.pennylane.refusals import TapeRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Observables that are no Pauli words are diagonalised as matrices up to so many wires.
MAX_DIAGONALISED_WIRES = 10
#: All outcomes of an observable are listed up to so many wires.
MAX_LISTED_WIRES = 20

_SIGNS = np.array([1.0, -1.0])
_LETTERS = {qml.X: "X", qml.Y: "Y", qml.Z: "Z", qml.Hadamard: "H"}
_OPERATORS = {letter: operator for operator, letter in _LETTERS.items()}
#: Measurements whose results are made here of an observable's eigenvalues.
_OF_VALUES = (ExpectationMP, VarianceMP, SampleMP, CountsMP)


@dataclass(frozen=True, eq=False)
class Turn:
    """The basis in which wires are read off."""

    wires: tuple[Any, ...]
    #: "X", "Y", "Z" or "H" on one wire; else the operator whose eigenvectors it is made of.
    basis: Any
    #: They turn it into the computational basis.
    gates: tuple[Any, ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Turn) or self.wires != other.wires:
            return False
        if isinstance(self.basis, str) or isinstance(other.basis, str):
            return bool(isinstance(self.basis, str) and self.basis == other.basis)
        return self.basis is other.basis or bool(qml.equal(self.basis, other.basis))


@dataclass(frozen=True)
class Factor:
    """An operator that is diagonal in the basis of its turns."""

    turns: tuple[Turn, ...]
    wires: tuple[Any, ...]
    #: `(2 ** len(wires),)`: eigenvalues by outcome, the first wire its highest bit.
    eigenvalues: NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """An observable as a sum of products of factors that are diagonal in one basis."""

    terms: tuple[tuple[float, tuple[Factor, ...]], ...]

    @property
    def turns(self) -> list[Turn]:
        """The bases, a wire once."""
        found: list[Turn] = []
        for _, factors in self.terms:
            for factor in factors:
                found += [turn for turn in factor.turns if turn not in found]
        return found

    def values(self, bits: NDArray[np.int64], order: Sequence[Any]) -> NDArray[np.float64]:
        """Of each outcome `(n_outcomes,)`; `bits` is `(n_outcomes, len(order))`."""
        place = {wire: column for column, wire in enumerate(order)}
        total = np.zeros(len(bits))
        for coefficient, factors in self.terms:
            product = np.full(len(bits), coefficient)
            for factor in factors:
                columns = bits[:, [place[wire] for wire in factor.wires]]
                product *= factor.eigenvalues[columns @ (1 << np.arange(len(factor.wires))[::-1])]
            total += product
        return total

    def all_values(self) -> NDArray[np.float64]:
        """All that can come."""
        if len(self.terms) == 1:
            coefficient, factors = self.terms[0]
            found = np.array([coefficient])
            for factor in factors:
                found = np.unique(np.outer(found, factor.eigenvalues))
            return found
        wires = list(dict.fromkeys(wire for turn in self.turns for wire in turn.wires))
        if len(wires) > MAX_LISTED_WIRES:
            raise TapeRefused(
                f"a sum on {len(wires)} wires has too many outcomes to list; up to {MAX_LISTED_WIRES} wires are allowed"
            )
        outcomes = (np.arange(1 << len(wires))[:, None] >> np.arange(len(wires))) & 1
        return np.unique(self.values(outcomes, wires))


def spectrum(observable: Any) -> Spectrum:
    """How an observable is read off one circuit.

    Raises:
        TapeRefused: it is not Hermitian, or a matrix on too many wires.
    """
    with qml.QueuingManager.stop_recording():
        coefficient, factors = _product(observable)
        if factors is not None:
            return Spectrum(((_real(coefficient, observable), tuple(factors)),))
        words = observable.pauli_rep
        if words is not None and _commute_by_wire(words):
            terms = [(_real(value, observable), _word(word)) for word, value in words.items()]
            return Spectrum(tuple(terms) or ((0.0, ()),))
        return Spectrum(((1.0, (_block(observable),)),))


def parts_of(observable: Any) -> list[tuple[float, Any]]:
    """Coefficients and operators whose expectation values add up to the observable's.

    Raises:
        TapeRefused: a coefficient is not real.
    """
    with qml.QueuingManager.stop_recording():
        words = observable.pauli_rep
        if words is not None:
            return [(_real(value, observable), qml.pauli.PauliSentence({word: 1.0})) for word, value in words.items()]
        if not isinstance(observable, qml.ops.Sum | qml.ops.SProd):
            return [(1.0, observable)]
        coefficients, operators = observable.terms()
        if len(operators) == 1 and not isinstance(observable, qml.ops.Sum):
            return [(_real(coefficients[0], observable), operators[0])]
        return [
            (_real(coefficient, observable) * inner, part)
            for coefficient, operator in zip(coefficients, operators, strict=True)
            for inner, part in parts_of(operator)
        ]


# ---- units --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """What one circuit gives for a measurement."""

    turns: list[Turn]
    #: `(bits, weights, order)` → its value; weights are None where each row of the bits is a shot.
    read: Callable[[NDArray[np.int64], NDArray[np.float64] | None, Sequence[Any]], Any]


@dataclass(frozen=True)
class Reading:
    """A measurement as units, each from a circuit that it can share, and what makes its result of theirs."""

    units: list[Unit]
    combine: Callable[[list[Any]], Any]


def reading(measurement: Any) -> Reading:
    """How a measurement with wires is read.

    Raises:
        TapeRefused: its observable cannot be read.
    """
    observable = measurement.obs
    if observable is None:
        gates = tuple(_own_gates(measurement))
        turns = [Turn(tuple(measurement.wires), measurement, gates)] if gates else _plain(measurement.wires)
        return Reading([Unit(turns, partial(_by_pennylane, measurement))], _only)
    if type(measurement) is ExpectationMP:
        parts = parts_of(observable)
        spectra = [_word_spectrum(part) if _is_word(part) else spectrum(part) for _, part in parts]
        units = [Unit(one.turns, partial(_value, measurement, one)) for one in spectra]
        weights = np.array([coefficient for coefficient, _ in parts])
        return Reading(units, partial(_weighted, weights))
    if type(measurement) in _OF_VALUES:
        one = spectrum(observable)
        if isinstance(measurement, CountsMP) and measurement.all_outcomes:
            one.all_values()  # refuses what is too much to list before anything runs
        return Reading([Unit(one.turns, partial(_value, measurement, one))], _only)
    factors = _product(observable)[1] if type(measurement) is ProbabilityMP else None
    if factors is not None and all(isinstance(turn.basis, str) for factor in factors for turn in factor.turns):
        turns = [turn for factor in factors for turn in factor.turns]
        turned = {wire for turn in turns for wire in turn.wires}
        turns += _plain(wire for wire in measurement.wires if wire not in turned)
    else:
        turns = [Turn(tuple(measurement.wires), observable, tuple(_own_gates(measurement)))]
    if type(measurement) is ProbabilityMP:
        measurement = ProbabilityMP(wires=measurement.wires)
    return Reading([Unit(turns, partial(_by_pennylane, measurement))], _only)


def groups(units: Iterable[Unit]) -> list[list[int]]:
    """The numbers of the units that share a circuit: each joins the first where no wire is in another basis."""
    found: list[tuple[list[int], dict[Any, Turn]]] = []
    for number, unit in enumerate(units):
        mine = {wire: turn for turn in unit.turns for wire in turn.wires}
        fitting = (one for one in found if all(one[1].get(wire, turn) == turn for wire, turn in mine.items()))
        members, bases = next(fitting, ([], {}))
        if not members:
            found.append((members, bases))
        members.append(number)
        bases.update(mine)
    return [members for members, _ in found]


def _only(values: list[Any]) -> Any:
    return values[0]


def _weighted(weights: NDArray[np.float64], values: list[Any]) -> Any:
    return np.float64(weights @ np.array(values, dtype=np.float64))


def _value(
    measurement: Any,
    one: Spectrum,
    bits: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    order: Sequence[Any],
) -> Any:
    """Of a measurement of an observable with this spectrum."""
    values = one.values(bits, order)
    if isinstance(measurement, ExpectationMP):
        return np.average(values, weights=weights)
    if isinstance(measurement, VarianceMP):
        return np.average((values - np.average(values, weights=weights)) ** 2, weights=weights)
    if isinstance(measurement, SampleMP):
        dtype = measurement._dtype
        return values if dtype is None else values.astype(dtype)
    seen, counts = np.unique(values, return_counts=True)
    found = dict.fromkeys(one.all_values(), np.int64(0)) if measurement.all_outcomes else {}
    return {**found, **dict(zip(seen, counts, strict=True))}


def _by_pennylane(
    measurement: Any, bits: NDArray[np.int64], weights: NDArray[np.float64] | None, order: Sequence[Any]
) -> Any:
    """As PennyLane reads it off shots, or off exact probabilities."""
    if weights is None:
        return measurement.process_samples(bits, Wires(order))
    probabilities = np.zeros(1 << len(order))
    np.add.at(probabilities, bits @ (1 << np.arange(len(order))[::-1]), weights)
    return measurement.process_state(np.sqrt(probabilities), Wires(order))


# ---- bases --------------------------------------------------------------------------------------------------------


def _plain(wires: Iterable[Any]) -> list[Turn]:
    return [Turn((wire,), "Z", ()) for wire in wires]


def _letter(letter: str, wire: Any) -> Factor:
    gates = tuple(_OPERATORS[letter](wire).diagonalizing_gates())
    return Factor((Turn((wire,), letter, gates),), (wire,), _SIGNS)


def _word(word: Any) -> tuple[Factor, ...]:
    """A Pauli word's factors."""
    return tuple(_letter(letter, wire) for wire, letter in word.items())


def _is_word(part: Any) -> bool:
    return isinstance(part, qml.pauli.PauliSentence)


def _word_spectrum(sentence: Any) -> Spectrum:
    (word,) = sentence
    with qml.QueuingManager.stop_recording():
        return Spectrum(((1.0, _word(word)),))


def _commute_by_wire(words: Iterable[Any]) -> bool:
    letters: dict[Any, str] = {}
    return all(letters.setdefault(wire, letter) == letter for word in words for wire, letter in word.items())


def _product(observable: Any) -> tuple[complex, list[Factor] | None]:
    """A coefficient and factors on wires of their own; None: it is no such product."""
    if isinstance(observable, qml.ops.SProd):
        coefficient, factors = _product(observable.base)
        return complex(observable.scalar) * coefficient, factors
    if isinstance(observable, qml.ops.Prod):
        if sum(len(one.wires) for one in observable.operands) != len(observable.wires):
            return 1.0, None
        whole: complex = 1.0
        parts: list[Factor] = []
        for operand in observable.operands:
            coefficient, factors = _product(operand)
            if factors is None:
                factors = [_block(operand)]
                coefficient = 1.0
            whole *= coefficient
            parts += factors
        return whole, parts
    if isinstance(observable, qml.Identity):
        return 1.0, []
    if type(observable) in _LETTERS:
        return 1.0, [_letter(_LETTERS[type(observable)], observable.wires[0])]
    if type(observable) is qml.ops.qubit.observables.BasisStateProjector:
        wires = tuple(observable.wires)
        eigenvalues = np.zeros(1 << len(wires))
        eigenvalues[int("".join(str(int(bit)) for bit in observable.parameters[0]), 2)] = 1.0
        return 1.0, [Factor(tuple(_plain(wires)), wires, eigenvalues)]
    if observable.pauli_rep is None and not isinstance(observable, qml.ops.Sum):
        return 1.0, [_block(observable)]
    return 1.0, None


def _block(observable: Any) -> Factor:
    """All wires of an operator at once, in the basis of its eigenvectors."""
    wires = tuple(observable.wires)
    if len(wires) > MAX_DIAGONALISED_WIRES:
        raise TapeRefused(
            f"{_short(observable)} is on {len(wires)} wires; observables that are no Pauli words are diagonalised on "
            f"up to {MAX_DIAGONALISED_WIRES}. Measure the expectation values of its terms"
        )
    try:
        sparse = observable.has_sparse_matrix and not observable.has_matrix
        matrix = observable.sparse_matrix().toarray() if sparse else qml.matrix(observable, wire_order=wires)
    except (OperatorPropertyUndefined, QuantumFunctionError, NotImplementedError, TypeError, ValueError) as error:
        raise TapeRefused(f"{_short(observable)} has no matrix, so that it cannot be measured: {error}") from error
    if not np.allclose(matrix, matrix.conj().T, atol=1e-10):
        raise TapeRefused(f"{_short(observable)} is not Hermitian, and only Hermitian operators can be measured")
    if observable.has_diagonalizing_gates:
        gates, eigenvalues = tuple(observable.diagonalizing_gates()), np.real(observable.eigvals())
    else:
        eigenvalues, vectors = np.linalg.eigh(matrix)
        gates = (qml.QubitUnitary(vectors.conj().T, wires=wires),)
    return Factor((Turn(wires, observable, gates),), wires, np.asarray(eigenvalues, dtype=np.float64))


def _own_gates(measurement: Any) -> list[Any]:
    with qml.QueuingManager.stop_recording():
        try:
            return list(measurement.diagonalizing_gates())
        except (OperatorPropertyUndefined, QuantumFunctionError) as error:
            raise TapeRefused(f"{measurement} cannot be read off: {error}") from error


def _real(value: Any, observable: Any) -> float:
    number = complex(np.asarray(value))
    if not np.isfinite(number) or abs(number.imag) > 1e-12:
        raise TapeRefused(
            f"{_short(observable)} has the coefficient {number}; only Hermitian operators can be measured, so that "
            "coefficients are real and finite: measure real and imaginary part one by one"
        )
    return number.real


def _short(observable: Any) -> str:
    text = " ".join(str(observable).split())
    return text if len(text) <= 80 else f"{text[:77]}…"
