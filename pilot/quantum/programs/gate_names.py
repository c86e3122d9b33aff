"""Names of operations: which are taken, and how an operation gets one that is truly its own.

Compilers, simulators and writers know many operations by their names alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    BoxOp,
    BreakLoopOp,
    ContinueLoopOp,
    ControlledGate,
    Delay,
    ForLoopOp,
    Gate,
    IfElseOp,
    Instruction,
    Measure,
    QuantumCircuit,
    Reset,
    Store,
    SwitchCaseOp,
    WhileLoopOp,
    library,
)
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Clifford, Operator, random_statevector

from pilot.errors import DescriptionError
from pilot.quantum.programs.definitions import (
    Change,
    changed,
    expanded,
    free_parameters,
    is_standard,
    opened,
    standard_gates,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

    from qiskit.circuit import CircuitInstruction, Operation

#: Gates up to this width are compared by their matrices.
_MAX_COMPARED = 4
#: Random states of up to this width are used to compare two controlled gates.
_MAX_COMPARED_STATE = 12
#: Names, beside those of `standard_gates`, to which simulators, compilers and writers give a meaning, and Qiskit's
#: classes of that name.
_TAKEN: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        """
        c3x c4x cu2 jump kraus mark mcp mcr mcrx mcry mcrz mcswap mcsx mcu mcu2 mcu3 mcy mcz qerror_loc
        quantum_channel roerror snapshot superop
        """.split(),  # noqa: SIM905
        (),
    ),
    "annotated": (AnnotatedOperation,),
    "barrier": (Barrier,),
    "box": (BoxOp,),
    "break_loop": (BreakLoopOp,),
    "clifford": (Clifford,),
    "continue_loop": (ContinueLoopOp,),
    "delay": (Delay,),
    "diagonal": (library.DiagonalGate,),
    "for_loop": (ForLoopOp,),
    "FullAdder": (library.FullAdderGate,),
    "HalfAdder": (library.HalfAdderGate,),
    "if_else": (IfElseOp,),
    "initialize": (library.Initialize,),
    "IntComp": (library.IntegerComparatorGate,),
    "linear_function": (library.LinearFunction,),
    "mcmt": (library.MCMTGate,),
    "mcphase": (library.MCPhaseGate,),
    "mcu1": (library.MCU1Gate,),
    "mcx": (library.MCXGate, library.C3XGate, library.C4XGate),
    "mcx_gray": (library.MCXGrayCode,),
    "measure": (Measure,),
    "ModularAdder": (library.ModularAdderGate,),
    "Multiplier": (library.MultiplierGate,),
    "multiplexer": (library.UCGate,),
    "pauli": (library.PauliGate,),
    "pauli_product_measurement": (library.PauliProductMeasurement,),
    "pauli_product_rotation": (library.PauliProductRotationGate,),
    "PauliEvolution": (library.PauliEvolutionGate,),
    "permutation": (library.PermutationGate,),
    "qft": (library.QFTGate,),
    "reset": (Reset,),
    "state_preparation": (library.StatePreparation,),
    "store": (Store,),
    "switch_case": (SwitchCaseOp,),
    "unitary": (library.UnitaryGate,),
    "WeightedSum": (library.WeightedSumGate,),
    "while_loop": (WhileLoopOp,),
}
#: Of Aer's instructions that save or set states.
_AER_PREFIXES = ("save_", "set_")
#: Classes without a meaning of their own: the definition says what the operation does.
_GENERIC = (Gate, Instruction, ControlledGate)


def standardised(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with gates that a text defines replaced by Qiskit's own, where their matrices agree.

    As `truly_named`, but the gates of the circuit itself may differ from Qiskit's by a global phase.
    """
    return changed(circuit, _Standard(exact=False))


