"""Qiskit's conditions: which bits they ask for, whether they hold for given outcomes, and how they are made."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from qiskit.circuit import ClassicalRegister, Clbit
from qiskit.circuit.classical import expr, types

from pilot.errors import DescriptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Operations on two numbers or truths, by their signs.
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "&&": lambda a, b: bool(a and b),
    "||": lambda a, b: bool(a or b),
}
#: The signs of Qiskit's operations.
SIGNS = {
    "BIT_AND": "&",
    "BIT_OR": "|",
    "BIT_XOR": "^",
    "LOGIC_AND": "&&",
    "LOGIC_OR": "||",
    "EQUAL": "==",
    "NOT_EQUAL": "!=",
    "LESS": "<",
    "LESS_EQUAL": "<=",
    "GREATER": ">",
    "GREATER_EQUAL": ">=",
    "SHIFT_LEFT": "<<",
    "SHIFT_RIGHT": ">>",
    "ADD": "+",
    "SUB": "-",
    "MUL": "*",
    "DIV": "/",
}


def bits_of(condition: Any) -> set[Clbit]:
    """The classical bits that a condition asks for.

    Raises:
        DescriptionError: it asks for a variable.
    """
    if not isinstance(condition, expr.Expr):
        target = condition[0]
        return {target} if isinstance(target, Clbit) else set(target)
    bits: set[Clbit] = set()
    for variable in expr.iter_vars(condition):
        if isinstance(variable.var, Clbit):
            bits.add(variable.var)
        elif isinstance(variable.var, ClassicalRegister):
            bits |= set(variable.var)
        else:
            raise DescriptionError(f"a condition asks for the variable {variable.name!r}; only bits are known here")
    return bits


def truth(condition: Any, outcomes: Mapping[Clbit, int]) -> bool:
    """Whether a condition holds when the bits have these values."""
    if isinstance(condition, expr.Expr):
        return bool(_value(condition, outcomes))
    target, value = condition
    if isinstance(target, Clbit):
        return outcomes[target] == int(value)
    return bool(_number(target, outcomes) == int(value))


def condition_of(bits: Sequence[Clbit], rows: Sequence[Any]) -> tuple[Clbit, bool] | expr.Expr:
    """The condition that holds for some outcomes.

    Args:
        bits: that it asks for.
        rows: `2**len(bits)` truths, one for each outcome; the first bit is the lowest one of a row's number.
    """
    if len(bits) == 1 and bool(rows[0]) != bool(rows[1]):
        return bits[0], bool(rows[1])
    return truth_of(bits, rows)


def truth_of(bits: Sequence[Clbit], rows: Sequence[Any]) -> expr.Expr:
    """`condition_of` as an expression."""
    found = _split(bits, rows)
    return expr.lift(found) if isinstance(found, bool) else found


def _split(bits: Sequence[Clbit], rows: Sequence[Any]) -> bool | expr.Expr:
    """Shannon's expansion by the last bit."""
    if all(bool(row) == bool(rows[0]) for row in rows):
        return bool(rows[0])
    bit, half = expr.lift(bits[-1]), len(rows) // 2
    low, high = _split(bits[:-1], rows[:half]), _split(bits[:-1], rows[half:])
    if rows[:half] == rows[half:]:
        return low
    when_set = bit if high is True else None if high is False else expr.logic_and(bit, high)
    clear = expr.logic_not(bit)
    when_clear = clear if low is True else None if low is False else expr.logic_and(clear, low)
    if when_set is None or when_clear is None:
        found = when_set if when_clear is None else when_clear
        assert found is not None
        return found
    return expr.logic_or(when_set, when_clear)


def _number(register: ClassicalRegister, outcomes: Mapping[Clbit, int]) -> int:
    return sum(outcomes[bit] << place for place, bit in enumerate(register))


def _value(node: expr.Expr, outcomes: Mapping[Clbit, int]) -> Any:
    match node:
        case expr.Value():
            return node.value
        case expr.Var(var=Clbit() as bit):
            return bool(outcomes[bit])
        case expr.Var(var=ClassicalRegister() as register):
            return _number(register, outcomes)
        case expr.Cast():
            value = _value(node.operand, outcomes)
            if isinstance(node.type, types.Bool):
                return bool(value)
            return int(value) % 2**node.type.width if isinstance(node.type, types.Uint) else float(value)
        case expr.Unary():
            value = _value(node.operand, outcomes)
            if node.op is expr.Unary.Op.NEGATE:
                return -value
            return not value if isinstance(node.type, types.Bool) else ~value % 2**node.type.width
        case expr.Binary():
            left, right = _value(node.left, outcomes), _value(node.right, outcomes)
            divides = node.op is expr.Binary.Op.DIV and isinstance(left, int) and isinstance(right, int)
            value = left // right if divides else OPERATIONS[SIGNS[node.op.name]](left, right)
            return value % 2**node.type.width if isinstance(node.type, types.Uint) else value
        case expr.Index():
            return bool(_value(node.target, outcomes) >> _value(node.index, outcomes) & 1)
    raise DescriptionError(f"a condition with {type(node).__name__} cannot be evaluated")
