"""What a gate is made of, and which gates are Qiskit's own: what readers and writers share."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    BoxOp,
    BreakLoopOp,
    ContinueLoopOp,
    ControlFlowOp,
    ControlledGate,
    Delay,
    ForLoopOp,
    Gate,
    IfElseOp,
    Instruction,
    Measure,
    Parameter,
    ParameterExpression,
    QuantumCircuit,
    Reset,
    Store,
    SwitchCaseOp,
    WhileLoopOp,
)
from qiskit.circuit.library import (
    C3XGate,
    C4XGate,
    DiagonalGate,
    FullAdderGate,
    HalfAdderGate,
    HamiltonianGate,
    IGate,
    Initialize,
    IntegerComparatorGate,
    LinearFunction,
    MCMTGate,
    MCPhaseGate,
    MCU1Gate,
    MCXGate,
    MCXGrayCode,
    ModularAdderGate,
    MultiplierGate,
    PauliEvolutionGate,
    PauliGate,
    PauliProductMeasurement,
    PauliProductRotationGate,
    PermutationGate,
    QFTGate,
    StatePreparation,
    UCGate,
    UnitaryGate,
    WeightedSumGate,
    get_standard_gate_name_mapping,
)
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Clifford, Operator, SparsePauliOp, random_statevector
from qiskit.synthesis import OneQubitEulerDecomposer
from qiskit.transpiler.passes import HighLevelSynthesis

from pilot.errors import DescriptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable, Iterator

    from qiskit.circuit import CircuitInstruction, Operation

#: Gates up to this width are compared by their matrices.
_MAX_COMPARED = 4
#: Random states of up to this width tell two controlled gates apart.
_MAX_COMPARED_STATE = 12
#: Names, beside those of `standard_gates`, to which simulators, compilers and writers give a meaning, and Qiskit's
#: classes of that name.
_TAKEN: dict[str, tuple[type, ...]] = {
    "annotated": (AnnotatedOperation,),
    "barrier": (Barrier,),
    "box": (BoxOp,),
    "break_loop": (BreakLoopOp,),
    "c3x": (),
    "c4x": (),
    "clifford": (Clifford,),
    "continue_loop": (ContinueLoopOp,),
    "cu2": (),
    "delay": (Delay,),
    "diagonal": (DiagonalGate,),
    "for_loop": (ForLoopOp,),
    "FullAdder": (FullAdderGate,),
    "HalfAdder": (HalfAdderGate,),
    "if_else": (IfElseOp,),
    "initialize": (Initialize,),
    "IntComp": (IntegerComparatorGate,),
    "jump": (),
    "kraus": (),
    "linear_function": (LinearFunction,),
    "mark": (),
    "mcmt": (MCMTGate,),
    "mcp": (),
    "mcphase": (MCPhaseGate,),
    "mcr": (),
    "mcrx": (),
    "mcry": (),
    "mcrz": (),
    "mcswap": (),
    "mcsx": (),
    "mcu": (),
    "mcu1": (MCU1Gate,),
    "mcu2": (),
    "mcu3": (),
    "mcx": (MCXGate, C3XGate, C4XGate),
    "mcx_gray": (MCXGrayCode,),
    "mcy": (),
    "mcz": (),
    "measure": (Measure,),
    "ModularAdder": (ModularAdderGate,),
    "Multiplier": (MultiplierGate,),
    "multiplexer": (UCGate,),
    "pauli": (PauliGate,),
    "pauli_product_measurement": (PauliProductMeasurement,),
    "pauli_product_rotation": (PauliProductRotationGate,),
    "PauliEvolution": (PauliEvolutionGate,),
    "permutation": (PermutationGate,),
    "qerror_loc": (),
    "qft": (QFTGate,),
    "quantum_channel": (),
    "reset": (Reset,),
    "roerror": (),
    "snapshot": (),
    "state_preparation": (StatePreparation,),
    "store": (Store,),
    "superop": (),
    "switch_case": (SwitchCaseOp,),
    "unitary": (UnitaryGate,),
    "WeightedSum": (WeightedSumGate,),
    "while_loop": (WhileLoopOp,),
}
#: Of Aer's instructions that save or set states.
_AER_PREFIXES = ("save_", "set_")
#: Names from which Qiskit makes its own class, whatever has them: no gate of a text may have them.
_BUILT_BY_NAME = frozenset({"pauli_product_rotation", "pauli_product_measurement"})
#: Classes that say nothing of what an operation does: its definition does.
_GENERIC = (Gate, Instruction, ControlledGate)


@lru_cache(maxsize=1)
def standard_gates() -> dict[str, Gate]:
    """Qiskit's gates by name, with parameters to be replaced."""
    return {name: gate for name, gate in get_standard_gate_name_mapping().items() if isinstance(gate, Gate)}


