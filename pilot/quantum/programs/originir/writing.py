"""A Qiskit circuit as OriginIR: standard notation, every number exact.

A gate that the language lacks is written by its definition, a controlled gate as CONTROL where its base is a
gate of the language. What two SDKs read differently (SQISWAP) or only one has (ISWAPTHETA, CSWAP) is not used.
Global phases are left out, as they are of no consequence; inside CONTROL, where they are, only gates with the
exact phase are used.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import isfinite, pi
from typing import TYPE_CHECKING, Any

from qiskit.circuit import (
    AnnotatedOperation,
    Clbit,
    ControlFlowOp,
    ControlledGate,
    ControlModifier,
    InverseModifier,
    ParameterExpression,
    QuantumCircuit,
)
from qiskit.circuit.classical import expr

from pilot.quantum.programs.definitions import is_library, one_qubit_angles, opened, steps_of
from pilot.quantum.programs.originir.words import MAX_DEPTH, Words, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qiskit.circuit import CircuitInstruction, Operation

#: Gates that are written out at most.
_MAX_LINES = 2_000_000

_Angles = tuple[float, ...]


def _cu(theta: float, phi: float, lam: float, gamma: float) -> _Angles:
    return gamma + (phi + lam) / 2, phi, theta, lam


#: Qiskit's name to the language's, and its angles from Qiskit's; None: the same ones.
_GATES: dict[str, tuple[str, Callable[..., _Angles] | None]] = {
    "h": ("H", None),
    "x": ("X", None),
    "y": ("Y", None),
    "z": ("Z", None),
    "s": ("S", None),
    "t": ("T", None),
    "id": ("I", None),
    "sdg": ("U1", lambda: (-pi / 2,)),
    "tdg": ("U1", lambda: (-pi / 4,)),
    "rx": ("RX", None),
    "ry": ("RY", None),
    "rz": ("RZ", None),
    "p": ("U1", None),
    "u1": ("U1", None),
    "u2": ("U2", None),
    "u": ("U3", None),
    "u3": ("U3", None),
    "r": ("RPhi", None),
    "sx": ("U4", lambda: (pi / 4, -pi / 2, pi / 2, pi / 2)),
    "sxdg": ("U4", lambda: (-pi / 4, -pi / 2, -pi / 2, pi / 2)),
    "cx": ("CNOT", None),
    "cz": ("CZ", None),
    "cp": ("CR", None),
    "cu1": ("CR", None),
    "cu": ("CU", _cu),
    "cu3": ("CU", lambda theta, phi, lam: _cu(theta, phi, lam, 0.0)),
    "swap": ("SWAP", None),
    "iswap": ("ISWAP", None),
    "rxx": ("RXX", None),
    "ryy": ("RYY", None),
    "rzz": ("RZZ", None),
    "rzx": ("RZX", None),
    "ccx": ("TOFFOLI", None),
}


def dumps(circuit: QuantumCircuit) -> str:
    """The circuit as OriginIR: qubit `i` is ``q[i]``, classical bit `j` is ``c[j]``; registers' names are lost.

    Raises:
        DescriptionError: the language has no words for an instruction, which the message names; or a parameter
            has no value.
    """
    return _Writer(circuit).text()


class _Writer:
    def __init__(self, circuit: QuantumCircuit) -> None:
        if circuit.num_parameters:
            names = ", ".join(sorted(parameter.name for parameter in circuit.parameters)[:5])
            raise refuse("free parameters", f"give values to {names} with `circuit.assign_parameters`")
        if not circuit.num_qubits:
            raise refuse("a circuit without qubits", "add one")
        self._circuit = circuit
        self._lines: list[str] = []
        self._indent = ""
        self._bits = {clbit: f"c[{number}]" for number, clbit in enumerate(circuit.clbits)}

    def text(self) -> str:
        self._write(f"QINIT {self._circuit.num_qubits}")
        if self._circuit.num_clbits:
            self._write(f"CREG {self._circuit.num_clbits}")
        for variable in self._circuit.iter_vars():
            raise refuse(f"the variable {variable.name!r}", "it has classical bits alone")
        self._body(self._circuit, [f"q[{number}]" for number in range(self._circuit.num_qubits)], self._bits, 0)
        return "\n".join(self._lines) + "\n"

    def _write(self, line: str) -> None:
        if len(self._lines) > _MAX_LINES:
            raise refuse("the circuit", f"it has more than {_MAX_LINES} gates, written out")
        self._lines.append(self._indent + line)

    @contextmanager
    def _block(self, opener: str, closer: str) -> Iterator[None]:
        self._write(opener)
        self._indent += "  "
        yield
        self._indent = self._indent[:-2]
        self._write(closer)

    def _body(self, circuit: QuantumCircuit, qubits: Sequence[str], bits: dict[Clbit, str], depth: int) -> None:
        names = dict(zip(circuit.qubits, qubits, strict=True))
        for instruction in circuit.data:
            operands = [names[qubit] for qubit in instruction.qubits]
            self._instruction(instruction, operands, bits, depth)

    def _instruction(
        self, instruction: CircuitInstruction, qubits: list[str], bits: dict[Clbit, str], depth: int
    ) -> None:
        operation = instruction.operation
        match operation.name:
            case "barrier":
                if qubits:
                    self._write("BARRIER " + ",".join(qubits))
            case "measure":
                self._write(f"MEASURE {qubits[0]},{bits[instruction.clbits[0]]}")
            case "reset":
                self._write(f"RESET {qubits[0]}")
            case "store":
                self._store(operation, bits)
            case "delay":
                raise refuse("delay", "its IDLE has no unit of time; remove the delays")
            case "break_loop" | "continue_loop":
                raise refuse(operation.name, "it has no words for leaving a loop")
            case _ if isinstance(operation, ControlFlowOp):
                inner = {
                    inside: bits[outside]
                    for inside, outside in _pairs(operation, instruction.clbits)
                    if outside in bits
                }
                self._control_flow(operation, qubits, {**bits, **inner}, depth)
            case _ if instruction.clbits:
                self._opened(operation, qubits, [bits[clbit] for clbit in instruction.clbits], depth)
            case _:
                self._gate(operation, qubits, depth)

    # gates

    def _gate(self, operation: Operation, qubits: list[str], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise refuse(operation.name, f"its definition is nested deeper than {MAX_DEPTH}")
        line = _line(operation, qubits)
        if line:
            self._write(line)
        elif isinstance(operation, AnnotatedOperation):
            self._annotated(operation, qubits, depth)
        elif _is_controlled(operation):
            self._controlled(operation, qubits)
        elif operation.name == "global_phase":
            pass
        else:
            self._opened(operation, qubits, [], depth)

    def _controlled(self, operation: ControlledGate, qubits: list[str]) -> None:
        controls, targets = qubits[: operation.num_ctrl_qubits], qubits[operation.num_ctrl_qubits :]
        flipped = [each for place, each in enumerate(controls) if not operation.ctrl_state >> place & 1]
        for each in flipped:
            self._write(f"X {each}")
        with self._block("CONTROL " + ",".join(controls), "ENDCONTROL"):
            self._write(_line(operation.base_gate, targets) or "")
        for each in flipped:
            self._write(f"X {each}")

    def _annotated(self, operation: AnnotatedOperation, qubits: list[str], depth: int) -> None:
        base, modifiers = operation.base_op, operation.modifiers
        simple = all(isinstance(each, InverseModifier | ControlModifier) for each in modifiers)
        if not (simple and _has_words(base)):
            self._opened(operation, qubits, [], depth)
            return
        self._modified(base, list(modifiers), qubits)

    def _modified(self, base: Operation, modifiers: list[Any], qubits: list[str]) -> None:
        """The last modifier is outermost, and its controls are the first qubits."""
        if not modifiers:
            self._write(_line(base, qubits) or "")
            return
        *rest, last = modifiers
        if isinstance(last, InverseModifier):
            with self._block("DAGGER", "ENDDAGGER"):
                self._modified(base, rest, qubits)
            return
        controls, targets = qubits[: last.num_ctrl_qubits], qubits[last.num_ctrl_qubits :]
        flipped = [each for place, each in enumerate(controls) if not last.ctrl_state >> place & 1]
        for each in flipped:
            self._write(f"X {each}")
        with self._block("CONTROL " + ",".join(controls), "ENDCONTROL"):
            self._modified(base, rest, targets)
        for each in flipped:
            self._write(f"X {each}")

    def _opened(self, operation: Operation, qubits: list[str], bits: list[str], depth: int) -> None:
        """What has no words of its own, by its definition."""
        definition = opened(operation)
        if definition is None:
            raise refuse(repr(operation.name), "it has no such gate, and the gate has no definition")
        self._body(definition, qubits, dict(zip(definition.clbits, bits, strict=True)), depth + 1)

    # classical bits and control flow

    def _store(self, operation: Any, bits: dict[Clbit, str]) -> None:
        target = operation.lvalue
        if not (isinstance(target, expr.Var) and isinstance(target.var, Clbit)):
            raise refuse("store", "only single classical bits can be given a value")
        self._write(f"{bits[target.var]}={Words(bits).visit(operation.rvalue)}")

    def _control_flow(self, operation: Any, qubits: list[str], bits: dict[Clbit, str], depth: int) -> None:
        words = Words(bits)
        match operation.name:
            case "if_else":
                then, otherwise = [*operation.blocks, None][:2]
                self._if(words.condition(operation.condition), then, otherwise, qubits, bits, depth)
            case "while_loop":
                with self._block(f"QWHILE {words.condition(operation.condition)}", "ENDQWHILE"):
                    self._body(operation.blocks[0], qubits, _inside(operation.blocks[0], operation, bits), depth + 1)
            case "for_loop":
                for body in steps_of(operation):
                    self._body(body, qubits, _inside(body, operation, bits), depth + 1)
            case "switch_case":
                self._switch(operation, words, qubits, bits, depth)
            case "box":
                self._body(operation.blocks[0], qubits, _inside(operation.blocks[0], operation, bits), depth + 1)
            case _:
                raise refuse(operation.name, "it has no such control flow")

    def _if(
        self,
        condition: str,
        then: QuantumCircuit,
        otherwise: QuantumCircuit | None,
        qubits: list[str],
        bits: dict[Clbit, str],
        depth: int,
    ) -> None:
        with self._block(f"QIF {condition}", "ENDQIF"):
            self._body(then, qubits, bits, depth + 1)
            if otherwise is not None and otherwise.data:
                self._indent = self._indent[:-2]
                self._write("ELSE")
                self._indent += "  "
                self._body(otherwise, qubits, bits, depth + 1)

    def _switch(self, operation: Any, words: Words, qubits: list[str], bits: dict[Clbit, str], depth: int) -> None:
        closers = 0
        for values, body in operation.cases_specifier():
            known = [value for value in values if isinstance(value, int | bool | expr.Value)]
            if len(known) < len(values):  # the default, which comes last
                self._body(body, qubits, bits, depth + 1)
                break
            condition = "||".join(words.equal(operation.target, value) for value in known)
            self._write(f"QIF {condition}")
            self._indent += "  "
            self._body(body, qubits, bits, depth + 1)
            self._indent = self._indent[:-2]
            self._write("ELSE")
            self._indent += "  "
            closers += 1
        for _ in range(closers):
            self._indent = self._indent[:-2]
            self._write("ENDQIF")


def _pairs(operation: ControlFlowOp, clbits: Sequence[Clbit]) -> Iterator[tuple[Clbit, Clbit]]:
    for block in operation.blocks:
        yield from zip(block.clbits, clbits, strict=True)


def _inside(block: QuantumCircuit, operation: ControlFlowOp, bits: dict[Clbit, str]) -> dict[Clbit, str]:
    """The bits' names inside a block, whose bits stand for those of the first one."""
    return {**bits, **dict(zip(block.clbits, (bits[each] for each in operation.blocks[0].clbits), strict=True))}


