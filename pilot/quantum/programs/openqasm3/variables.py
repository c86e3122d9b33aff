"""Classical variables: their values are followed while the text is read, so that no circuit has to hold them.

A value is a number, or a table over measured bits. Backends that know no variables run such a circuit as well.
"""

# methods are named as the classes of the grammar are

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit import ClassicalRegister, Clbit
from qiskit_qasm3_import import types
from qiskit_qasm3_import.converter import ConvertVisitor
from qiskit_qasm3_import.data import Scope, Symbol

from pilot.quantum.programs.openqasm3 import arithmetic
from pilot.quantum.programs.openqasm3.reading import refuse
from pilot.quantum.programs.openqasm3.tables import MAX_BITS, Table, Writes, lifted
from pilot.quantum.programs.openqasm3.values import Typed, Values

if TYPE_CHECKING:
    from collections import Counter

#: The importer's state: the circuit so far and what names mean.
State = Any
#: The values of all variables at a place, or why one has none.
Snapshot = dict["Variable", tuple[Any, str | None]]
STALE = "was set from a bit that has been written since"


class Changing(types.Type):
    """The type of a variable, for those who only look at a symbol."""

    __slots__ = ()

    def pretty(self) -> str:
        return "variable"


@dataclass(frozen=True, eq=False)
class Copy:
    """The number that bits held when the variable was set, however many they are."""

    bits: Any
    kind: types.Type
    table: Table | None
    written: tuple[int, ...]


class Variable(Symbol):
    """A name whose value changes. `problem` says why it has no value that is known here."""

    __slots__ = ("kind", "problem")

    def __init__(self, name: str, kind: types.Type, scope: Any, definer: ast.QASMNode) -> None:
        super().__init__(name, None, Changing(), scope, definer)
        self.kind = kind
        self.problem: str | None = "has no value yet"

    def become(self, value: Any) -> None:
        self.data, self.problem = value, None

    def forget(self, problem: str) -> None:
        self.data, self.problem = None, problem


class Constant(Symbol):
    """A name whose value never changes."""

    __slots__ = ()


