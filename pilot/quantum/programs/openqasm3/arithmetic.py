"""Types of OpenQASM 3 and what its operations give, for values known when the text is read.

Integers are C's: a division is cut off towards zero, a value of n bits wraps around. Angles are real numbers.
The language: https://openqasm.com/versions/3.1/language/types.html
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit import ParameterExpression
from qiskit_qasm3_import import types
from qiskit_qasm3_import.expression import join_integer_types, join_numeric_types

from pilot.quantum.programs.conditions import OPERATIONS
from pilot.quantum.programs.openqasm3.reading import refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    Kind = types.Type

#: The result of a power or a shift has at most so many bits.
MAX_DIGITS = 4096
#: ``uint`` without a size.
DEFAULT_SIZE = 32

INTEGERS = (types.Int, types.Uint)
SCALARS = (types.Int, types.Uint, types.Float, types.Angle, types.Bool)


class Array(types.Type):
    """Numbers of one type in one or more dimensions, held as tuples in tuples."""

    __slots__ = ("base", "dimensions")

    def __init__(self, base: Kind, dimensions: tuple[int, ...]) -> None:
        self.base, self.dimensions = base, dimensions

    def pretty(self) -> str:
        sizes = ", ".join(str(size) for size in self.dimensions)
        return f"array[{with_const(self.base, False).pretty()}, {sizes}]"

    def of(self, indices: list[Any]) -> Kind:
        """The type of what the indices choose: numbers, and slices that keep their dimension."""
        kept = [
            len(range(size)[index])
            for size, index in zip(self.dimensions, indices, strict=False)
            if isinstance(index, slice)
        ]
        left = (*kept, *self.dimensions[len(indices) :])
        return Array(self.base, left) if left else self.base


def chosen(values: Any, indices: list[Any]) -> Any:
    """Elements of tuples in tuples."""
    if not indices:
        return values
    if isinstance(indices[0], slice):
        return tuple(chosen(each, indices[1:]) for each in values[indices[0]])
    return chosen(values[indices[0]], indices[1:])


def replaced(values: Any, indices: list[Any], new: Any) -> Any:
    """Tuples in tuples with other elements."""
    if not indices:
        return new
    changed = list(values)
    if isinstance(indices[0], slice):
        for place, each in zip(range(len(values))[indices[0]], new, strict=True):
            changed[place] = replaced(values[place], indices[1:], each)
    else:
        changed[indices[0]] = replaced(values[indices[0]], indices[1:], new)
    return tuple(changed)


def kind_of(node: Any, size_of: Callable[[Any], int]) -> Kind:
    """The type that a declaration or a cast names; a bit register is a number of its bits here."""
    match node:
        case ast.BoolType():
            return types.Bool(const=True)
        case ast.BitType():
            return types.Bool(const=True) if node.size is None else types.Uint(const=True, size=size_of(node.size))
        case ast.IntType():
            return types.Int(const=True, size=None if node.size is None else size_of(node.size))
        case ast.UintType():
            return types.Uint(const=True, size=DEFAULT_SIZE if node.size is None else size_of(node.size))
        case ast.FloatType():
            return types.Float(const=True)
        case ast.AngleType():
            return types.Angle(const=True, size=None if node.size is None else size_of(node.size))
        case ast.ArrayType():
            return Array(kind_of(node.base_type, size_of), tuple(size_of(size) for size in node.dimensions))
    name = type(node).__name__.removesuffix("Type").lower()
    refuse(
        node, f"the type '{name}' is not supported", expected="bit, bool, int, uint, float, angle or an array of them"
    )
    return None


def with_const(kind: Kind, const: bool) -> Kind:
    """The same type, of a value that is known or not."""
    if isinstance(kind, Array):
        return kind
    if isinstance(kind, types.Int | types.Uint | types.Float | types.Angle):
        return type(kind)(const=const, size=kind.size)
    return types.Bool(const=const)


def converted(value: Any, source: Kind, target: Kind) -> Any:
    """A value of one type as another's: cut off, wrapped around, or as the bits of an angle."""
    match target:
        case Array():
            return tuple(converted(each, *_elements(source, target)) for each in value)
        case types.Bool():
            return bool(value)
        case types.Int() | types.Uint():
            return wrapped(_whole(value, source), target)
        case types.Angle() if isinstance(source, types.Uint) and source.size is not None:
            return value * math.tau / 2**source.size
    return value if isinstance(value, ParameterExpression) else float(value)


def _elements(source: Any, target: Array) -> tuple[Kind, Kind]:
    return tuple(  # type: ignore[return-value]
        Array(kind.base, kind.dimensions[1:]) if len(kind.dimensions) > 1 else kind.base for kind in (source, target)
    )


def _whole(value: Any, source: Kind) -> int:
    if isinstance(source, types.Angle) and source.size is not None:
        return int(round(value / math.tau * 2**source.size) % 2**source.size)
    return int(value)


def wrapped(value: int, kind: Any) -> int:
    if kind.size is None:
        return value
    if isinstance(kind, types.Uint):
        return int(value % 2**kind.size)
    half = 2 ** (kind.size - 1)
    return int((value + half) % (2 * half) - half)


