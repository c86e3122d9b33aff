"""Hamiltonians as Origin's API writes them: ``"": -1.05,"Z0": 0.39,"Z0 Z1": -0.01`` in a text, without braces."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pilot.errors import brief
from pilot.service.origin.codes import ErrorCode, OriginError

#: Terms of one Hamiltonian.
MAX_TERMS = 10_000
_FACTOR = re.compile(r"([XYZI])([0-9]{1,6})")


def terms_of(given: object) -> list[tuple[str, float]]:
    """The terms and their coefficients: a term is factors such as ``Z0`` with spaces between; "" is the identity.

    Args:
        given: a text of JSON members, with or without braces; or a mapping.

    Raises:
        OriginError: it is none of these, or has no terms, too many, or one that is not as above.
    """
    members = _members(given)
    if not 1 <= len(members) <= MAX_TERMS:
        raise _wrong(f"it has {len(members)} terms; expected 1 to {MAX_TERMS}")
    terms = []
    for term, coefficient in members:
        factors(term)
        terms.append((term, _number(term, coefficient)))
    return terms


def _number(term: str, given: object) -> float:
    try:
        found = math.nan if isinstance(given, bool) or not isinstance(given, int | float) else float(given)
    except OverflowError:  # a whole number beyond those of floating point
        found = math.inf
    if not math.isfinite(found):
        raise _wrong(f"the term {term!r} has the coefficient {brief(given, 80)}; expected a finite number")
    return found


def factors(term: str) -> list[tuple[str, int]]:
    """Letter and qubit of each factor of a term; those with I are left out.

    Raises:
        OriginError: a factor is no letter X, Y, Z or I with the number of a qubit, or a qubit stands there twice.
    """
    found: dict[int, str] = {}
    for word in term.split():
        match = _FACTOR.fullmatch(word)
        if match is None:
            raise _wrong(
                f"the term {term[:80]!r} has the factor {word[:20]!r}; expected X, Y or Z and a qubit: 'Z0 X2'"
            )
        qubit = int(match[2])
        if qubit in found:
            raise _wrong(f"the term {term[:80]!r} has qubit {qubit} twice; expected each qubit once")
        found[qubit] = match[1]
    return [(letter, qubit) for qubit, letter in found.items() if letter != "I"]


def pauli_sum(terms: Sequence[tuple[str, float]], qubits: Sequence[int], width: int) -> dict[str, float]:
    """The Hamiltonian as a mapping from Pauli strings to coefficients, qubit 0 last.

    Args:
        terms: of `terms_of`.
        qubits: the circuit's qubit for each number in the terms; empty: the number itself.
        width: qubits of the circuit.

    Raises:
        OriginError: a term has a qubit that the circuit does not have.
    """
    known = list(qubits) or list(range(width))
    found: dict[str, float] = {}
    for term, coefficient in terms:
        letters = ["I"] * width
        for letter, number in factors(term):
            if number >= len(known):
                raise _wrong(f"the term {term!r} acts on qubit {number}; expected 0 to {len(known) - 1}")
            letters[width - 1 - known[number]] = letter
        pauli = "".join(letters)
        found[pauli] = found.get(pauli, 0.0) + coefficient
    return found


def _members(given: object) -> list[tuple[str, Any]]:
    if isinstance(given, Mapping):
        return [(str(term), coefficient) for term, coefficient in given.items()]
    if not isinstance(given, str):
        raise _wrong(f'{type(given).__name__} given; expected a text such as \'"Z0": 0.5,"Z0 Z1": -1\'')
    text = given.strip()
    if not text.startswith("{"):
        text = f"{{{text}}}"
    try:
        members = json.loads(text, object_pairs_hook=list, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"{given[:80]!r} is not a list of JSON members: {error}; expected '\"Z0\": 0.5,...'") from None
    counts = Counter(name for name, _ in members)  # of as many terms as a body has room for
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise _wrong(f"the term {twice[:80]!r} stands there twice; expected each term once")
    return list(members)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _wrong(what: str) -> OriginError:
    return OriginError(f"Configuration.hamiltonian: {what}", code=ErrorCode.TASK_CONFIGURATION)
