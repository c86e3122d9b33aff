"""OriginIR's text to statements: one pass over the lines."""

from __future__ import annotations

from typing import NoReturn

from pilot.errors import nearest
from pilot.quantum.programs.originir import gates
from pilot.quantum.programs.originir.lines import CLOSERS, ELSE, ENDS, KEYWORDS, Line, Token, lines_of
from pilot.quantum.programs.originir.operands import MAX_DEPTH, Operands
from pilot.quantum.programs.originir.statements import (
    Apply,
    Assign,
    Barrier,
    Control,
    Dagger,
    Definition,
    If,
    Measure,
    Number,
    Place,
    Qubit,
    Reset,
    Source,
    Statement,
    While,
    wrong,
)

#: Begin another branch of a QIF.
ELSES = (*ELSE, "QELSEIF")


def read(text: str) -> Source:
    """The statements of a program.

    Raises:
        ProgramError: it is not OriginIR; the place and what could stand there are in the message.
    """
    return _Reader(text).source()


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = lines_of(text)
        self._next = 0
        self._definitions: dict[str, Definition] = {}
        self._operands = Operands()
        last = text.rstrip().count("\n") + 1
        self._end = Place(last, len(text.rstrip().split("\n")[-1]) + 1)

    def source(self) -> Source:
        if not self._lines:
            wrong(self._end, "the program is empty", "QINIT and the number of qubits")
        line = self._take()
        line.expect("QINIT", " and the number of qubits")
        place = line.peek().place
        num_qubits = line.whole_number("the number of qubits")
        if not num_qubits:
            wrong(place, "a program of no qubits", "at least 1")
        line.end()
        num_bits = None
        if self._more() and self._lines[self._next].skip("CREG"):
            line = self._take()
            num_bits = line.whole_number("the number of classical bits")
            line.end()
        statements = self._block(None, 0)
        return Source(num_qubits, num_bits, statements, self._definitions)

    def _more(self) -> bool:
        return self._next < len(self._lines)

    def _take(self) -> Line:
        self._next += 1
        return self._lines[self._next - 1]

    def _block(self, opener: Token | None, depth: int) -> list[Statement]:
        """The statements up to the line that closes the block, which stays."""
        statements: list[Statement] = []
        if depth > MAX_DEPTH and opener:
            wrong(opener.place, "blocks are nested too deep", f"at most {MAX_DEPTH} in one another")
        while self._more():
            line = self._lines[self._next]
            word = line.peek().text
            if word in ENDS or word in ELSES:
                closers = CLOSERS[opener.text] if opener else ()
                if word in closers or (word in ELSES and opener and opener.text == "QIF"):
                    return statements
                wrong(line.peek().place, f"{word} closes nothing", " or ".join(closers) or "a statement")
            self._next += 1
            statement = self._statement(line, depth)
            if statement is not None:
                statements.append(statement)
        if opener:
            end = CLOSERS[opener.text][0]
            wrong(
                self._end,
                f"the {opener.text} of line {opener.place.line} is not closed at the end of the program",
                end,
            )
        return statements

    def _statement(self, line: Line, depth: int) -> Statement | None:
        token = line.peek()
        if token.kind != "name":
            line.refuse("a gate or a keyword")
        blocks = {"DAGGER": self._dagger, "CONTROL": self._control, "QIF": self._if, "QWHILE": self._while}
        if token.text in blocks:
            return blocks[token.text](line, line.take(), depth + 1)
        simple = {"MEASURE": self._measure, "BARRIER": self._barrier, "RESET": self._reset}
        if token.text in simple:
            line.take()
            statement = simple[token.text](line, token.place)
            line.end()
            return statement
        if token.text in ("QGATE", "DEF"):
            if depth or self._operands.are_named:
                wrong(token.place, f"{token.text} stands inside a block", f"{token.text} outside all blocks")
            self._define(line, line.take())
            return None
        if token.text == "c" and line.peek(1).text == "[":
            bit = self._operands.bit(line)
            line.expect("=")
            value = self._operands.expression(line)
            line.end()
            return Assign(token.place, bit, value)
        if token.text in ("QINIT", "CREG"):
            wrong(token.place, f"{token.text} stands in the middle", "QINIT and CREG at the beginning, once each")
        return self._apply(line)

    def _close(self, opener: Token) -> Line:
        line = self._take()
        line.take()
        if opener.text != "CONTROL":
            line.end()
        return line

    def _dagger(self, line: Line, opener: Token, depth: int) -> Statement:
        line.end()
        body = self._block(opener, depth)
        self._close(opener)
        return Dagger(opener.place, body)

    def _control(self, line: Line, opener: Token, depth: int) -> Statement:
        qubits = self._operands.qubits(line)
        line.end()
        body = self._block(opener, depth)
        closing = self._close(opener)
        if closing.peek().kind != "end":
            place = closing.peek().place
            if sorted(_spelled(each) for each in self._operands.qubits(closing)) != sorted(map(_spelled, qubits)):
                wrong(place, "ENDCONTROL has other qubits than its CONTROL", "the same qubits, or none")
            closing.end()
        return Control(opener.place, qubits, body)

    def _if(self, line: Line, opener: Token, depth: int) -> Statement:
        branch = self._branch(line, opener, depth)
        self._close(opener)
        return branch

    def _branch(self, line: Line, opener: Token, depth: int) -> Statement:
        """A condition and its block, and the branches that follow: QELSEIF is an `If` in the other branch."""
        place = line.peek().place
        condition = self._operands.condition(line)
        then = self._block(opener, depth)
        otherwise: list[Statement] = []
        if self._lines[self._next].peek().text == "QELSEIF":
            line = self._take()
            line.take()
            if depth >= MAX_DEPTH:
                wrong(place, "blocks are nested too deep", f"at most {MAX_DEPTH} in one another")
            otherwise = [self._branch(line, opener, depth + 1)]
        elif self._lines[self._next].peek().text in ELSE:
            line = self._take()
            line.take()
            line.end()
            otherwise = self._block(opener, depth)
            if self._lines[self._next].peek().text in ELSES:
                wrong(self._lines[self._next].peek().place, "a second ELSE", "ENDQIF")
        return If(opener.place, condition, then, otherwise)

    def _while(self, line: Line, opener: Token, depth: int) -> Statement:
        condition = self._operands.condition(line)
        body = self._block(opener, depth)
        self._close(opener)
        return While(opener.place, condition, body)

    def _measure(self, line: Line, place: Place) -> Statement:
        qubit = self._operands.qubit(line)
        line.expect(",")
        if line.at("c") and line.peek(1).text != "[":
            line.take()
            return Measure(place, qubit, None)
        if not line.at("c"):
            line.refuse("a classical bit, c[...]")
        return Measure(place, qubit, self._operands.bit(line))

    def _barrier(self, line: Line, place: Place) -> Statement:
        return Barrier(place, self._operands.qubits(line))

    def _reset(self, line: Line, place: Place) -> Statement:
        return Reset(place, self._operands.qubit(line))

    def _define(self, line: Line, opener: Token) -> None:
        place = line.peek().place
        name = line.new_name(f"the name of the {opener.text}")
        if name in self._definitions:
            wrong(place, f"{name!r} is defined already", "another name")
        if opener.text == "QGATE":
            qubits, parameters = self._gate_operands(line)
        else:
            qubits, parameters = self._subroutine_operands(line)
        line.end()
        for each in (qubits, parameters):
            if len(set(each)) != len(each):
                wrong(place, f"{name!r} has two operands of one name", "different names")
        self._operands = Operands(qubits if opener.text == "QGATE" else (), parameters)
        body = self._block(opener, 1)
        self._operands = Operands()
        self._close(opener)
        self._definitions[name] = Definition(opener.place, opener.text, name, qubits, parameters, body)

    def _gate_operands(self, line: Line) -> tuple[list[str], list[str]]:
        """``a,b,(t)``."""
        qubits = [line.new_name("an operand's name")]
        parameters: list[str] = []
        while line.skip(","):
            if line.at("("):
                parameters = self._parameter_names(line)
                break
            qubits.append(line.new_name("an operand's name, or parameters in brackets"))
        return qubits, parameters

    def _subroutine_operands(self, line: Line) -> tuple[list[str], list[str]]:
        """``(q[0],q[1]) (t)``."""
        line.expect("(")
        qubits: list[str] = []
        while True:
            place = line.peek().place
            line.expect("q")
            line.expect("[")
            if line.whole_number("an index") != len(qubits):
                wrong(place, "the operands are not in order", f"q[{len(qubits)}]")
            line.expect("]")
            qubits.append(f"q[{len(qubits)}]")
            if not line.skip(","):
                break
        line.expect(")")
        return qubits, self._parameter_names(line) if line.at("(") else []

    def _parameter_names(self, line: Line) -> list[str]:
        line.expect("(")
        names: list[str] = []
        while not line.at(")"):
            names.append(line.new_name("a parameter's name"))
            if not line.skip(","):
                break
        line.expect(")")
        return names

    def _apply(self, line: Line) -> Statement:
        token = line.take()
        if gates.find(token.text) is None and token.text not in self._definitions:
            self._unknown(token)
        statement = Apply(token.place, token.text, *self._operands.of_gate(line))
        while line.peek().kind == "name":
            suffix = line.peek()
            if line.skip("dagger"):
                statement.dagger = not statement.dagger
            elif line.skip("controlled_by"):
                line.expect("(")
                statement.controls += self._operands.qubits(line)
                line.expect(")")
            else:
                wrong(
                    suffix.place, f"{suffix.text!r} stands here", "dagger, controlled_by (...) or the end of the line"
                )
        line.end()
        return statement

    def _unknown(self, token: Token) -> NoReturn:
        word = token.text.upper()
        known = [*gates.GATES, *self._definitions, *KEYWORDS]
        expected = gates.ELSEWHERE.get(word) or nearest(word, known) or "a gate or a keyword"
        wrong(token.place, f"{token.text!r} is no gate", expected)


def _spelled(qubit: Qubit) -> str:
    index = qubit.index.value if isinstance(qubit.index, Number) else qubit.index
    return f"{qubit.name} {index}"
