"""What stands in a line of OriginIR: qubits, bits and expressions."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, pi

from pilot.quantum.programs.originir.lines import Line, Token
from pilot.quantum.programs.originir.statements import (
    Bit,
    Expression,
    Name,
    Number,
    Operation,
    Qubit,
    calculate,
    wrong,
)

#: Blocks in blocks, and operations in an expression.
MAX_DEPTH = 64

_PRECEDENCE = {
    "||": 1,
    "&&": 2,
    "==": 3,
    "!=": 3,
    "<": 4,
    "<=": 4,
    ">": 4,
    ">=": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
}


class Operands:
    """Reads operands where some names have a meaning: inside a definition, its qubits and parameters."""

    def __init__(self, qubits: Sequence[str] = (), parameters: Sequence[str] = ()) -> None:
        """Args: names of the qubits of a QGATE; and of the parameters of a QGATE or DEF."""
        self._qubit_names, self._parameters = qubits, parameters

    @property
    def are_named(self) -> bool:
        """A definition is being read whose operands have names."""
        return bool(self._qubit_names or self._parameters)

    def qubit(self, line: Line) -> Qubit:
        """One qubit: of the register, or an operand of the QGATE by its name."""
        if not self._at_qubit(line):
            line.refuse(" or ".join(self._qubit_names) if self._qubit_names else "a qubit, q[...]")
        token = line.take()
        if token.text in self._qubit_names:
            return Qubit(token.place, name=token.text)
        if self._qubit_names:
            wrong(token.place, "a QGATE acts on its own operands only", " or ".join(self._qubit_names))
        if not line.skip("["):
            return Qubit(token.place)
        index = self.expression(line)
        line.expect("]")
        return Qubit(token.place, index=index)

    def qubits(self, line: Line) -> list[Qubit]:
        """Qubits with commas between them."""
        qubits = [self.qubit(line)]
        while line.skip(","):
            qubits.append(self.qubit(line))
        return qubits

    def bit(self, line: Line) -> Bit:
        """``c[index]``."""
        place = line.expect("c").place
        line.expect("[")
        index = self.expression(line)
        line.expect("]")
        return Bit(index, place)

    def expression(self, line: Line, binding: int = 1) -> Expression:
        """An expression whose operations bind at least as strongly as `binding`."""
        left = self._operand(line)
        while (precedence := _PRECEDENCE.get(line.peek().text, 0)) >= binding and line.peek().kind == "symbol":
            sign = line.take()
            right = self.expression(line, precedence + 1)
            left = _operation(sign, left, right)
        return left

    def condition(self, line: Line) -> Expression:
        """An expression; Origin's SDK also lists bits, all of which have to be 1."""
        condition = self.expression(line)
        while line.at(","):
            sign = line.take()
            condition = _operation(sign._replace(text="&&"), condition, self.expression(line))
        line.end()
        return condition

    def of_gate(self, line: Line) -> tuple[list[Qubit], list[Expression]]:
        """What a gate acts on, and its parameters."""
        qubits: list[Qubit] = []
        parameters: list[Expression] = []
        if line.skip("("):  # functional: NAME(q[0], 0.1), NAME(q[0]) (0.1)
            self._listed(line, qubits, parameters, ")")
            line.expect(")")
            line.skip(",")
            if line.at("("):
                self._group(line, parameters)
        else:
            self._listed(line, qubits, parameters, "")
        return qubits, parameters

    def _listed(self, line: Line, qubits: list[Qubit], parameters: list[Expression], closer: str) -> None:
        """Qubits, then parameters: in one pair of brackets, or bare."""
        while not (closer and line.at(closer)) and line.peek().kind != "end":
            if self._at_qubit(line):
                if parameters:
                    line.refuse("a parameter")
                qubits.append(self.qubit(line))
            elif line.at("(") and self._is_group(line):
                self._group(line, parameters)
                return
            elif line.peek().text in ("dagger", "controlled_by") and qubits:
                return
            else:
                parameters.append(self.expression(line))
            if line.skip(","):
                if line.peek().kind == "end":
                    line.refuse("a qubit or a parameter")
            elif parameters:
                break
            elif self._at_qubit(line):
                line.refuse("',', dagger or the end of the line")
        if not qubits:
            line.refuse("a qubit, q[...]")

    def _is_group(self, line: Line) -> bool:
        """Whether the bracket here holds all parameters, or begins one of them."""
        depth = ahead = 0
        while line.peek(ahead).kind != "end":
            text = line.peek(ahead).text
            depth += {"(": 1, ")": -1}.get(text, 0)
            if not depth:
                after = line.peek(ahead + 1)
                return after.text not in _PRECEDENCE and after.text != ","
            ahead += 1
        return True

    def _group(self, line: Line, parameters: list[Expression]) -> None:
        line.expect("(")
        while not line.at(")"):
            parameters.append(self.expression(line))
            if not line.skip(","):
                break
        line.expect(")")

    def _at_qubit(self, line: Line) -> bool:
        token = line.peek()
        return token.kind == "name" and (token.text == "q" or token.text in self._qubit_names)

    def _operand(self, line: Line) -> Expression:
        signs = []
        while line.peek().kind == "symbol" and line.peek().text in "+-!":
            signs.append(line.take())
        token = line.peek()
        if line.skip("("):
            value = self.expression(line)
            line.expect(")")
        elif token.kind == "number":
            value = Number(float(line.take().text))
            if value.value == inf:
                wrong(token.place, "the number is too large", "at most 1.79e308")
        elif token.text in ("PI", "pi") and token.text not in self._parameters:
            line.take()
            value = Number(pi)
        elif token.text in self._parameters:
            line.take()
            value = Name(token.text, token.place)
        elif token.text == "c" and token.kind == "name":
            value = self.bit(line)
        else:
            line.refuse("a number, PI, a classical bit or a bracket")
        for sign in reversed(signs):
            if sign.text != "+":
                value = _operation(sign, value)
        return value


def _operation(sign: Token, *operands: Expression) -> Expression:
    if all(isinstance(each, Number) for each in operands):
        return Number(calculate(sign.text, [each.value for each in operands], sign.place))  # type: ignore[union-attr]
    depth = 1 + max(each.depth if isinstance(each, Operation) else 0 for each in operands)
    if depth > MAX_DEPTH:
        wrong(sign.place, "the expression is too long", f"at most {MAX_DEPTH} operations in one another")
    return Operation(sign.text, operands, sign.place, depth)
