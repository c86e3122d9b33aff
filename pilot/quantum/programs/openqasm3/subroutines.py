"""Subroutines: their statements are put in where they are called."""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit import ClassicalRegister, Clbit, Qubit
from qiskit_qasm3_import import types
from qiskit_qasm3_import.data import Scope
from qiskit_qasm3_import.state import LocalScope

from pilot.quantum.outcomes import LOCAL_REGISTER
from pilot.quantum.programs.openqasm3 import arithmetic
from pilot.quantum.programs.openqasm3.loops import Loops
from pilot.quantum.programs.openqasm3.reading import refuse
from pilot.quantum.programs.openqasm3.tables import lifted
from pilot.quantum.programs.openqasm3.values import Typed
from pilot.quantum.programs.openqasm3.variables import Constant, State

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_CALLS = 32


class _Returned(Exception):
    """The end of a call, and what it gives."""

    def __init__(self, result: Typed | None) -> None:
        super().__init__()
        self.result = result


@dataclass
class _Call:
    """A call that is being read.

    Attributes:
        target: the caller's bits that get the result.
        landing: the local bits that are returned, which are then the target itself.
    """

    depth: int
    target: Any = None
    landing: str | None = None


class Subroutines(Loops):
    """The part of the visitor that knows subroutines, and the bits that they declare for themselves."""

    def __init__(self) -> None:
        super().__init__()
        self._subroutines: dict[str, ast.SubroutineDefinition] = {}
        self._calls: list[_Call] = []
        self._free_bits: list[Clbit] = []
        self._taken_bits: list[list[Clbit]] = [[]]
        self._local_bits = 0

    # bits of blocks and subroutines

    @contextmanager
    def scope(self, context: State) -> Iterator[State]:
        """Bits declared within serve another block after it."""
        self._taken_bits.append([])
        try:
            with super().scope(context) as inner:
                yield inner
        finally:
            self._free_bits += self._taken_bits.pop()

    def local_bits(self, number: int, context: State) -> list[Clbit]:
        """Bits that no count shows."""
        while len(self._free_bits) < number:
            register = ClassicalRegister(1, f"{LOCAL_REGISTER}{self._local_bits}")
            self._local_bits += 1
            context.circuit.add_register(register)
            self._free_bits.append(register[0])
        taken = [self._free_bits.pop(0) for _ in range(number)]
        self._taken_bits[-1] += taken
        return taken

    def measure(self, qubits: Any, bits: Any, context: State) -> None:
        context.circuit.measure(qubits, bits)
        self.written.update([bits] if isinstance(bits, Clbit) else list(bits))

    # definitions and calls

    def is_subroutine(self, name: str) -> bool:
        return name in self._subroutines

    def visit_SubroutineDefinition(self, node: ast.SubroutineDefinition, context: State) -> State:
        if node.name.name in self._subroutines:
            refuse(node, f"'{node.name.name}' is already defined")
        self._subroutines[node.name.name] = node
        return context

    def visit_ExpressionStatement(self, node: ast.ExpressionStatement, context: State) -> State:
        if not isinstance(node.expression, ast.FunctionCall):
            refuse(node, "an expression alone does nothing")
        if not self.is_subroutine(node.expression.name.name):
            refuse(node, f"there is no subroutine '{node.expression.name.name}'", expected="a def before its call")
        self.call(node.expression, context, None)
        return context

    def result_of(self, call: ast.FunctionCall, context: State) -> Typed:
        result = self.call(call, context, None)
        if result is None:
            refuse(call, f"{call.name.name} returns nothing")
        return result

    def call(self, call: ast.FunctionCall, context: State, target: Any) -> Typed | None:
        """The subroutine's statements, with its names standing for what it is called with.

        Args:
            target: bits for the result: where it is measured, that goes straight there.
        """
        definition = self._subroutines[call.name.name]
        if len(call.arguments) != len(definition.arguments):
            refuse(
                call, f"{call.name.name} takes {len(definition.arguments)} arguments, {len(call.arguments)} are given"
            )
        values = [self._resolve_generic(argument, context, True) for argument in call.arguments]
        frame = _Call(self._depth, target)
        if target is not None and not _overlap(target, values):
            frame.landing = _returned_name(definition)
        result = None
        with self._entered(call, frame), self._names_of(context) as inner:
            for parameter, (value, kind) in zip(definition.arguments, values, strict=True):
                self._bind(parameter, value, kind, call, inner)
            try:
                for statement in definition.body:
                    self.visit(statement, inner)
            except _Returned as returned:
                result = returned.result
        return self._cast_result(definition, result, context)

    def _cast_result(self, definition: Any, result: Typed | None, context: State) -> Typed | None:
        wanted = definition.return_type
        if result is None or isinstance(wanted, ast.BitType) or wanted is None:
            return result
        value, kind = result
        if isinstance(kind, types.Bit | types.BitArray):
            value, kind = self._as_number(value)
        target = arithmetic.kind_of(wanted, lambda size: self._resolve_constant_int(size, context))
        return lifted(partial(arithmetic.converted, source=kind, target=target), value), target

    def _as_number(self, bits: Any) -> Typed:
        bits = [bits] if isinstance(bits, Clbit) else list(bits)
        return self.written.table(bits), types.Uint(const=False, size=len(bits))

    def _bind(self, parameter: Any, value: Any, kind: types.Type, call: ast.FunctionCall, context: State) -> None:
        """A parameter's name stands for qubits and bits, or is a variable with the argument's value."""
        name = parameter.name.name

        def size_of(size: Any) -> int:
            return self._resolve_constant_int(size, context)

        if isinstance(parameter, ast.QuantumArgument):
            number = None if parameter.size is None else size_of(parameter.size)
            given = None if isinstance(value, Qubit) else len(value) if isinstance(kind, types.QubitArray) else -1
            if given != number:
                wanted = "qubit" if number is None else f"qubit[{number}]"
                refuse(call, f"'{name}' of {call.name.name} is a {wanted}, '{kind.pretty()}' is given")
        elif not isinstance(parameter.type, ast.BitType) or not isinstance(kind, types.Bit | types.BitArray):
            wanted_kind = arithmetic.kind_of(parameter.type, size_of)
            variable = self._new_variable(name, wanted_kind, parameter, context)
            if isinstance(kind, types.Bit | types.BitArray):
                value, kind = self._as_number(value)
            if not isinstance(kind, arithmetic.SCALARS) or isinstance(wanted_kind, arithmetic.Array):
                refuse(call, f"'{name}' of {call.name.name} is '{wanted_kind.pretty()}', '{kind.pretty()}' is given")
            variable.become(lifted(partial(arithmetic.converted, source=kind, target=wanted_kind), value))
            self.define(variable, context)
            return
        self.define(Constant(name, value, kind, Scope.LOCAL, parameter), context)

    @contextmanager
    def _entered(self, call: ast.FunctionCall, frame: _Call) -> Iterator[None]:
        if len(self._calls) >= _MAX_CALLS:
            refuse(call, f"subroutines call one another deeper than {_MAX_CALLS}")
        self._calls.append(frame)
        loops, self._loops = self._loops, []
        try:
            yield
        finally:
            self._calls.pop()
            self._loops = loops

    @contextmanager
    def _names_of(self, context: State) -> Iterator[State]:
        """A subroutine sees what is global and its own names, not its caller's.

        Its bits serve others when the caller's block ends.
        """
        stack = context.symbol_table._stack
        hidden = stack[1:]
        del stack[1:]
        number = len(self._variables)
        try:
            with LocalScope(context) as inner:
                yield inner
        finally:
            stack[1:] = hidden
            del self._variables[number:]

    def visit_ReturnStatement(self, node: ast.ReturnStatement, context: State) -> State:
        if not self._calls:
            refuse(node, "return stands outside a subroutine")
        frame = self._calls[-1]
        if self._depth != frame.depth:
            refuse(node, "return under measured bits is not supported", expected="a variable that is set there")
        raise _Returned(None if node.expression is None else self._result(node.expression, frame, context))

    def _result(self, node: Any, frame: _Call, context: State) -> Typed:
        if not isinstance(node, ast.QuantumMeasurement):
            return self._resolve_generic(node, context, True)
        measured: Any = node.qubit
        qubits = self._resolve_qarg(measured, context)
        number = 1 if isinstance(qubits, Qubit) else len(qubits)
        if frame.target is None:
            bits: Any = self.local_bits(number, context)
            bits = bits[0] if isinstance(qubits, Qubit) else bits
        else:
            bits = frame.target
        self.measure(qubits, bits, context)
        return bits, types.Bit() if isinstance(bits, Clbit) else types.BitArray(number)


def _returned_name(definition: ast.SubroutineDefinition) -> str | None:
    """The name of the last statement, where that returns a variable."""
    last = definition.body[-1] if definition.body else None
    returns_name = isinstance(last, ast.ReturnStatement) and isinstance(last.expression, ast.Identifier)
    return last.expression.name if returns_name else None  # type: ignore[union-attr]


def _overlap(target: Any, values: list[Typed]) -> bool:
    """An argument holds some of the target's bits."""
    wanted = {target} if isinstance(target, Clbit) else set(target)
    given = [value for value, kind in values if isinstance(kind, types.Bit | types.BitArray)]
    return any(not wanted.isdisjoint([value] if isinstance(value, Clbit) else value) for value in given)
