"""Gates, the forms that they are given in, and the entries through which circuits come: what `gates.py` goes through.

Each door gives what it knows of a circuit as numbers, beside those of Qiskit's `Statevector`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, ControlModifier, Gate, InverseModifier, ParameterVector, PowerModifier
from qiskit.circuit import library as qiskit_gates
from qiskit.quantum_info import (
    DensityMatrix,
    Pauli,
    SparsePauliOp,
    Statevector,
    random_clifford,
    random_pauli_list,
    random_statevector,
    random_unitary,
)

from pilot import TaskDescription
from pilot.interfaces import Offer, Prepared
from pilot.quantum import PilotEstimator, PilotSampler, cutting
from pilot.quantum.mitigation.folding import fold_global, fold_local
from pilot.quantum.programs import load
from pilot.quantum.tasks import prepare

#: The widest circuit that is looked at.
MAX_QUBITS = 6
#: Tomography's settings grow as 3^n, cutting's circuits as 4^cuts.
MAX_TOMOGRAPHY_QUBITS = 2
MAX_CUT_QUBITS = 3
SHOTS = 20_000
#: Counts may be off by so many standard errors, of about 10^5 numbers in all.
SIGMAS = 6.0
TEXTS = ("openqasm2", "openqasm3", "originir", "qir")
_OFFER = Offer(devices={}, cores=2, cores_per_node=2, gpus=0)


class Case(NamedTuple):
    """A circuit without measurements; with free angles, `values` are theirs."""

    gate: str
    form: str
    circuit: QuantumCircuit
    #: The same of a gate that was made with all its angles.
    reference: QuantumCircuit
    values: list[float] | None = None

    @property
    def state(self) -> Statevector:
        return Statevector(self.reference)

    @property
    def bound(self) -> QuantumCircuit:
        """With all angles."""
        return self.circuit if self.values is None else self.circuit.assign_parameters(self.values)


# ---- gates ------------------------------------------------------------------------------------------------------


def library() -> dict[str, Any]:
    """A gate of each class of Qiskit's library, its angles bound."""
    lib = qiskit_gates
    state = random_statevector(4, seed=1).data
    hamiltonian = SparsePauliOp(["XZ", "YY", "ZI"], [0.3, 0.5, -0.2])
    commuting = SparsePauliOp(["XZ", "YY"], [0.3, 0.5])  # others are taken apart in steps, as its synthesis says
    matrices = [random_unitary(2, seed=seed).data for seed in range(2)]
    gates = {name: kind(*_angles(number)) for name, (kind, number) in (standard() | own_gates()).items()}
    return gates | {
        "AndGate": lib.AndGate(2),
        "AndGate, flags": lib.AndGate(2, [1, -1]),
        "BitFlipOracleGate": lib.BitFlipOracleGate("x & ~y"),
        "BitwiseXorGate": lib.BitwiseXorGate(2, 2),
        "C3XGate": lib.C3XGate(),
        "C4XGate": lib.C4XGate(),
        "Clifford": random_clifford(2, seed=4),
        "DiagonalGate": lib.DiagonalGate(np.exp(1j * np.array([0.1, 0.5, -0.3, 2]))),
        "ExactReciprocalGate": lib.ExactReciprocalGate(2, 0.5),
        "FullAdderGate": lib.FullAdderGate(1),
        "GraphStateGate": lib.GraphStateGate([[0, 1, 0], [1, 0, 1], [0, 1, 0]]),
        "HalfAdderGate": lib.HalfAdderGate(1),
        "HamiltonianGate": lib.HamiltonianGate(hamiltonian.to_matrix(), 0.7),
        "Initialize": lib.Initialize(state),
        "InnerProductGate": lib.InnerProductGate(1),
        "IntegerComparatorGate": lib.IntegerComparatorGate(1, 1),
        "Isometry": lib.Isometry(state, 0, 0),
        "LinearAmplitudeFunctionGate": lib.LinearAmplitudeFunctionGate(1, 0.5, 0.1, (0, 1), (0, 1)),
        "LinearFunction": lib.LinearFunction([[1, 1], [0, 1]]),
        "LinearPauliRotationsGate": lib.LinearPauliRotationsGate(2, 0.3, 0.2),
        "MCGupDiag": lib.MCGupDiag(matrices[0], 1, 0, 0),
        "MCMTGate": lib.MCMTGate(lib.RYGate(0.3), 2, 1),
        "MCMTGate, open": lib.MCMTGate(lib.ZGate(), 2, 1, ctrl_state=1),
        "MCPhaseGate": lib.MCPhaseGate(0.4, 2),
        "MCU1Gate": lib.MCU1Gate(0.4, 2),
        "MCXGate": lib.MCXGate(4),
        "ModularAdderGate": lib.ModularAdderGate(2),
        "MSGate": lib.MSGate(2, 0.3),
        "MultiplierGate": lib.MultiplierGate(1),
        "OrGate": lib.OrGate(2),
        "PauliEvolutionGate": lib.PauliEvolutionGate(commuting, 0.4),
        "PauliGate": lib.PauliGate("XYZ"),
        "PauliProductRotationGate": lib.PauliProductRotationGate(Pauli("XZ"), 0.4),
        "PermutationGate": lib.PermutationGate([2, 0, 1]),
        "PhaseOracleGate": lib.PhaseOracleGate("x & ~y"),
        "PiecewiseChebyshevGate": lib.PiecewiseChebyshevGate(np.sin, 1, 2),
        "PiecewiseLinearPauliRotationsGate": lib.PiecewiseLinearPauliRotationsGate(1, [0, 1], [0.3, 0.1], [0.2, 0.4]),
        "PiecewisePolynomialPauliRotationsGate": lib.PiecewisePolynomialPauliRotationsGate(
            1, [0, 1], [[0.3, 0.1], [0.2]]
        ),
        "PolynomialPauliRotationsGate": lib.PolynomialPauliRotationsGate(2, [0.1, 0.3]),
        "QFTGate": lib.QFTGate(3),
        "QuadraticFormGate": lib.QuadraticFormGate(2, [[1]], [1], 1),
        "RVGate": lib.RVGate(0.1, 0.2, 0.3),
        "StatePreparation": lib.StatePreparation(state),
        "StatePreparation, number": lib.StatePreparation(2, 2),
        "UCGate": lib.UCGate(matrices),
        "UCPauliRotGate": lib.UCPauliRotGate([0.1, 0.5], "X"),
        "UCRXGate": lib.UCRXGate([0.1, 0.5]),
        "UCRYGate": lib.UCRYGate([0.1, 0.5]),
        "UCRZGate": lib.UCRZGate([0.1, 0.5]),
        "UniformSuperpositionGate": lib.UniformSuperpositionGate(3, 2),
        "UnitaryGate": lib.UnitaryGate(random_unitary(4, seed=9).data),
        "WeightedSumGate": lib.WeightedSumGate(1),
    }