def is_library(operation: Operation) -> bool:
    """The operation is of a class of Qiskit's library, not merely of the same name."""
    base = getattr(operation, "base_class", type(operation))
    return str(base.__module__).startswith("qiskit.circuit.library")


def _is_standard(operation: Operation) -> bool:
    base = getattr(operation, "base_class", type(operation))
    return str(base.__module__).startswith("qiskit.circuit.library.standard_gates.")


def opened(operation: Operation) -> QuantumCircuit | None:
    """The circuit that an operation stands for; None if it has none."""
    if isinstance(operation, AnnotatedOperation) and isinstance(operation.base_op, IGate):
        return QuantumCircuit(operation.num_qubits)
    if isinstance(operation, AnnotatedOperation) and _has_free_time(operation.base_op):
        return _synthesised(AnnotatedOperation(_evolution(operation.base_op).to_gate(), operation.modifiers))
    if _has_free_time(operation):
        return _evolution(operation)
    definition = getattr(operation, "definition", None)
    if isinstance(definition, QuantumCircuit):
        return definition
    if isinstance(operation, Instruction) and not isinstance(operation, Gate):
        return None
    if type(operation) is Gate:  # opaque
        return None
    if isinstance(operation, Gate) and (matrix := _matrix_of(operation)) is not None:
        circuit = QuantumCircuit(operation.num_qubits)
        circuit.append(matrix, circuit.qubits)
        return circuit
    return _synthesised(operation)


def _has_free_time(operation: Operation) -> bool:
    return isinstance(operation, HamiltonianGate) and isinstance(operation.params[1], ParameterExpression)


def _matrix_of(gate: Gate) -> UnitaryGate | None:
    """The matrix of a class that says nothing else of what it does; None: it has none, or needs values for it."""
    try:
        return UnitaryGate(np.array(gate.to_matrix()))
    except Exception:  # whatever a class of the user's raises
        return None


