"""OpenQASM 3: the reference parser and Qiskit's importer and exporter, and ways around what they lack.

`qiskit_qasm3_import` turns the reference parser's tree into a circuit. Added here, as a subclass of its
visitor: all of Qiskit's gates without a definition, general conditions, constants, variables and assignments,
switch, subroutines (put in where they are called), loops whose variable is an index (unrolled), functions and
powers in angles, and a place for each error.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from openqasm3._antlr.qasm3Lexer import qasm3Lexer
from openqasm3._antlr.qasm3Parser import qasm3Parser
from openqasm3.parser import CommonTokenStream, ErrorListener, InputStream, QASMNodeVisitor
from qiskit import qasm3
from qiskit.circuit import CASE_DEFAULT, ClassicalRegister, Clbit, QuantumCircuit
from qiskit.circuit.classical import expr
from qiskit.circuit.classical import types as kinds
from qiskit.exceptions import QiskitError
from qiskit_qasm3_import import types
from qiskit_qasm3_import.converter import ConvertVisitor
from qiskit_qasm3_import.data import Scope, Symbol
from qiskit_qasm3_import.exceptions import ConversionError, raise_from_node
from qiskit_qasm3_import.expression import ValueResolver
from qiskit_qasm3_import.state import LocalScope

from pilot.errors import DescriptionError, ProgramError
from pilot.quantum.programs.definitions import inverse_of, plain, standard_gates, standardised
from pilot.quantum.programs.problems import end_of, program_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qiskit.circuit import Gate
    from qiskit_qasm3_import.state import State

#: Qubits, and classical bits, of a register.
MAX_BITS = 100_000
#: Rounds of a loop that is unrolled, calls of subroutines.
MAX_ROUNDS = 10_000
_MAX_CALLS = 32


def loads(text: str) -> QuantumCircuit:
    """The circuit of an OpenQASM 3 program.

    Raises:
        ProgramError: it is not OpenQASM 3, or says what no Qiskit circuit can; line and column are in the error.
    """
    tree = _tree(text)
    try:
        circuit: QuantumCircuit = _Converter().convert(tree, source=text).circuit
        return standardised(circuit)
    except _Located as error:
        raise program_error("openqasm3", error.problem, line=error.line, column=error.column) from None


def dumps(circuit: QuantumCircuit) -> str:
    """The circuit as OpenQASM 3; gates that the standard's library lacks are defined at its beginning.

    Raises:
        DescriptionError: the language cannot express an instruction, which the message names.
    """
    try:
        return str(qasm3.dumps(plain(circuit)))
    except qasm3.QASM3ExporterError as error:
        raise DescriptionError(f"OpenQASM 3 cannot express the circuit: {error.message}") from error


class _Listener(ErrorListener):  # type: ignore[misc]
    """Stops at the first syntax error."""

    def syntaxError(self, recognizer: Any, symbol: Any, line: int, column: int, message: str, error: Any) -> None:  # noqa: N802
        problem, _, expected = message.partition(" expecting ")
        raise program_error(
            "openqasm3",
            _shortened(problem.replace("<EOF>", "the end")),
            line=line,
            column=column + 1,
            expected=_shortened(expected) or None,
        )


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + " ..."


def _tree(text: str) -> ast.Program:
    lexer = qasm3Lexer(InputStream(text))
    parser = qasm3Parser(CommonTokenStream(lexer))
    for each in (lexer, parser):
        each.removeErrorListeners()
        each.addErrorListener(_Listener())
    visitor = _TreeVisitor()
    try:
        return visitor.visitProgram(parser.program())
    except ProgramError:
        raise
    except RecursionError:
        raise program_error("openqasm3", "the program is nested too deep", **_where(visitor, text)) from None
    except Exception as error:
        raise program_error("openqasm3", _words(error), **_where(visitor, text)) from None


class _TreeVisitor(QASMNodeVisitor):  # type: ignore[misc]
    """Remembers the statement it is at."""

    statement: Any = None

    def visitStatement(self, ctx: Any) -> Any:  # noqa: N802
        self.statement = ctx
        return super().visitStatement(ctx)


def _where(visitor: _TreeVisitor, text: str) -> dict[str, int]:
    if visitor.statement is not None:
        return {"line": visitor.statement.start.line, "column": visitor.statement.start.column + 1}
    line, column = end_of(text)
    return {"line": line, "column": column}


def _words(error: BaseException) -> str:
    text = str(getattr(error, "message", "") or error)
    return text or type(error).__name__


class _Located(Exception):
    """A problem and its place."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.problem, self.line, self.column = problem, line, column