def joined(name: str, left: Any, right: Any) -> Kind | None:
    """The type of `left name right`; None: there is no such operation."""
    known = getattr(left, "const", False) and getattr(right, "const", False)
    if not isinstance(left, SCALARS) or not isinstance(right, SCALARS):
        return None
    if name in COMPARISONS or name in ("&&", "||"):
        return types.Bool(const=known)
    if isinstance(left, types.Bool) and isinstance(right, types.Bool) and name in ("&", "|", "^"):
        return types.Bool(const=known)
    left, right = _as_number(left), _as_number(right)
    both_whole = isinstance(left, INTEGERS) and isinstance(right, INTEGERS)
    if name in ("<<", ">>"):
        turned = isinstance(left, types.Angle) and left.size is not None and isinstance(right, INTEGERS)
        return with_const(left, known) if both_whole or turned else None
    if name in ("&", "|", "^"):
        return join_integer_types(left, right) if both_whole else None
    if isinstance(left, types.Angle) or isinstance(right, types.Angle):
        return _joined_angle(name, left, right, known)
    return join_numeric_types(left, right)


def _as_number(kind: Any) -> Any:
    return types.Uint(const=kind.const, size=1) if isinstance(kind, types.Bool) else kind


def _joined_angle(name: str, left: Kind, right: Kind, known: bool) -> Kind | None:
    """Angles with angles and numbers. Qiskit's exporter writes more mixtures than the language knows."""
    if name == "/" and isinstance(left, types.Angle) and isinstance(right, types.Angle):
        return types.Uint(const=known)
    if name == "*" and isinstance(left, types.Angle) and isinstance(right, types.Angle):
        return None
    sizes: list[Any] = [kind.size for kind in (left, right) if isinstance(kind, types.Angle)]
    return types.Angle(const=known, size=None if None in sizes else max(sizes))


def calculated(name: str, kind: Kind, left_kind: Kind, right_kind: Kind, left: Any, right: Any) -> Any:
    """`left name right`, of the joined type."""
    if name in COMPARISONS:
        return _compared(name, left_kind, right_kind, left, right)
    if name in ("<<", ">>") and isinstance(kind, types.Angle):
        bits = types.Uint(size=kind.size)
        return converted(wrapped(_OPERATIONS[name](_whole(left, kind), right, True), bits), bits, kind)
    value = _OPERATIONS[name](left, right, isinstance(kind, INTEGERS))
    if isinstance(kind, types.Bool):
        return bool(value)
    return wrapped(value, kind) if isinstance(kind, INTEGERS) and isinstance(value, int) else value


def _compared(name: str, left_kind: Kind, right_kind: Kind, left: Any, right: Any) -> bool:
    """A literal that fits only without a sign, as 3 in ``int[2]``, means these bits."""
    for kind, other_kind, other in ((left_kind, right_kind, right), (right_kind, left_kind, left)):
        literal = isinstance(other_kind, types.Int) and other_kind.size is None
        if name in ("==", "!=") and literal and isinstance(kind, types.Int) and kind.size is not None:
            size = 2**kind.size
            if size // 2 <= other < size:
                return bool(COMPARISONS[name]((left - right) % size, 0))
    return bool(COMPARISONS[name](left, right))


def _divided(left: Any, right: Any, whole: bool) -> Any:
    if not whole:
        return left / right
    if right == 0:
        raise ZeroDivisionError("division by zero")
    if not isinstance(left, int) or not isinstance(right, int):
        return int(left // right)
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _rest(left: Any, right: Any, whole: bool) -> Any:
    return left - right * _divided(left, right, True) if whole else math.fmod(left, right)


def _power(left: Any, right: Any, whole: bool) -> Any:
    if whole and abs(right) * max(1, abs(left)).bit_length() > MAX_DIGITS:
        raise ValueError("the power is too large")
    return left**right


def _shifted(left: int, right: int, whole: bool) -> int:
    if not 0 <= right <= MAX_DIGITS:
        raise ValueError(f"a shift by {right}; 0 to {MAX_DIGITS} are allowed")
    return left << right


COMPARISONS = {sign: OPERATIONS[sign] for sign in ("==", "!=", "<", "<=", ">", ">=")}
_OPERATIONS: dict[str, Callable[[Any, Any, bool], Any]] = {
    "+": lambda a, b, whole: a + b,
    "-": lambda a, b, whole: a - b,
    "*": lambda a, b, whole: a * b,
    "/": _divided,
    "%": _rest,
    "**": _power,
    "&": lambda a, b, whole: a & b,
    "|": lambda a, b, whole: a | b,
    "^": lambda a, b, whole: a ^ b,
    "<<": _shifted,
    ">>": lambda a, b, whole: a >> min(max(b, 0), MAX_DIGITS),
    "&&": lambda a, b, whole: bool(a) and bool(b),
    "||": lambda a, b, whole: bool(a) or bool(b),
}


def _by(name: str) -> Callable[[Any], Any]:
    """A function of a number, or of a free parameter."""
    method = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}.get(name, name)
    own = getattr(math, name)
    return lambda value: getattr(value, method)() if isinstance(value, ParameterExpression) else own(value)


#: Functions of real numbers.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": _by("sin"),
    "cos": _by("cos"),
    "tan": _by("tan"),
    "arcsin": _by("asin"),
    "arccos": _by("acos"),
    "arctan": _by("atan"),
    "exp": _by("exp"),
    "log": _by("log"),
    "ln": _by("log"),
    "sqrt": lambda value: value**0.5 if isinstance(value, ParameterExpression) else math.sqrt(value),
    "pow": lambda value, exponent: value**exponent,
    "mod": math.fmod,
    "floor": lambda value: float(math.floor(value)),
    "ceiling": lambda value: float(math.ceil(value)),
}
