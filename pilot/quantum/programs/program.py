"""`load`: a circuit from any of the common forms; `Program`: what it gives."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit.circuit import QuantumCircuit

from pilot.errors import DescriptionError, invalid
from pilot.quantum.programs.parsing import TEXT_FORMATS, guess, parse
from pilot.quantum.programs.problems import NAMES, end_of, program_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Characters of an untrusted program.
MAX_CHARACTERS = 4 << 20

_SUFFIXES = {
    ".qasm": None,
    ".qasm2": "openqasm2",
    ".qasm3": "openqasm3",
    ".originir": "originir",
    ".oir": "originir",
    ".ir": None,
    ".ll": "qir",
    ".qir": "qir",
    ".txt": None,
}


class Program:
    """A circuit and the form that it was given in.

    A program is a value: `to_qiskit` gives a copy, so that nothing that is done to it comes back here.
    """

    __slots__ = ("_circuit", "_format")

    def __init__(self, circuit: QuantumCircuit, format: str = "qiskit") -> None:
        self._circuit = circuit
        self._format = format

    @property
    def format(self) -> str:
        """The form it was given in: "openqasm2", "openqasm3", "originir", "qir", "qiskit" or "pennylane"."""
        return self._format

    def to_qiskit(self) -> QuantumCircuit:
        """The circuit, its registers and bits in the program's order."""
        return self._circuit.copy()

    def dumps(self, format: str | None = None) -> str:
        """The program as a text.

        Args:
            format: "openqasm2", "openqasm3", "originir" or "qir"; without it the one that it was given in.

        Raises:
            DescriptionError: there is no such format, or it cannot express the circuit: the message names the
                instruction.
        """
        format = format or self._format
        if format not in TEXT_FORMATS:
            raise invalid("format", format, f"one of {', '.join(TEXT_FORMATS)}")
        text: str = import_module(f"pilot.quantum.programs.{format}").dumps(self._circuit)
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return Program, (self._circuit, self._format)

    def __repr__(self) -> str:
        circuit = self._circuit
        sizes = [f"{circuit.num_qubits} qubits", f"{circuit.num_clbits} bits", f"{len(circuit.data)} instructions"]
        if circuit.num_parameters:
            sizes.append(f"{circuit.num_parameters} parameters")
        return f"<Program from {NAMES[self._format]}: {', '.join(sizes)}>"


def load(
    program: Any,
    format: str | None = None,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    untrusted: bool = False,
) -> Program:
    """A circuit from any of the common forms.

    Args:
        program: the text of a program; the path of a file with one; a Qiskit circuit; a PennyLane tape or QNode; a
            `Program`.
        format: "openqasm2", "openqasm3", "originir", "qir", "qiskit" or "pennylane". Guessed when it is not given.
        args: what a QNode is called with.
        kwargs: what a QNode is called with by name.
        untrusted: the text is not the user's own. It is never read as a path, includes no files, and is parsed in
            another process with limits on its time (4 s of a processor, 60 s by the clock) and memory (1 GiB more than
            an idle one), and on what the parsed program takes here (64 MiB as QPY, 1 s, 256 MiB). Blocks that long. A
            loop in it may run for ever: give its task a ``timeout``.

    Raises:
        ProgramError: the text is wrong; `line`, `column` and `expected` say where and why. Also when an untrusted
            text takes too long or too much memory.
        DescriptionError: the format is unknown or the object none that holds a circuit; or `gate_names.truly_named`
            refuses a controlled gate.
    """
    if format is not None and format not in NAMES:
        raise invalid("format", format, f"one of {', '.join(NAMES)}")
    if untrusted:
        return _load_untrusted(program, format)
    if isinstance(program, Program):
        return program
    if isinstance(program, QuantumCircuit):
        from pilot.quantum.programs.gate_names import truly_named

        return Program(truly_named(_expected(program.copy(), format, "qiskit")), "qiskit")
    if isinstance(program, str | os.PathLike):
        text, suggested, folder = _read(program)
        format = format or _guess(text, suggested, is_own=True)
        return Program(parse(text, format, folder), format)
    from pilot.quantum.programs import pennylane_tapes

    if pennylane_tapes.is_pennylane(program):
        return Program(_expected(pennylane_tapes.loads(program, args, kwargs), format, "pennylane"), "pennylane")
    forms = "a Qiskit circuit, a PennyLane tape or QNode, a text or a path"
    raise invalid("circuit", program, forms, shown=type(program).__name__)


def _guess(text: str, suggested: str | None, is_own: bool = False) -> str:
    """The format of a text, by how it begins, or as the file's name suggests; ``is_own``: it may be a file's name."""
    format = guess(text) or suggested
    if format is None:
        if not text.strip():
            raise program_error("openqasm3", "the program is empty", line=1, column=1, expected="a program")
        if is_own and "\n" not in text.strip() and len(text) < 256:
            raise DescriptionError(
                f"circuit: {text!r} is neither a program nor the name of a file that is there", given=text
            )
        raise program_error(
            "a program",
            "its format is not recognised",
            line=1,
            column=1,
            expected=f"OPENQASM 2, OPENQASM 3, QINIT or a QIR module; or format=, one of {', '.join(TEXT_FORMATS)}",
        )
    return format


def _read(program: str | os.PathLike[str]) -> tuple[str, str | None, str | None]:
    """The text, the format that the file's name suggests, and where its includes are."""
    if isinstance(program, str) and not _looks_like_path(program):
        return _clean(program), None, "."
    path = Path(program)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DescriptionError(f"{path} cannot be read: {error.strerror or error}", given=program) from error
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{path} is not a text in UTF-8: {error}", given=program) from error
    return _clean(text), _SUFFIXES.get(path.suffix.lower()), str(path.parent)


def _looks_like_path(text: str) -> bool:
    """A file's name: one short line that names a file, or ends like one of a program's."""
    if "\n" in text or len(text) > 4096 or not text.strip() or "\0" in text:
        return False
    try:
        return Path(text).is_file() or (Path(text).suffix.lower() in _SUFFIXES and ";" not in text)
    except OSError:
        return False


def _clean(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _expected(circuit: QuantumCircuit, format: str | None, actual: str) -> QuantumCircuit:
    if format not in (None, actual):
        raise invalid("format", format, f"{actual!r} for an object of {NAMES[actual]}")
    return circuit


def _load_untrusted(program: Any, format: str | None) -> Program:
    if not isinstance(program, str):
        raise invalid("program", program, "a text, since it is untrusted", shown=type(program).__name__)
    text = _clean(program)
    if len(text) > MAX_CHARACTERS:
        line, column = end_of(text[:MAX_CHARACTERS])
        raise program_error(
            format or "a program",
            f"the text has {len(text)} characters",
            line=line,
            column=column,
            expected=f"at most {MAX_CHARACTERS}",
        )
    format = format or _guess(text, None)
    if format not in TEXT_FORMATS:
        raise invalid("format", format, f"a format of texts: {', '.join(TEXT_FORMATS)}")
    from pilot.quantum.programs.sandbox import parse_apart

    return Program(parse_apart(text, format), format)
