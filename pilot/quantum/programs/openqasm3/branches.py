"""Conditions and branches: decided while the text is read where that is possible, else instructions of the circuit."""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit import CASE_DEFAULT, ClassicalRegister, Clbit
from qiskit_qasm3_import import types
from qiskit_qasm3_import.exceptions import ConversionError
from qiskit_qasm3_import.state import LocalScope

from pilot.quantum.programs.conditions import condition_of
from pilot.quantum.programs.openqasm3.assignments import Assignments
from pilot.quantum.programs.openqasm3.reading import Located, refuse
from pilot.quantum.programs.openqasm3.tables import MAX_BITS, Table, lifted
from pilot.quantum.programs.openqasm3.values import symbols
from pilot.quantum.programs.openqasm3.variables import Copy, Snapshot, State, Variable, bits_of, name_at
from pilot.quantum.programs.openqasm3.wide import Wide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Unsteady(Exception):
    """Variables that are not the same in each round of a loop, or change in a branch."""

    def __init__(self, variables: list[Variable]) -> None:
        super().__init__()
        self.variables = variables


@dataclass(frozen=True)
class Runtime:
    """A condition that measured bits decide: what Qiskit tests, and the same as a table where that is possible."""

    test: Any
    table: Table | None


class Branches(Assignments):
    """The part of the visitor that knows conditions, blocks and branches."""

    def __init__(self) -> None:
        super().__init__()
        #: How many branches and loops of the circuit are around what is read.
        self._depth = 0

    # conditions

    def condition(self, node: ast.Expression, context: State) -> bool | Runtime:
        """What a condition says: known now, or by bits when the circuit runs."""
        named = symbols(node, context)
        live = [symbol for symbol in named if isinstance(symbol.type, types.Bit | types.BitArray)]
        copies = [symbol for symbol in named if isinstance(symbol, Variable) and isinstance(symbol.data, Copy)]
        if (live or copies) and (simple := self._simple(node, context)) is not None:
            return simple
        width = sum(len(bits_of(symbol.data)) for symbol in live) + sum(len(bits_of(one.data.bits)) for one in copies)
        if width > MAX_BITS:
            try:
                wide = Wide(
                    lambda part: self._resolve_generic(part, context, True)[0],
                    lambda size: self._resolve_constant_int(size, context),
                )
                return Runtime(wide.condition(node), self._condition_table(node, context))
            except ConversionError:
                pass
        value = lifted(bool, self._number(node, context)[0])
        return Runtime(condition_of(value.bits, value.rows), value) if isinstance(value, Table) else bool(value)

    def _condition_table(self, node: ast.Expression, context: State) -> Table | None:
        try:
            value, _ = self._number(node, context)
        except Located:
            return None
        return lifted(bool, value) if isinstance(value, Table) else None

    def _simple(self, node: ast.Expression, context: State) -> Runtime | None:
        """A bit, a bit or register that equals a number: conditions that any backend knows."""
        wanted: Any = True
        match node:
            case ast.BinaryExpression() if node.op.name == "==":
                (value, kind), (wanted, other) = (
                    self._resolve_generic(each, context, True) for each in (node.lhs, node.rhs)
                )
                if isinstance(other, types.Bit | types.BitArray):
                    (value, kind), (wanted, other) = (wanted, other), (value, kind)
                if not isinstance(wanted, bool | int):
                    return None
            case ast.UnaryExpression() if node.op.name in ("!", "~"):
                value, kind = self._resolve_generic(node.expression, context, True)
                wanted = False
            case ast.Identifier() | ast.IndexedIdentifier() | ast.IndexExpression():
                value, kind = self._resolve_generic(node, context, True)
            case _:
                return None
        if isinstance(value, Clbit) and wanted in (0, 1):
            return Runtime((value, bool(wanted)), lifted(lambda one: one == wanted, self.written.table([value])))
        if (
            isinstance(value, ClassicalRegister)
            and isinstance(node, ast.BinaryExpression)
            and 0 <= wanted < 2 ** len(value)
        ):
            return Runtime(
                (value, int(wanted)), self._condition_table(node, context) if len(value) <= MAX_BITS else None
            )
        return None

    # blocks

    @contextmanager
    def scope(self, context: State) -> Iterator[State]:
        """Names declared within end with it."""
        number = len(self._variables)
        try:
            with LocalScope(context) as inner:
                yield inner
        finally:
            del self._variables[number:]

    def _block(self, statements: Sequence[ast.Statement], context: State) -> None:
        with self.scope(context) as inner:
            for statement in statements:
                self.visit(statement, inner)

    def visit_CompoundStatement(self, node: ast.CompoundStatement, context: State) -> State:
        self._block(node.statements, context)
        return context

    @contextmanager
    def _within(self) -> Iterator[None]:
        """Inside an instruction of the circuit that may not run, or more than once."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    # branches

    def visit_BranchingStatement(self, node: ast.BranchingStatement, context: State) -> State:
        condition = self.condition(node.condition, context)
        if isinstance(condition, bool):
            self._block(node.if_block if condition else node.else_block, context)
            return context
        otherwise = (lambda: self._block(node.else_block, context)) if node.else_block else None
        self.either(condition, lambda: self._block(node.if_block, context), otherwise, node, context)
        return context

    def either(
        self,
        condition: Runtime,
        then: Callable[[], None],
        otherwise: Callable[[], None] | None,
        node: ast.QASMNode,
        context: State,
    ) -> None:
        """A branch of the circuit; the variables become what the condition says."""
        before, written = self.snapshot(), self.written.copy()
        with self._within(), context.circuit.if_test(condition.test) as else_:
            then()
        after, written_then = self.snapshot(), self.written.copy()
        self.restore(before, written)
        if otherwise is not None:
            with self._within(), else_:
                otherwise()
        self.merge(condition.table, after, self.snapshot(), written_then, node)

    def visit_SwitchStatement(self, node: ast.SwitchStatement, context: State) -> State:
        cases = [([self._resolve_constant_int(one, context) for one in values], block) for values, block in node.cases]
        seen = [value for values, _ in cases for value in values]
        if len(seen) != len(set(seen)):
            refuse(node, "a value has two cases")
        target, _kind = self._resolve_generic(node.target, context, True)
        if isinstance(target, Clbit | ClassicalRegister):
            before, written = self.snapshot(), self.written.copy()
            try:
                self._switch(target, cases, node.default, before, context)
            except Unsteady:
                self.restore(before, written)
            else:
                return context
        value, _ = self._number(node.target, context)
        self._chain(value, cases, node, context)
        return context

    def _switch(self, target: Any, cases: Any, default: Any, before: Snapshot, context: State) -> None:
        """As one instruction, where no variable changes in it."""
        with self._within(), context.circuit.switch(target) as case:
            for values, block in cases:
                with case(*values):
                    self._block(block.statements, context)
            if default is not None:
                with case(CASE_DEFAULT):
                    self._block(default.statements, context)
            if changed := [
                variable for variable, value in before.items() if (variable.data, variable.problem) != value
            ]:
                raise Unsteady(changed)

    def _chain(self, value: Any, cases: Any, node: ast.SwitchStatement, context: State) -> None:
        """As branches, one for each case."""
        if not cases:
            if node.default is not None:
                self._block(node.default.statements, context)
            return
        (values, block), rest = cases[0], cases[1:]
        hit = lifted(lambda one: one in values, value)
        if isinstance(hit, Table):
            condition = Runtime(condition_of(hit.bits, hit.rows), hit)
            self.either(
                condition,
                lambda: self._block(block.statements, context),
                lambda: self._chain(value, rest, node, context),
                node,
                context,
            )
        elif hit:
            self._block(block.statements, context)
        else:
            self._chain(value, rest, node, context)

    def each_value(self, node: ast.QASMNode, context: State, visit: Callable[[], Any]) -> None:
        """Read a statement once for each value of its variables, under the condition that they have it."""
        followed = [variable for variable in self._variables if isinstance(variable.data, Table | Copy)]
        named = symbols(node, context) if followed else []
        changing = [variable for variable in followed if variable in named]
        if not changing:
            visit()
            return
        before = {variable: (variable.data, variable.problem) for variable in changing}
        numbers = [self._number(name_at(variable.name, node), context)[0] for variable in changing]
        joint = lifted(lambda *values: values, *numbers)
        for values in dict.fromkeys(joint.rows if isinstance(joint, Table) else [joint]):
            hit = lifted(lambda row, wanted=values: row == wanted, joint)
            for variable, value in zip(changing, values, strict=True):
                variable.become(value)
            branch = (
                context.circuit.if_test(condition_of(hit.bits, hit.rows)) if isinstance(hit, Table) else nullcontext()
            )
            with self._within(), branch:
                try:
                    visit()
                except Located as error:
                    worth = ", ".join(f"'{one.name}' is {value}" for one, value in zip(changing, values, strict=True))
                    raise Located(f"{error.problem}, where {worth}", error.line, error.column, error.expected) from None
            self.restore(before)