def truly_named(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with no operation that has the name of another one.

    Compilers, simulators and writers know many operations by their names alone. An operation of a user's own that has
    the name of one of Qiskit's, of a simulator's, or of a directive gets another name ("h_defined"), or becomes
    Qiskit's where their matrices agree. Definitions, bodies of control flow, and what is controlled or annotated are
    searched as well.

    Returns:
        The circuit itself where nothing has to change.

    Raises:
        DescriptionError: a controlled gate does something else than its base gate, controlled: Qiskit's ``control()``
            took the base gate, or one in it, for Qiskit's gate of that name.
    """
    return changed(circuit, _Standard(exact=True))


def truly_named_operation(operation: Operation) -> Operation:
    """One operation as `truly_named` gives it; for those who control or invert it before it is in a circuit."""
    return _Standard(exact=True)(operation)


def is_genuine(operation: Operation) -> bool:
    """True when the operation is what its name says: one of Qiskit's classes under a name of that class."""
    kind = getattr(operation, "base_class", type(operation))
    module = str(kind.__module__)
    if module.startswith("qiskit_aer."):
        return True
    if kind in _GENERIC or not module.startswith(("qiskit.circuit.", "qiskit.quantum_info.")):
        return False
    standard = standard_gates().get(operation.name)
    if standard is not None:
        return kind is standard.base_class
    return not _is_taken(operation.name) or issubclass(kind, _TAKEN.get(operation.name, ()))


def _is_taken(name: str) -> bool:
    """Simulators, compilers or writers give the name a meaning; Aer saves and sets states by instructions' names."""
    return name in standard_gates() or name in _TAKEN or name.startswith(_AER_PREFIXES)


def _free_name(name: str) -> str:
    """The name, or one that is not taken."""
    if name.startswith(_AER_PREFIXES):
        return f"defined_{name}"
    return f"{name}_defined" if _is_taken(name) else name


def defined(operation: Operation, definition: QuantumCircuit) -> Instruction:
    """An operation with this definition, and the name of another one unless that is taken."""
    parameters = operation.params if type(operation) in (Gate, Instruction) else list(definition.parameters)
    name, label = _free_name(operation.name), getattr(operation, "label", None)
    if isinstance(operation, Instruction) and not isinstance(operation, Gate):
        new = Instruction(name, operation.num_qubits, operation.num_clbits, parameters, label=label)
    else:
        new = Gate(name, operation.num_qubits, parameters, label=label)
    new.definition = definition
    return new


class _Unbarred(Change):
    """Gates without the barriers in them, of which Qiskit finds no control and no power."""

    def change(self, operation: Operation) -> Operation:
        if not isinstance(operation, Gate) or is_standard(operation):
            return operation
        try:
            made_of = operation.definition
        except (TypeError, QiskitError):  # it has none before its angles have their values
            return operation
        if made_of is None:
            return operation
        bare = changed(
            expanded(made_of, lambda part: QuantumCircuit(part.num_qubits) if isinstance(part, Barrier) else None),
            self,
        )
        return operation if bare is made_of else defined(operation, bare)


class _Standard(Change):
    """In a circuit, gates that differ by a global phase are one; in a definition, which may be controlled, not."""

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._inner = self if exact else _Standard(exact=True)
        self._done: dict[Hashable, tuple[Operation, Operation]] = {}

    def change(self, operation: Operation) -> Operation:
        base = getattr(operation, "base_gate", None)
        if is_genuine(operation) and (base is None or is_genuine(base)):
            if not isinstance(operation, AnnotatedOperation):
                return operation
            inner = _Unbarred()(self._inner(operation.base_op))
            return operation if inner is operation.base_op else AnnotatedOperation(inner, operation.modifiers)
        key = _content(operation)
        if key not in self._done:
            self._done[key] = (operation, self._changed(operation))
        return self._done[key][1]

    def _changed(self, operation: Operation) -> Operation:
        if isinstance(operation, ControlledGate):
            return self._controlled(operation)
        if not isinstance(operation, Instruction):
            return operation
        same = _same_name(operation) if isinstance(operation, Gate) else None
        definition = operation.definition
        if same is not None and (definition is None or _agree(operation, same, self._exact)):
            return same
        taken = _is_taken(operation.name)
        if definition is None and type(operation) not in _GENERIC:
            definition = opened(operation)  # of its matrix
            if definition is not None:
                return defined(operation, definition)
        inner = None if definition is None else changed(definition, self._inner)
        of_text = type(operation).__module__ == "qiskit.qasm2.parse"  # QPY and pickle know no such class
        if inner is None or (inner is definition and not taken and not of_text):
            return operation
        return defined(operation, inner)

    def _controlled(self, operation: ControlledGate) -> Operation:
        """Its definition is Qiskit's work, who went by the names of the base gate and the gates in that."""
        base = self._inner(operation.base_gate)
        if base is operation.base_gate:
            taken = _is_taken(operation.name)
            if not taken or is_genuine(operation):
                return operation
            return defined(operation, changed(operation.definition, self._inner))
        true: Operation = _with_values(base).control(operation.num_ctrl_qubits, ctrl_state=operation.ctrl_state)
        if not _do_the_same(operation, true):
            raise DescriptionError(
                f"gate {operation.name!r} is Qiskit's control of a gate {operation.base_gate.name!r}, which is, or is "
                "made of, a gate of your own with the name of one of Qiskit's: control() took Qiskit's in its place. "
                "Give your gate another name before control()",
                given=operation,
            )
        return true


def _with_values(gate: Gate) -> Gate:
    """A base gate made of gates with its values: Qiskit gives them to the gate alone when a circuit gets its values."""
    made_of = gate.definition
    free = [] if made_of is None else list(made_of.parameters)
    if len(free) != len(gate.params) or free_parameters(gate) == {
        one for each in gate.params for one in getattr(each, "parameters", ())
    }:
        return gate
    new = Gate(gate.name, gate.num_qubits, gate.params, label=gate.label)
    new.definition = made_of.assign_parameters(dict(zip(free, gate.params, strict=True)))
    return new


def _content(operation: Operation) -> Hashable:
    """What two operations of one circuit share that do the same; never the name alone."""
    table = getattr(operation, "_gates", None)  # of the OpenQASM 2 program that defines it
    try:
        if table:
            key: Hashable = (id(table), operation.name, tuple(operation.params))
        elif type(operation) in _GENERIC[:2] and operation.definition is not None:
            made_of = operation.definition
            key = (type(operation), operation.name, tuple(operation.params), made_of.global_phase, _lines(made_of))
        else:
            return id(operation)
        hash(key)
    except TypeError:  # an array among the parameters, or something in it that is compared by itself only
        return id(operation)
    return key


def _lines(circuit: QuantumCircuit) -> Hashable:
    place = {bit: number for number, bit in enumerate((*circuit.qubits, *circuit.clbits))}
    return len(place), tuple(
        (_step(entry), tuple(place[bit] for bit in (*entry.qubits, *entry.clbits))) for entry in circuit.data
    )


def _step(entry: CircuitInstruction) -> Hashable:
    if entry.is_standard_gate():
        return (entry.name, *entry.params)
    operation = entry.operation
    if type(operation) in (Barrier, Measure, Reset):
        return (type(operation),)
    if type(operation) in _GENERIC or hasattr(operation, "_gates"):
        return id(operation)  # the circuit keeps it; of Qiskit's own it makes a new one each time
    raise TypeError


def _same_name(operation: Gate) -> Gate | None:
    """Qiskit's gate of the same name and shape, with the same parameters."""
    gate = standard_gates().get(operation.name)
    if gate is None or gate.num_qubits != operation.num_qubits or len(gate.params) != len(operation.params):
        return None
    same: Gate = type(gate)(*operation.params) if type(gate).__name__ != "_SingletonGate" else gate
    return same


def _agree(first: Gate, second: Gate, exact: bool) -> bool:
    """One matrix; gates with free parameters are compared for one choice of values, which has no symmetry."""
    if first.num_qubits > _MAX_COMPARED:
        return False
    one, other = (Operator(circuit) for circuit in _bound(first.definition, second))
    return bool(np.allclose(one.data, other.data, atol=1e-10)) if exact else bool(one.equiv(other, atol=1e-10))


def _do_the_same(first: Gate, second: Gate) -> bool:
    """A random state becomes the same one."""
    if first.num_qubits > _MAX_COMPARED_STATE:
        return False
    if free_parameters(first) != free_parameters(second):
        return False
    state = random_statevector(2**first.num_qubits, seed=0)
    one, other = (state.evolve(circuit) for circuit in _bound(first.definition, second))
    return bool(np.allclose(one.data, other.data, atol=1e-9))


def _bound(*given: QuantumCircuit | Gate) -> list[QuantumCircuit]:
    """Circuits of what is given, with values for free parameters, the same for the same names."""
    circuits = []
    for each in given:
        circuit = QuantumCircuit(each.num_qubits)
        circuit.compose(each, inplace=True)
        circuits.append(circuit)
    parameters = sorted({one for circuit in circuits for one in circuit.parameters}, key=lambda each: str(each.name))
    values = {each: 0.3 + 0.71 * place for place, each in enumerate(parameters)}
    return [circuit.assign_parameters(values, strict=False) for circuit in circuits]
