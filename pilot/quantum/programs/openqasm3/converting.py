"""The reference parser's tree to a circuit.

`qiskit_qasm3_import` does most of it. Added here and in the modules of the base classes, as subclasses of its visitor:
all of Qiskit's gates without a definition, constants and variables, general conditions, switch, subroutines, loops
over indices, and a place for each error.
"""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

import re
import warnings
from contextlib import nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from openqasm3 import ast
from qiskit.circuit import ClassicalRegister, Clbit, QuantumRegister, Qubit
from qiskit.exceptions import QiskitError
from qiskit_qasm3_import import types
from qiskit_qasm3_import.data import Scope, Symbol
from qiskit_qasm3_import.exceptions import ConversionError, raise_from_node

from pilot.quantum.programs.definitions import inverse_of, standard_gates
from pilot.quantum.programs.gate_names import truly_named_operation
from pilot.quantum.programs.openqasm3 import arithmetic
from pilot.quantum.programs.openqasm3.loops import Ended
from pilot.quantum.programs.openqasm3.reading import Located, refuse, refuse_unknown, words_of
from pilot.quantum.programs.openqasm3.subroutines import Subroutines
from pilot.quantum.programs.openqasm3.tables import Table, lifted, sum_over_bits
from pilot.quantum.programs.openqasm3.values import Values, symbols
from pilot.quantum.programs.openqasm3.variables import Constant, State, Variable

if TYPE_CHECKING:
    from qiskit.circuit import Gate

#: Qubits, and classical bits, of a register.
MAX_BITS = 100_000

#: Gates whose angles add up when one follows another.
_ROTATIONS = frozenset(("p", "phase", "u1", "rx", "ry", "rz", "cp", "cphase", "crx", "cry", "crz", "rxx", "ryy", "rzz"))
#: As Qiskit's exporter calls bits outside registers.
_LOOSE_BIT = re.compile(r"_bit\d+")