def standard() -> dict[str, tuple[type[Gate], int]]:
    """The classes of Qiskit's standard gates by name, and how many angles each has."""
    mapping = qiskit_gates.get_standard_gate_name_mapping()
    return {
        name: (gate.base_class, len(gate.params))
        for name, gate in mapping.items()
        if isinstance(gate, Gate) and gate.num_qubits
    }


def with_angles() -> dict[str, tuple[Callable[..., Any], int]]:
    """What makes a gate of angles that may be free, and how many it takes."""
    lib = qiskit_gates
    hamiltonian = SparsePauliOp(["XZ", "YY", "ZI"], [0.3, 0.5, -0.2])
    commuting = SparsePauliOp(["XZ", "YY"], [0.3, 0.5])  # others are taken apart in steps, as its synthesis says
    more: dict[str, tuple[Callable[..., Any], int]] = {
        "MCPhaseGate": (lambda angle: lib.MCPhaseGate(angle, 2), 1),
        "MCU1Gate": (lambda angle: lib.MCU1Gate(angle, 2), 1),
        "MCMTGate": (lambda angle: lib.MCMTGate(lib.RYGate(angle), 2, 1), 1),
        "MSGate": (lambda angle: lib.MSGate(2, angle), 1),
        "PauliEvolutionGate": (lambda time: lib.PauliEvolutionGate(commuting, time), 1),
        "HamiltonianGate": (lambda time: lib.HamiltonianGate(hamiltonian.to_matrix(), time), 1),
        "PauliProductRotationGate": (lambda angle: lib.PauliProductRotationGate(Pauli("XZ"), angle), 1),
    }
    return {name: found for name, found in standard().items() if found[1]} | more | own_gates()