class _Values(ValueResolver):  # type: ignore[misc]
    """Values, with powers, functions, casts and constants beside the importer's."""

    def visit(self, node: ast.QASMNode, context: None = None) -> tuple[Any, types.Type]:
        try:
            return super().visit(node, context)  # type: ignore[no-any-return]
        except (ArithmeticError, ValueError, TypeError, LookupError) as error:
            raise_from_node(node, _words(error))
            raise  # never reached

    def visit_BinaryExpression(self, node: ast.BinaryExpression) -> tuple[Any, types.Type]:  # noqa: N802
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

    def visit_FunctionCall(self, node: ast.FunctionCall) -> tuple[Any, types.Type]:  # noqa: N802
        function = _FUNCTIONS.get(node.name.name)
        if function is None:
            raise_from_node(node, f"there is no function {node.name.name!r} that gives a number")
        values = [self.visit(argument) for argument in node.arguments]
        if not all(isinstance(value, int | float) for value, _ in values):
            raise_from_node(node, f"{node.name.name} takes constant numbers")
        return float(function(*(value for value, _ in values))), types.Float(const=True)

    def visit_Cast(self, node: ast.Cast) -> tuple[Any, types.Type]:  # noqa: N802
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
_VARIABLES = {ast.BoolType: kinds.Bool, ast.UintType: kinds.Uint, ast.FloatType: kinds.Float}


