"""Errors of programs: which line, which column, what was expected there."""

from __future__ import annotations

import re

from pilot.errors import ProgramError

#: What people call the formats.
NAMES = {
    "openqasm2": "OpenQASM 2",
    "openqasm3": "OpenQASM 3",
    "originir": "OriginIR",
    "qir": "QIR",
    "qiskit": "Qiskit",
    "pennylane": "PennyLane",
}
#: Brackets in brackets: more than any program needs, fewer than any parser's stack holds.
MAX_NESTING = 100

_OPENING, _CLOSING = "([{", ")]}"
_SIGNS = re.compile(rf"(?:[-+!~]\s*){{{MAX_NESTING},}}")
_STRANGE = re.compile("[\0\ud800-\udfff]")
_BRACKETS = re.compile(r"[()\[\]{}\n]")


def program_error(
    format: str, problem: str, *, line: int | None = None, column: int | None = None, expected: str | None = None
) -> ProgramError:
    """The error whose message begins with the format and the place, both counted from 1."""
    place = NAMES.get(format, format)
    if line is not None:
        place += f", line {line}"
    if column is not None:
        place += f", column {column}"
    message = f"{place}: {problem}" + (f"; expected {expected}" if expected else "")
    return ProgramError(message, format=format, line=line, column=column, expected=expected)


def place_of(text: str, offset: int) -> tuple[int, int]:
    """Line and column of the character at `offset`, both from 1 on."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def end_of(text: str) -> tuple[int, int]:
    """The place behind the last character that is not white."""
    return place_of(text, len(text.rstrip()))


def check_text(text: str, format: str) -> None:
    """Refuse what would exhaust a parser's stack, and what no text has.

    Raises:
        ProgramError: brackets are nested deeper than `MAX_NESTING`, as many signs stand in a row, or there is a
            character that does not belong in a text.
    """
    if match := _SIGNS.search(text):
        line, column = place_of(text, match.start())
        raise program_error(format, "too many signs in a row", line=line, column=column)
    if match := _STRANGE.search(text):
        line, column = place_of(text, match.start())
        raise program_error(format, f"the character {match[0]!r} is not allowed in a text", line=line, column=column)
    depth = 0
    for match in _BRACKETS.finditer(text):
        if match[0] in _OPENING:
            depth += 1
            if depth > MAX_NESTING:
                line, column = place_of(text, match.start())
                raise program_error(
                    format,
                    "brackets are nested too deep",
                    line=line,
                    column=column,
                    expected=f"at most {MAX_NESTING} in one another",
                )
        elif match[0] in _CLOSING:
            depth = max(0, depth - 1)