def own_gates() -> dict[str, tuple[Callable[..., Any], int]]:
    """Gates of a user's own with two angles: one of its own name, one of a name that means another, one in another."""

    def body(name: str, first: Any, second: Any) -> QuantumCircuit:
        circuit = QuantumCircuit(2, name=name, global_phase=0.3)
        circuit.ry(2 * first + second, 0)
        circuit.cx(0, 1)
        circuit.rz(second, 1)
        return circuit

    def turn(angle: Any) -> Gate:
        circuit = QuantumCircuit(1, name="turn")
        circuit.rx(angle, 0)
        circuit.h(0)
        gate: Gate = circuit.to_gate()
        return gate

    def nested(first: Any, second: Any) -> QuantumCircuit:
        circuit = QuantumCircuit(2, name="outer")
        circuit.append(body("inner", second, first).to_gate(), [1, 0])
        circuit.append(turn(first).control(1), [0, 1])
        return circuit

    return {
        "own gate": (lambda *angles: body("layer", *angles).to_gate(), 2),
        "own gate, taken name": (lambda *angles: body("multiplexer", *angles).to_gate(), 2),
        "own gate in own gate": (lambda *angles: nested(*angles).to_gate(), 2),
    }


def _angles(number: int) -> list[float]:
    return [0.3 + 0.4 * place for place in range(number)]


# ---- forms ------------------------------------------------------------------------------------------------------


def _inside(operation: Any) -> Any:
    circuit = QuantumCircuit(operation.num_qubits, name="layer")
    circuit.append(operation, circuit.qubits)
    return circuit.to_gate()


def _inside_instruction(operation: Any) -> Any:
    circuit = QuantumCircuit(operation.num_qubits, name="layer")
    circuit.append(operation, circuit.qubits)
    return circuit.to_instruction()


FORMS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda gate: gate,
    "inverse": lambda gate: gate.inverse(),
    "control": lambda gate: gate.control(1),
    "open control": lambda gate: gate.control(1, ctrl_state=0),
    "two controls": lambda gate: gate.control(2, ctrl_state=1),
    "inverse of control": lambda gate: gate.control(1).inverse(),
    "power": lambda gate: gate.power(2),
    "root": lambda gate: gate.power(0.5),
    "annotated control": lambda gate: AnnotatedOperation(gate, [ControlModifier(1, 0)]),
    "annotated inverse": lambda gate: AnnotatedOperation(gate, [InverseModifier()]),
    "annotated inverse of control": lambda gate: AnnotatedOperation(gate.control(1), [InverseModifier()]),
    "annotated power": lambda gate: AnnotatedOperation(gate, [PowerModifier(2)]),
    "inside to_gate()": _inside,
    "inside to_instruction()": _inside_instruction,
}


