"""Conditions over more bits than a table holds, as Qiskit's classical expressions; registers are unsigned numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit import ClassicalRegister, Clbit
from qiskit.circuit.classical import expr
from qiskit.circuit.classical import types as kinds
from qiskit_qasm3_import.exceptions import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable

_JOINS: dict[str, Any] = {
    "&": expr.bit_and,
    "|": expr.bit_or,
    "^": expr.bit_xor,
    "==": expr.equal,
    "!=": expr.not_equal,
    "<": expr.less,
    "<=": expr.less_equal,
    ">": expr.greater,
    ">=": expr.greater_equal,
}


class Wide:
    """Comparisons, logic and bitwise operations; what else there is raises `ConversionError`."""

    def __init__(self, value_of: Callable[[ast.Expression], Any], size_of: Callable[[ast.Expression], int]) -> None:
        """Args: what a part without operations is worth, and the number that a size is."""
        self._value_of, self._size_of = value_of, size_of

    def condition(self, node: ast.Expression) -> expr.Expr:
        return _truth(self._expression(node))

    def _expression(self, node: ast.Expression, width: int | None = None) -> expr.Expr:
        match node:
            case ast.BinaryExpression():
                return self._binary(node)
            case ast.UnaryExpression() if node.op.name in ("!", "~"):
                inner = self._expression(node.expression, width)
                truth = node.op.name == "!" or isinstance(inner.type, kinds.Bool)
                return expr.logic_not(_truth(inner)) if truth else expr.bit_not(inner)
            case ast.Cast() if isinstance(node.type, ast.BoolType):
                return _truth(self._expression(node.argument))
            case ast.Cast() if isinstance(node.type, ast.BitType | ast.UintType):
                return self._cast(node)
        value = self._value_of(node)
        if isinstance(value, bool | Clbit | ClassicalRegister):
            return expr.lift(value)
        if isinstance(value, list | tuple) and value and all(isinstance(bit, Clbit) for bit in value):
            return _number(value)
        if isinstance(value, int) and value >= 0 and (width is None or value < 2**width):
            return expr.lift(value, kinds.Uint(max(1, value.bit_length()) if width is None else width))
        raise ConversionError("no such condition over a wide register")

    def _cast(self, node: ast.Cast) -> expr.Expr:
        inner = self._expression(node.argument)
        size = getattr(node.type, "size", None)
        width = 32 if size is None else self._size_of(size)
        if not isinstance(inner.type, kinds.Uint) or width < inner.type.width:
            raise ConversionError("a cast to fewer bits")
        return inner if width == inner.type.width else expr.cast(inner, kinds.Uint(width))

    def _binary(self, node: ast.BinaryExpression) -> expr.Expr:
        name = node.op.name
        if name in ("&&", "||"):
            join = expr.logic_and if name == "&&" else expr.logic_or
            return join(_truth(self._expression(node.lhs)), _truth(self._expression(node.rhs)))
        if name not in _JOINS:
            raise ConversionError(f"'{name}' over a wide register")
        left = self._expression(node.lhs)
        right = self._expression(node.rhs)
        if isinstance(left.type, kinds.Uint) or isinstance(right.type, kinds.Uint):
            width = max(_width(left), _width(right))
            left, right = _widened(left, width), _widened(right, width)
        return _JOINS[name](left, right)


def _truth(value: expr.Expr) -> expr.Expr:
    return value if isinstance(value.type, kinds.Bool) else expr.not_equal(value, expr.lift(0, value.type))


def _width(value: expr.Expr) -> int:
    return value.type.width if isinstance(value.type, kinds.Uint) else 1


def _widened(value: expr.Expr, width: int) -> expr.Expr:
    return (
        value if isinstance(value.type, kinds.Uint) and _width(value) == width else expr.cast(value, kinds.Uint(width))
    )


def _number(bits: Any) -> expr.Expr:
    """Some bits of a register, the first the lowest, as one number."""
    width = kinds.Uint(len(bits))
    total = expr.cast(expr.lift(bits[0]), width)
    for place, bit in enumerate(bits[1:], 1):
        total = expr.bit_or(total, expr.shift_left(expr.cast(expr.lift(bit), width), expr.lift(place, width)))
    return total