class _Converter(ConvertVisitor):  # type: ignore[misc]
    """The importer's visitor and what it lacks. Its methods are named as the tree's nodes are."""

    def __init__(self) -> None:
        super().__init__()
        self._subroutines: dict[str, ast.SubroutineDefinition] = {}
        self._returned: list[Any] = []
        self._calls = 0
        self._rounds = 0
        #: An ``int`` that the statement before has set to a register, as Qiskit's exporter does before a switch.
        self._alias: Symbol | None = None

    def visit(self, node: ast.QASMNode, context: State | None = None) -> Any:
        """As the importer, with the place of the innermost statement in each error."""
        if self._alias is not None and isinstance(node, ast.Statement) and not isinstance(node, ast.SwitchStatement):
            self._alias.data = self._alias = None
        try:
            return super().visit(node, context)
        except (_Located, RecursionError):
            raise
        except ConversionError as error:
            raise _located(error, node) from None
        except (QiskitError, ArithmeticError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise _Located(_words(error), node.span.start_line, node.span.start_column + 1) from None

    def visit_Program(self, node: ast.Program, context: State) -> State:  # noqa: N802
        for statement in node.statements:
            try:
                context = self.visit(statement, context)
            except RecursionError:
                span = statement.span
                raise _Located("nested too deep", span.start_line, span.start_column + 1) from None
        return context

    def _resolve_generic(self, node: ast.Expression, context: State, strict: bool) -> tuple[Any, types.Type]:
        return _Values(context, strict).resolve(node)  # type: ignore[no-any-return]

    # gates

    def visit_QuantumGate(self, node: ast.QuantumGate, context: State) -> State:  # noqa: N802
        name = node.name.name
        symbol = context.symbol_table.get(name, node)
        if symbol is None and name in standard_gates():
            gate = standard_gates()[name]
            kind = types.Gate(len(gate.params), gate.num_qubits)
            symbol = Symbol(name, gate.base_class, kind, Scope.GLOBAL, node)
            context.symbol_table.insert(symbol)
        if symbol is not None and isinstance(symbol.type, types.Gate):
            self._check_operands(node, symbol.type, context)
        return super().visit_QuantumGate(node, context)

    def _apply_gate_modifier(self, modifier: ast.QuantumGateModifier, gate: Gate, context: State) -> Gate:
        if modifier.modifier is ast.GateModifierName.inv:
            return inverse_of(gate)
        return super()._apply_gate_modifier(modifier, gate, context)

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

    def visit_QubitDeclaration(self, node: ast.QubitDeclaration, context: State) -> State:  # noqa: N802
        self._check_size(node, node.size, context)
        return super().visit_QubitDeclaration(node, context)  # type: ignore[no-any-return]

    def _check_size(self, node: ast.QASMNode, size: ast.Expression | None, context: State) -> None:
        if size is not None and not 0 < (number := self._resolve_constant_int(size, context)) <= MAX_BITS:
            raise_from_node(node, f"a register of size {number}; 1 to {MAX_BITS} are allowed")

    def visit_ConstantDeclaration(self, node: ast.ConstantDeclaration, context: State) -> State:  # noqa: N802
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
        context.symbol_table.insert(symbol)
        return context

    def visit_ClassicalDeclaration(self, node: ast.ClassicalDeclaration, context: State) -> State:  # noqa: N802
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
        return super().visit_ClassicalDeclaration(node, context)  # type: ignore[no-any-return]

    def _declare_integer(self, node: ast.ClassicalDeclaration, context: State) -> State:
        """Qiskit has no signed integers: one that is set once is a constant, one set to a register can be switched on."""
        value = None if node.init_expression is None else self._resolve_constant_int(node.init_expression, context)
        symbol = Symbol(node.identifier.name, value, types.Int(const=value is not None), context.scope, node)
        context.symbol_table.insert(symbol)
        return context

    def _set_integer(self, symbol: Symbol, node: ast.ClassicalAssignment, context: State) -> State:
        value, _ = self._resolve_generic(node.rvalue, context, True)
        if symbol.type.const or node.op.name != "=" or not isinstance(value, Clbit | ClassicalRegister):
            raise_from_node(node, "signed integers cannot change; use uint[n]")
        symbol.data, self._alias = value, symbol
        return context

    def _declare_variable(self, node: ast.ClassicalDeclaration, context: State) -> State:
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
            start = _coerced(self._expression(node.init_expression, context, kind), kind)
            variable = context.circuit.add_var(name, start)
        context.symbol_table.insert(Symbol(name, variable, _Variable(), Scope.GLOBAL, node))
        return context

    def visit_IODeclaration(self, node: ast.IODeclaration, context: State) -> State:  # noqa: N802
        if node.io_identifier is ast.IOKeyword.output:
            plain_declaration = ast.ClassicalDeclaration(node.type, node.identifier, None)
            plain_declaration.span = node.span
            return self.visit_ClassicalDeclaration(plain_declaration, context)
        return super().visit_IODeclaration(node, context)  # type: ignore[no-any-return]

    def visit_ClassicalAssignment(self, node: ast.ClassicalAssignment, context: State) -> State:  # noqa: N802
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
        context.circuit.store(place, _coerced(self._expression(value, context, kind), kind))

    # conditions

    def _resolve_condition(self, node: ast.Expression, context: State) -> Any:
        try:
            return super()._resolve_condition(node, context)
        except ConversionError:
            return _coerced(self._expression(node, context, kinds.Bool()), kinds.Bool())

    def _expression(self, node: ast.Expression, context: State, wanted: kinds.Type | None = None) -> expr.Expr:
        """A classical expression; literals take the type that is wanted of them."""
        match node:
            case ast.BooleanLiteral():
                return expr.lift(node.value)
            case ast.IntegerLiteral() | ast.BitstringLiteral():
                return _literal(node, int(node.value), wanted)
            case ast.FloatLiteral():
                return expr.lift(float(node.value))
            case ast.UnaryExpression():
                return self._unary(node, context, wanted)
            case ast.BinaryExpression():
                return self._binary(node, context)
            case ast.Cast():
                kind = _cast_type(node, self, context)
                return expr.cast(self._expression(node.argument, context, kind), kind)
        value, kind = self._resolve_generic(node, context, True)
        if isinstance(value, bool | float):
            return expr.lift(value)
        if isinstance(value, int):
            return _literal(node, value, wanted)
        if isinstance(value, list | tuple):
            raise_from_node(node, "a part of a register cannot be compared: compare its bits")
        if not isinstance(value, Clbit | ClassicalRegister | expr.Expr):
            raise_from_node(node, f"'{kind.pretty()}' has no classical value")
        return expr.lift(value)

    def _unary(self, node: ast.UnaryExpression, context: State, wanted: kinds.Type | None) -> expr.Expr:
        inner = self._expression(node.expression, context, wanted)
        match node.op.name:
            case "!":
                return expr.logic_not(_coerced(inner, kinds.Bool()))
            case "~":
                return expr.logic_not(inner) if isinstance(inner.type, kinds.Bool) else expr.bit_not(inner)
        return expr.negate(inner)

    def _binary(self, node: ast.BinaryExpression, context: State) -> expr.Expr:
        left, right = self._operands(node, context)
        name = node.op.name
        if name in ("&&", "||"):
            join = expr.logic_and if name == "&&" else expr.logic_or
            return join(_coerced(left, kinds.Bool()), _coerced(right, kinds.Bool()))
        if name not in _JOINS:
            raise_from_node(node, f"unsupported binary operation '{name}'")
        return _JOINS[name](left, right)

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

    def visit_SwitchStatement(self, node: ast.SwitchStatement, context: State) -> State:  # noqa: N802
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

    def visit_CompoundStatement(self, node: ast.CompoundStatement, context: State) -> State:  # noqa: N802
        self._block(node.statements, context)
        return context

    def visit_Pragma(self, node: ast.Pragma, context: State) -> State:  # noqa: N802
        return context

    def visit_ForInLoop(self, node: ast.ForInLoop, context: State) -> State:  # noqa: N802
        if not _is_index(node.block, node.identifier.name):
            return super().visit_ForInLoop(node, context)  # type: ignore[no-any-return]
        for value in self._rounds_of(node, context):
            self._rounds += 1
            if self._rounds > MAX_ROUNDS:
                raise_from_node(node, f"loops are unrolled to more than {MAX_ROUNDS} rounds")
            with LocalScope(context) as inner:
                symbol = Symbol(node.identifier.name, value, types.Int(const=True), Scope.LOCAL, node)
                inner.symbol_table.insert(symbol)
                for statement in node.block:
                    self.visit(statement, inner)
        return context

    def _rounds_of(self, node: ast.ForInLoop, context: State) -> Sequence[int]:
        if not isinstance(node.type, ast.IntType | ast.UintType):
            raise_from_node(node, "only integer loop variables are supported")
        values, kind = self._resolve_generic(node.set_declaration, context, True)
        if isinstance(kind, types.Range):
            if values.start is None or values.stop is None:
                raise_from_node(node, "for-loop ranges must have a start and end")
            return range(values.start, values.stop, 1 if values.step is None else values.step)
        if not isinstance(kind, types.Sequence):
            raise_from_node(node, "only ranges and sets of integers are supported")
        return values  # type: ignore[no-any-return]

    # subroutines

    def visit_SubroutineDefinition(self, node: ast.SubroutineDefinition, context: State) -> State:  # noqa: N802
        if node.name.name in self._subroutines:
            raise_from_node(node, f"'{node.name.name}' is already defined")
        self._subroutines[node.name.name] = node
        return context

    def visit_ExpressionStatement(self, node: ast.ExpressionStatement, context: State) -> State:  # noqa: N802
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
                inner.symbol_table.insert(Symbol(parameter.name.name, value, kind, Scope.LOCAL, parameter))
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

    def _return(self, node: ast.ReturnStatement, inner: State, target: Any, outer: State) -> None:
        if node.expression is None or target is None:
            if isinstance(node.expression, ast.QuantumMeasurement):
                raise_from_node(node, "measurements must save their result in Qiskit")
            return
        if isinstance(node.expression, ast.QuantumMeasurement):
            qubit = self._resolve_qarg(node.expression.qubit, inner)
            inner.circuit.measure(qubit, self._resolve_carg(target, outer))
            return
        self._store(node, target, node.expression, inner)


class _Variable(types.Type):  # type: ignore[misc]
    """A variable of the circuit's; its own type says which."""

    __slots__ = ()
    const = False

    def pretty(self) -> str:
        return "variable"


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
    "<<": expr.shift_left,
    ">>": expr.shift_right,
    "+": expr.add,
    "-": expr.sub,
    "*": expr.mul,
    "/": expr.div,
}


