"""Random circuits with own gates of taken names, delays, conditions, resets and free angles, and their oracle.

The oracle follows each branch of the measurements with matrices of its own: it knows no gate by a name.
Devices are without noise here: what is done against errors must leave values as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from _gate_cases import SHOTS, SIGMAS, TEXTS, Here, finish, run, sampling_error
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, ControlModifier, InverseModifier, Parameter, PowerModifier
from qiskit.circuit.library import CPhaseGate, CRXGate, CUGate, RYGate, RZZGate
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Operator, Pauli, random_pauli_list, random_statevector

from pilot import TaskDescription
from pilot.errors import PilotError
from pilot.interfaces import QPU, Offer, Run
from pilot.quantum import PilotBackend, PilotEstimator, PilotSampler, cutting
from pilot.quantum.aer import run_circuit
from pilot.quantum.mitigation.folding import fold_global, fold_local
from pilot.quantum.programs import load
from pilot.quantum.tasks import prepare
from pilot.resources import QPUInfo
from pilot.worker import device

QUBITS = 3
BITS = 3
NAMES = (
    *("h", "id", "p", "u", "cx", "rzz", "cu3", "ccx", "mcx", "delay", "reset", "barrier", "measure", "initialize"),
    *("multiplexer", "diagonal", "quantum_channel", "mcu", "unitary", "pauli", "qft", "layer", "permutation"),
)
_UNITS = ("dt", "us", "ns")
#: Measurements and resets in the middle: each takes a qubit where results are exact.
MAX_FRESH = 6
#: Entangled three times over, a circuit of three qubits takes thousands of cut ones: that is refused.
MAX_CUT_CIRCUITS = 500
#: Of circuits with conditions, which are followed shot by shot.
FEWER_SHOTS = 4000


class RandomCase(NamedTuple):
    #: Measured at its end.
    circuit: QuantumCircuit
    #: The same without these measurements.
    bare: QuantumCircuit
    values: list[float] | None
    #: Of each number that the classical bits make.
    probabilities: NDArray[np.float64]
    #: Of the qubits before they are measured at the end, `(2 ** QUBITS, 2 ** QUBITS)`.
    density: NDArray[np.complex128]

    @property
    def followed(self) -> bool:
        """It acts on outcomes, and so has no exact results."""
        return bool(self.circuit.has_control_flow_op())

    @property
    def is_unitary(self) -> bool:
        return not self.followed and not {"reset", "measure", "initialize"}.intersection(self.bare.count_ops())

    @property
    def shots(self) -> int:
        return FEWER_SHOTS if self.followed else SHOTS

    def bound(self, circuit: QuantumCircuit) -> QuantumCircuit:
        return circuit if self.values is None else circuit.assign_parameters(self.values)


class _Branches:
    """Unnormalised states by what the classical bits hold; several of a mixture."""

    def __init__(self) -> None:
        state = np.zeros(2**QUBITS, dtype=complex)
        state[0] = 1
        self.states: list[tuple[int, NDArray[np.complex128]]] = [(0, state)]

    def gate(self, matrix: NDArray[np.complex128], qubits: list[int], when: tuple[int, int] | None = None) -> None:
        self.states = [
            (bits, _applied(matrix, qubits, state) if when is None or bits >> when[0] & 1 == when[1] else state)
            for bits, state in self.states
        ]

    def measure(self, qubit: int, bit: int) -> None:
        found = []
        for bits, state in self.states:
            for value in (0, 1):
                part = np.where((np.arange(2**QUBITS) >> qubit & 1) == value, state, 0)
                if np.linalg.norm(part) > 1e-12:
                    found.append((bits & ~(1 << bit) | value << bit, part))
        self.states = found

    def reset(self, qubit: int) -> None:
        found = []
        for bits, state in self.states:
            one = (np.arange(2**QUBITS) >> qubit & 1) == 1
            found.append((bits, np.where(one, 0, state)))
            turned = np.zeros_like(state)
            turned[np.flatnonzero(one) ^ (1 << qubit)] = state[one]
            found.append((bits, turned))
        self.states = [(bits, state) for bits, state in found if np.linalg.norm(state) > 1e-12]

    def initialize(self, state: NDArray[np.complex128], qubits: list[int]) -> None:
        for qubit in qubits:
            self.reset(qubit)
        # of a unitary only the column of the state that there is counts
        self.gate(np.outer(state, np.eye(len(state))[0]), qubits)

    def density(self) -> NDArray[np.complex128]:
        return np.sum([np.outer(state, state.conj()) for _, state in self.states], axis=0)

    def probabilities(self) -> NDArray[np.float64]:
        result = np.zeros(2**BITS)
        for bits, state in self.states:
            result[bits] += np.linalg.norm(state) ** 2
        return result


def _applied(
    matrix: NDArray[np.complex128], qubits: list[int], state: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Qiskit's order: ``qubits[0]`` is the lowest bit of the matrix."""
    tensor = np.moveaxis(
        state.reshape([2] * QUBITS), [QUBITS - 1 - one for one in reversed(qubits)], range(len(qubits))
    )
    shape = tensor.shape
    tensor = (matrix @ tensor.reshape(2 ** len(qubits), -1)).reshape(shape)
    back = np.moveaxis(tensor, range(len(qubits)), [QUBITS - 1 - one for one in reversed(qubits)])
    result: NDArray[np.complex128] = back.reshape(-1)
    return result


