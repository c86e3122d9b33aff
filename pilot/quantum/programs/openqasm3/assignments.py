"""Assignments: variables, elements of arrays, bits of integers, and bits of the circuit."""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit import Clbit
from qiskit.circuit.classical import expr
from qiskit_qasm3_import import types

from pilot.quantum.programs.conditions import truth_of
from pilot.quantum.programs.openqasm3 import arithmetic
from pilot.quantum.programs.openqasm3.reading import refuse
from pilot.quantum.programs.openqasm3.tables import Table, lifted
from pilot.quantum.programs.openqasm3.values import Values
from pilot.quantum.programs.openqasm3.variables import (
    Classical,
    Constant,
    State,
    Variable,
    bits_of,
    check_shape,
    name_at,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class Assignments(Classical):
    """The part of the visitor that knows assignments."""

    def visit_ClassicalAssignment(self, node: Any, context: State) -> State:
        value = node.rvalue
        if node.op.name != "=":
            value = ast.BinaryExpression(ast.BinaryOperator[node.op.name[:-1]], node.lvalue, node.rvalue)
            value.span = node.span
            node.lvalue.span = node.lvalue.span or node.span
        name = node.lvalue.name if isinstance(node.lvalue, ast.Identifier) else node.lvalue.name.name
        symbol = context.symbol_table.get(name, node)
        if isinstance(symbol, Variable):
            if isinstance(node.lvalue, ast.Identifier):
                self._assign(symbol, value, context)
            elif isinstance(symbol.kind, arithmetic.Array):
                self._assign_elements(symbol, node.lvalue, value, context)
            else:
                self._assign_bit(symbol, node.lvalue, value, context)
            return context
        if symbol is not None and not isinstance(symbol.type, types.Bit | types.BitArray):
            refuse(node, f"'{name}' is '{symbol.type.pretty()}' and cannot be set", expected="a variable or bits")
        if isinstance(symbol, Constant):
            refuse(node, f"'{name}' is an argument, whose bits cannot be set", expected="a bit declared here")
        self._store(node, node.lvalue, value, context)
        return context

    def _assign_elements(self, variable: Variable, target: ast.IndexedIdentifier, node: Any, context: State) -> None:
        before, kind = self._number(name_at(variable.name, target), context)
        if isinstance(before, Table) or not isinstance(kind, arithmetic.Array):
            refuse(target, f"the elements of '{variable.name}' depend on measured bits")
        indexer = [index for each in target.indices for index in (each if isinstance(each, list) else [each])]
        indices = Values(self, context, True).places(kind, indexer, target)
        wanted = kind.of(indices)
        value, source = self._number(node, context, wanted)
        check_shape(node, wanted, source)
        if isinstance(value, Table):
            refuse(node, "the elements of an array are numbers that are known here, not measured bits")
        variable.become(arithmetic.replaced(before, indices, arithmetic.converted(value, source, wanted)))

    def _assign_bit(self, variable: Variable, target: ast.IndexedIdentifier, node: Any, context: State) -> None:
        bit, _ = self._number(node, context)
        self.set_bit(variable, target, bit, context)

    def set_bit(self, variable: Variable, target: ast.IndexedIdentifier, bit: Any, context: State) -> None:
        """One bit of an integer, or of an angle of some bits, becomes a truth value or a table of them."""
        kind: Any = variable.kind
        index: Any = target.indices[0]
        one = len(target.indices) == 1 and isinstance(index, list) and len(index) == 1
        has_bits = isinstance(kind, arithmetic.INTEGERS) or (isinstance(kind, types.Angle) and kind.size is not None)
        if not has_bits or not one or isinstance(index[0], ast.RangeDefinition):
            refuse(
                target, f"of '{variable.name}' this cannot be set", expected="one bit of an int, a uint or an angle[n]"
            )
        place = self._resolve_constant_int(index[0], context)
        if place < 0 or (kind.size is not None and place >= kind.size):
            refuse(target, f"index {place} of '{arithmetic.with_const(kind, False).pretty()}' is out of range")
        before, _ = self._number(name_at(variable.name, target), context)
        whole = types.Uint(const=True, size=kind.size) if isinstance(kind, types.Angle) else kind

        def changed(old: Any, new: Any) -> Any:
            number = arithmetic.converted(old, kind, whole) & ~(1 << place) | bool(new) << place
            return arithmetic.converted(arithmetic.wrapped(number, whole), whole, kind)

        variable.become(lifted(changed, before, bit))

    def _store(self, node: ast.QASMNode, target: Any, value: ast.Expression, context: State) -> None:
        """Bits of the circuit get a value."""
        target.span = target.span or node.span
        place = self._resolve_carg(target, context)
        found, kind = Values(self, context, True).resolve(value)
        self.keep(node, place, found, kind, context)

    def keep(self, node: ast.QASMNode, place: Any, value: Any, kind: types.Type, context: State) -> None:
        """Set a bit or some bits to a value, one at a time, each after those that are read from it."""
        targets = bits_of(place)
        sources = self._sources(node, value, kind, len(targets))
        waiting = {bit: source for bit, source in zip(targets, sources, strict=True) if source != bit}
        while waiting:
            read = {bit: set(_read(source)) for bit, source in waiting.items()}
            free = next(
                (bit for bit in waiting if not any(bit in read[other] for other in waiting if other != bit)), None
            )
            if free is None:
                refuse(node, "the bits are set from one another in a circle", expected="another register between")
            source = waiting.pop(free)
            if isinstance(source, Clbit):
                source = expr.lift(source)
            elif isinstance(source, Table):
                source = truth_of(source.bits, source.rows)
            context.circuit.store(free, source)
            self.written[free] += 1

    def _sources(self, node: ast.QASMNode, value: Any, kind: types.Type, number: int) -> list[Any]:
        """What each bit becomes: a bit, a truth value, or a table of them."""
        if isinstance(kind, types.Bit | types.BitArray):
            found = bits_of(value)
            if len(found) != number:
                refuse(node, f"{number} bits are set to {len(found)}")
            return found
        if not isinstance(kind, arithmetic.SCALARS) or isinstance(kind, types.Float | types.Angle):
            refuse(node, f"bits cannot be set to '{kind.pretty()}'")
        if number == 1:
            return [lifted(bool, value)]
        return [lifted(lambda one, place=place: bool(one >> place & 1), value) for place in range(number)]


def _read(source: Any) -> Sequence[Clbit]:
    if isinstance(source, Table):
        return source.bits
    return [source] if isinstance(source, Clbit) else []
