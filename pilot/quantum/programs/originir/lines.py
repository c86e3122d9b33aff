"""OriginIR's text as lines of words, numbers and signs."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from pilot.quantum.programs.originir import gates
from pilot.quantum.programs.originir.statements import Place, wrong

_TOKEN = re.compile(
    r"(?P<white>[ \t\r\f\v]+|//.*)"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<symbol>==|!=|>=|<=|&&|\|\||[-+*/()\[\],=<>!])",
    re.ASCII,
)
#: What closes a block, by what opens it.
CLOSERS = {
    "DAGGER": ("ENDDAGGER",),
    "CONTROL": ("ENDCONTROL",),
    "QIF": ("ENDQIF", "ENDIF", "QENDIF"),
    "QWHILE": ("ENDQWHILE", "QENDWHILE"),
    "QGATE": ("ENDQGATE",),
    "DEF": ("ENDDEF",),
}
ENDS = {end for ends in CLOSERS.values() for end in ends}
#: Begins the other branch of a QIF.
ELSE = ("ELSE", "QELSE")
KEYWORDS = {*CLOSERS, *ENDS, *ELSE, "QELSEIF", "QINIT", "CREG", "MEASURE", "BARRIER", "RESET", "PI"}


class Token(NamedTuple):
    kind: str
    text: str
    place: Place


class Line:
    """The tokens of one line, and which comes next."""

    def __init__(self, tokens: list[Token], end: Place) -> None:
        self._tokens = tokens
        self._next = 0
        self._end = Token("end", "the end of the line", end)

    def peek(self, ahead: int = 0) -> Token:
        place = self._next + ahead
        return self._tokens[place] if place < len(self._tokens) else self._end

    def take(self) -> Token:
        token = self.peek()
        self._next += 1
        return token

    def at(self, text: str) -> bool:
        token = self.peek()
        return token.kind in ("symbol", "name") and token.text == text

    def skip(self, text: str) -> bool:
        if self.at(text):
            self._next += 1
            return True
        return False

    def expect(self, text: str, why: str = "") -> Token:
        if not self.at(text):
            self.refuse(f"{text!r}{why}")
        return self.take()

    def whole_number(self, what: str) -> int:
        token = self.peek()
        if token.kind != "number" or not token.text.isdigit():
            self.refuse(f"{what}, a whole number")
        if len(token.text) > 9:
            wrong(token.place, f"{what}: {token.text[:20]} is too large", "at most 9 digits")
        return int(self.take().text)

    def new_name(self, what: str) -> str:
        token = self.peek()
        if token.kind != "name":
            self.refuse(what)
        if token.text in KEYWORDS or token.text in ("q", "c") or gates.find(token.text):
            wrong(token.place, f"{token.text!r} is a word of the language", what)
        return self.take().text

    def end(self) -> None:
        if self.peek().kind != "end":
            self.refuse("the end of the line")

    def refuse(self, expected: str) -> NoReturn:
        token = self.peek()
        given = token.text if token.kind == "end" else repr(token.text)
        wrong(token.place, f"{given} stands here", expected)


def lines_of(text: str) -> list[Line]:
    """The lines that are not empty.

    Raises:
        ProgramError: a character means nothing in the language.
    """
    lines = []
    for number, raw in enumerate(text.split("\n"), 1):
        tokens: list[Token] = []
        offset = 0
        while offset < len(raw):
            match = _TOKEN.match(raw, offset)
            if match is None:
                _strange(raw, Place(number, offset + 1))
            if match.lastgroup != "white":
                tokens.append(Token(str(match.lastgroup), match[0], Place(number, offset + 1)))
            offset = match.end()
        if tokens:
            last = tokens[-1]
            lines.append(Line(tokens, Place(number, last.place.column + len(last.text))))
    return lines


def _strange(raw: str, place: Place) -> NoReturn:
    character = raw[place.column - 1]
    hints = {"#": "//, with which comments begin", ";": "the end of the line, which ends a statement"}
    wrong(place, f"{character!r} means nothing in OriginIR", hints.get(character))
