"""The circuit of a text: what format it is in, and the parser of that format."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

from pilot.errors import invalid
from pilot.quantum.programs.problems import check_text

if TYPE_CHECKING:
    from qiskit.circuit import QuantumCircuit

#: Formats that are texts. A module of each name has `loads` and `dumps`.
TEXT_FORMATS = ("openqasm2", "openqasm3", "originir", "qir")

_COMMENTS = re.compile(r"\A(?:\s+|//[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)
_HINTS = (
    ("openqasm2", re.compile(r"OPENQASM\s+2|^\s*qreg\b|include\s+\"qelib1\.inc\"", re.MULTILINE)),
    ("openqasm3", re.compile(r"OPENQASM\b|^\s*(?:qu)?bit\s*[\[\w]|include\s+\"stdgates\.inc\"", re.MULTILINE)),
    ("originir", re.compile(r"^\s*(?:QINIT|CREG)\b", re.MULTILINE)),
    ("qir", re.compile(r"__quantum__|^\s*; ModuleID|^\s*target triple|^define\b|^source_filename", re.MULTILINE)),
)


def parse(text: str, format: str, folder: str | None = None) -> QuantumCircuit:
    """The circuit of a text in a known format; files that it includes are looked for in `folder` only."""
    check_text(text, format)
    if format not in TEXT_FORMATS:
        raise invalid("format", format, f"a format of texts: {', '.join(TEXT_FORMATS)}")
    parser = import_module(f"pilot.quantum.programs.{format}")
    circuit: QuantumCircuit = parser.loads(text, folder) if format == "openqasm2" else parser.loads(text)
    return circuit


def guess(text: str) -> str | None:
    """The format of a text; None when it cannot be recognized."""
    begin = _COMMENTS.match(text)
    rest = text[begin.end() :] if begin else text
    if rest.startswith("OPENQASM"):
        version = rest[8:].lstrip()
        return "openqasm2" if version.startswith("2") else "openqasm3"
    if rest.startswith("QINIT"):
        return "originir"
    return next((format for format, hint in _HINTS if hint.search(text)), None)
