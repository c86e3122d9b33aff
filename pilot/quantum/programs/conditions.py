"""Qiskit's conditions: which bits they ask for, and whether they hold for given outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qiskit.circuit import ClassicalRegister, Clbit
from qiskit.circuit.classical import expr, types

from pilot.errors import DescriptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CALCULATIONS: dict[str, Any] = {
    "BIT_AND": lambda a, b: a & b,
    "BIT_OR": lambda a, b: a | b,
    "BIT_XOR": lambda a, b: a ^ b,
    "LOGIC_AND": lambda a, b: bool(a and b),
    "LOGIC_OR": lambda a, b: bool(a or b),
    "EQUAL": lambda a, b: a == b,
    "NOT_EQUAL": lambda a, b: a != b,
    "LESS": lambda a, b: a < b,
    "LESS_EQUAL": lambda a, b: a <= b,
    "GREATER": lambda a, b: a > b,
    "GREATER_EQUAL": lambda a, b: a >= b,
    "SHIFT_LEFT": lambda a, b: a << b,
    "SHIFT_RIGHT": lambda a, b: a >> b,
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "MUL": lambda a, b: a * b,
    "DIV": lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) else a / b,
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
            value = _CALCULATIONS[node.op.name](_value(node.left, outcomes), _value(node.right, outcomes))
            return value % 2**node.type.width if isinstance(node.type, types.Uint) else value
        case expr.Index():
            return bool(_value(node.target, outcomes) >> _value(node.index, outcomes) & 1)
    raise DescriptionError(f"a condition with {type(node).__name__} cannot be evaluated")
