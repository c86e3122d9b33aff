"""The Aer simulators of this process: which circuits they take, and what they compute of one.

A process keeps its simulators and their pass managers: building a pass manager costs a hundred times what running it
does.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import (
    Barrier,
    CircuitError,
    ControlFlowOp,
    ControlledGate,
    Delay,
    Gate,
    Instruction,
    ParameterExpression,
)
from qiskit.circuit.library import IGate, Initialize, UnitaryGate
from qiskit.exceptions import QiskitError
from qiskit_aer import AerSimulator

from pilot.errors import DescriptionError, QPUError
from pilot.quantum.blocks import without_boxes
from pilot.quantum.programs.definitions import Change, append, changed, expanded, is_approximate, is_library, opened
from pilot.quantum.programs.gate_names import defined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from qiskit.circuit import Operation, Parameter
    from qiskit.transpiler import PassManager


class Simulator(NamedTuple):
    """An Aer simulator of this process."""

    #: Aer's name of the method; "automatic": as Aer decides, by the circuit (`costs.choose` knows better).
    method: str = "automatic"
    #: "CPU", or "GPU" where Aer was built for one.
    device: str = "CPU"
    #: A pilot has a worker for each of its slots: one each, unless the task has more cores.
    threads: int = 1
    #: Of amplitudes: "double", or "single".
    precision: str = "double"


AUTOMATIC = Simulator()
#: Gates that Aer does not know are written as matrices up to so many qubits, for these methods.
MAX_MATRIX_QUBITS = 4
_TAKES_MATRICES = frozenset({"automatic", "statevector", "density_matrix"})
#: Aer 0.18's errors when it has left out a qubit that only the body of a condition uses.
_TRUNCATED = ("unordered_map::at", "Invalid jump destination")
#: Its error of density matrices where an expression asks for bits that nothing has written yet.
_UNWRITTEN = "invalid cbit index"


def check_known(circuit: QuantumCircuit) -> None:
    """Refuse variables, and operations that Aer does not know and that have no definition, also inside others.

    Raises:
        DescriptionError: there is one; the message names it.
    """
    known = gate_names(AUTOMATIC)
    if _has_variables(circuit):
        raise DescriptionError(
            f"circuit {circuit.name!r} has variables, which simulators cannot follow: write what they hold into "
            "classical registers by measurements, and act on these",
            field="circuit",
        )
    if known.issuperset(names_in(circuit)):
        return
    for entry in circuit.data:
        operation = entry.operation
        if isinstance(operation, ControlFlowOp):
            for block in operation.blocks:
                check_known(block)
        elif entry.name not in known and not entry.is_standard_gate() and not isinstance(operation, Barrier | Delay):
            base = getattr(operation, "base_op", operation)
            made_of = opened(base)
            if made_of is None and type(base) in (Gate, Instruction):
                raise DescriptionError(
                    f"circuit {circuit.name!r} has {base.name!r}, which simulators do not know, and it has no "
                    "definition: give it one (QuantumCircuit.to_gate()), or name a QPU that knows it",
                    field="circuit",
                )
            if made_of is not None and not is_library(base):
                check_known(made_of)


def _has_variables(circuit: QuantumCircuit) -> bool:
    """Variables of Qiskit's (`add_var`), not bits that are set."""
    if next(circuit.iter_vars(), None) is not None:
        return True
    if not circuit.has_control_flow_op():  # quick; to look at each operation is not
        return False
    blocks = [
        block
        for entry in circuit.data
        if isinstance(entry.operation, ControlFlowOp)
        for block in entry.operation.blocks
    ]
    return any(map(_has_variables, blocks))


def data_of(circuit: QuantumCircuit, *, shots: int, seed: int, simulator: Simulator) -> dict[str, Any]:
    """Aer's data for one circuit."""
    if simulator.method == "automatic" and circuit.num_qubits > _widest(simulator):
        simulator = simulator._replace(method="matrix_product_state")
    known = _known(circuit, simulator)
    options: dict[str, Any] = {"shots": shots, "seed_simulator": seed}
    if "store" in names_in(known):  # Aer 0.18 ends the process where shots branch in a circuit that sets bits
        options["shot_branching_enable"] = False
    return _data(run_to_end(_simulator(simulator), known, **options), 0)


def run_to_end(simulator: AerSimulator, circuits: QuantumCircuit | Sequence[QuantumCircuit], **options: Any) -> Any:
    """Aer's result; where it stumbles over a condition, that of another way which gives the same."""
    result = simulator.run(circuits, **options).result()
    if not result.success and any(words in str(result.status) for words in _TRUNCATED):
        result = simulator.run(circuits, **options, enable_truncation=False).result()
    if not result.success and _UNWRITTEN in str(result.status):
        result = simulator.run(circuits, **options, method="statevector").result()
    return result


