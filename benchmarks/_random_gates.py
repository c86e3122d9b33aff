"""Random circuits with own gates of taken names, delays, conditions, resets and free angles, and their oracle.

The oracle follows each branch of the measurements with matrices of its own: it knows no gate by a name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from _gate_cases import SHOTS, SIGMAS, TEXTS, Here, run, sampling_error
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import CPhaseGate, CRXGate, CUGate, RYGate, RZZGate
from qiskit.quantum_info import Operator

from pilot import TaskDescription
from pilot.errors import PilotError
from pilot.quantum.primitives import PilotSampler
from pilot.quantum.programs import load

QUBITS = 3
BITS = 3
NAMES = (
    *("h", "id", "p", "u", "cx", "rzz", "cu3", "ccx", "mcx", "delay", "reset", "barrier", "measure", "initialize"),
    *("multiplexer", "diagonal", "quantum_channel", "mcu", "unitary", "pauli", "qft", "layer", "permutation"),
)
_UNITS = ("dt", "us", "ns")


class RandomCase(NamedTuple):
    circuit: QuantumCircuit
    values: list[float] | None
    #: Of each number that the classical bits make.
    probabilities: NDArray[np.float64]


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
    """A circuit of ten steps, measured at its end."""
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(QUBITS, BITS)
    branches = _Branches()
    angle, value = Parameter("a"), float(rng.uniform(0, 6))
    steps: list[Callable[[], None]] = []

    def qubits(number: int) -> list[int]:
        chosen: list[int] = rng.permutation(QUBITS)[:number].tolist()
        return chosen

    def own() -> None:
        width = int(rng.integers(1, 3))
        body = _body(rng, width)
        body.name = str(rng.choice(NAMES))
        matrix, where = Operator(body).data, qubits(width)
        kind = rng.integers(3)
        if kind == 2:
            outer = QuantumCircuit(width, name="outer")
            outer.append(body.to_gate(), range(width))
            body = outer
        circuit.append(body.to_instruction() if kind == 1 else body.to_gate(), where)
        branches.gate(matrix, where)

    def free() -> None:
        kind = int(rng.integers(5))
        makers: list[Callable[[Any], Any]] = [
            RYGate,
            CPhaseGate,
            CRXGate,
            RZZGate,
            lambda one: CUGate(one, 0.2, -one, 0.3),
        ]
        factor = float(rng.choice([1, -1, 0.5]))
        where = qubits(1 if kind == 0 else 2)
        circuit.append(makers[kind](factor * angle), where)
        branches.gate(makers[kind](factor * value).to_matrix(), where)

    def delay() -> None:
        circuit.delay(int(rng.integers(1, 50)), qubits(1)[0], unit=str(rng.choice(_UNITS)))

    def reset() -> None:
        where = qubits(1)[0]
        circuit.reset(where)
        branches.reset(where)

    def measure() -> None:
        where, bit = qubits(1)[0], int(rng.integers(BITS))
        circuit.measure(where, bit)
        branches.measure(where, bit)

    def condition() -> None:
        bit, wanted = int(rng.integers(BITS)), int(rng.integers(2))
        body = _body(rng, 1)
        matrix, where = Operator(body).data, qubits(1)
        body.name = str(rng.choice(NAMES))
        with circuit.if_test((circuit.clbits[bit], wanted)):
            circuit.append(body.to_gate(), where)
        branches.gate(matrix, where, (bit, wanted))

    steps = [own, own, own, free, delay, reset, measure, condition]
    if seed % 2:  # what has exact probabilities
        steps = [own, own, own, free, delay, reset, measure]
    for step in rng.integers(len(steps), size=10):
        steps[step]()
    for qubit in range(QUBITS):
        circuit.measure(qubit, qubit)
        branches.measure(qubit, qubit)
    return RandomCase(circuit, [value] if circuit.parameters else None, branches.probabilities())


def _body(rng: np.random.Generator, width: int) -> QuantumCircuit:
    body = QuantumCircuit(width)
    for qubit in range(width):
        body.u(*rng.uniform(0, 6, 3), qubit)
    if width > 1:
        body.cx(0, 1)
        body.ry(float(rng.uniform(0, 6)), 1)
    return body


# ---- doors ------------------------------------------------------------------------------------------------------


def _found(outcomes: Any) -> NDArray[np.float64]:
    found = np.zeros(2**BITS)
    for outcome, weight in outcomes.items():
        found[int(outcome, 2)] += weight
    return found / found.sum()


def _counts(qpu: str | None) -> Callable[[RandomCase], float]:
    def through(case: RandomCase) -> float:
        result = run(TaskDescription(circuit=case.circuit, shots=SHOTS, seed=5, parameters=case.values, qpu=qpu))
        return sampling_error(_found(result.get_counts()), case.probabilities)

    return through


def distribution(case: RandomCase) -> float:
    result = run(TaskDescription(circuit=case.circuit, shots=None, parameters=case.values))
    return float(np.max(np.abs(_found(result.get_counts()) - case.probabilities)))


def sampler(case: RandomCase) -> float:
    pub = (case.circuit, *([] if case.values is None else [case.values]))
    data = PilotSampler(Here(), seed=3).run([pub], shots=SHOTS).result()[0].data
    return sampling_error(_found(data.c.get_counts()), case.probabilities)


def _text(format: str) -> Callable[[RandomCase], float]:
    def through(case: RandomCase) -> float:
        circuit = case.circuit if case.values is None else case.circuit.assign_parameters(case.values)
        text = load(circuit).dumps(format)
        try:
            result = run(TaskDescription(circuit=load(text, format=format).to_qiskit(), shots=SHOTS, seed=5))
        except PilotError as error:  # what we write we can read
            raise RuntimeError(f"our own text: {error}") from error
        return sampling_error(_found(result.get_counts()), case.probabilities)

    return through


DOORS: dict[str, Callable[[RandomCase], float]] = {
    "counts": _counts(None),
    "counts of a matrix product state": _counts("aer:matrix_product_state"),
    "distribution": distribution,
    "sampler": sampler,
    **{format: _text(format) for format in TEXTS},
}
TOLERANCE = dict.fromkeys(DOORS, SIGMAS) | {"distribution": 1e-6}