def cases(name: str, forms: Sequence[str] = tuple(FORMS)) -> Iterator[Case]:
    """Circuits of one gate of `library`, in the forms that Qiskit makes of it.

    Where it has angles, also with free ones, and with angles that were free until they got their values.
    """
    for form in forms:
        try:
            operation = FORMS[form](library()[name])
            if not 0 < operation.num_qubits <= MAX_QUBITS:
                continue
            circuit = _between(operation)
            Statevector(circuit)
        except Exception:  # Qiskit makes no such form of it, or cannot say what it does
            continue
        yield Case(name, f"{form}, bound", circuit, circuit)
        if name not in with_angles():
            continue
        maker, number = with_angles()[name]
        values = [1.1 - 0.7 * place for place in range(number)]
        try:
            circuit = _between(FORMS[form](maker(*ParameterVector("a", number))))
            given = circuit.assign_parameters(values)
            reference = _between(FORMS[form](maker(*values)))
            Statevector(reference)
        except Exception:  # Qiskit makes no such form with free angles; nothing of ours is called here
            continue
        yield Case(name, f"{form}, free", circuit, reference, values)
        yield Case(name, f"{form}, given values", given, reference)


def _between(operation: Any) -> QuantumCircuit:
    """The gate on a state without symmetry, and turns after it."""
    circuit = QuantumCircuit(operation.num_qubits)
    for place, qubit in enumerate(circuit.qubits):
        circuit.u(0.4 + 0.3 * place, 0.2, 0.7 * place, qubit)
    circuit.append(operation, circuit.qubits)
    for place, qubit in enumerate(circuit.qubits):
        circuit.u(1.1 - 0.2 * place, 0.5 * place, 0.3, qubit)
    return circuit


# ---- doors ------------------------------------------------------------------------------------------------------


class Here:
    """A manager that runs each task where and when it is submitted."""

    def submit_tasks(self, descriptions: Any) -> list[Future[Any]]:
        return [_done(run, description) for description in descriptions]

    def map(self, function: Callable[..., Any], /, *arguments: Any) -> list[Future[Any]]:
        return [_done(function, *each) for each in zip(*arguments, strict=True)]


