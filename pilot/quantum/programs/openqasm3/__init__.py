"""OpenQASM 3: the reference parser and Qiskit's importer and exporter, and ways around what they lack.

`reading` makes the reference parser's tree and names the place of a syntax error, `converting` turns the tree into a
circuit. Its parts: `variables`, `assignments`, `branches` (and conditions), `loops`, `subroutines`. `values` finds what
an expression is worth, by the rules of `arithmetic`, over the outcomes of `tables`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qiskit import qasm3
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.parametervector import ParameterVectorElement

from pilot.errors import DescriptionError
from pilot.quantum.blocks import without_empty_branches
from pilot.quantum.programs.definitions import expanded, standard_gates
from pilot.quantum.programs.gate_names import standardised
from pilot.quantum.programs.openqasm3.converting import Converter
from pilot.quantum.programs.openqasm3.reading import Located, tree_of
from pilot.quantum.programs.plain import plain
from pilot.quantum.programs.problems import program_error

if TYPE_CHECKING:
    from qiskit.circuit import Operation, QuantumCircuit

__all__ = ["dumps", "loads"]


def loads(text: str) -> QuantumCircuit:
    """The circuit of an OpenQASM 3 program.

    Raises:
        ProgramError: it is not OpenQASM 3, or says what no Qiskit circuit can; line and column are in the error.
    """
    tree = tree_of(text)
    try:
        circuit: QuantumCircuit = Converter().convert(tree, source=text).circuit
        return standardised(without_empty_branches(circuit))
    except Located as error:
        raise program_error(
            "openqasm3", error.problem, line=error.line, column=error.column, expected=error.expected
        ) from None


def dumps(circuit: QuantumCircuit) -> str:
    """The circuit as OpenQASM 3; gates that the standard's library lacks are defined at its beginning.

    Raises:
        DescriptionError: the language cannot express an instruction, which the message names.
    """
    simple = expanded(plain(circuit), _with_free_parameters)
    text = _exported(simple)
    for renamed in (_with_padded_indices, _with_numbered_parameters):
        names = _INPUT.findall(text)
        if names == sorted(names):  # as a circuit sorts its parameters: sets given as arrays reach the same ones
            break
        text = _exported(renamed(simple))
    return text


def _exported(circuit: QuantumCircuit) -> str:
    try:
        return str(qasm3.dumps(circuit))
    except qasm3.QASM3ExporterError as error:
        raise DescriptionError(f"OpenQASM 3 cannot express the circuit: {error.message}") from error


def _with_padded_indices(circuit: QuantumCircuit) -> QuantumCircuit:
    """``v[2]`` becomes ``v_02`` in a vector of 13: its elements' names sort as their indices do."""
    names = {}
    for each in circuit.parameters:
        if isinstance(each, ParameterVectorElement):
            digits = len(str(len(each.vector) - 1))
            names[each] = Parameter(f"{each.vector.name}_{each.index:0{digits}d}")
    taken = {each.name for each in circuit.parameters if each not in names}
    if not names or taken & {each.name for each in names.values()}:
        return circuit
    return circuit.assign_parameters(names)


def _with_numbered_parameters(circuit: QuantumCircuit) -> QuantumCircuit:
    digits = len(str(circuit.num_parameters))
    names = {}
    for place, each in enumerate(circuit.parameters):
        name = re.sub(r"\W", "_", each.name)
        names[each] = Parameter(f"p{place:0{digits}d}_{name}")
    return circuit.assign_parameters(names)


#: A free parameter of the text, as Qiskit's exporter writes it.
_INPUT = re.compile(r"^input float\[64\] (\w+);$", re.MULTILINE)


def _with_free_parameters(operation: Operation) -> QuantumCircuit | None:
    """What a gate with free parameters is made of, where the standard's library lacks it.

    Qiskit's exporter (2.6) would write the expressions of the circuit's parameters into the definition, and again into
    the call. Only Qiskit's standard gates with a parameter for each angle are written right.
    """
    if not isinstance(operation, Gate) or operation.name in _STANDARD or operation.definition is None:
        return None
    of_library = operation.name in standard_gates() and all(
        isinstance(each, Parameter) or not getattr(each, "parameters", None) for each in operation.params
    )
    return operation.definition if operation.definition.parameters and not of_library else None


#: Gates of the standard's library, and U: nothing defines them in a text.
_STANDARD = frozenset(
    """
    p x y z h s sdg t tdg sx rx ry rz cx cy cz cp crx cry crz ch swap ccx cswap cu CX phase cphase id u1 u2 u3
    gphase U u
    """.split()  # noqa: SIM905 - forty strings in quotes are no better to read
)