def random_case(seed: int) -> RandomCase:
    """A circuit of ten steps, measured at its end.

    Even seeds have conditions; those that leave 3 with 4 are of gates alone. Every third one has delays.
    """
    making = _Making(np.random.default_rng(seed))
    steps = [making.own, making.own, making.free, making.own_free, making.annotated]
    if seed % 4 != 3:
        steps += [making.own, making.reset, making.measure, making.initialize]
    if seed % 2 == 0:
        steps.append(making.condition)
    if seed % 3 == 0:
        steps.append(making.delay)
    for step in making.rng.integers(len(steps), size=10):
        if making.fresh > MAX_FRESH:
            making.own()
        else:
            steps[step]()
    return making.case()


class _Making:
    """A circuit, and beside it the states that its branches have."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._circuit = QuantumCircuit(QUBITS, BITS)
        self._branches = _Branches()
        #: Measurements and resets until now.
        self.fresh = 0
        names = [("a", "b"), ("x[10]", "x[2]"), ("θ", "φ_1")][int(rng.integers(3))]
        self._values = {Parameter(name): float(rng.uniform(0, 6)) for name in names}

    def case(self) -> RandomCase:
        circuit, branches = self._circuit, self._branches
        for qubit in range(QUBITS):  # a measurement before it is not at the end
            body = _body(self.rng, 1)
            circuit.compose(body, [qubit], inplace=True)
            branches.gate(Operator(body).data, [qubit])
        bare, density = circuit.copy(), branches.density()
        for qubit in range(QUBITS):
            circuit.measure(qubit, qubit)
            branches.measure(qubit, qubit)
        values = [self._values[one] for one in circuit.parameters]
        return RandomCase(circuit, bare, values or None, branches.probabilities(), density)

    def _qubits(self, number: int) -> list[int]:
        chosen: list[int] = self.rng.permutation(QUBITS)[:number].tolist()
        return chosen

    def _name(self) -> str:
        return str(self.rng.choice(NAMES))

    def _add(self, operation: Any, matrix: NDArray[np.complex128], qubits: list[int]) -> None:
        self._circuit.append(operation, qubits)
        self._branches.gate(matrix, qubits)

    def own(self) -> None:
        width = int(self.rng.integers(1, 3))
        body = _body(self.rng, width)
        body.name = self._name()
        matrix = Operator(body).data
        for _ in range(int(self.rng.integers(3))):  # in one another, of any names
            inner = _body(self.rng, width)
            matrix = Operator(inner).data @ matrix
            outer = QuantumCircuit(width, name=self._name())
            outer.append(body.to_gate(), range(width))
            inner.name = body.name
            outer.append(inner.to_gate(), range(width))
            body = outer
        as_gate = self.rng.integers(2)
        self._add(body.to_gate() if as_gate else body.to_instruction(), matrix, self._qubits(width))

    def annotated(self) -> None:
        body = _body(self.rng, 1)
        matrix, width = Operator(body).data, 1
        body.name = self._name()
        modifiers: list[Any] = []
        if self.rng.integers(2):
            modifiers.append(InverseModifier())
            matrix = matrix.conj().T
        if self.rng.integers(2):
            modifiers.append(PowerModifier(2))
            matrix = matrix @ matrix
        if self.rng.integers(2) or not modifiers:
            modifiers.append(ControlModifier(1, 0))
            controlled = np.eye(4, dtype=complex)
            controlled[::2, ::2] = matrix  # the control is the lowest qubit
            matrix, width = controlled, 2
        self._add(AnnotatedOperation(body.to_gate(), modifiers), matrix, self._qubits(width))

    def _angle(self) -> tuple[Any, float]:
        """An expression of the free angles, and its value."""
        first, second = self._values
        factor = float(self.rng.choice([1, -1, 0.5]))
        kind = self.rng.integers(3)
        if kind == 0:
            return factor * first, factor * self._values[first]
        if kind == 1:
            return factor * second - 0.3, factor * self._values[second] - 0.3
        return first * second + factor, self._values[first] * self._values[second] + factor

    def free(self) -> None:
        kind = int(self.rng.integers(5))
        makers: list[Callable[[Any], Any]] = [
            RYGate,
            CPhaseGate,
            CRXGate,
            RZZGate,
            lambda one: CUGate(one, 0.2, -one, 0.3),
        ]
        angle, value = self._angle()
        self._add(makers[kind](angle), makers[kind](value).to_matrix(), self._qubits(1 if kind == 0 else 2))

    def own_free(self) -> None:
        angle, value = self._angle()
        bodies = []
        for one in (angle, value):
            body = QuantumCircuit(2, name="turn", global_phase=0.4)
            body.ry(one, 0)
            body.cx(0, 1)
            body.rx(2 * one, 1)
            bodies.append(body)
        bodies[0].name = self._name()
        if self.rng.integers(2):
            outer = QuantumCircuit(2, name="outer")
            outer.append(bodies[0].to_gate(), [0, 1])
            bodies[0] = outer
        self._add(bodies[0].to_gate(), Operator(bodies[1]).data, self._qubits(2))

    def delay(self) -> None:
        self._circuit.delay(int(self.rng.integers(1, 50)), self._qubits(1)[0], unit=str(self.rng.choice(_UNITS)))

    def reset(self) -> None:
        self.fresh += 1
        where = self._qubits(1)[0]
        self._circuit.reset(where)
        self._branches.reset(where)

    def initialize(self) -> None:
        qubits = self._qubits(int(self.rng.integers(1, 3)))
        self.fresh += len(qubits)
        state = random_statevector(2 ** len(qubits), seed=self.rng).data
        self._circuit.initialize(state, qubits)
        self._branches.initialize(state, qubits)

    def measure(self) -> None:
        self.fresh += 1
        where, bit = self._qubits(1)[0], int(self.rng.integers(BITS))
        self._circuit.measure(where, bit)
        self._branches.measure(where, bit)

    def condition(self) -> None:
        bit, wanted = int(self.rng.integers(BITS)), int(self.rng.integers(2))
        body, other = _body(self.rng, 1), _body(self.rng, 1)
        where = self._qubits(1)
        body.name, other.name = self._name(), self._name()
        with self._circuit.if_test((self._circuit.clbits[bit], wanted)) as otherwise:
            self._circuit.append(body.to_gate(), where)
        # both by what the bit held before: bodies measure nothing
        self._branches.gate(Operator(body).data, where, (bit, wanted))
        if self.rng.integers(2):
            with otherwise:
                self._circuit.append(other.to_gate(), where)
            self._branches.gate(Operator(other).data, where, (bit, 1 - wanted))


def _body(rng: np.random.Generator, width: int) -> QuantumCircuit:
    body = QuantumCircuit(width)
    for qubit in range(width):
        body.u(*rng.uniform(0, 6, 3), qubit)
    if width > 1:
        body.cx(0, 1)
        body.ry(float(rng.uniform(0, 6)), 1)
    return body


# ---- a device without noise ---------------------------------------------------------------------------------------


class Noiseless(QPU):
    """Five qubits in a line."""

    def __init__(self) -> None:
        super().__init__("fake:manila", "manila")
        self._backend = GenericBackendV2(
            5, coupling_map=[[0, 1], [1, 2], [2, 3], [3, 4]], control_flow=True, noise_info=True, seed=1
        )

    def info(self) -> QPUInfo:
        return QPUInfo(name=self.name, qubits=5, calibrated=1.0)

    def target(self) -> Any:
        return self._backend.target

    def run(self, run: Run) -> list[Any]:
        return [run_circuit(circuit, run.shots, seed) for circuit, seed in zip(run.circuits, run.seeds, strict=True)]


_NOISELESS = Noiseless()
_DEVICES = Offer(devices={"fake:manila": _NOISELESS.info()}, cores=2, cores_per_node=2, gpus=0)


def run_on_device(description: TaskDescription) -> Any:
    """The result of a task for `Noiseless`, run here."""
    device.held = SimpleNamespace(  # type: ignore[assignment]  # what a worker has of its device
        open=lambda: _NOISELESS, job_began=lambda job: None, job_ended=lambda: None
    )
    return finish(prepare(description, _DEVICES))


# ---- doors ------------------------------------------------------------------------------------------------------


def _found(outcomes: Any) -> NDArray[np.float64]:
    found = np.zeros(2**BITS)
    for outcome, weight in outcomes.items():
        found[int(outcome.replace(" ", ""), 2)] += weight
    return found / found.sum()


def _off(outcomes: Any, case: RandomCase, shots: int | None) -> float:
    """In standard errors; of exact probabilities, 1e-6 is as much as `SIGMAS`."""
    found = _found(outcomes)
    if shots is None:
        return float(np.max(np.abs(found - case.probabilities))) * 1e6 * SIGMAS
    return sampling_error(found, case.probabilities, shots)


def _counts(qpu: str | None) -> Callable[[RandomCase], float]:
    def through(case: RandomCase) -> float:
        task = TaskDescription(circuit=case.circuit, shots=case.shots, seed=5, parameters=case.values, qpu=qpu)
        return _off(run(task).get_counts(), case, case.shots)

    return through


def distribution(case: RandomCase) -> float:
    return _off(run(TaskDescription(circuit=case.circuit, shots=None, parameters=case.values)).get_counts(), case, None)


def sampler(case: RandomCase) -> float:
    pub = (case.circuit, *([] if case.values is None else [case.values]))
    data = PilotSampler(Here(), seed=3).run([pub], shots=case.shots).result()[0].data
    return _off(data.c.get_counts(), case, case.shots)


def backend(case: RandomCase) -> float:
    job = PilotBackend(Here()).run(case.bound(case.circuit), shots=case.shots, seed_simulator=4)
    return _off(job.result().get_counts(), case, case.shots)


def _observables(number: int = 4) -> list[str]:
    labels: list[str] = random_pauli_list(QUBITS, number, seed=1, phase=False).to_labels()
    return labels


def _values(case: RandomCase, labels: Sequence[str]) -> NDArray[np.float64]:
    return np.array([np.trace(Pauli(label).to_matrix() @ case.density).real for label in labels])


def _worst(difference: Any) -> float:
    return float(np.max(np.abs(difference)))


def exact(case: RandomCase) -> float:
    labels = _observables()
    task = TaskDescription(circuit=case.bare, observables=labels, shots=None, parameters=case.values)
    return _worst(run(task).values - _values(case, labels))


def _in_errors(values: Any, case: RandomCase, labels: Sequence[str]) -> float:
    expected = _values(case, labels)
    return _worst((values - expected) / (np.sqrt((1 - expected**2).clip(0) / case.shots) + 0.5 / case.shots))


def sampled_values(case: RandomCase) -> float:
    labels = _observables()
    task = TaskDescription(circuit=case.bare, observables=labels, shots=case.shots, seed=5, parameters=case.values)
    return _in_errors(run(task).values, case, labels)


def estimator(case: RandomCase) -> float:
    labels = _observables()
    pub = (case.bare, labels, *([] if case.values is None else [case.values]))
    return _worst(PilotEstimator(Here()).run([pub]).result()[0].data.evs - _values(case, labels))


def tomography(case: RandomCase) -> float:
    result = run(TaskDescription(circuit=case.bare, shots=None, tomography=True, parameters=case.values))
    return _worst(result.linear.data - case.density)


def cut(case: RandomCase) -> float | None:
    if not case.is_unitary:
        return None
    labels = _observables()
    planned = cutting.plan(case.bound(case.bare), labels, QUBITS - 1, max_subexperiments=MAX_CUT_CIRCUITS)
    values = planned.run(Here(), shots=None).values
    return _worst(values - _values(case, labels))


def folded(case: RandomCase) -> float | None:
    if not case.is_unitary:
        return None
    labels = _observables()
    found = []
    for fold in (fold_global, fold_local):
        circuit = fold(case.bound(case.bare), 3)
        found.append(run(TaskDescription(circuit=circuit, observables=labels, shots=None)).values)
    return _worst(np.array(found) - _values(case, labels))


def on_device(case: RandomCase) -> float:
    task = TaskDescription(
        circuit=case.circuit, shots=case.shots, seed=5, parameters=case.values, qpu="fake:manila", mitigation=[]
    )
    return _off(run_on_device(task).get_counts(), case, case.shots)


def _mitigated(*stages: str) -> Callable[[RandomCase], float | None]:
    def through(case: RandomCase) -> float | None:
        if not case.is_unitary:
            return None  # refused by the worker, whose compiler may find gates alone in it
        labels = _observables(2)
        task = TaskDescription(
            circuit=case.bare,
            observables=labels,
            shots=case.shots,
            seed=5,
            parameters=case.values,
            qpu="fake:manila",
            mitigation=list(stages),
        )
        result = run_on_device(task)
        return _worst((result.values - _values(case, labels)) / (result.standard_errors + 0.5 / case.shots))

    return through


def _text(format: str) -> Callable[[RandomCase], float]:
    def through(case: RandomCase) -> float:
        text = load(case.bound(case.circuit)).dumps(format)
        shots = case.shots if case.followed else None
        try:
            result = run(TaskDescription(circuit=load(text, format=format).to_qiskit(), shots=shots, seed=5))
        except PilotError as error:  # what we write we can read
            raise RuntimeError(f"our own text: {error}") from error
        return _off(result.get_counts(), case, shots)

    return through


def free_text(case: RandomCase) -> float | None:
    """OpenQASM 3 keeps free angles; they have the same order afterwards."""
    if case.values is None or case.followed:
        return None
    read = load(load(case.circuit).dumps("openqasm3"), format="openqasm3").to_qiskit()
    return _off(run(TaskDescription(circuit=read, shots=None, parameters=case.values)).get_counts(), case, None)


DOORS: dict[str, Callable[[RandomCase], float | None]] = {
    "counts": _counts(None),
    "counts of a matrix product state": _counts("aer:matrix_product_state"),
    "distribution": distribution,
    "sampler": sampler,
    "backend": backend,
    "exact": exact,
    "sampled values": sampled_values,
    "estimator": estimator,
    "tomography": tomography,
    "cutting": cut,
    "folding": folded,
    "device": on_device,
    "twirling, dd": _mitigated("twirling", "dd"),
    "readout": _mitigated("readout"),
    "zne": _mitigated("zne"),
    **{format: _text(format) for format in TEXTS},
    "openqasm3, free": free_text,
}
#: Of exact values; all others are in standard errors.
TOLERANCE = dict.fromkeys(DOORS, SIGMAS) | dict.fromkeys(
    ("exact", "estimator", "tomography", "cutting", "folding"), 1e-6
)