def _done(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


#: What a worker says of a circuit whose exact values or probabilities it cannot compute.
NO_EXACT = "has no exact"


class InWorker(Exception):
    """A task failed after it had been accepted."""


def run(description: TaskDescription) -> Any:
    """The result of a task, run here."""
    return finish(prepare(description, _OFFER))


def finish(prepared: Prepared) -> Any:
    """The result of a task's parts.

    Raises:
        InWorker: any error from here on.
    """
    try:
        results = [part.function(*part.args) for part in prepared.parts]
        if prepared.combine is None:
            return results[0]
        return prepared.combine.function(*prepared.combine.args, results)
    except Exception as error:
        raise InWorker(f"{type(error).__name__}: {error}") from error


def _observables(circuit: QuantumCircuit) -> list[str]:
    labels: list[str] = random_pauli_list(circuit.num_qubits, 4, seed=1, phase=False).to_labels()
    return labels


def _measured(circuit: QuantumCircuit) -> QuantumCircuit:
    measured = circuit.copy()
    measured.measure_all()
    return measured


def _values(case: Case) -> NDArray[np.float64]:
    return np.array([case.state.expectation_value(Pauli(label)).real for label in _observables(case.circuit)])


def _probabilities(counts: Any, width: int) -> NDArray[np.float64]:
    found = np.zeros(2**width)
    for outcome, weight in counts.items():
        found[int(outcome, 2)] += weight
    return found / found.sum()


def exact(case: Case) -> float:
    description = TaskDescription(
        circuit=case.circuit, observables=_observables(case.circuit), shots=None, parameters=case.values
    )
    return _worst(run(description).values - _values(case))


def several_sets(case: Case) -> float | None:
    """Three sets of values, the case's in their middle."""
    if case.values is None:
        return None
    sets = [[0.0] * len(case.values), case.values, [2.0] * len(case.values)]
    description = TaskDescription(
        circuit=case.circuit, observables=_observables(case.circuit), shots=None, parameters=sets
    )
    return _worst(run(description).values[1] - _values(case))


def distribution(case: Case) -> float:
    result = run(TaskDescription(circuit=_measured(case.circuit), shots=None, parameters=case.values))
    return _worst(_probabilities(result.get_counts(), case.circuit.num_qubits) - case.state.probabilities())


def counts(case: Case) -> float:
    result = run(TaskDescription(circuit=_measured(case.circuit), shots=SHOTS, seed=7, parameters=case.values))
    return sampling_error(_probabilities(result.get_counts(), case.circuit.num_qubits), case.state.probabilities())


def estimator(case: Case) -> float:
    pub = (case.circuit, _observables(case.circuit), *([] if case.values is None else [case.values]))
    return _worst(PilotEstimator(Here()).run([pub]).result()[0].data.evs - _values(case))


def sampler(case: Case) -> float:
    pub = (_measured(case.circuit), *([] if case.values is None else [case.values]))
    result = PilotSampler(Here(), seed=3).run([pub], shots=SHOTS).result()[0].data.meas.get_counts()
    return sampling_error(_probabilities(result, case.circuit.num_qubits), case.state.probabilities())


def tomography(case: Case) -> float | None:
    if case.circuit.num_qubits > MAX_TOMOGRAPHY_QUBITS:
        return None
    result = run(TaskDescription(circuit=case.circuit, shots=None, tomography=True, parameters=case.values))
    return _worst(result.linear.data - DensityMatrix(case.state).data)


def cut(case: Case) -> float | None:
    """A qubit in front of the gate's, joined to its first by one gate that is cut."""
    width = case.circuit.num_qubits + 1
    if case.gate == "Initialize":
        return None  # of a qubit that belongs with others, Qiskit's `Statevector` draws one of the states
    if width > MAX_CUT_QUBITS + 1:
        return None
    circuit, reference = QuantumCircuit(width), QuantumCircuit(width)
    for each, gates in ((circuit, case.bound), (reference, case.reference)):
        each.ry(0.7, 0)
        each.cx(0, 1)
        each.compose(gates, range(1, width), inplace=True)
    labels = _observables(circuit)
    state = Statevector(reference)
    expected = [state.expectation_value(Pauli(label)).real for label in labels]
    return _worst(cutting.plan(circuit, labels, width - 1).run(Here(), shots=None).values - expected)


def folded(case: Case) -> float:
    state = case.state.data
    found = [Statevector(fold(case.bound, 3)).data for fold in (fold_global, fold_local)]
    return max(_worst(each - state) for each in found)


def _text(format: str) -> Callable[[Case], float]:
    def through(case: Case) -> float:
        read = load(load(case.circuit).dumps(format), format=format).to_qiskit()
        if case.values is not None:
            by_place = dict(zip([str(one.name) for one in case.circuit.parameters], case.values, strict=True))
            names = [one.name for one in read.parameters]
            if len(names) != len(by_place):
                return float("inf")
            read = read.assign_parameters(dict(zip(names, by_place.values(), strict=True)))
        return _worst(Statevector(read).probabilities() - case.state.probabilities())

    return through


DOORS: dict[str, Callable[[Case], float | None]] = {
    "exact": exact,
    "several sets": several_sets,
    "distribution": distribution,
    "counts": counts,
    "estimator": estimator,
    "sampler": sampler,
    "tomography": tomography,
    "cutting": cut,
    "folding": folded,
    **{format: _text(format) for format in TEXTS},
}
#: What numbers may be off by; those of `sampling_error` are in standard errors.
TOLERANCE = dict.fromkeys(DOORS, 1e-6) | {"counts": SIGMAS, "sampler": SIGMAS}


def sampling_error(found: NDArray[np.float64], expected: NDArray[np.float64], shots: int = SHOTS) -> float:
    """How far frequencies are from probabilities, in standard errors; a count of 3 where none is possible is 6."""
    spread = np.sqrt(expected * (1 - expected) / shots) + 0.5 / shots
    return float(np.max(np.abs(found - expected) / spread))


def _worst(difference: Any) -> float:
    return float(np.max(np.abs(difference)))
