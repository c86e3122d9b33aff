"""QIR, base profile: in from LLVM's text by `pyqir`, out as pyqir writes it.

Qubits and results are constants in such a program: qubit `i` becomes the circuit's qubit `i`, result `j` its
classical bit `j`. Pointers may be opaque (``ptr``) or typed (``%Qubit*``).
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from qiskit.circuit import ClassicalRegister, Measure, QuantumCircuit, QuantumRegister, Reset
from qiskit.compiler import transpile

from pilot.errors import DescriptionError, PluginError, ProgramError
from pilot.quantum.programs.definitions import standard_gates
from pilot.quantum.programs.plain import plain
from pilot.quantum.programs.problems import end_of, place_of, program_error

if TYPE_CHECKING:
    from types import ModuleType


#: Qubits, and results, of a program.
MAX_BITS = 100_000

#: Functions of the quantum instruction set, and Qiskit's gates: angles come first, then qubits.
_BODIES = "h x y z s t sx rx ry rz cx cy cz swap rxx ryy rzz ccx"
_GATES = {
    **{f"{name}__body": name for name in _BODIES.split()},
    **{f"{name}__adj": f"{name}dg" for name in ("s", "t", "sx")},
    "i__body": "id",
    "cnot__body": "cx",
    "ccnot__body": "ccx",
}
_MEASUREMENTS = {"m__body", "mz__body", "mresetz__body"}
#: Instructions that only concern how results are shown.
_RECORDS = {
    "initialize",
    "result_record_output",
    "array_record_output",
    "tuple_record_output",
    "bool_record_output",
    "int_record_output",
    "double_record_output",
}
_POINTER = re.compile(r"^\S+ (?:null|inttoptr \(i\d+ (-?\d+) to \S+\))$")
_LLVM_ERROR = re.compile(r"(?P<problem>.*?)\n(?P<source>.*)\n(?P<before> *)\^", re.DOTALL)


def loads(text: str) -> QuantumCircuit:
    """The circuit of a QIR program of the base profile.

    Raises:
        ProgramError: it is not QIR, or needs more than the base profile; the feature and its place are named.
        PluginError: pyqir is not installed.
    """
    try:
        return _Reader(text).circuit()
    except (ProgramError, PluginError) as error:
        # Only the thread that made them may drop pyqir's values: no traceback must keep them for another one.
        error.__context__ = None
        raise error.with_traceback(None) from error.__cause__


def dumps(circuit: QuantumCircuit) -> str:
    """The circuit as QIR: its gates rewritten in the instruction set, measurements where the circuit has them.

    Raises:
        DescriptionError: it acts on outcomes, which the base profile cannot.
    """
    pyqir = _pyqir()
    basis = ["h", "x", "y", "z", "s", "sdg", "t", "tdg", "rx", "ry", "rz", "cx", "cz", "measure", "reset"]
    for instruction in circuit.data:
        if instruction.is_control_flow() or instruction.operation.name == "store":
            raise DescriptionError(f"QIR's base profile cannot express {instruction.operation.name!r}")
    if circuit.num_parameters:
        names = ", ".join(parameter.name for parameter in list(circuit.parameters)[:5])
        raise DescriptionError(
            f"QIR's base profile cannot express free parameters: give values to {names} with "
            "`circuit.assign_parameters`"
        )
    flat = plain(circuit)
    for instruction in flat.data:
        if instruction.operation.name == "delay":
            raise DescriptionError("QIR's base profile cannot express 'delay': remove the delays")
    simple = transpile(flat, basis_gates=basis, optimization_level=0)
    module = pyqir.SimpleModule(circuit.name, circuit.num_qubits, circuit.num_clbits)
    instructions = pyqir.BasicQisBuilder(module.builder)
    spelled = {"sdg": "s_adj", "tdg": "t_adj", "measure": "mz"}
    for instruction in simple.data:
        name = instruction.operation.name
        if name in ("barrier", "id", "global_phase"):
            continue
        qubits = [module.qubits[simple.find_bit(qubit).index] for qubit in instruction.qubits]
        results = [module.results[simple.find_bit(clbit).index] for clbit in instruction.clbits]
        angles = [float(angle) for angle in instruction.operation.params]
        getattr(instructions, spelled.get(name, name))(*angles, *qubits, *results)
    return str(module.ir()).replace('"qir_profiles"="custom"', '"qir_profiles"="base_profile"')


def _pyqir() -> ModuleType:
    try:
        import pyqir
    except ImportError as error:
        raise PluginError("QIR needs pyqir: pip install 'quantum-pilot[qir]'", name="pyqir") from error
    return pyqir


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pyqir = _pyqir()
        self._calls: dict[str, int] = {}

    def circuit(self) -> QuantumCircuit:
        module = self._module()
        entry = [each for each in module.functions if self._pyqir.is_entry_point(each)]
        if len(entry) != 1:
            line, column = end_of(self._text)
            raise program_error(
                "qir",
                f"the module has {len(entry)} entry points",
                line=line,
                column=column,
                expected='one function with the attribute "entry_point"',
            )
        self._check_management(module)
        steps = [step for instruction in self._instructions(entry[0]) for step in self._step(instruction)]
        return self._assembled(entry[0], steps)

    def _module(self) -> Any:
        """The parsed module; LLVM's message names the line by its text and the column by a caret."""
        try:
            module = self._pyqir.Module.from_ir(self._pyqir.Context(), self._text)
            problem = module.verify()
        except ValueError as error:
            raise self._unreadable(str(error)) from None
        if problem:
            raise self._unreadable(problem)
        return module

    def _unreadable(self, message: str) -> Exception:
        line, column = end_of(self._text)
        match = _LLVM_ERROR.match(message.removeprefix("error: "))
        if match is None:
            return program_error("qir", message.strip(), line=line, column=column)
        for number, source in enumerate(self._text.split("\n"), 1):
            if source.replace("\t", " ").rstrip("\r") == match["source"].replace("\t", " ").rstrip("\r"):
                line, column = number, len(match["before"]) + 1
                break
        problem, _, expected = match["problem"].partition("expected ")
        if problem.strip(" '"):
            return program_error("qir", match["problem"], line=line, column=column)
        return program_error("qir", "LLVM cannot read this", line=line, column=column, expected=expected)

    def _refuse(self, problem: str, name: str, occurrence: int = 0, expected: str | None = None) -> NoReturn:
        """Name the place of the nth time that a word stands in the text."""
        line, column = end_of(self._text)
        for count, match in enumerate(re.finditer(name, self._text)):
            line, column = place_of(self._text, match.start())
            if count == occurrence:
                break
        raise program_error("qir", problem, line=line, column=column, expected=expected)

    def _check_management(self, module: Any) -> None:
        for what in ("dynamic_qubit_management", "dynamic_result_management"):
            if getattr(self._pyqir, what)(module):
                self._refuse(f"{what} is not of the base profile", what, expected="i1 false")

    def _instructions(self, entry: Any) -> list[Any]:
        """The instructions in order; blocks may only follow one another."""
        block, seen, instructions = entry.basic_blocks[0], set(), []
        while block is not None:
            seen.add(block.name)
            following = None
            for instruction in block.instructions:
                opcode = str(instruction.opcode).rpartition(".")[2]
                if opcode == "BR" and len(instruction.successors) == 1:
                    following = instruction.successors[0]
                elif opcode == "CALL":
                    instructions.append(instruction)
                elif opcode != "RET":
                    self._refuse(
                        f"the adaptive profile's {_FEATURES.get(opcode, opcode.lower())} is not supported",
                        rf"\b{opcode.lower()}\b",
                        expected="the base profile: calls and nothing else",
                    )
            if following is not None and following.name in seen:
                self._refuse("the adaptive profile's loops are not supported", r"\bbr label\b")
            block = following
        return instructions

    def _step(self, call: Any) -> list[tuple[Any, list[int], list[int]]]:
        name = call.callee.name
        occurrence = self._calls.get(name, 0)
        self._calls[name] = occurrence + 1
        where = rf"call\b[^\n]*@{re.escape(name)}\b"
        kind, _, function = name.removeprefix("__quantum__").partition("__")
        if kind == "rt" and function in _RECORDS:
            return []
        if kind != "qis" or not name.startswith("__quantum__"):
            self._refuse(f"the function {name} is not of the base profile", where, occurrence, "__quantum__qis__...")
        if function == "barrier__body":
            return [("barrier", [], [])]
        if function in _MEASUREMENTS:
            qubit, result = self._pointers(call.args, 2, where, occurrence, name)
            reset: list[Any] = [(Reset(), [qubit], [])] if function.startswith("mreset") else []
            return [(Measure(), [qubit], [result]), *reset]
        if function == "reset__body":
            return [(Reset(), self._pointers(call.args, 1, where, occurrence, name), [])]
        if function == "read_result__body":
            self._refuse("the adaptive profile's reading of results is not supported", where, occurrence)
        if function not in _GATES:
            self._refuse(f"the function {name} is unknown", where, occurrence, "a gate of the instruction set")
        gate = standard_gates()[_GATES[function]]
        angles = [self._angle(each, where, occurrence) for each in call.args[: len(gate.params)]]
        qubits = self._pointers(call.args[len(angles) :], gate.num_qubits, where, occurrence, name)
        if len(set(qubits)) < len(qubits):
            self._refuse(f"{name} acts twice on one qubit", where, occurrence, "different qubits")
        return [(gate.base_class(*angles), qubits, [])]

    def _angle(self, value: Any, where: str, occurrence: int) -> float:
        if not isinstance(value, self._pyqir.FloatConstant):
            self._refuse("an angle that is calculated is of the adaptive profile", where, occurrence, "a constant")
        if not isfinite(value.value):
            self._refuse(f"the angle {value.value}", where, occurrence, "a finite number")
        return float(value.value)

    def _pointers(self, values: list[Any], number: int, where: str, occurrence: int, name: str) -> list[int]:
        if len(values) != number:
            self._refuse(f"{name} has {len(values)} operands", where, occurrence, str(number))
        pointers = []
        for value in values:
            match = _POINTER.search(str(value))  # pyqir's ptr_id reads beyond integers of other widths than 64
            if match is None:
                self._refuse("a qubit or result that is not constant", where, occurrence, "inttoptr of a number")
            pointer = int(match[1] or 0)
            if not 0 <= pointer < MAX_BITS:
                self._refuse(f"qubit or result {pointer}", where, occurrence, f"below {MAX_BITS}")
            pointers.append(pointer)
        return pointers

    def _assembled(self, entry: Any, steps: list[tuple[Any, list[int], list[int]]]) -> QuantumCircuit:
        num_qubits = self._size(entry, "required_num_qubits", [each for step in steps for each in step[1]])
        num_results = self._size(entry, "required_num_results", [each for step in steps for each in step[2]])
        circuit = QuantumCircuit(QuantumRegister(num_qubits, "q"))
        if num_results:
            circuit.add_register(ClassicalRegister(num_results, "c"))
        for operation, qubits, results in steps:
            if operation == "barrier":
                circuit.barrier()
            else:
                circuit.append(operation, qubits, results)
        return circuit

    def _size(self, entry: Any, attribute: str, used: list[int]) -> int:
        number = getattr(self._pyqir, attribute)(entry)
        needed = max(used, default=-1) + 1
        if number is None:
            return needed
        if number > MAX_BITS:
            self._refuse(f"{attribute} is {number}", attribute, expected=f"at most {MAX_BITS}")
        if needed > number:
            self._refuse(f"{attribute} is {number}, and number {needed - 1} is used", attribute, expected=f"{needed}")
        return int(number)


_FEATURES = {
    "BR": "branch",
    "SWITCH": "switch",
    "PHI": "phi node",
    "ICMP": "comparison",
    "FCMP": "comparison",
    "SELECT": "select",
}