def _is_controlled(operation: Operation) -> bool:
    """Controls first and then a gate that the language has.

    Gates with several targets count as controlled ones in Qiskit, too; and a controlled `CUGate` says that its base
    is the three-angle U, whose fourth angle is then missing.
    """
    return (
        isinstance(operation, ControlledGate)
        and operation.base_gate.name != "u"
        and operation.num_ctrl_qubits + operation.base_gate.num_qubits == operation.num_qubits
        and _has_words(operation.base_gate)
    )


def _has_words(operation: Operation) -> bool:
    return _line(operation, [f"q[{number}]" for number in range(operation.num_qubits)]) is not None


def _line(operation: Operation, qubits: Sequence[str]) -> str | None:
    """The gate's line, with its exact phase; None where the language has no such gate."""
    if isinstance(operation, ControlledGate) and operation.ctrl_state != 2**operation.num_ctrl_qubits - 1:
        return None
    name, angles = operation.name, tuple(getattr(operation, "params", ()))
    known = _GATES.get(name)
    if known and not is_library(operation):
        known = None
    if known:
        word, convert = known
        values = tuple(_number(angle, name) for angle in angles)
        return _spell(word, qubits, convert(*values) if convert else values)
    if operation.num_qubits == 1 and (four := one_qubit_angles(operation)):
        return _spell("U4", qubits, four)
    return None


def _spell(word: str, qubits: Sequence[str], angles: Sequence[float]) -> str:
    text = f"{word} {','.join(qubits)}"
    return f"{text},({','.join(map(repr, angles))})" if angles else text


def _number(angle: Any, name: str) -> float:
    if isinstance(angle, ParameterExpression):
        raise refuse(f"free parameters of {name!r}", "give them values with `circuit.assign_parameters`")
    value = float(angle)
    if not isfinite(value):
        raise refuse(f"{name!r} with the angle {value}", "only finite numbers are angles")
    return value