class Classical(ConvertVisitor):
    """The part of the visitor that knows variables, assignments and conditions."""

    def __init__(self) -> None:
        super().__init__()
        self.written = Writes()
        self._variables: list[Variable] = []

    def is_subroutine(self, name: str) -> bool:
        raise NotImplementedError

    def result_of(self, call: ast.FunctionCall, context: State) -> Typed:
        raise NotImplementedError

    # values

    def _resolve_generic(self, node: ast.Expression, context: State, strict: bool) -> Typed:
        return Values(self, context, strict).resolve(node)

    def _resolve_angle(self, node: ast.Expression, context: State) -> Any:
        value, _ = Values(self, context, False, is_angle=True).number(node)
        return value

    def _number(self, node: ast.Expression, context: State, kind: types.Type | None = None) -> Typed:
        is_angle = isinstance(kind, types.Float | types.Angle)
        return Values(self, context, False, is_angle=is_angle).number(node)

    def read(self, symbol: Symbol | None, node: ast.QASMNode) -> Typed | None:
        """The value of a variable; None: the symbol is none."""
        if not isinstance(symbol, Variable):
            return None
        if symbol.problem is not None:
            refuse(node, f"'{symbol.name}' {symbol.problem}")
        value = symbol.data
        if isinstance(value, Table | Copy) and self._is_stale(value):
            refuse(node, f"'{symbol.name}' {STALE}", expected="its use before that, or another bit for the new outcome")
        if isinstance(value, Copy):
            return value.bits, value.kind
        return value, arithmetic.with_const(symbol.kind, not isinstance(value, Table))

    # declarations and assignments

    def define(self, symbol: Symbol, context: State) -> None:
        """A name gets its meaning in this block."""
        other = context.symbol_table.get(symbol.name, symbol.definer)
        if other is not None and other.scope is Scope.GLOBAL is symbol.scope:
            kind = "gate" if isinstance(other.type, types.Gate) else other.type.pretty()
            definer: Any = symbol.definer
            refuse(definer, f"'{symbol.name}' is already defined, as '{kind}'", expected="another name")
        context.symbol_table.insert(symbol)

    def _declare(self, node: Any, context: State) -> State:
        """A variable, set at once or later."""
        kind = arithmetic.kind_of(node.type, lambda size: self._resolve_constant_int(size, context))
        variable = self._new_variable(node.identifier.name, kind, node, context)
        if node.init_expression is not None:
            self._assign(variable, node.init_expression, context)
        elif isinstance(kind, arithmetic.Array):
            variable.become(_empty(kind.dimensions))
        self.define(variable, context)
        return context

    def _new_variable(self, name: str, kind: types.Type, node: ast.QASMNode, context: State) -> Variable:
        variable = Variable(name, kind, context.scope, node)
        self._variables.append(variable)
        return variable

    def _assign(self, variable: Variable, node: ast.Expression, context: State) -> None:
        if isinstance(node, ast.QuantumMeasurement):
            refuse(node, f"'{variable.name}' is no bit", expected="a measurement into a bit, and then an assignment")
        value, kind = Values(self, context, False).resolve(node)
        if (copy := self._copied(variable.kind, value, kind)) is not None:
            variable.become(copy)
            return
        value, kind = self._number(node, context, variable.kind)
        check_shape(node, variable.kind, kind)
        variable.become(lifted(partial(arithmetic.converted, source=kind, target=variable.kind), value))

    def _copied(self, wanted: types.Type, value: Any, kind: types.Type) -> Copy | None:
        """A register as it is, where the variable can hold all its numbers: it may be wider than a table."""
        if not isinstance(value, ClassicalRegister) or not isinstance(wanted, arithmetic.INTEGERS):
            return None
        room = wanted.size
        if room is not None and room < len(value) + isinstance(wanted, types.Int):
            return None
        table = self.written.table(list(value)) if len(value) <= MAX_BITS else None
        return Copy(value, kind, table, tuple(self.written[bit] for bit in value))

    # the variables' values at a place

    def snapshot(self) -> Snapshot:
        """What each variable is worth now; one that was set from bits written since has no value."""
        return {variable: self._now(variable) for variable in self._variables}

    def _now(self, variable: Variable) -> tuple[Any, str | None]:
        value = variable.data
        if isinstance(value, Table | Copy) and self._is_stale(value):
            return None, STALE
        return value, variable.problem

    def _is_stale(self, value: Table | Copy) -> bool:
        return any(self.written[bit] != number for bit, number in zip(bits_of(value.bits), value.written, strict=True))

    def restore(self, values: Snapshot, written: Counter[Clbit] | None = None) -> None:
        """Back to an earlier place; with `written`, what was measured since has not been."""
        for variable, (data, problem) in values.items():
            variable.data, variable.problem = data, problem
        if written is not None:
            self.written.clear()
            self.written.update(written)

    def merge(
        self, condition: Table | None, then: Snapshot, otherwise: Snapshot, written: Counter[Clbit], node: ast.QASMNode
    ) -> None:
        """The variables after a branch: each as the condition says.

        Args:
            written: how often each bit had been written at the end of the first block; the visitor is at the end of the
                other one. Of the bits in them, those that either block has written count as written once more.
        """
        span: Any = node.span
        changed = {bit for bit in written.keys() | self.written.keys() if written[bit] != self.written[bit]}
        for bit in changed:
            self.written[bit] = max(written[bit], self.written[bit]) + 1
        for variable in then.keys() & otherwise.keys():
            (value, problem), (others, others_problem) = then[variable], otherwise[variable]
            if same(then[variable], otherwise[variable]):
                variable.data, variable.problem = self._renewed(value), problem
                continue
            merged = None
            if problem is None and others_problem is None and condition is not None:
                merged = self._chosen(condition, _as_table(value), _as_table(others))
            if merged is None:
                variable.forget(f"depends on the branch of line {span.start_line}, whose bits have been written since")
            else:
                variable.become(merged)

    def _renewed(self, value: Any) -> Any:
        """A value that held at the end of each block holds behind them."""
        if isinstance(value, Table):
            return replace(value, written=tuple(self.written[bit] for bit in value.bits))
        if isinstance(value, Copy):
            numbers = tuple(self.written[bit] for bit in bits_of(value.bits))
            return replace(value, table=self._renewed(value.table), written=numbers)
        return value

    def _chosen(self, condition: Table, value: Any, others: Any) -> Any:
        """None: the condition's bits have been written in a block, or the value depends on too many bits."""
        if self._is_stale(condition) or value is None or others is None:
            return None
        try:
            return lifted(
                lambda which, one, other: one if which else other,
                condition,
                self._renewed(value),
                self._renewed(others),
            )
        except ValueError:
            return None


def same(one: tuple[Any, str | None], other: tuple[Any, str | None]) -> bool:
    """Two values of a variable say the same, each at its place."""
    (value, problem), (others, others_problem) = one, other
    if problem is not None or others_problem is not None:
        return problem is not None and others_problem is not None
    if isinstance(value, Table):
        return value.equals(others)
    if isinstance(value, Copy):
        return isinstance(others, Copy) and bits_of(value.bits) == bits_of(others.bits)
    return type(value) is type(others) and bool(value == others)


def _as_table(value: Any) -> Any:
    """A number or a table; None: it depends on too many bits."""
    return value.table if isinstance(value, Copy) else value


def bits_of(place: Any) -> list[Clbit]:
    return [place] if isinstance(place, Clbit) else list(place)


def name_at(name: str, place: ast.QASMNode) -> ast.Identifier:
    node = ast.Identifier(name)
    node.span = place.span
    return node


def _empty(dimensions: tuple[int, ...]) -> Any:
    return (_empty(dimensions[1:]),) * dimensions[0] if dimensions else None


def check_shape(node: ast.QASMNode, wanted: types.Type, given: types.Type) -> None:
    shapes = [kind.dimensions if isinstance(kind, arithmetic.Array) else () for kind in (wanted, given)]
    if shapes[0] != shapes[1]:
        refuse(node, f"'{given.pretty()}' where '{wanted.pretty()}' is wanted")
