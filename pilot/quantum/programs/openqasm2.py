"""OpenQASM 2: Qiskit's parser and exporter, and ways around what they lack.

In: all of Qiskit's gates are known without a definition; a definition in the text always counts. Out:
conditions on single bits, with else or with more than one instruction become several conditions on the whole
register, the only ones that the language has.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit import qasm2
from qiskit.circuit import ClassicalRegister, Clbit, IfElseOp, QuantumCircuit, QuantumRegister
from qiskit.circuit.classical import expr

from pilot.errors import DescriptionError
from pilot.quantum.programs.conditions import bits_of, truth
from pilot.quantum.programs.definitions import standard_gates, steps_of
from pilot.quantum.programs.gate_names import standardised
from pilot.quantum.programs.plain import check_defined, plain
from pilot.quantum.programs.problems import end_of, place_of, program_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qiskit.circuit import CircuitInstruction

    from pilot.errors import ProgramError

#: Qubits, and classical bits, of a register.
MAX_BITS = 100_000
#: Files that include one another.
_MAX_INCLUDES = 8
#: Bits of a register whose values are listed to ask for one of them.
_MAX_LISTED_BITS = 8

#: Names that the parser takes for numbers and functions.
_RESERVED = frozenset({"pi", "sin", "cos", "tan", "exp", "ln", "sqrt"})
#: Gates of qelib1.inc as Qiskit's exporter has it, and instructions: nothing has to define them.
_WORDS = frozenset({each.name for each in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if each.name != "delay"}) | {
    "barrier",
    "measure",
    "reset",
    "U",
    "CX",
}

_COMMENT = re.compile(r"//[^\n]*")
#: A definition begins anywhere: behind another statement or another definition's end.
_OPAQUE = re.compile(r"(?:^|[;}])\s*opaque\s+(\w+)")
_DEFINED = re.compile(r"(?:^|[;}])\s*(?:gate|opaque)\s+(\w+)")
_REGISTER = re.compile(r"\b[qc]reg\s+\w+\s*\[\s*(\d+)")
_INCLUDE = re.compile(r"//[^\n]*|\binclude\s+\"([^\"\n]*)\"\s*;")  # or a comment, in which none counts
_MESSAGE = re.compile(r"(?P<file>[^:]*):(?P<line>\d+),(?P<column>\d+): (?P<problem>.*)", re.DOTALL)
_NEEDED = re.compile(r"needed (?P<expected>.*?), but instead (?P<problem>saw .*)", re.DOTALL)


def loads(text: str, folder: str | None = None) -> QuantumCircuit:
    """The circuit of an OpenQASM 2 program.

    Args:
        text: the program.
        folder: where files that it includes are looked for; without it none may be included but qelib1.inc.

    Raises:
        ProgramError: it is not OpenQASM 2; line and column are in the error.
    """
    if folder is not None:
        text = _with_includes(text, folder)
    _check_sizes(text)
    try:
        circuit = qasm2.loads(
            text,
            include_path=(),
            custom_instructions=_known(set(_DEFINED.findall(_COMMENT.sub("", text)))),
            custom_classical=qasm2.LEGACY_CUSTOM_CLASSICAL,
        )
    except qasm2.QASM2ParseError as error:
        raise _problem(str(error.message), text) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, which is no Exception
            raise
        line, column = end_of(text)
        raise program_error("openqasm2", f"the parser failed: {error}", line=line, column=column) from None
    _refuse_opaque(text)
    return standardised(circuit)


def _refuse_opaque(text: str) -> None:
    """No backend knows what an opaque gate does; one that is only declared is no matter."""
    bare = _COMMENT.sub(lambda match: " " * len(match[0]), text)
    for declared in _OPAQUE.finditer(bare):
        used = re.compile(rf"(?<!\w){declared[1]}(?!\w)").search(bare, bare.find(";", declared.end()))
        if used is not None:
            line, column = place_of(text, used.start())
            problem = f"the gate '{declared[1]}' is opaque: nothing says what it does"
            raise program_error("openqasm2", problem, line=line, column=column, expected="a gate with a definition")


def _with_includes(text: str, folder: str, depth: int = 0) -> str:
    """The text with the files that it includes put in, each as one line so that the lines' numbers stay.

    Qiskit's parser stumbles over an included file that defines gates with angles.
    """

    def content(match: re.Match[str]) -> str:
        if match[1] in (None, "qelib1.inc"):
            return match[0]
        line, column = place_of(text, match.start(1))
        try:
            included = (Path(folder) / match[1]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = f"{match[1]!r} in {folder!r} cannot be read: {getattr(error, 'strerror', None) or error}"
            raise program_error("openqasm2", problem, line=line, column=column) from None
        if depth == _MAX_INCLUDES:
            raise program_error("openqasm2", f"{match[1]!r} includes itself", line=line, column=column)
        inner = _with_includes(_COMMENT.sub("", included), folder, depth + 1)
        return " ".join(inner.split())

    return _INCLUDE.sub(content, text)


def _check_sizes(text: str) -> None:
    for match in _REGISTER.finditer(text):
        if len(match[1]) > len(str(MAX_BITS)) or int(match[1]) > MAX_BITS:
            line, column = place_of(text, match.start(1))
            problem = f"a register of size {match[1][:20]}"
            raise program_error("openqasm2", problem, line=line, column=column, expected=f"at most {MAX_BITS}")


def dumps(circuit: QuantumCircuit) -> str:
    """The circuit as OpenQASM 2.

    Raises:
        DescriptionError: the language cannot express an instruction, which the message names.
    """
    if circuit.num_parameters:
        names = ", ".join(parameter.name for parameter in list(circuit.parameters)[:5])
        raise DescriptionError(
            f"OpenQASM 2 cannot express free parameters: give values to {names} with `circuit.assign_parameters`"
        )
    simple = plain(_with_simple_conditions(_with_free_names(circuit)), reserved=_RESERVED)
    check_defined(simple, "OpenQASM 2", _WORDS)
    try:
        return str(qasm2.dumps(simple)) + "\n"
    except qasm2.QASM2ExportError as error:
        raise DescriptionError(f"OpenQASM 2 cannot express the circuit: {error.message}") from error


def _with_free_names(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with other names for registers that are called as a word or a gate of the language."""
    taken = {each.name for each in (*circuit.qregs, *circuit.cregs)}
    renamed = {}
    for register in (*circuit.qregs, *circuit.cregs):
        if register.name in _RESERVED or register.name in _WORDS:
            name = f"reg_{register.name}"
            while name in taken:
                name += "_"
            taken.add(name)
            renamed[register.name] = name
    if not renamed:
        return circuit
    result = QuantumCircuit(circuit.qubits, circuit.clbits, name=circuit.name)
    for kind, registers in ((QuantumRegister, circuit.qregs), (ClassicalRegister, circuit.cregs)):
        for register in registers:
            result.add_register(kind(name=renamed.get(register.name, register.name), bits=list(register)))
    result.compose(circuit, circuit.qubits, circuit.clbits, inplace=True)
    return result


