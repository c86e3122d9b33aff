"""Observables in every form that users write them, as Qiskit's `SparsePauliOp`.

A form is never guessed from the numbers: letters alone are a Pauli string with qubit 0 last ("ZZI"), letters
with numbers name their qubits ("Z0 Z1"), and a text of JSON members is a whole Hamiltonian.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Number, Real
from typing import Any

import numpy as np
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Pauli, PauliList, SparseObservable, SparsePauliOp

from pilot.errors import DescriptionError, invalid

_LETTERS = re.compile(r"([+-]?)([IXYZ]+)")
_NUMBERED = re.compile(r"[IXYZ]\d+(\s+[IXYZ]\d+)*")
_FORMS = (
    "a Pauli string (letters I, X, Y and Z, one a qubit, qubit 0 last: 'ZZI'), factors with their qubits ('Z0 Z1'), "
    "a mapping or list of pairs from these to coefficients, or Qiskit's Pauli, SparsePauliOp or SparseObservable"
)


def operators(observables: Any, num_qubits: int) -> list[SparsePauliOp]:
    """Each observable as a `SparsePauliOp` with real coefficients.

    Args:
        observables: one observable or an iterable of them. One is a string ("ZZI", "-ZZI", "Z0 Z1", or the
            Hamiltonian text that `hamiltonian` reads), a mapping {"ZZI": 0.5, "X0": 0.1}, a list of pairs
            [("ZZI", 0.5), …], or Qiskit's `Pauli`, `SparsePauliOp` or `SparseObservable`. A `PauliList` is one
            observable a row.
        num_qubits: of the circuit whose state they are measured in; all must have as many.

    Raises:
        DescriptionError: an observable is none of these, has another number of qubits, or a coefficient that is
            not a real, finite number.
    """
    if isinstance(observables, PauliList):
        observables = [observables[row] for row in range(len(observables))]
    elif _is_one(observables):
        observables = [observables]
    elif not isinstance(observables, Iterable) or isinstance(observables, set | frozenset):  # which have no order
        raise invalid("observables", observables, f"one, or a list of them; one is {_FORMS}", shown=_short(observables))
    return [_operator(observable, num_qubits) for observable in observables]


def are_given(observables: Any) -> bool:
    """False for an empty list. One observable is given also where it has no terms."""
    return _is_one(observables) or len(observables) > 0


def hamiltonian(text: str | Mapping[str, float], num_qubits: int) -> SparsePauliOp:
    """The observable that a text of JSON members describes, with or without the braces around them.

    ``"": -1.05, "Z0": 0.39, "Z0 Z1": -0.01``: each name is a product of Pauli operators, a letter and the
    number of its qubit each; the empty name is the identity. This is how Origin's cloud takes Hamiltonians.
    Terms that are equal are added up.

    Args:
        text: the members, or a mapping of the same names and numbers.
        num_qubits: the operator's width; numbers of qubits are below it.

    Raises:
        DescriptionError: the text is not JSON; or a name has another letter, a qubit twice or one that does not
            exist; or a value is not a finite number.
    """
    if isinstance(text, Mapping):
        pairs = list(text.items())
    else:
        members = text.strip()
        try:
            pairs = json.loads(members if members.startswith("{") else f"{{{members}}}", object_pairs_hook=list)
        except (ValueError, RecursionError) as error:
            raise DescriptionError(
                f"hamiltonian: {_short(text)} is not a list of JSON members ({error}); "
                'write for example "Z0": 0.39, "Z0 Z1": -0.01',
                field="hamiltonian",
            ) from error
    return _sum([(_numbered(name, num_qubits), _coefficient(name, value)) for name, value in pairs], num_qubits)


def _is_one(given: Any) -> bool:
    if isinstance(given, str | Mapping | Pauli | SparsePauliOp | SparseObservable):
        return True
    pairs = given if isinstance(given, list | tuple) else ()
    return bool(pairs) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Number)
        for pair in pairs
    )


def _operator(given: Any, num_qubits: int) -> SparsePauliOp:
    if isinstance(given, str) and '"' in given:
        return hamiltonian(given, num_qubits)
    if isinstance(given, str):
        given = {given: 1.0}
    if isinstance(given, Mapping) or (_is_one(given) and isinstance(given, list | tuple)):
        pairs = given.items() if isinstance(given, Mapping) else given
        return _sum([_term(name, value, num_qubits) for name, value in pairs], num_qubits)
    try:
        if isinstance(given, SparseObservable):
            operator = SparsePauliOp.from_sparse_observable(given)
        elif isinstance(given, Pauli | SparsePauliOp):
            operator = SparsePauliOp(given)
        else:
            raise _wrong(given)
    except QiskitError as error:
        raise _wrong(given) from error
    if operator.num_qubits != num_qubits:
        raise _width(_short(given), operator.num_qubits, num_qubits)
    return _real(operator, given)


def _term(name: Any, value: Any, num_qubits: int) -> tuple[str, float]:
    """A label with one letter a qubit, and its coefficient."""
    if not isinstance(name, str):
        raise _wrong(name)
    coefficient = _coefficient(name, value)
    if not name.strip() or _NUMBERED.fullmatch(name.strip()):
        return _numbered(name, num_qubits), coefficient
    match = _LETTERS.fullmatch(name)
    if match is None:
        raise _wrong(name)
    sign, label = match.groups()
    if len(label) != num_qubits:
        raise _width(repr(name), len(label), num_qubits)
    return label, -coefficient if sign == "-" else coefficient


def _numbered(name: str, num_qubits: int) -> str:
    """ "Z0 X2" as "XIZ"."""
    label = ["I"] * num_qubits
    seen = set()
    for factor in name.split():
        letter, digits = factor[0], factor[1:]
        if letter not in "IXYZ" or not (digits.isascii() and digits.isdecimal()):
            raise DescriptionError(
                f"observables: {factor!r} in {_short(name)}; a factor is I, X, Y or Z and then the number of its "
                "qubit, factors are separated by spaces: 'Z0 X2'",
                field="observables",
            )
        qubit = int(digits) if len(digits) < 10 else num_qubits
        if qubit >= num_qubits:
            raise DescriptionError(
                f"observables: {factor!r} in {_short(name)}, but the circuit has qubits 0 to {num_qubits - 1}",
                field="observables",
            )
        if qubit in seen:
            raise DescriptionError(
                f"observables: {_short(name)} names qubit {qubit} twice; multiply its operators first",
                field="observables",
            )
        seen.add(qubit)
        label[num_qubits - 1 - qubit] = letter
    return "".join(label)


def _coefficient(name: str, value: Any) -> float:
    if isinstance(value, complex | np.complexfloating) and value.imag == 0:
        value = value.real
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:  # a whole number beyond those of floating point
        found = math.inf
    if not math.isfinite(found):
        raise DescriptionError(
            f"observables: the coefficient {_short(value)} of {_short(name)} is not valid; expected a real, finite "
            "number",
            field="observables",
        )
    return found


def _sum(terms: list[tuple[str, float]], num_qubits: int) -> SparsePauliOp:
    return SparsePauliOp.from_list(terms, num_qubits=num_qubits)


def _real(operator: SparsePauliOp, given: Any) -> SparsePauliOp:
    """The same operator; refused if it is not Hermitian, or its coefficients have no values."""
    if operator.coeffs.dtype == object:
        raise DescriptionError(
            f"observables: {_short(given)} has parameters without values; assign them, `assign_parameters`",
            field="observables",
        )
    if not np.isfinite(operator.coeffs).all() or np.abs(operator.coeffs.imag).max(initial=0.0) > 1e-12:
        raise DescriptionError(
            f"observables: {_short(given)} has coefficients that are not real and finite; "
            "only Hermitian operators have expectation values, measure real and imaginary part one by one",
            field="observables",
        )
    return SparsePauliOp(operator.paulis, operator.coeffs.real.astype(complex))


def _wrong(given: Any) -> DescriptionError:
    return invalid("observables", given, _FORMS, shown=_short(given))


def _width(shown: str, width: int, num_qubits: int) -> DescriptionError:
    return DescriptionError(
        f"observables: {shown} is on {width} qubits, the circuit has {num_qubits}; give one letter a qubit, "
        "qubit 0 last, or name the qubits: 'Z0 Z1'",
        field="observables",
    )


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:77]}…"