def data_of_sets(
    circuit: QuantumCircuit, parameters: Iterable[Parameter], values: NDArray[np.float64], simulator: Simulator
) -> list[dict[str, Any]]:
    """Aer's data for each set of values of the parameters."""
    parameters = list(parameters)
    try:
        known = _bindable(_known(circuit, simulator))
        if names_in(known) - gate_names(simulator):
            known = _bindable(pass_manager(simulator).run(known))
    except (QiskitError, TypeError):  # a gate has no definition before it has its values, such as HamiltonianGate
        sets = [dict(zip(parameters, row, strict=True)) for row in values.tolist()]
        bound = [_known(circuit.assign_parameters(one, strict=False), simulator) for one in sets]
        result = _simulator(simulator).run(bound, shots=1).result()
        return [_data(result, number) for number in range(len(values))]
    free = set(known.parameters)
    binds = {
        parameter: column.tolist() for parameter, column in zip(parameters, values.T, strict=True) if parameter in free
    }
    if not binds:  # no gate that is left depends on them
        return [_data(_simulator(simulator).run(known, shots=1).result(), 0)] * len(values)
    result = _simulator(simulator).run(known, shots=1, parameter_binds=[binds]).result()
    return [_data(result, number) for number in range(len(values))]


def _bindable(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit with free angles only where Aer puts values in.

    Aer asks ``is_parameterized()``, which Qiskit 2.6 answers with False for controlled gates whose angles are those of
    their base gate (qiskit-aer#2403). Such gates are written as what they are made of.
    """
    return expanded(circuit, lambda operation: operation.definition if _hides_parameters(operation) else None)


def _hides_parameters(operation: Any) -> bool:
    return isinstance(operation, ControlledGate) and any(
        isinstance(value, ParameterExpression) and value.parameters for value in operation.params
    )


def _data(result: Any, number: int) -> dict[str, Any]:
    """Aer's data of one experiment.

    Raises:
        QPUError: the run failed; with Aer's reason.
    """
    if not result.success:
        reasons = [str(one.status) for one in result.results if not one.success] or [str(result.status)]
        raise QPUError(f"the simulator failed: {reasons[0]}")
    data: dict[str, Any] = result.data(number)
    return data


def _known(circuit: QuantumCircuit, simulator: Simulator) -> QuantumCircuit:
    """The circuit, its gates rewritten where Aer does not know them.

    Where a method takes any matrix, a narrow gate becomes one: its definition in known gates has up to forty of them,
    and takes a third longer at 17 qubits.
    """
    names = gate_names(simulator)
    circuit = without_boxes(circuit)
    if "delay" in names_in(circuit):
        circuit = changed(circuit, _Undelayed())
    circuit = changed(circuit, _Prepared())
    if names.issuperset(names_in(circuit)):
        return circuit
    if simulator.method in _TAKES_MATRICES:
        circuit = _with_matrices(circuit, names)
        if names.issuperset(names_in(circuit)):
            return circuit
    known: QuantumCircuit = pass_manager(simulator).run(circuit)
    return known


class _Undelayed(Change):
    """Without noise a delay does nothing; Qiskit's compiler does not take those in several units of time."""

    def change(self, operation: Operation) -> Operation:
        return IGate() if isinstance(operation, Delay) else operation


class _Prepared(Change):
    """Initialize as a reset and gates.

    Aer 0.18 takes the other qubits' states wrong on a matrix product state, or hangs, and in branches of shots.
    """

    def change(self, operation: Operation) -> Operation:
        if not isinstance(operation, Instruction) or isinstance(operation, Gate):
            return operation
        made_of = operation.definition
        if made_of is None:
            return operation
        inner = changed(made_of, self)
        return operation if inner is made_of and not isinstance(operation, Initialize) else defined(operation, inner)


def names_in(circuit: QuantumCircuit) -> set[str]:
    """Of its instructions and those in the bodies of its control flow, but for barriers."""
    names = set(circuit.count_ops()) - {"barrier"}
    if circuit.has_control_flow_op():
        for entry in circuit.data:
            if isinstance(entry.operation, ControlFlowOp):
                names.update(*map(names_in, entry.operation.blocks))
    return names


def _with_matrices(circuit: QuantumCircuit, names: frozenset[str]) -> QuantumCircuit:
    """The circuit with a matrix in the place of each narrow gate that has another name than these."""
    rewritten = circuit.copy_empty_like()
    for entry in circuit.data:
        gate = entry.operation
        if (
            entry.name not in names
            and isinstance(gate, Gate)
            and gate.num_qubits <= MAX_MATRIX_QUBITS
            and not any(isinstance(value, ParameterExpression) for value in gate.params)
            and not is_approximate(gate)
        ):
            with contextlib.suppress(CircuitError):  # it has a definition only
                # a copy: Aer 0.18 transposes matrices that are read-only, as those of some gates are
                entry = entry.replace(operation=UnitaryGate(np.array(gate.to_matrix())))
        append(rewritten, [entry])
    return rewritten


@lru_cache(maxsize=8)
def _simulator(simulator: Simulator) -> AerSimulator:
    """This process's simulator."""
    return AerSimulator(
        method=simulator.method,
        device=simulator.device,
        precision=simulator.precision,
        max_parallel_threads=simulator.threads,
        shot_branching_enable=True,
    )


@lru_cache(maxsize=8)
def _widest(simulator: Simulator) -> int:
    """How many qubits it can have; Aer makes a list of all its gates each time that it is asked."""
    return int(_simulator(simulator).num_qubits)


@lru_cache(maxsize=8)
def gate_names(simulator: Simulator) -> frozenset[str]:
    return frozenset(_simulator(simulator).operation_names)


@lru_cache(maxsize=8)
def pass_manager(simulator: Simulator) -> PassManager:
    return generate_preset_pass_manager(optimization_level=0, backend=_simulator(simulator))