def _known(defined: set[str]) -> list[qasm2.CustomInstruction]:
    """Gates that need no definition; what the text defines itself is left to it."""
    legacy = [each for each in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if each.name not in defined]
    names = {each.name for each in qasm2.LEGACY_CUSTOM_INSTRUCTIONS} | defined | {"U", "CX"}
    more = [
        qasm2.CustomInstruction(name, len(gate.params), gate.num_qubits, gate.base_class, builtin=True)
        for name, gate in standard_gates().items()
        if name not in names and gate.num_qubits
    ]
    return legacy + more


def _problem(message: str, text: str) -> ProgramError:
    match = _MESSAGE.fullmatch(message.strip("\"'"))
    if match is None:
        line, column = end_of(text)
        return program_error("openqasm2", message, line=line, column=column)
    problem, expected = match["problem"], None
    if needed := _NEEDED.fullmatch(problem):
        problem, expected = needed["problem"], needed["expected"].strip("'")
    if Path(match["file"]).name != "<input>":
        problem = f"in {match['file']}: {problem}"
    return program_error(
        "openqasm2", problem, line=int(match["line"]), column=int(match["column"]) + 1, expected=expected
    )


def _with_simple_conditions(circuit: QuantumCircuit) -> QuantumCircuit:
    """Conditions as the language has them: one register equals one number, one instruction follows."""
    if not any(instruction.is_control_flow() for instruction in circuit.data):
        return circuit
    result: QuantumCircuit = circuit.copy_empty_like()
    for instruction in circuit.data:
        if instruction.operation.name == "if_else":
            for each in _conditioned(circuit, instruction):
                result.append(each)
        elif instruction.operation.name == "for_loop":
            for body in steps_of(instruction.operation):
                inner = circuit.copy_empty_like()
                inner.compose(body, instruction.qubits, instruction.clbits, inplace=True, inline_captures=True)
                for each in _with_simple_conditions(inner).data:
                    result.append(each)
        else:
            result.append(instruction)
    return result


