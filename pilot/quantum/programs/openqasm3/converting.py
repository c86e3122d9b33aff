"""The reference parser's tree to a circuit.

`qiskit_qasm3_import` does most of it. Added here, as a subclass of its visitor: all of Qiskit's gates without a
definition, general conditions, constants, variables and assignments, switch, subroutines (put in where they are
called), loops whose variable is an index (unrolled), and a place for each error.
"""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit import CASE_DEFAULT, ClassicalRegister, Clbit
from qiskit.circuit.classical import expr
from qiskit.circuit.classical import types as kinds
from qiskit.exceptions import QiskitError
from qiskit_qasm3_import import types
from qiskit_qasm3_import.converter import ConvertVisitor
from qiskit_qasm3_import.data import Scope, Symbol
from qiskit_qasm3_import.exceptions import ConversionError, raise_from_node
from qiskit_qasm3_import.state import LocalScope

from pilot.quantum.programs.definitions import inverse_of, standard_gates, truly_named_operation
from pilot.quantum.programs.openqasm3.reading import Located, words_of
from pilot.quantum.programs.openqasm3.values import (
    JOINS,
    Values,
    Variable,
    cast_type,
    coerced,
    is_index,
    literal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qiskit.circuit import Gate

#: Qubits, and classical bits, of a register.
MAX_BITS = 100_000
#: Rounds of loops that are unrolled.
MAX_ROUNDS = 10_000
_MAX_CALLS = 32

#: The importer's state: the circuit so far and what names mean.
State = Any

_VARIABLES = {ast.BoolType: kinds.Bool, ast.UintType: kinds.Uint, ast.FloatType: kinds.Float}


class Converter(ConvertVisitor):
    """The importer's visitor and what it lacks. Its methods are named as the tree's nodes are."""

    def __init__(self) -> None:
        super().__init__()
        self._subroutines: dict[str, ast.SubroutineDefinition] = {}
        self._calls = 0
        self._rounds = 0
        #: An ``int`` that the statement before has set to a register, as Qiskit's exporter does before a switch.
        self._alias: Symbol | None = None

    def visit(self, node: Any, context: State | None = None) -> Any:
        """As the importer, with the place of the innermost statement in each error."""
        if self._alias is not None and isinstance(node, ast.Statement) and not isinstance(node, ast.SwitchStatement):
            self._alias.data = None
            self._alias = None
        try:
            return super().visit(node, context)
        except (Located, RecursionError):
            raise
        except ConversionError as error:
            raise _located(error, node) from None
        except (QiskitError, ArithmeticError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise Located(words_of(error), node.span.start_line, node.span.start_column + 1) from None

    def visit_Program(self, node: ast.Program, context: State) -> State:
        for statement in node.statements:
            try:
                context = self.visit(statement, context)
            except RecursionError:
                span: Any = statement.span
                raise Located("nested too deep", span.start_line, span.start_column + 1) from None
        return context

    def _resolve_generic(self, node: ast.Expression, context: State, strict: bool) -> tuple[Any, Any]:
        return Values(context, strict).resolve(node)

    # gates

    def visit_QuantumGate(self, node: ast.QuantumGate, context: State) -> State:
        name = node.name.name
        symbol = context.symbol_table.get(name, node)
        if symbol is None and name in standard_gates():
            gate = standard_gates()[name]
            kind = types.Gate(len(gate.params), gate.num_qubits)
            symbol = Symbol(name, gate.base_class, kind, Scope.GLOBAL, node)
            _insert(context, symbol)
        if symbol is not None and isinstance(symbol.type, types.Gate):
            self._check_operands(node, symbol.type, context)
        return super().visit_QuantumGate(node, context)

    def _apply_gate_modifier(self, modifier: ast.QuantumGateModifier, gate: Gate, context: State) -> Gate:
        if modifier.modifier is ast.GateModifierName.inv:
            return inverse_of(gate)
        # Qiskit's control() goes by names: a gate of the text's own must not have that of another one
        return super()._apply_gate_modifier(modifier, truly_named_operation(gate), context)

    def _check_operands(self, node: ast.QuantumGate, kind: types.Gate, context: State) -> None:
        wanted = kind.n_classical if isinstance(kind.n_classical, int) else len(kind.n_classical)
        if len(node.arguments) != wanted:
            raise_from_node(node, f"{node.name.name} takes {wanted} parameters, {len(node.arguments)} are given")
        qubits = kind.n_quantum if isinstance(kind.n_quantum, int) else len(kind.n_quantum)
        for modifier in node.modifiers:
            if modifier.modifier in (ast.GateModifierName.ctrl, ast.GateModifierName.negctrl):
                number = 1 if modifier.argument is None else self._resolve_constant_int(modifier.argument, context)
                if not 1 <= number <= len(node.qubits):
                    raise_from_node(modifier, f"{number} controls")
                qubits += number
        if len(node.qubits) != qubits:
            raise_from_node(node, f"{node.name.name} takes {qubits} qubits, {len(node.qubits)} are given")

    # declarations and assignments

    def visit_QubitDeclaration(self, node: ast.QubitDeclaration, context: State) -> State:
        self._check_size(node, node.size, context)
        return super().visit_QubitDeclaration(node, context)

    def _check_size(self, node: ast.QASMNode, size: ast.Expression | None, context: State) -> None:
        if size is not None and not 0 < (number := self._resolve_constant_int(size, context)) <= MAX_BITS:
            raise_from_node(node, f"a register of size {number}; 1 to {MAX_BITS} are allowed")

    def visit_ConstantDeclaration(self, node: ast.ConstantDeclaration, context: State) -> State:
        value, kind = self._resolve_generic(node.init_expression, context, True)
        if not isinstance(value, int | float) or not getattr(kind, "const", False):
            raise_from_node(node, "required a constant number")
        convert = {
            ast.IntType: (int, types.Int),
            ast.UintType: (int, types.Uint),
            ast.FloatType: (float, types.Float),
            ast.AngleType: (float, types.Angle),
            ast.BoolType: (bool, types.Bool),
        }
        if type(node.type) not in convert:
            raise_from_node(node, "constants are int, uint, float, angle or bool")
        function, wanted = convert[type(node.type)]
        symbol = Symbol(node.identifier.name, function(value), wanted(const=True), context.scope, node)
        _insert(context, symbol)
        return context

    def visit_ClassicalDeclaration(self, node: Any, context: State) -> State:
        if type(node.type) in _VARIABLES and context.scope is Scope.GLOBAL:
            return self._declare_variable(node, context)
        if isinstance(node.type, ast.IntType):
            return self._declare_integer(node, context)
        start = node.init_expression
        if isinstance(node.type, ast.BitType):
            self._check_size(node, node.type.size, context)
            if start is not None and not isinstance(start, ast.QuantumMeasurement):
                node.init_expression = None
                super().visit_ClassicalDeclaration(node, context)
                node.init_expression = start
                self._store(node, ast.Identifier(node.identifier.name), start, context)
                return context
        return super().visit_ClassicalDeclaration(node, context)

    def _declare_integer(self, node: Any, context: State) -> State:
        """Qiskit has no signed integers: one set at once is a constant, one set to a register can be switched on."""
        value = None if node.init_expression is None else self._resolve_constant_int(node.init_expression, context)
        symbol = Symbol(node.identifier.name, value, types.Int(const=value is not None), context.scope, node)
        _insert(context, symbol)
        return context

    def _set_integer(self, symbol: Any, node: Any, context: State) -> State:
        value, _ = self._resolve_generic(node.rvalue, context, True)
        if symbol.type.const or node.op.name != "=" or not isinstance(value, Clbit | ClassicalRegister):
            raise_from_node(node, "signed integers cannot change; use uint[n]")
        symbol.data, self._alias = value, symbol
        return context

    def _declare_variable(self, node: Any, context: State) -> State:
        name = node.identifier.name
        if type(node.type) is ast.UintType:
            size = 32 if node.type.size is None else self._resolve_constant_int(node.type.size, context)
            kind: kinds.Type = kinds.Uint(size)
        else:
            kind = _VARIABLES[type(node.type)]()
        if node.init_expression is None:
            variable = expr.Var.new(name, kind)
            context.circuit.add_uninitialized_var(variable)
        else:
            start = coerced(self._expression(node.init_expression, context, kind), kind)
            variable = context.circuit.add_var(name, start)
        _insert(context, Symbol(name, variable, Variable(), Scope.GLOBAL, node))
        return context

    def visit_IODeclaration(self, node: ast.IODeclaration, context: State) -> State:
        if node.io_identifier is ast.IOKeyword.output:
            plain_declaration = ast.ClassicalDeclaration(node.type, node.identifier, None)
            plain_declaration.span = node.span
            return self.visit_ClassicalDeclaration(plain_declaration, context)
        return super().visit_IODeclaration(node, context)

    def visit_ClassicalAssignment(self, node: Any, context: State) -> State:
        if isinstance(node.rvalue, ast.FunctionCall) and node.rvalue.name.name in self._subroutines:
            if node.op.name != "=":
                raise_from_node(node, "only '=' takes the result of a subroutine")
            self._call(node.rvalue, context, node.lvalue)
            return context
        if isinstance(node.lvalue, ast.Identifier):
            symbol = context.symbol_table.get(node.lvalue.name, node)
            if symbol is not None and isinstance(symbol.type, types.Int):
                return self._set_integer(symbol, node, context)
        value = node.rvalue
        if node.op.name != "=":
            value = ast.BinaryExpression(ast.BinaryOperator[node.op.name[:-1]], node.lvalue, node.rvalue)
            value.span = node.span
        self._store(node, node.lvalue, value, context)
        return context

    def _store(self, node: ast.QASMNode, target: Any, value: ast.Expression, context: State) -> None:
        target.span = target.span or node.span
        place, _ = self._resolve_generic(target, context, True)
        if isinstance(place, ClassicalRegister | list | tuple):
            number = self._expression(value, context, kinds.Uint(len(place)))
            if not isinstance(number, expr.Value):
                raise_from_node(node, "a register takes constant values only")
            for index, bit in enumerate(place):
                context.circuit.store(bit, bool(int(number.value) >> index & 1))
            return
        kind = kinds.Bool() if isinstance(place, Clbit) else place.type
        context.circuit.store(place, coerced(self._expression(value, context, kind), kind))

    # conditions

    def _resolve_condition(self, node: ast.Expression, context: State) -> Any:
        try:
            return super()._resolve_condition(node, context)
        except ConversionError:
            return coerced(self._expression(node, context, kinds.Bool()), kinds.Bool())

    def _expression(self, node: ast.Expression, context: State, wanted: kinds.Type | None = None) -> expr.Expr:
        """A classical expression; literals take the type that is wanted of them."""
        match node:
            case ast.BooleanLiteral():
                return expr.lift(node.value)
            case ast.IntegerLiteral() | ast.BitstringLiteral():
                return literal(node, int(node.value), wanted)
            case ast.FloatLiteral():
                return expr.lift(float(node.value))
            case ast.UnaryExpression():
                return self._unary(node, context, wanted)
            case ast.BinaryExpression():
                return self._binary(node, context)
            case ast.Cast():
                kind = cast_type(node, lambda size: self._resolve_constant_int(size, context))
                return expr.cast(self._expression(node.argument, context, kind), kind)
        value, kind = self._resolve_generic(node, context, True)
        if isinstance(value, bool | float):
            return expr.lift(value)
        if isinstance(value, int):
            return literal(node, value, wanted)
        if isinstance(value, list | tuple):
            raise_from_node(node, "a part of a register cannot be compared: compare its bits")
        if not isinstance(value, Clbit | ClassicalRegister | expr.Expr):
            raise_from_node(node, f"'{kind.pretty()}' has no classical value")
        return expr.lift(value)

    def _unary(self, node: ast.UnaryExpression, context: State, wanted: kinds.Type | None) -> expr.Expr:
        inner = self._expression(node.expression, context, wanted)
        match node.op.name:
            case "!":
                return expr.logic_not(coerced(inner, kinds.Bool()))
            case "~":
                return expr.logic_not(inner) if isinstance(inner.type, kinds.Bool) else expr.bit_not(inner)
        return expr.negate(inner)

    def _binary(self, node: ast.BinaryExpression, context: State) -> expr.Expr:
        left, right = self._operands(node, context)
        name = node.op.name
        if name in ("&&", "||"):
            join = expr.logic_and if name == "&&" else expr.logic_or
            return join(coerced(left, kinds.Bool()), coerced(right, kinds.Bool()))
        if name not in JOINS:
            raise_from_node(node, f"unsupported binary operation '{name}'")
        return JOINS[name](left, right)

    def _operands(self, node: ast.BinaryExpression, context: State) -> tuple[expr.Expr, expr.Expr]:
        """Both sides; a literal takes the other side's type, and a bit compared with 0 or 1 is a truth value."""
        literal = (ast.IntegerLiteral, ast.BitstringLiteral)
        if isinstance(node.lhs, literal) and not isinstance(node.rhs, literal):
            right = self._expression(node.rhs, context)
            return self._expression(node.lhs, context, right.type), right
        left = self._expression(node.lhs, context)
        right = self._expression(node.rhs, context, left.type)
        if isinstance(left.type, kinds.Bool) and isinstance(right.type, kinds.Uint):
            return expr.cast(left, right.type), right
        if isinstance(right.type, kinds.Bool) and isinstance(left.type, kinds.Uint):
            return left, expr.cast(right, left.type)
        return left, right

    # control flow

    def visit_SwitchStatement(self, node: ast.SwitchStatement, context: State) -> State:
        target, kind = self._resolve_generic(node.target, context, True)
        if not isinstance(target, Clbit | ClassicalRegister | expr.Expr):
            raise_from_node(node.target, f"a switch needs a bit, a register or a variable, not '{kind.pretty()}'")
        with context.circuit.switch(target) as case:
            for values, block in node.cases:
                with case(*(self._resolve_constant_int(value, context) for value in values)):
                    self._block(block.statements, context)
            if node.default is not None:
                with case(CASE_DEFAULT):
                    self._block(node.default.statements, context)
        return context

    def _block(self, statements: Sequence[ast.Statement], context: State) -> None:
        with LocalScope(context) as inner:
            for statement in statements:
                self.visit(statement, inner)

    def visit_CompoundStatement(self, node: ast.CompoundStatement, context: State) -> State:
        self._block(node.statements, context)
        return context

    def visit_Pragma(self, node: ast.Pragma, context: State) -> State:
        return context

    def visit_ForInLoop(self, node: ast.ForInLoop, context: State) -> State:
        if not is_index(node.block, node.identifier.name):
            return super().visit_ForInLoop(node, context)
        for value in self._rounds_of(node, context):
            self._rounds += 1
            if self._rounds > MAX_ROUNDS:
                raise_from_node(node, f"loops are unrolled to more than {MAX_ROUNDS} rounds")
            with LocalScope(context) as inner:
                symbol = Symbol(node.identifier.name, value, types.Int(const=True), Scope.LOCAL, node)
                _insert(inner, symbol)
                for statement in node.block:
                    self.visit(statement, inner)
        return context

    def _rounds_of(self, node: Any, context: State) -> Sequence[int]:
        if not isinstance(node.type, ast.IntType | ast.UintType):
            raise_from_node(node, "only integer loop variables are supported")
        values, kind = self._resolve_generic(node.set_declaration, context, True)
        if isinstance(kind, types.Range):
            if values.start is None or values.stop is None:
                raise_from_node(node, "for-loop ranges must have a start and end")
            return range(values.start, values.stop, 1 if values.step is None else values.step)
        if not isinstance(kind, types.Sequence):
            raise_from_node(node, "only ranges and sets of integers are supported")
        return list(values)

    # subroutines

    def visit_SubroutineDefinition(self, node: ast.SubroutineDefinition, context: State) -> State:
        if node.name.name in self._subroutines:
            raise_from_node(node, f"'{node.name.name}' is already defined")
        self._subroutines[node.name.name] = node
        return context

    def visit_ExpressionStatement(self, node: ast.ExpressionStatement, context: State) -> State:
        if not isinstance(node.expression, ast.FunctionCall):
            raise_from_node(node, "an expression alone does nothing")
        self._call(node.expression, context, None)
        return context

    def _call(self, call: ast.FunctionCall, context: State, target: Any) -> None:
        """The subroutine's statements, with its names standing for what it is called with."""
        definition = self._subroutines.get(call.name.name)
        if definition is None:
            raise_from_node(call, f"there is no subroutine {call.name.name!r}")
        if len(call.arguments) != len(definition.arguments):
            raise_from_node(call, f"{call.name.name} takes {len(definition.arguments)} arguments")
        values = [self._resolve_generic(argument, context, True) for argument in call.arguments]
        with self._entered(call), LocalScope(context) as inner:
            for parameter, (value, kind) in zip(definition.arguments, values, strict=True):
                _insert(inner, Symbol(parameter.name.name, value, kind, Scope.LOCAL, parameter))
            for place, statement in enumerate(definition.body):
                if isinstance(statement, ast.ReturnStatement):
                    if place != len(definition.body) - 1:
                        raise_from_node(statement, "return is supported as a subroutine's last statement only")
                    self._return(statement, inner, target, context)
                    return
                self.visit(statement, inner)
        if target is not None:
            raise_from_node(call, f"{call.name.name} returns nothing")

    @contextmanager
    def _entered(self, call: ast.FunctionCall) -> Iterator[None]:
        self._calls += 1
        if self._calls > _MAX_CALLS:
            raise_from_node(call, f"subroutines call one another deeper than {_MAX_CALLS}")
        yield
        self._calls -= 1

    def _return(self, node: Any, inner: State, target: Any, outer: State) -> None:
        if node.expression is None or target is None:
            if isinstance(node.expression, ast.QuantumMeasurement):
                raise_from_node(node, "measurements must save their result in Qiskit")
            return
        if isinstance(node.expression, ast.QuantumMeasurement):
            measured: Any = node.expression.qubit
            qubit = self._resolve_qarg(measured, inner)
            inner.circuit.measure(qubit, self._resolve_carg(target, outer))
            return
        self._store(node, target, node.expression, inner)


def _insert(state: State, symbol: Symbol) -> None:
    """A name gets its meaning, in the innermost scope or, where the symbol says so, in the outermost."""
    state.symbol_table.insert(symbol)


def _located(error: ConversionError, node: Any) -> Located:
    """The importer's own place, where its message has one."""
    place, _, problem = str(error.message).partition(": ")
    line, _, column = place.partition(",")
    if line.isdigit() and column.isdigit() and problem:
        return Located(problem, int(line), int(column) + 1)
    return Located(str(error.message), node.span.start_line, node.span.start_column + 1)