class Converter(Subroutines):
    """The importer's visitor and what it lacks. Its methods are named as the tree's nodes are."""

    def visit(self, node: Any, context: State | None = None) -> Any:
        """As the importer, with the place of the innermost statement in each error."""
        try:
            return super().visit(node, context)
        except (Located, RecursionError):
            raise
        except ConversionError as error:
            raise _located(error, node) from None
        except (QiskitError, ArithmeticError, ValueError, TypeError, LookupError, AttributeError) as error:
            refuse(node, words_of(error))

    def generic_visit(self, node: Any, context: State | None = None) -> NoReturn:
        refuse_unknown(node)

    def visit_Program(self, node: ast.Program, context: State) -> State:
        for statement in node.statements:
            try:
                context = self.visit(statement, context)
            except RecursionError:
                refuse(statement, "nested too deep")
            except Ended:
                break
        return context

    def visit_Pragma(self, node: ast.Pragma, context: State) -> State:
        return context

    # gates

    def visit_QuantumGate(self, node: ast.QuantumGate, context: State) -> State:
        name = node.name.name
        symbol = context.symbol_table.get(name, node)
        if symbol is None and name in standard_gates():
            gate = standard_gates()[name]
            kind = types.Gate(len(gate.params), gate.num_qubits)
            symbol = Symbol(name, gate.base_class, kind, Scope.GLOBAL, node)
            self.define(symbol, context)
        if symbol is not None and isinstance(symbol.type, types.Gate):
            self._check_operands(node, symbol.type, context)
        if self._is_turned_by_bits(node, context):
            return context
        self.each_value(node, context, lambda: super(Converter, self).visit_QuantumGate(node, context))
        return context

    def _is_turned_by_bits(self, node: ast.QuantumGate, context: State) -> bool:
        """A rotation whose angle is a sum over measured bits becomes one rotation for each bit."""
        if node.name.name not in _ROTATIONS or not any(isinstance(one.data, Table) for one in self._variables):
            return False
        gate = context.symbol_table.get(node.name.name)
        has_power = any(each.modifier is ast.GateModifierName.pow for each in node.modifiers)
        if not isinstance(gate.data, type) or has_power:  # a gate of the text's own may be no rotation
            return False
        if any(isinstance(each, Variable) and isinstance(each.data, Table) for each in symbols(node.qubits, context)):
            return False
        angle, _ = Values(self, context, False).number(node.arguments[0])
        parts = sum_over_bits(angle) if isinstance(angle, Table) else None
        if parts is None:
            return False
        for bit, part in parts:
            turn = ast.QuantumGate(node.modifiers, node.name, [ast.FloatLiteral(part)], node.qubits)
            turn.span = turn.arguments[0].span = node.span
            branch = nullcontext() if bit is None else context.circuit.if_test((bit, True))
            with branch:
                super().visit_QuantumGate(turn, context)
        return True

    def visit_QuantumPhase(self, node: ast.QuantumPhase, context: State) -> State:
        self.each_value(node, context, lambda: super(Converter, self).visit_QuantumPhase(node, context))
        return context

    def _resolve_angle(self, node: ast.Expression, context: State) -> Any:
        value = super()._resolve_angle(node, context)
        if isinstance(value, Table):
            refuse(node, "an angle of measured bits", expected="a variable that is set to it before, or an if")
        return value

    def _apply_gate_modifier(self, modifier: ast.QuantumGateModifier, gate: Gate, context: State) -> Gate:
        if modifier.modifier is ast.GateModifierName.inv:
            return inverse_of(gate)
        if modifier.modifier is ast.GateModifierName.pow and modifier.argument is not None:
            # a division of integers is a mistake here too
            Values(self, context, True, is_angle=True).number(modifier.argument)
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

    # other statements on qubits

    def visit_QuantumMeasurementStatement(self, node: Any, context: State) -> State:
        qubits = self._resolve_qarg(node.measure.qubit, context)
        if (variable := self._variable_of(node.target, context)) is not None:
            self._measure_into_variable(variable, node, qubits, context)
            return context
        if node.target is None:
            bits: Any = self.local_bits(1 if isinstance(qubits, Qubit) else len(qubits), context)
            bits = bits[0] if isinstance(qubits, Qubit) else bits
        else:
            bits = self._resolve_carg(node.target, context)
            number = 1 if isinstance(qubits, Qubit) else len(qubits)
            if number != (1 if isinstance(bits, Clbit) else len(bits)):
                refuse(node, f"{number} qubits are measured into {1 if isinstance(bits, Clbit) else len(bits)} bits")
        self.measure(qubits, bits, context)
        return context

    def _variable_of(self, target: Any, context: State) -> Variable | None:
        name = target.name.name if isinstance(target, ast.IndexedIdentifier) else getattr(target, "name", None)
        symbol = None if name is None else context.symbol_table.get(name, target)
        return symbol if isinstance(symbol, Variable) else None

    def _measure_into_variable(self, variable: Variable, node: Any, qubit: Any, context: State) -> None:
        """The outcome also gets a register, so that counts show what the variable was set from."""
        is_bool = isinstance(node.target, ast.Identifier) and isinstance(variable.kind, types.Bool)
        if not isinstance(qubit, Qubit) or not (is_bool or isinstance(node.target, ast.IndexedIdentifier)):
            refuse(node, f"this cannot be measured into '{variable.name}'", expected="one qubit, and a bool or one bit")
        taken = {register.name for register in context.circuit.cregs}
        name = next(name for number in count() if (name := f"{variable.name}_{number}") not in taken)
        register = ClassicalRegister(1, name)
        context.circuit.add_register(register)
        self.measure(qubit, register[0], context)
        outcome = lifted(bool, self.written.table([register[0]]))
        if is_bool:
            variable.become(outcome)
        else:
            self.set_bit(variable, node.target, outcome, context)

    def visit_DelayInstruction(self, node: ast.DelayInstruction, context: State) -> State:
        self.each_value(node, context, lambda: super(Converter, self).visit_DelayInstruction(node, context))
        return context

    def visit_QuantumReset(self, node: ast.QuantumReset, context: State) -> State:
        self.each_value(node, context, lambda: super(Converter, self).visit_QuantumReset(node, context))
        return context

    # declarations

    def visit_QubitDeclaration(self, node: ast.QubitDeclaration, context: State) -> State:
        size = self._size(node, node.size, context)
        if size is None:
            return super().visit_QubitDeclaration(node, context)
        context.addressing_mode.set_virtual_mode(node)
        register = QuantumRegister(size, node.qubit.name)
        self.define(Symbol(node.qubit.name, register, types.QubitArray(size), Scope.GLOBAL, node), context)
        context.circuit.add_register(register)
        return context

    def _size(self, node: ast.QASMNode, size: ast.Expression | None, context: State) -> int | None:
        if size is None:
            return None
        number = self._resolve_constant_int(size, context)
        if not 0 < number <= MAX_BITS:
            refuse(node, f"a register of size {number}; 1 to {MAX_BITS} are allowed")
        return number

    def visit_ConstantDeclaration(self, node: ast.ConstantDeclaration, context: State) -> State:
        if isinstance(node.type, ast.DurationType):
            return self._declare_duration(node, context)
        kind = arithmetic.kind_of(node.type, lambda size: self._resolve_constant_int(size, context))
        value, source = self._number(node.init_expression, context, kind)
        if not isinstance(value, bool | int | float):
            refuse(node, f"the value of the constant '{node.identifier.name}' is not known here")
        value = arithmetic.converted(value, source, kind)
        self.define(Constant(node.identifier.name, value, kind, context.scope, node), context)
        return context

    def _declare_duration(self, node: Any, context: State) -> State:
        if node.init_expression is None:
            refuse(node, f"the duration '{node.identifier.name}' has no value", expected="a duration, as 100ns")
        value = self._resolve_constant_duration(node.init_expression, context)
        self.define(Constant(node.identifier.name, value, types.Duration(True), context.scope, node), context)
        return context

    def visit_ClassicalDeclaration(self, node: Any, context: State) -> State:
        if isinstance(node.type, ast.StretchType):
            span: Any = node.span
            warnings.warn(
                f"OpenQASM 3, line {span.start_line}: the stretch '{node.identifier.name}' is 0, the shortest that it "
                "may be; give a duration where its length matters",
                stacklevel=2,
            )
            stretch = Constant(node.identifier.name, (0.0, "ns"), types.Duration(True), context.scope, node)
            self.define(stretch, context)
            return context
        if isinstance(node.type, ast.BitType):
            return self._declare_bits(node, context)
        if isinstance(node.type, ast.DurationType):
            return self._declare_duration(node, context)
        if not isinstance(node.init_expression, ast.QuantumMeasurement):
            return self._declare(node, context)
        bare = ast.ClassicalDeclaration(node.type, node.identifier)
        bare.span = node.span
        self._declare(bare, context)
        self._measure_at_once(node, context)
        return context

    def _declare_bits(self, node: Any, context: State) -> State:
        name, size, start = node.identifier.name, self._size(node, node.type.size, context), node.init_expression
        kind = types.Bit() if size is None else types.BitArray(size)
        lands = bool(self._calls) and self._calls[-1].landing == name and context.scope is not Scope.GLOBAL
        target = self._calls[-1].target if lands else None
        if target is not None and (size is None) == isinstance(target, Clbit) and size in (None, _length(target)):
            bits: Any = target
        elif context.scope is not Scope.GLOBAL:
            bits = self.local_bits(size or 1, context)
            bits = bits[0] if size is None else bits
        else:
            bits = self._global_bits(name, size, context)
        self.define(Symbol(name, bits, kind, context.scope, node), context)
        if isinstance(start, ast.QuantumMeasurement):
            self._measure_at_once(node, context)
        elif start is not None:
            self._store(node, ast.Identifier(name), start, context)
        return context

    def _measure_at_once(self, node: Any, context: State) -> None:
        """What is declared gets the outcome that it is declared with."""
        statement = ast.QuantumMeasurementStatement(node.init_expression, ast.Identifier(node.identifier.name))
        statement.target.span = statement.span = node.span  # type: ignore[union-attr]
        self.visit(statement, context)

    def _global_bits(self, name: str, size: int | None, context: State) -> Any:
        """A register; a single bit is a register of one bit, so that counts have its name."""
        if size is None and _LOOSE_BIT.fullmatch(name):
            bit = Clbit()
            context.circuit.add_bits([bit])
            return bit
        register = ClassicalRegister(1 if size is None else size, name)
        context.circuit.add_register(register)
        return register[0] if size is None else register

    def visit_IODeclaration(self, node: ast.IODeclaration, context: State) -> State:
        if node.io_identifier is ast.IOKeyword.output:
            if not isinstance(node.type, ast.BitType):
                refuse(node, "a result of a circuit is its bits", expected="output bit")
            plain_declaration = ast.ClassicalDeclaration(node.type, node.identifier, None)
            plain_declaration.span = node.span
            return self.visit_ClassicalDeclaration(plain_declaration, context)
        return super().visit_IODeclaration(node, context)

    def visit_AliasStatement(self, node: ast.AliasStatement, context: State) -> State:
        """Another name for qubits or bits, which adds no register to the circuit."""
        value, kind = self._resolve_generic(node.value, context, True)
        if not isinstance(kind, types.Qubit | types.QubitArray | types.Bit | types.BitArray | types.HardwareQubit):
            refuse(node.value, f"'{kind.pretty()}' can have no other name", expected="qubits or bits")
        name = node.target.name
        outer = context.symbol_table.get(name)
        if outer is not None and context.scope is not Scope.GLOBAL and outer.scope is not context.scope:
            span: Any = node.span
            warnings.warn(
                f"OpenQASM 3, line {span.start_line}: '{name}' is another name within this block only; outside, it "
                "stays what it was",
                stacklevel=2,
            )
        self.define(Symbol(name, value, kind, context.scope, node), context)
        return context

    # assignments

    def _store(self, node: ast.QASMNode, target: Any, value: ast.Expression, context: State) -> None:
        """The result of a subroutine is measured straight into the bits where that is possible."""
        if isinstance(value, ast.FunctionCall) and self.is_subroutine(value.name.name):
            target.span = target.span or node.span
            bits = self._resolve_carg(target, context)
            result = self.call(value, context, bits)
            if result is None:
                refuse(value, f"{value.name.name} returns nothing")
            self.keep(node, bits, *result, context)
            return
        super()._store(node, target, value, context)


def _length(bits: Any) -> int | None:
    return None if isinstance(bits, Clbit) else len(bits)


def _located(error: ConversionError, node: Any) -> Located:
    """The importer's own place, where its message has one."""
    place, _, problem = str(error.message).partition(": ")
    line, _, column = place.partition(",")
    if line.isdigit() and column.isdigit() and problem:
        return Located(problem, int(line), int(column) + 1)
    return Located(str(error.message), node.span.start_line, node.span.start_column + 1)