def _synthesised(operation: Operation) -> QuantumCircuit | None:
    circuit = QuantumCircuit(operation.num_qubits, operation.num_clbits)
    circuit.append(operation, circuit.qubits, circuit.clbits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of missing auxiliary qubits: an error follows
            synthesised: QuantumCircuit = HighLevelSynthesis(
                basis_gates=["u", "cx", "id"],
                qubits_initially_zero=False,  # its own qubits hold a state
            )(circuit)
    except Exception:  # of many kinds: it calls classes of the user's, and asks barriers for their control
        return None
    if any(each.operation.name == operation.name for each in synthesised.data):
        return None
    return synthesised


def _evolution(gate: HamiltonianGate) -> QuantumCircuit:
    """exp(-i H t) with a free t, which Qiskit has no definition for: H = V D V†, and the terms of D commute."""
    matrix, time = gate.params
    energies, vectors = np.linalg.eigh(np.asarray(matrix))
    circuit = QuantumCircuit(gate.num_qubits)
    circuit.append(UnitaryGate(vectors.conj().T), circuit.qubits)
    circuit.append(PauliEvolutionGate(SparsePauliOp.from_operator(np.diag(energies)), time), circuit.qubits)
    circuit.append(UnitaryGate(vectors), circuit.qubits)
    return circuit


def one_qubit_angles(operation: Operation) -> tuple[float, float, float, float] | None:
    """(a, b, g, d) with the operation = e^(i a) RZ(b) RY(g) RZ(d), its exact phase; None if it is no fixed gate."""
    if not isinstance(operation, Gate) or any(
        isinstance(each, ParameterExpression) and each.parameters for each in operation.params
    ):
        return None
    try:
        theta, phi, lam, phase = OneQubitEulerDecomposer("ZYZ").angles_and_phase(Operator(operation).data)
    except (QiskitError, TypeError, ValueError):
        return None
    return float(phase), float(phi), float(theta), float(lam)


def inverse_of(gate: Gate) -> Gate:
    """The inverse of a gate, or of a directive, which stays.

    Qiskit's own of a controlled `CUGate` forgets that gate's fourth angle. That of a controlled gate whose angles got
    their values in a circuit has its angles free again: Qiskit gives the values to what the controlled gate is made of,
    but not to what its base gate is made of.

    Raises:
        DescriptionError: nothing says what the gate is made of.
    """
    if not _controls_cu(gate):
        try:
            inverse: Gate = gate.inverse()
        except Exception:  # its class, or that of a gate in it, has none, or does not take its own arguments
            pass
        else:
            if _is_standard(gate) or _free(inverse) <= _free(gate):
                return inverse
    made_of = opened(gate)
    if made_of is None:
        raise DescriptionError(
            f"gate {gate.name!r} has no inverse: its class gives none, and nothing says what it is made of", given=gate
        )
    return _inverted(gate.name, made_of)


def _inverted(name: str, made_of: QuantumCircuit) -> Gate:
    """A gate of the inverses of all that another one is made of."""
    result = made_of.copy_empty_like()
    result.global_phase = -made_of.global_phase
    for entry in reversed(made_of.data):
        result.append(inverse_of(entry.operation), entry.qubits)
    gate = Gate(f"{name}_dg", result.num_qubits, list(result.parameters))
    gate.definition = result
    return gate


def _free(operation: Operation) -> set[Parameter]:
    """The free parameters of an operation, and of all that it is made of."""
    found = {one for each in getattr(operation, "params", ()) for one in getattr(each, "parameters", ())}
    made_of = getattr(operation, "definition", None)
    if made_of is not None:
        found.update(made_of.parameters)
        for entry in made_of.data:
            if not entry.is_standard_gate():
                found |= _free(entry.operation)
    return found


def _controls_cu(operation: Operation) -> bool:
    return type(operation) is ControlledGate and operation.base_gate.name == "u"


def expanded(circuit: QuantumCircuit, contents: Callable[[Operation], QuantumCircuit | None]) -> QuantumCircuit:
    """The circuit with operations replaced by what they are made of, again and again.

    Args:
        circuit: returned itself where nothing is replaced.
        contents: what an operation is replaced by; None: it stays.
    """
    found = {}
    for place, entry in enumerate(circuit.data):
        inner = contents(entry.operation)
        if inner is not None:
            found[place] = expanded(inner, contents)
    if not found:
        return circuit
    result: QuantumCircuit = circuit.copy_empty_like()
    for place, entry in enumerate(circuit.data):
        inner = found.get(place)
        if inner is None:
            result._append(entry)
            continue
        result.global_phase += inner.global_phase
        for part in inner.data:
            qubits = [entry.qubits[inner.find_bit(qubit).index] for qubit in part.qubits]
            clbits = [entry.clbits[inner.find_bit(clbit).index] for clbit in part.clbits]
            result._append(part.replace(qubits=qubits, clbits=clbits))
    return result


def steps_of(loop: Any) -> Iterator[QuantumCircuit]:
    """The bodies of a for loop, one a round, with its variable's value put in."""
    indices, parameter, body = loop.params
    for value in indices:
        if isinstance(parameter, Parameter) and parameter in body.parameters:
            yield body.assign_parameters({parameter: value})
        else:
            yield body


def plain(circuit: QuantumCircuit, *, reserved: Container[str] = ()) -> QuantumCircuit:
    """The circuit with all that no text can name (matrices, annotations, Cliffords) replaced by definitions.

    Instructions that are no gates are replaced by what they are made of: a text has gates alone.

    Args:
        reserved: names that no gate may have in the text.
    """
    return changed(_flat(circuit), _Plain(reserved))


def check_defined(circuit: QuantumCircuit, language: str, known: Container[str]) -> None:
    """Refuse an operation that a text would have to call without a definition.

    Args:
        language: what people call the format.
        known: names that need no definition.

    Raises:
        DescriptionError: there is one; the message names it.
    """
    for entry in circuit.data:
        operation = entry.operation
        if isinstance(operation, ControlFlowOp):
            for block in operation.blocks:
                check_defined(block, language, known)
        elif operation.name not in known:
            definition = getattr(operation, "definition", None)
            if definition is None:
                raise DescriptionError(
                    f"{language} cannot express {operation.name!r}: it has no such instruction, and nothing says what "
                    "it is made of",
                    instruction=operation.name,
                )
            check_defined(definition, language, known)


def _flat(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit, and the blocks of its control flow, without instructions that are no gates but made of such."""

    def contents(operation: Operation) -> QuantumCircuit | None:
        nested = isinstance(operation, Instruction) and not isinstance(operation, Gate | ControlFlowOp)
        return operation.definition if nested else None

    return changed(expanded(circuit, contents), _Blocks())


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
    """The operation is what its name says: one of Qiskit's classes under a name of that class."""
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


def changed(circuit: QuantumCircuit, change: Any) -> QuantumCircuit:
    """A circuit whose operations are changed one by one; the circuit itself where none is."""
    differs = False
    data: list[CircuitInstruction] = []
    for instruction in circuit.data:
        if not instruction.is_standard_gate():
            operation = instruction.operation
            new = change(operation)
            if new is not operation:
                differs = True
                instruction = instruction.replace(operation=new)
        data.append(instruction)
    if not differs:
        return circuit
    result: QuantumCircuit = circuit.copy_empty_like()
    for instruction in data:
        result._append(instruction)
    return result


class Change:
    """A change of operations, in blocks and definitions as well."""

    def __call__(self, operation: Operation) -> Operation:
        if isinstance(operation, ControlFlowOp):
            blocks = [changed(block, self) for block in operation.blocks]
            if all(new is old for new, old in zip(blocks, operation.blocks, strict=True)):
                return operation
            return operation.replace_blocks(blocks)
        return self.change(operation)

    def change(self, operation: Operation) -> Operation:
        raise NotImplementedError


class _Blocks(Change):
    """Changes blocks of control flow alone."""

    def __call__(self, operation: Operation) -> Operation:
        if not isinstance(operation, ControlFlowOp):
            return operation
        blocks = [_flat(block) for block in operation.blocks]
        if all(new is old for new, old in zip(blocks, operation.blocks, strict=True)):
            return operation
        return operation.replace_blocks(blocks)


class _Plain(Change):
    def __init__(self, reserved: Container[str]) -> None:
        self._reserved = reserved
        self._names: dict[str, int] = {}
        self._done: dict[int, tuple[Operation, Operation]] = {}

    def change(self, operation: Operation) -> Operation:
        named = is_library(operation) and _is_scalar(operation) and operation.name not in _BUILT_BY_NAME
        if isinstance(operation, Gate) and named:
            return operation
        if isinstance(operation, Instruction) and not isinstance(operation, Gate):
            return operation
        return self._rewritten(operation)

    def _rewritten(self, operation: Operation) -> Operation:
        if id(operation) in self._done:
            return self._done[id(operation)][1]
        if isinstance(operation, ControlledGate) and _is_scalar(operation):
            new: Operation = operation
        else:
            new = self._opened(operation)
        self._done[id(operation)] = (operation, new)
        return new

    def _opened(self, operation: Operation) -> Operation:
        definition = opened(operation)
        if definition is None:
            return operation
        inner = changed(_flat(definition), self)
        renamed = operation.name in self._reserved or operation.name in _BUILT_BY_NAME
        if inner is definition and _is_scalar(operation) and isinstance(operation, Instruction) and not renamed:
            return operation
        name = f"{operation.name}_defined" if renamed else operation.name
        number = self._names[name] = self._names.get(name, -1) + 1
        name = f"{name}_{number}" if number else name
        new = Gate(name, operation.num_qubits, list(inner.parameters))
        new.definition = inner
        return new


class _Unbarred(Change):
    """Gates without the barriers in them, of which Qiskit finds no control and no power."""

    def change(self, operation: Operation) -> Operation:
        if not isinstance(operation, Gate) or _is_standard(operation):
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
    if len(free) != len(gate.params) or _free(gate) == {
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


def _is_scalar(operation: Operation) -> bool:
    """All parameters are numbers that a text can hold."""
    if isinstance(operation, AnnotatedOperation | UnitaryGate):
        return False
    parameters = getattr(operation, "params", None)
    return parameters is not None and all(
        isinstance(each, int | float | np.number | ParameterExpression) and not isinstance(each, complex)
        for each in parameters
    )


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
    if _free(first) != _free(second):
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
