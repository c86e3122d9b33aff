"""Text to the reference parser's tree, with the place of what is wrong."""

# ruff: noqa: N802  # methods are named as the classes of the grammar are

from __future__ import annotations

import re
from typing import Any, NoReturn

from antlr4 import CommonTokenStream, InputStream  # type: ignore[import-untyped]
from antlr4.error.ErrorListener import ErrorListener  # type: ignore[import-untyped]
from openqasm3 import ast
from openqasm3._antlr.qasm3Lexer import qasm3Lexer
from openqasm3._antlr.qasm3Parser import qasm3Parser
from openqasm3.parser import QASMNodeVisitor

from pilot.errors import ProgramError
from pilot.quantum.programs.problems import end_of, program_error

#: What the language has and no circuit: what could be written instead.
_NO_CIRCUIT = {
    "ExternDeclaration": ("extern functions do not run in a circuit", "a def with its statements"),
    "CalibrationGrammarDeclaration": ("pulse calibrations are not supported", "gates, measurements, resets and delays"),
    "CalibrationDefinition": ("pulse calibrations are not supported", "gates, measurements, resets and delays"),
    "CalibrationStatement": ("pulse calibrations are not supported", "gates, measurements, resets and delays"),
    "DurationOf": ("durationof is not supported: durations are the backend's", "a duration, as 100ns"),
}
#: As the reference parser begins some of its messages.
_OWN_PLACE = re.compile(r"^L\d+:C\d+: ")


class Located(Exception):
    """A problem and its place; what could stand there instead."""

    def __init__(self, problem: str, line: int, column: int, expected: str | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line, self.column, self.expected = problem, line, column, expected


def refuse(node: ast.QASMNode, problem: str, expected: str | None = None) -> NoReturn:
    """Raise the problem with the node's place."""
    span: Any = node.span
    raise Located(problem, span.start_line, span.start_column + 1, expected)


def refuse_unknown(node: ast.QASMNode) -> NoReturn:
    """Raise that no circuit has such a part of a program."""
    name = type(node).__name__
    problem, expected = _NO_CIRCUIT.get(name, (f"'{name}' is not supported", None))
    refuse(node, problem, expected)


def words_of(error: BaseException) -> str:
    """An error's message, or its name where it has none."""
    text = str(getattr(error, "message", "") or error)
    return text or type(error).__name__


class _Listener(ErrorListener):  # type: ignore[misc]
    """Stops at the first syntax error."""

    def syntaxError(self, recognizer: Any, symbol: Any, line: int, column: int, message: str, error: Any) -> None:
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


def tree_of(text: str) -> ast.Program:
    """The reference parser's tree.

    Raises:
        ProgramError: a syntax error; line, column and what was expected are in it.
    """
    lexer = qasm3Lexer(InputStream(text))
    parser = qasm3Parser(CommonTokenStream(lexer))
    for each in (lexer, parser):
        each.removeErrorListeners()
        each.addErrorListener(_Listener())
    visitor = _TreeVisitor()  # type: ignore[no-untyped-call]
    try:
        tree: ast.Program = visitor.visitProgram(parser.program())
        return tree
    except ProgramError:
        raise
    except RecursionError:
        line, column = _place(visitor, text)
        raise program_error("openqasm3", "the program is nested too deep", line=line, column=column) from None
    except Exception as error:
        line, column = _place(visitor, text)
        problem = _OWN_PLACE.sub("", words_of(error))
        raise program_error("openqasm3", problem, line=line, column=column) from None


class _TreeVisitor(QASMNodeVisitor):
    """Remembers the statement it is at."""

    statement: Any = None

    def visitStatement(self, ctx: Any) -> Any:
        self.statement = ctx
        return super().visitStatement(ctx)


def _place(visitor: _TreeVisitor, text: str) -> tuple[int, int]:
    if visitor.statement is not None:
        return visitor.statement.start.line, visitor.statement.start.column + 1
    return end_of(text)