def _conditioned(circuit: QuantumCircuit, instruction: CircuitInstruction) -> Iterator[CircuitInstruction]:
    operation: Any = instruction.operation
    register = _register(circuit, operation.condition)
    if _is_whole(operation.condition) and len(operation.blocks) == 1:
        values, others = [int(operation.condition[1])], []
    else:
        _check_listed(register)
        values = [value for value in range(2 ** len(register)) if _holds(operation.condition, register, value)]
        others = sorted(set(range(2 ** len(register))) - set(values))
    for block, when in zip(operation.blocks, (values, others), strict=False):
        qubits = dict(zip(block.qubits, instruction.qubits, strict=True))
        clbits = dict(zip(block.clbits, instruction.clbits, strict=True))
        for inner in block.data:
            if inner.is_control_flow():
                raise DescriptionError(f"OpenQASM 2 cannot express {inner.operation.name} inside a condition")
            if inner.operation.name == "barrier":
                continue
            operands = [clbits[bit] for bit in inner.clbits]
            _check_unchanged(register, operands, inner, block, len(operation.blocks))
            for value in when:
                body = QuantumCircuit(list(inner.qubits), list(inner.clbits))
                body.add_register(register)
                body.append(inner)
                conditional = IfElseOp((register, value), body)
                rest = [bit for bit in body.clbits if bit not in inner.clbits]
                yield inner.replace(
                    operation=conditional,
                    qubits=[qubits[bit] for bit in inner.qubits],
                    clbits=[*operands, *rest],
                )


def _check_unchanged(
    register: ClassicalRegister, changed: Sequence[Clbit], inner: CircuitInstruction, block: QuantumCircuit, blocks: int
) -> None:
    """A measurement into the register that decides must be the last thing that depends on it."""
    if any(bit in register for bit in changed) and (blocks > 1 or inner is not block.data[-1]):
        raise DescriptionError(
            f"OpenQASM 2 cannot express a condition on {register.name!r} whose body changes {register.name!r}"
        )


def _register(circuit: QuantumCircuit, condition: Any) -> ClassicalRegister:
    """The one register whose bits a condition asks for."""
    bits = bits_of(condition)
    for register in circuit.cregs:
        if bits and bits <= set(register):
            return register
    raise DescriptionError(
        "OpenQASM 2 has conditions on one register: this if_else asks for bits of several, or of none"
    )


def _check_listed(register: ClassicalRegister) -> None:
    if len(register) > _MAX_LISTED_BITS:
        raise DescriptionError(
            f"OpenQASM 2 has conditions on whole registers alone, and {register.name!r} of {len(register)} bits has "
            f"too many values for a condition on some bits, or with else: at most {_MAX_LISTED_BITS} bits can be listed"
        )


def _is_whole(condition: Any) -> bool:
    return not isinstance(condition, expr.Expr) and isinstance(condition[0], ClassicalRegister)


def _holds(condition: Any, register: ClassicalRegister, value: int) -> bool:
    return truth(condition, {bit: value >> place & 1 for place, bit in enumerate(register)})
