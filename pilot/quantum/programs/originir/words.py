"""Qiskit's classical expressions in OriginIR's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qiskit.circuit import ClassicalRegister, Clbit
from qiskit.circuit.classical import expr, types

from pilot.errors import DescriptionError
from pilot.quantum.programs.conditions import SIGNS, bits_of, truth, truth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bits that one condition may calculate with.
MAX_CALCULATED = 8
#: Gates inside gates, and operations in an expression.
MAX_DEPTH = 64


def refuse(what: str, why: str) -> DescriptionError:
    """The error about what the language has no words for."""
    return DescriptionError(f"OriginIR cannot express {what}: {why}", instruction=what)


class Words:
    """Qiskit's classical expressions in the language's words; a register is the sum of its bits' values."""

    def __init__(self, bits: dict[Clbit, str]) -> None:
        self._bits = bits

    def condition(self, condition: Any) -> str:
        """Qiskit's condition: an expression, or a bit or register and its value."""
        if isinstance(condition, expr.Expr):
            return self.visit(condition)
        target, value = condition
        return self.equal(target, value)

    def equal(self, target: Any, value: Any) -> str:
        """`target`, a bit, a register or an expression, has the value."""
        number = int(value.value if isinstance(value, expr.Value) else value)
        if isinstance(target, expr.Var) and isinstance(target.var, Clbit | ClassicalRegister):
            target = target.var
        if isinstance(target, Clbit):
            return f"{self._bits[target]}=={number}"
        if isinstance(target, ClassicalRegister):
            rows = [f"{self._bits[bit]}=={number >> place & 1}" for place, bit in enumerate(target)]
            return _joined(rows, "&&") if number < 2 ** len(rows) else "0"
        if _calculates(target):
            return self.visit(expr.equal(target, expr.Value(number, target.type)))
        return f"{self.visit(target)}=={number}"

    def visit(self, node: expr.Expr) -> str:
        """An expression."""
        if isinstance(node.type, types.Bool) and _calculates(node):
            return self._tabulated(node)
        match node:
            case expr.Value():
                return str(int(node.value)) if isinstance(node.value, bool | int) else repr(float(node.value))
            case expr.Var():
                return self._variable(node.var)
            case expr.Cast():
                inner = self.visit(node.operand)
                return f"({inner}!=0)" if isinstance(node.type, types.Bool) else inner
            case expr.Unary():
                return self._unary(node)
            case expr.Binary():
                return self._binary(node)
            case expr.Index(target=expr.Var(var=ClassicalRegister() as register), index=expr.Value(value=place)):
                return self._bits[register[int(place)]]
        raise refuse("a condition", f"it has no words for {type(node).__name__}")

    def _tabulated(self, node: expr.Expr) -> str:
        """The outcomes for which it is true: in Qiskit numbers have so many bits, and division gives whole ones."""
        found = bits_of(node)
        bits = [bit for bit in self._bits if bit in found]
        if len(bits) > MAX_CALCULATED:
            raise refuse("a condition", f"it calculates with {len(bits)} bits; expected at most {MAX_CALCULATED}")
        try:
            rows = [
                truth(node, {bit: row >> place & 1 for place, bit in enumerate(bits)}) for row in range(2 ** len(bits))
            ]
        except ArithmeticError as error:
            raise refuse("a condition", f"it cannot be calculated: {error}") from None
        return self.visit(truth_of(bits, rows))

    def _variable(self, variable: Any) -> str:
        if isinstance(variable, Clbit):
            return self._bits[variable]
        if isinstance(variable, ClassicalRegister):
            terms = [
                f"{2**place}*{self._bits[bit]}" if place else self._bits[bit] for place, bit in enumerate(variable)
            ]
            return "(" + _joined(terms, "+") + ")"
        raise refuse("a condition", "it has classical bits alone, no variables")

    def _unary(self, node: expr.Unary) -> str:
        inner = self.visit(node.operand)
        if node.op is expr.Unary.Op.LOGIC_NOT or isinstance(node.type, types.Bool):
            return f"!({inner})"
        if node.op is expr.Unary.Op.NEGATE:
            return f"-({inner})"
        return f"({2**node.type.width - 1}-{inner})"

    def _binary(self, node: expr.Binary) -> str:
        sign = SIGNS[node.op.name]
        if isinstance(node.type, types.Bool):
            sign = {"&": "&&", "|": "||", "^": "!="}.get(sign, sign)
        if sign in ("&", "|", "^", "<<", ">>"):
            raise refuse("a condition", f"it has no words for {node.op.name} of numbers")
        return f"({self.visit(node.left)}{sign}{self.visit(node.right)})"


def _joined(terms: Sequence[str], sign: str) -> str:
    """The terms with a sign between them; many in halves, since readers limit the depth."""
    if len(terms) <= MAX_DEPTH // 2:
        return sign.join(terms)
    half = len(terms) // 2
    return f"({_joined(terms[:half], sign)}){sign}({_joined(terms[half:], sign)})"


def _calculates(node: expr.Expr) -> bool:
    """Of the operands that are numbers, one is calculated: what the language's numbers would make of it is another."""
    match node:
        case expr.Binary():
            if node.op.name in ("ADD", "SUB", "MUL", "DIV"):
                return True
            operands = [node.left, node.right]
        case expr.Unary():
            operands = [node.operand]
        case expr.Cast():
            if isinstance(node.type, types.Uint) and not _keeps(node.operand.type, node.type):
                return True
            operands = [node.operand]
        case expr.Index():
            operands = [node.target, node.index]
        case _:
            return False
    return any(_calculates(each) for each in operands if not isinstance(each.type, types.Bool))


def _keeps(given: types.Type, kind: types.Uint) -> bool:
    """All numbers of a type stay as they are in another one."""
    return isinstance(given, types.Bool) or (isinstance(given, types.Uint) and given.width <= kind.width)
