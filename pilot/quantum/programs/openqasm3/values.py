"""What an expression is worth: qubits, bits, a number, a free parameter, or a number for each outcome of some bits."""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from openqasm3 import ast
from qiskit.circuit import ParameterExpression
from qiskit_qasm3_import import types
from qiskit_qasm3_import.data import Symbol
from qiskit_qasm3_import.expression import ValueResolver

from pilot.quantum.programs.openqasm3 import arithmetic
from pilot.quantum.programs.openqasm3.reading import Located, refuse, refuse_unknown, words_of
from pilot.quantum.programs.openqasm3.tables import Table, Writes, lifted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qiskit_qasm3_import.state import State

#: A value and its type.
Typed = tuple[Any, types.Type]


class Visitor(Protocol):
    """The visitor that a value is read for: it knows the variables and the subroutines."""

    #: How often each bit was written.
    written: Writes

    def read(self, symbol: Symbol | None, node: ast.QASMNode) -> Typed | None:
        """The value of a variable; None: the symbol is none."""

    def is_subroutine(self, name: str) -> bool:
        """The name is that of a subroutine of the program."""

    def result_of(self, call: ast.FunctionCall, context: State) -> Typed:
        """Run a subroutine, and what it returns."""


class Values(ValueResolver):
    """The importer's resolver, with variables, all operations, functions, casts and the bits of integers."""

    def __init__(self, visitor: Visitor, context: State, strict: bool, is_angle: bool = False) -> None:
        """`is_angle`: what is found becomes an angle, where an integer division is probably a mistake."""
        super().__init__(context, strict)
        self._visitor = visitor
        self._is_angle = is_angle

    def visit(self, node: ast.QASMNode, context: None = None) -> Typed:
        try:
            return super().visit(node, context)
        except Located:
            raise
        except (ArithmeticError, ValueError, TypeError, LookupError) as error:
            refuse(node, words_of(error))

    def generic_visit(self, node: ast.QASMNode, context: None = None) -> NoReturn:
        refuse_unknown(node)

    def number(self, node: ast.QASMNode) -> Typed:
        """The value, where bits count as the number they hold."""
        value, kind = self.visit(node)
        match kind:
            case types.Bit():
                return lifted(bool, self._visitor.written.table([value])), types.Bool(const=False)
            case types.BitArray():
                return self._visitor.written.table(list(value)), types.Uint(const=False, size=len(value))
        if not isinstance(kind, (*arithmetic.SCALARS, arithmetic.Array)):
            refuse(node, f"'{kind.pretty()}' is not a number")
        return value, kind

    def visit_Identifier(self, node: ast.Identifier) -> Typed:
        symbol = self._context.symbol_table.get(node.name, node)
        found = self._visitor.read(symbol, node)
        return super().visit_Identifier(node) if found is None else found

    def visit_Concatenation(self, node: ast.Concatenation) -> Typed:
        for part in (node.lhs, node.rhs):
            _, kind = self.visit(part)
            if not isinstance(kind, types.BitArray | types.QubitArray):
                refuse(
                    part,
                    f"'++' joins registers, and this is '{kind.pretty()}'",
                    expected="a register, q[0:1] or q[{0}]",
                )
        found: Typed = super().visit_Concatenation(node)
        if isinstance(found[1], types.Error):
            refuse(node, "'++' joins qubits and bits", expected="registers of one kind")
        return found

    def visit_BinaryExpression(self, node: ast.BinaryExpression) -> Typed:
        name = node.op.name
        left, left_kind = self.visit(node.lhs)
        right, right_kind = self.visit(node.rhs)
        if isinstance(left_kind, types.Duration) or isinstance(right_kind, types.Duration):
            return _duration(node, left, right), types.Duration(const=True)
        left, left_kind = self.number(node.lhs) if _is_bits(left_kind) else (left, left_kind)
        right, right_kind = self.number(node.rhs) if _is_bits(right_kind) else (right, right_kind)
        kind = arithmetic.joined(name, left_kind, right_kind)
        if kind is None:
            refuse(node, f"'{name}' does not join '{left_kind.pretty()}' and '{right_kind.pretty()}'")
        if name == "/" and self._is_angle and isinstance(kind, arithmetic.INTEGERS):
            self._warn_of_division(node, left, right)
        function = partial(arithmetic.calculated, name, kind, left_kind, right_kind)
        return self._typed(lifted(function, left, right), kind)

    def _typed(self, value: Any, kind: types.Type) -> Typed:
        """A table may have turned out to be one number."""
        known = not isinstance(value, Table | ParameterExpression)
        return value, arithmetic.with_const(kind, known)

    def _warn_of_division(self, node: ast.BinaryExpression, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int) and right and left % right:
            span: Any = node.span
            found = arithmetic.calculated("/", types.Int(), types.Int(), types.Int(), left, right)
            warnings.warn(
                f"OpenQASM 3, line {span.start_line}, column {span.start_column + 1}: {left}/{right} is a division of "
                f"integers and gives {found}; write {left}.0/{right} for {left / right:.6g}",
                stacklevel=2,
            )

    def visit_UnaryExpression(self, node: ast.UnaryExpression) -> Typed:
        value, kind = self.number(node.expression)
        name = node.op.name
        if name == "!" or (name == "~" and isinstance(kind, types.Bool)):
            return self._typed(lifted(lambda one: not one, value), types.Bool(const=True))
        if name == "~":
            if not isinstance(kind, arithmetic.INTEGERS):
                refuse(node, f"'~' takes integers and bits, not '{kind.pretty()}'")
            return self._typed(lifted(lambda one: arithmetic.wrapped(~one, kind), value), kind)
        if isinstance(kind, types.Bool):
            refuse(node, "'-' takes numbers, not 'bool'")
        kind = types.Int(const=kind.const) if isinstance(kind, types.Uint) and kind.size is None else kind
        whole = isinstance(kind, arithmetic.INTEGERS)
        return self._typed(lifted(lambda one: arithmetic.wrapped(-one, kind) if whole else -one, value), kind)

    def visit_FunctionCall(self, node: ast.FunctionCall) -> Typed:
        name = node.name.name
        if self._visitor.is_subroutine(name):
            return self._visitor.result_of(node, self._context)
        if name in ("popcount", "rotl", "rotr"):
            return self._of_bits(node, name)
        if name not in arithmetic.FUNCTIONS:
            refuse(node, f"there is no function {name!r}", expected=f"a def, or {', '.join(arithmetic.FUNCTIONS)}")
        values = [self.number(argument)[0] for argument in node.arguments]
        return self._typed(lifted(arithmetic.FUNCTIONS[name], *values), types.Float(const=True))

    def visit_SizeOf(self, node: ast.SizeOf) -> Typed:
        value, kind = self.visit(node.target)
        place = 0 if node.index is None else self._whole_constant(node.index)
        if isinstance(kind, arithmetic.Array) and 0 <= place < len(kind.dimensions):
            return kind.dimensions[place], types.Uint(const=True)
        if place != 0 or not isinstance(kind, types.BitArray | types.QubitArray):
            refuse(node, "sizeof takes a register, or an array and one of its dimensions")
        return len(value), types.Uint(const=True)

    def _of_bits(self, node: ast.FunctionCall, name: str) -> Typed:
        value, kind = self.number(node.arguments[0])
        if not isinstance(kind, types.Uint):
            refuse(node, f"{name} takes bits or an unsigned integer, not '{kind.pretty()}'")
        if name == "popcount":
            return self._typed(lifted(int.bit_count, value), types.Uint(const=True, size=arithmetic.DEFAULT_SIZE))
        size = kind.size
        if len(node.arguments) != 2 or size is None:
            refuse(node, f"{name} takes bits or a uint[n], and a number of places")
        places, _ = self.number(node.arguments[1])
        sign = 1 if name == "rotl" else -1

        def rotated(number: int, by: int) -> int:
            left = sign * by % size
            return int((number << left | number >> (size - left)) % 2**size)

        return self._typed(lifted(rotated, value, places), kind)

    def visit_Cast(self, node: ast.Cast) -> Typed:
        value, source = self.number(node.argument)
        kind = arithmetic.kind_of(node.type, self._whole_constant)
        return self._typed(lifted(partial(arithmetic.converted, source=source, target=kind), value), kind)

    def _whole_constant(self, node: ast.QASMNode) -> int:
        value, kind = self.visit(node)
        if not isinstance(kind, arithmetic.INTEGERS) or isinstance(value, Table):
            refuse(node, "required a constant integer")
        return int(value)

    def _index_collection(self, collection: Any, kind: types.Type, indexer: Any, base: ast.QASMNode) -> Typed:
        """Elements of an array, bits of an integer; else as the importer, which takes indices that are no constants."""
        if isinstance(kind, arithmetic.Array):
            indices = self.places(kind, indexer, base)
            value = lifted(lambda values: arithmetic.chosen(values, indices), collection)
            if value is None:
                refuse(base, "this element of the array has no value yet")
            return self._typed(value, kind.of(indices))
        if isinstance(kind, types.Angle) and kind.size is not None:
            number = types.Uint(const=True, size=kind.size)
            collection, kind = lifted(partial(arithmetic.converted, source=kind, target=number), collection), number
        if isinstance(kind, arithmetic.INTEGERS):
            return self._bits_of(collection, kind, indexer, base)
        for each in indexer if isinstance(indexer, list) else indexer.values:
            if not isinstance(each, ast.RangeDefinition):
                self._whole_constant(each)
        value, found = super()._index_collection(collection, kind, indexer, base)
        return value, found

    def places(self, kind: arithmetic.Array, indexer: Any, base: ast.QASMNode) -> list[Any]:
        """Numbers and slices, one for each dimension that is indexed."""
        if not isinstance(indexer, list) or len(indexer) > len(kind.dimensions):
            refuse(
                base, f"'{kind.pretty()}' takes an index or a range for each of its {len(kind.dimensions)} dimensions"
            )
        found: list[Any] = []
        for each, size in zip(indexer, kind.dimensions, strict=False):
            if isinstance(each, ast.RangeDefinition):
                found.append(self.visit(each)[0])
            else:
                found.append(self._whole_constant(each))
                if not -size <= found[-1] < size:
                    refuse(base, f"index {found[-1]} of a dimension of {size} is out of range")
        return found

    def visit_ArrayLiteral(self, node: ast.ArrayLiteral) -> Typed:
        values = [self.number(each) for each in node.values]
        if not values or any(isinstance(value, Table) for value, _ in values):
            refuse(node, "the values of an array are numbers that are known here")
        inner: Any = values[0][1]
        if isinstance(inner, arithmetic.Array):
            if any(getattr(kind, "dimensions", None) != inner.dimensions for _, kind in values):
                refuse(node, "the rows of an array have different lengths")
            kind = arithmetic.Array(inner.base, (len(values), *inner.dimensions))
        else:
            whole = all(isinstance(kind, arithmetic.INTEGERS) for _, kind in values)
            kind = arithmetic.Array(types.Int(const=True) if whole else types.Float(const=True), (len(values),))
        return tuple(value for value, _ in values), kind

    def _bits_of(self, number: Any, kind: Any, indexer: Any, base: ast.QASMNode) -> Typed:
        if not isinstance(indexer, list) or len(indexer) != 1:
            refuse(base, "the bits of an integer are chosen by one index or one range")
        if isinstance(indexer[0], ast.RangeDefinition):
            if kind.size is None:
                refuse(base, "the bits of an integer are known for int[n] and uint[n] only")
            chosen, _ = self.visit(indexer[0])
            bits = list(range(kind.size)[slice(chosen.start, chosen.stop, chosen.step)])
            return self._typed(
                lifted(lambda one: sum((one >> each & 1) << index for index, each in enumerate(bits)), number),
                types.Uint(const=True, size=len(bits)),
            )
        place: int = self._whole_constant(indexer[0])
        if kind.size is not None and not -kind.size <= place < kind.size:
            refuse(base, f"index {place} of an integer of {kind.size} bits is out of range")
        place = place % kind.size if kind.size is not None else place
        return self._typed(lifted(lambda one: bool(one >> place & 1), number), types.Bool(const=True))