def _coerced(value: expr.Expr, kind: kinds.Type) -> expr.Expr:
    return value if value.type == kind else expr.cast(value, kind)


def _literal(node: ast.QASMNode, value: int, wanted: kinds.Type | None) -> expr.Expr:
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


def _cast_type(node: ast.Cast, converter: _Converter, context: State) -> kinds.Type:
    size = getattr(node.type, "size", None)
    match node.type:
        case ast.BoolType():
            return kinds.Bool()
        case ast.UintType() | ast.BitType() if size is not None:
            return kinds.Uint(converter._resolve_constant_int(size, context))
        case ast.UintType():
            return kinds.Uint(32)
        case ast.BitType():
            return kinds.Bool()
        case ast.FloatType():
            return kinds.Float()
    raise_from_node(node, "only casts to bool, bit, uint and float are supported")
    raise AssertionError


def _is_index(found: Any, name: str) -> bool:
    """Whether a name is used for choosing qubits or bits, or in a condition, where no parameter may stand."""
    match found:
        case ast.IndexedIdentifier():
            return _mentions(found.indices, name)
        case ast.IndexExpression():
            return _mentions(found.index, name)
        case ast.BranchingStatement():
            return _mentions(found.condition, name) or _is_index([found.if_block, found.else_block], name)
        case ast.FunctionCall():
            return _mentions(found.arguments, name)
        case ast.QuantumGateModifier() | ast.RangeDefinition():
            return _mentions(vars(found), name)
        case list() | tuple():
            return any(_is_index(each, name) for each in found)
        case ast.QASMNode():
            return any(_is_index(each, name) for each in vars(found).values())
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


def _located(error: ConversionError, node: ast.QASMNode) -> _Located:
    """The importer's own place, where its message has one."""
    place, _, problem = str(error.message).partition(": ")
    line, _, column = place.partition(",")
    if line.isdigit() and column.isdigit() and problem:
        return _Located(problem, int(line), int(column) + 1)
    return _Located(str(error.message), node.span.start_line, node.span.start_column + 1)
