"""Numbers and classical expressions of OpenQASM 3 beyond what the importer knows; what names are used for."""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit.classical import expr
from qiskit.circuit.classical import types as kinds
from qiskit_qasm3_import import types
from qiskit_qasm3_import.exceptions import raise_from_node
from qiskit_qasm3_import.expression import ValueResolver

from pilot.quantum.programs.openqasm3.reading import words_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Values(ValueResolver):
    """Values, with powers, functions, casts and constants beside the importer's."""

    def visit(self, node: ast.QASMNode, context: None = None) -> tuple[Any, Any]:
        try:
            return super().visit(node, context)
        except (ArithmeticError, ValueError, TypeError, LookupError) as error:
            raise_from_node(node, words_of(error))
            raise  # never reached

    def visit_BinaryExpression(self, node: ast.BinaryExpression) -> tuple[Any, Any]:
        calculation = _OPERATIONS.get(node.op.name)
        if calculation is None:
            return super().visit_BinaryExpression(node)  # type: ignore[no-any-return]
        left, left_type = self.visit(node.lhs)
        right, right_type = self.visit(node.rhs)
        for each in (left_type, right_type):
            if not isinstance(each, types.Int | types.Uint | types.Float):
                raise_from_node(node, f"{node.op.name!r} takes numbers, not '{each.pretty()}'")
        whole = isinstance(left_type, types.Int | types.Uint) and isinstance(right_type, types.Int | types.Uint)
        if node.op.name == "**" and whole and abs(right) * max(1, abs(left)).bit_length() > 4096:
            raise_from_node(node, "the power is too large")
        value = calculation(left, right)
        kind = types.Int if isinstance(value, int) else types.Float
        return value, kind(left_type.const and right_type.const)

    def visit_FunctionCall(self, node: ast.FunctionCall) -> tuple[Any, Any]:
        function = _FUNCTIONS.get(node.name.name)
        if function is None:
            raise_from_node(node, f"there is no function {node.name.name!r} that gives a number")
        values = [self.visit(argument) for argument in node.arguments]
        if not all(isinstance(value, int | float) for value, _ in values):
            raise_from_node(node, f"{node.name.name} takes constant numbers")
        return float(function(*(value for value, _ in values))), types.Float(const=True)

    def visit_Cast(self, node: ast.Cast) -> tuple[Any, Any]:
        value, _ = self.visit(node.argument)
        convert = {ast.IntType: (int, types.Int), ast.UintType: (int, types.Uint), ast.FloatType: (float, types.Float)}
        if type(node.type) is ast.AngleType:
            return value, types.Angle(const=True)
        if type(node.type) is ast.BoolType and isinstance(value, int | float):
            return bool(value), types.Bool(const=True)
        if type(node.type) not in convert or not isinstance(value, int | float):
            raise_from_node(node, "this value cannot be cast to that type here")
        function, kind = convert[type(node.type)]
        return function(value), kind(const=True)


_OPERATIONS: dict[str, Any] = {
    "**": lambda a, b: a**b,
    "%": lambda a, b: a % b,
}
_FUNCTIONS: dict[str, Any] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "arcsin": math.asin,
    "arccos": math.acos,
    "arctan": math.atan,
    "exp": math.exp,
    "log": math.log,
    "ln": math.log,
    "sqrt": math.sqrt,
    "pow": math.pow,
    "mod": math.fmod,
    "floor": math.floor,
    "ceiling": math.ceil,
}


class Variable(types.Type):
    """A variable of the circuit's; its own type says which."""

    __slots__ = ()
    const = False

    def pretty(self) -> str:
        return "variable"


JOINS: dict[str, Any] = {
    "&": expr.bit_and,
    "|": expr.bit_or,
    "^": expr.bit_xor,
    "==": expr.equal,
    "!=": expr.not_equal,
    "<": expr.less,
    "<=": expr.less_equal,
    ">": expr.greater,
    ">=": expr.greater_equal,
    "<<": expr.shift_left,
    ">>": expr.shift_right,
    "+": expr.add,
    "-": expr.sub,
    "*": expr.mul,
    "/": expr.div,
}


def coerced(value: expr.Expr, kind: kinds.Type) -> expr.Expr:
    return value if value.type == kind else expr.cast(value, kind)


def literal(node: ast.QASMNode, value: int, wanted: kinds.Type | None) -> expr.Expr:
    if isinstance(wanted, kinds.Bool) and value in (0, 1):
        return expr.lift(bool(value))
    if isinstance(wanted, kinds.Float):
        return expr.lift(float(value))
    if value < 0:
        raise_from_node(node, "a negative number; classical variables are unsigned")
    if isinstance(wanted, kinds.Uint):
        if value >= 2**wanted.width:
            raise_from_node(node, f"{value} does not fit in {wanted.width} bits")
        return expr.lift(value, wanted)
    return expr.lift(value, kinds.Uint(max(1, value.bit_length())))


def cast_type(node: ast.Cast, size_of: Callable[[ast.Expression], int]) -> kinds.Type:
    size = getattr(node.type, "size", None)
    match node.type:
        case ast.BoolType():
            return kinds.Bool()
        case ast.UintType() | ast.BitType() if size is not None:
            return kinds.Uint(size_of(size))
        case ast.UintType():
            return kinds.Uint(32)
        case ast.BitType():
            return kinds.Bool()
        case ast.FloatType():
            return kinds.Float()
    raise_from_node(node, "only casts to bool, bit, uint and float are supported")
    raise AssertionError


def is_index(found: Any, name: str) -> bool:
    """Whether a name is used for choosing qubits or bits, or in a condition, where no parameter may stand."""
    match found:
        case ast.IndexedIdentifier():
            return _mentions(found.indices, name)
        case ast.IndexExpression():
            return _mentions(found.index, name)
        case ast.BranchingStatement():
            return _mentions(found.condition, name) or is_index([found.if_block, found.else_block], name)
        case ast.FunctionCall():
            return _mentions(found.arguments, name)
        case ast.QuantumGateModifier() | ast.RangeDefinition():
            return _mentions(vars(found), name)
        case list() | tuple():
            return any(is_index(each, name) for each in found)
        case ast.QASMNode():
            return any(is_index(each, name) for each in vars(found).values())
    return False


def _mentions(found: Any, name: str) -> bool:
    match found:
        case ast.Identifier():
            return found.name == name
        case list() | tuple():
            return any(_mentions(each, name) for each in found)
        case dict():
            return any(_mentions(each, name) for each in found.values())
        case ast.QASMNode():
            return any(_mentions(each, name) for each in vars(found).values())
    return False