def _is_bits(kind: types.Type) -> bool:
    return isinstance(kind, types.Bit | types.BitArray)


def _duration(node: ast.BinaryExpression, left: Any, right: Any) -> tuple[float, str]:
    """Durations times numbers, and sums of one unit."""
    name = node.op.name
    match left, right:
        case (float() | int() as length, str() as unit), int() | float() as factor if name in ("*", "/"):
            return (length * factor if name == "*" else length / factor), unit
        case int() | float() as factor, (float() | int() as length, str() as unit) if name == "*":
            return length * factor, unit
        case (float() | int() as length, str() as unit), (float() | int() as other, str() as other_unit) if (
            name in ("+", "-") and unit == other_unit
        ):
            return (length + other if name == "+" else length - other), unit
    refuse(node, f"'{name}' of durations", expected="a duration times a number, or a sum of durations of one unit")
    return None


def identifiers(found: Any) -> Iterator[str]:
    """All names in a part of the tree, those of functions included."""
    match found:
        case ast.Identifier():
            yield found.name
        case list() | tuple():
            for each in found:
                yield from identifiers(each)
        case ast.QASMNode():
            yield from identifiers([value for name, value in vars(found).items() if name != "span"])


def symbols(found: Any, context: State) -> list[Symbol]:
    """What the names in a part of the tree mean here, each once."""
    seen = dict.fromkeys(identifiers(found))
    return [symbol for name in seen if (symbol := context.symbol_table.get(name)) is not None]
