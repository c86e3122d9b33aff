"""Loops: unrolled where the text decides their rounds, else instructions of the circuit."""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openqasm3 import ast
from qiskit.circuit.classical import expr
from qiskit_qasm3_import import types
from qiskit_qasm3_import.data import Scope

from pilot.quantum.programs.openqasm3.branches import Branches, Runtime, Unsteady
from pilot.quantum.programs.openqasm3.reading import refuse
from pilot.quantum.programs.openqasm3.values import identifiers, symbols
from pilot.quantum.programs.openqasm3.variables import Constant, Snapshot, State, Variable, same

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Rounds of loops that are unrolled.
MAX_ROUNDS = 10_000
#: Rounds of a loop whose number measured bits decide, where it counts with variables.
MAX_NESTED_ROUNDS = 40


class Left(Exception):
    """A `break` or `continue` whose time is known: the rest of the round is not read."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Ended(Exception):
    """`end`: the rest of the program is not read."""


@dataclass
class _Loop:
    """A loop that is being read. `depth`: how many branches of the circuit it stands in."""

    depth: int
    is_unrolled: bool
    words: frozenset[str]
    snapshots: list[tuple[str, Snapshot]] = field(default_factory=list)


class Loops(Branches):
    """The part of the visitor that knows loops and what leaves them."""

    def __init__(self) -> None:
        super().__init__()
        self._loops: list[_Loop] = []
        self._rounds = 0

    def visit_ForInLoop(self, node: ast.ForInLoop, context: State) -> State:
        values = self._rounds_of(node, context)
        counts = node.identifier.name in identifiers(node.block)
        if not counts and len(values) > 1 and self._repeated_for(node, values, context):
            return context
        with self._unrolled(node, context, "break") as loop:
            for value in values:
                if self._round(node, context, loop, value) == "break":
                    break
        self._forget_left(loop, node)
        return context

    def _rounds_of(self, node: Any, context: State) -> Sequence[int]:
        if not isinstance(node.type, ast.IntType | ast.UintType):
            refuse(node, "the variable of a for loop is an int or a uint")
        values, kind = self._resolve_generic(node.set_declaration, context, True)
        if isinstance(kind, types.Range):
            if values.start is None or values.stop is None:
                refuse(node, "the range of a for loop has a start and an end")
            if values.step == 0:
                refuse(node, "the step of a range is 0")
            return range(values.start, values.stop, 1 if values.step is None else values.step)
        if not isinstance(kind, types.Sequence):
            refuse(node, "a for loop goes over a range or a set of integers")
        return list(values)

    def _repeated_for(self, node: ast.ForInLoop, values: Sequence[int], context: State) -> bool:
        """As one instruction, where each round is the same."""
        before, written = self.snapshot(), self.written.copy()
        loop = _Loop(self._depth, False, frozenset())
        try:
            with self._entered_loop(loop), context.circuit.for_loop(values):
                self._block(node.block, context)
                self._check_steady(before, loop)
        except Unsteady:
            self.restore(before, written)
            return False
        self._forget_left(loop, node)
        return True

    def visit_WhileLoop(self, node: ast.WhileLoop, context: State) -> State:
        with self._unrolled(node, context, "break") as loop:
            while True:
                condition = self.condition(node.while_condition, context)
                if condition is False:
                    break
                endless = not any(isinstance(each, Variable) for each in symbols(node.while_condition, context))
                if isinstance(condition, Runtime) or endless:
                    self._repeated_while(node, context)
                    break
                before = self.snapshot()
                if self._round(node, context, loop) == "break":
                    break
                if all(same(value, (one.data, one.problem)) for one, value in before.items()):
                    refuse(node, "the loop never ends: a round changes no variable, and the condition is true")
        self._forget_left(loop, node)
        return context

    def _repeated_while(self, node: ast.WhileLoop, context: State) -> None:
        """As one instruction. What is not the same in each round has no value; a condition on that is unrolled."""
        tested = symbols(node.while_condition, context)
        while True:
            before, written = self.snapshot(), self.written.copy()
            condition = self.condition(node.while_condition, context)
            test = condition.test if isinstance(condition, Runtime) else expr.lift(True)
            loop = _Loop(self._depth, False, frozenset())
            try:
                with self._entered_loop(loop), context.circuit.while_loop(test):
                    self._block(node.block, context)
                    self._check_steady(before, loop)
                break
            except Unsteady as error:
                self.restore(before, written)
                if any(variable in tested for variable in error.variables):
                    self._nested_rounds(node, context, MAX_NESTED_ROUNDS)
                    return
                for variable in error.variables:
                    variable.forget(f"is not the same in each round of the loop of {_line(node)}")
        self._forget_left(loop, node)

    def _nested_rounds(self, node: ast.WhileLoop, context: State, left: int) -> None:
        """Each round within the branch of the one before, until the condition is known to be false."""
        condition = self.condition(node.while_condition, context)
        if condition is False:
            return
        if "continue" in _leaves(node.block):
            refuse(node, "continue in a loop whose rounds measured bits and variables decide", expected="an if instead")
        if not left:
            refuse(
                node,
                f"the loop has more than {MAX_NESTED_ROUNDS} rounds that measured bits and variables decide",
                expected="a condition on bits alone, or fewer rounds",
            )

        def once() -> None:
            self._block(node.block, context)
            self._nested_rounds(node, context, left - 1)

        if isinstance(condition, Runtime):
            self.either(condition, once, None, node, context)
        else:
            once()

    @contextmanager
    def _entered_loop(self, loop: _Loop) -> Iterator[None]:
        self._loops.append(loop)
        try:
            with self._within():
                loop.depth = self._depth
                yield
        finally:
            self._loops.pop()

    @contextmanager
    def _unrolled(self, node: Any, context: State, word: str) -> Iterator[_Loop]:
        """Rounds one after another. A `break` that measured bits decide leaves a loop of one round around them all."""
        words = frozenset(_leaves(node.block))
        if len(words) == 2 and self._depends(node, context):
            refuse(
                node, "a loop that is unrolled has both break and continue under measured bits", expected="one of them"
            )
        loop = _Loop(self._depth, True, words)
        self._loops.append(loop)
        try:
            with context.circuit.for_loop((0,)) if word in words else nullcontext():
                yield loop
        finally:
            self._loops.pop()

    def _depends(self, node: Any, context: State) -> bool:
        return any(isinstance(one.type, types.Bit | types.BitArray) for one in symbols(node.block, context))

    def _round(self, node: Any, context: State, loop: _Loop, value: int | None = None) -> str | None:
        """One round; the word that has ended it, where that is known."""
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            refuse(node, f"loops are unrolled to more than {MAX_ROUNDS} rounds")
        try:
            with (
                context.circuit.for_loop((0,)) if "continue" in loop.words else nullcontext(),
                self.scope(context) as inner,
            ):
                if value is not None:
                    inner.symbol_table.insert(
                        Constant(node.identifier.name, value, types.Int(const=True), Scope.LOCAL, node)
                    )
                try:
                    for statement in node.block:
                        self.visit(statement, inner)
                except Left as left:
                    return left.word
        finally:
            self._forget_left(loop, node, "continue")
        return None

    def visit_BreakStatement(self, node: ast.BreakStatement, context: State) -> State:
        return self._leave("break", node, context)

    def visit_ContinueStatement(self, node: ast.ContinueStatement, context: State) -> State:
        return self._leave("continue", node, context)

    def _leave(self, word: str, node: ast.QASMNode, context: State) -> State:
        if not self._loops:
            refuse(node, f"{word} stands outside a loop")
        loop = self._loops[-1]
        if loop.is_unrolled and self._depth == loop.depth:
            raise Left(word)
        loop.snapshots.append((word, self.snapshot()))
        if word == "break" or loop.is_unrolled:
            context.circuit.break_loop()
        else:
            context.circuit.continue_loop()
        return context

    def _check_steady(self, before: Snapshot, loop: _Loop) -> None:
        """The next round begins as this one did.

        Raises:
            Unsteady: some variables differ, or depend on bits that the round has written.
        """
        ends = [self.snapshot(), *(values for word, values in loop.snapshots if word == "continue")]
        unsteady = [
            variable
            for variable, value in before.items()
            if not all(same(value, values[variable]) for values in ends if variable in values)
        ]
        if unsteady:
            raise Unsteady(unsteady)

    def _forget_left(self, loop: _Loop, node: ast.QASMNode, word: str = "break") -> None:
        """Variables that had another value where the loop was left have none behind it."""
        now = self.snapshot()
        for left, values in loop.snapshots:
            if left == word:
                for variable in self._variables:
                    if variable in values and not same(values[variable], now[variable]):
                        variable.forget(f"depends on where the loop of {_line(node)} was left")
        loop.snapshots = [entry for entry in loop.snapshots if entry[0] != word]

    def visit_EndStatement(self, node: ast.EndStatement, context: State) -> State:
        if self._depth:
            refuse(
                node, "end under measured bits is not supported", expected="the rest of the program in an else block"
            )
        raise Ended


def _leaves(statements: Sequence[Any]) -> Iterator[str]:
    """The words that leave this loop, not one inside it."""
    for statement in statements:
        match statement:
            case ast.BreakStatement():
                yield "break"
            case ast.ContinueStatement():
                yield "continue"
            case ast.BranchingStatement():
                yield from _leaves([*statement.if_block, *statement.else_block])
            case ast.CompoundStatement():
                yield from _leaves(statement.statements)
            case ast.SwitchStatement():
                for _, block in statement.cases:
                    yield from _leaves(block.statements)
                if statement.default is not None:
                    yield from _leaves(statement.default.statements)


def _line(node: ast.QASMNode) -> str:
    span: Any = node.span
    return f"line {span.start_line}"
