"""Estimates whose truth is known, each drawn again and again: what `errors.py` measures.

A case gives values and errors of one repetition: circuits are planned as a task plans them, their outcomes are drawn by
numpy from exact probabilities, and combined as a task combines them.

Every method runs on 2 to 16 qubits but for these limits:

- Wide circuits are bricks of gates between neighbours: the values of a long chain vanish.
- Noise under extrapolation multiplies all values, by .55 at the largest factor, so none is lost at any width. Strong
  noise, .22, has bricks at every width and 1,000 shots at least: where values are small or shots few, no decay can be
  seen from a line, and the line is a biased estimate of it.
- Twirled circuits are blocks of 4 qubits, measured together: 32 copies of 16 entangled qubits would take seconds.
- Tomography is of up to 3 of the qubits: it takes `3**n` circuits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit.library import RZXGate
from qiskit.quantum_info import DensityMatrix, Operator, Pauli, Statevector, SuperOp, partial_trace

from pilot.quantum import cutting, expectation, tomography
from pilot.quantum.aer import run_circuit
from pilot.quantum.execution import without_noise
from pilot.quantum.mitigation import Calibrations, Device, Readout, Twirling, ZeroNoise
from pilot.quantum.observables import operators
from pilot.quantum.outcomes import Outcomes, registers_of

Array = np.ndarray[Any, Any]

SHOTS = (10, 100, 1_000, 100_000)
#: Flips of the readout: of 0 to 1, and of 1 to 0.
FLIPS = (0.03, 0.08)
#: What follows each cx of a device with coherent errors.
ERROR = Operator(RZXGate(0.1))
#: Qubits of each block of a twirled circuit.
BLOCK = 4


@dataclass(frozen=True)
class Case:
    """One way to an estimate."""

    kind: str
    qubits: int
    shots: int
    #: `(n_values,)`, of the observables.
    truth: Array
    #: `(n_values,)`: how many outcomes of the rarer sign are expected, of that term of which there are fewest.
    rarer: Array
    #: Of a generator: values and their errors, `(n_values,)` each.
    once: Callable[[np.random.Generator], tuple[Array, Array]]
    #: Whether one repetition takes so long that fewer are made.
    costly: bool = False


# ---- outcomes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exact:
    """What a circuit gives: its distinct outcomes and how probable each is."""

    outcome: Outcomes

    def drawn(self, shots: int, rng: np.random.Generator) -> Outcomes:
        """`shots` samples."""
        if shots < len(self.sums):
            seen, counts = np.unique(sampled(self.sums, shots, rng), return_counts=True)
        else:
            counts = rng.multinomial(shots, self.outcome.weights / self.outcome.weights.sum())
            seen = np.flatnonzero(counts)
            counts = counts[seen]
        return Outcomes(
            registers=self.outcome.registers,
            num_bits=self.outcome.num_bits,
            packed=self.outcome.packed[seen],
            weights=counts,
            shots=shots,
        )

    @cached_property
    def sums(self) -> Array:
        """Of the probabilities up to each outcome."""
        return cumulated(self.outcome.weights)


def cumulated(weights: Array) -> Array:
    """Sums of probabilities, the last 1."""
    sums = np.cumsum(weights)
    return sums / sums[-1]


def sampled(sums: Array, shots: int, rng: np.random.Generator) -> Array:
    """The number of an outcome, `(shots,)`."""
    return np.searchsorted(sums, rng.random(shots), side="right")


def exact(circuit: QuantumCircuit, change: Callable[[Array], Array] = lambda it: it) -> Exact:
    """Of a circuit of gates that measures each qubit into the bit of its own at its end.

    Args:
        circuit: as above.
        change: what becomes of the probabilities `(2**n,)` of its bits.
    """
    measured = [entry for entry in circuit.data if entry.name == "measure"]
    measured.sort(key=lambda entry: circuit.find_bit(entry.clbits[0]).index)
    qubits = [circuit.find_bit(entry.qubits[0]).index for entry in measured]
    gates = QuantumCircuit(circuit.num_qubits)
    for entry in circuit.data:
        if entry.name not in ("measure", "barrier"):
            gates.append(entry.operation, [circuit.find_bit(qubit).index for qubit in entry.qubits])
    return of_probabilities(circuit, change(Statevector(gates).probabilities(qubits)))


def of_probabilities(circuit: QuantumCircuit, probabilities: Array) -> Exact:
    """Bit `j` of the outcome's number is classical bit `j`."""
    n = circuit.num_clbits
    likely = np.flatnonzero(probabilities > 1e-14)
    bits = (likely[:, None] >> np.arange(n) & 1).astype(bool)
    weights = probabilities[likely] / probabilities[likely].sum()
    return Exact(Outcomes.from_bits(bits, weights, registers=registers_of(circuit), shots=None))


def misread(probabilities: Array) -> Array:
    """Of all bits as a device with `FLIPS` reads them."""
    flips = np.array([[1 - FLIPS[0], FLIPS[1]], [FLIPS[0], 1 - FLIPS[1]]])
    size = len(probabilities)
    for bit in range(size.bit_length() - 1):
        tensor = probabilities.reshape(size >> (bit + 1), 2, 1 << bit)
        probabilities = np.einsum("ab,xby->xay", flips, tensor).reshape(-1)
    return probabilities


def weaker(probabilities: Array, factor: float) -> Array:
    """All expectation values times `factor`."""
    return factor * probabilities + (1 - factor) / len(probabilities)


# ---- circuits and observables --------------------------------------------------------------------------------------


def circuit_of(n: int) -> QuantumCircuit:
    """Entangled: a chain, or where it is wide, two layers of bricks."""
    return chain(n) if n <= 8 else bricks(n)


def chain(n: int) -> QuantumCircuit:
    """Each qubit entangled with all before it."""
    circuit = QuantumCircuit(n)
    for qubit in range(n):
        circuit.ry(0.4 + 0.9 * (qubit % 3), qubit)
    for qubit in range(n - 1):
        circuit.cx(qubit, qubit + 1)
    for qubit in range(n):
        circuit.rx(0.5 + 0.3 * (qubit % 4), qubit)
    return circuit


def bricks(n: int) -> QuantumCircuit:
    """Each qubit entangled with up to four, so that values stay as they are at any width."""
    circuit = QuantumCircuit(n)
    for qubit in range(n):
        circuit.ry(0.4 + 0.2 * (qubit % 3), qubit)
    for qubit in (*range(0, n - 1, 2), *range(1, n - 1, 2)):
        circuit.cx(qubit, qubit + 1)
    for qubit in range(n):
        circuit.rx(0.2 + 0.1 * (qubit % 4), qubit)
    return circuit


def blocks(n: int) -> QuantumCircuit:
    """Chains of up to 4 qubits, side by side."""
    circuit = QuantumCircuit(n)
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        circuit.compose(chain(size), range(first, first + size), inplace=True)
    return circuit


def observables_of(n: int) -> list[Any]:
    """A Hamiltonian in several bases, one qubit, and a parity of several."""
    ising: dict[str, float] = {f"Z{qubit} Z{qubit + 1}": 1.0 for qubit in range(n - 1)}
    ising |= {f"X{qubit}": 0.7 for qubit in range(n)} | {"Y0": -0.4}
    return [ising, f"Z{n - 1}", {"Z" * min(n, 4) + "I" * max(0, n - 4): 1.0}]


def near_a_pole(n: int) -> tuple[QuantumCircuit, list[Any]]:
    """Qubits whose rarer outcome has a probability of 1 in 100, and sums of them."""
    circuit = QuantumCircuit(n)
    circuit.ry(2 * np.arcsin(0.1), range(n))
    return circuit, ["Z0", {f"Z{qubit}": 1 / n for qubit in range(n)}]


def truth_of(circuit: QuantumCircuit, observables: Any, state: Any = None) -> tuple[Array, Array]:
    """Values, and the least probability of a rarer sign among the terms of each."""
    state = Statevector(circuit) if state is None else state
    values, rarer = [], []
    for operator in operators(observables, circuit.num_qubits):
        terms = [state.expectation_value(Pauli(label)).real for label in operator.paulis.to_labels()]
        values.append(float(np.real(operator.coeffs) @ terms))
        rarer.append(min((1 - abs(term)) / 2 for term in terms))
    return np.array(values), np.array(rarer)


# ---- the ways ------------------------------------------------------------------------------------------------------


def groups(kind: str, circuit: QuantumCircuit, observables: Any, shots: int) -> Case:
    """Observables that several circuits measure."""
    planned = expectation.plan(circuit, observables)
    given = [exact(each) for each in planned.circuits]
    truth, rarer = truth_of(circuit, observables)

    def once(rng: np.random.Generator) -> tuple[Array, Array]:
        found = planned.combine([each.drawn(shots, rng) for each in given])
        return found.values, found.standard_errors

    return Case(kind, circuit.num_qubits, shots, truth, shots * rarer, once)


def readout(circuit: QuantumCircuit, observables: Any, shots: int) -> Case:
    """Errors of the readout undone; it is calibrated anew in each repetition."""
    planned = expectation.plan(circuit, observables)
    stage, device = Readout(calibrations=Calibrations()), Device(name="known")
    given = [exact(each, misread) for each in stage.plan(planned.circuits, shots, device).circuits]
    truth, rarer = truth_of(circuit, observables)

    def once(rng: np.random.Generator) -> tuple[Array, Array]:
        to_run = stage.plan(planned.circuits, shots, device)
        outcomes = [each.drawn(number or 0, rng) for each, number in zip(given, to_run.shots, strict=True)]
        found = planned.combine(to_run.combine(outcomes))
        return found.values, found.standard_errors

    return Case("readout", circuit.num_qubits, shots, truth, shots * rarer, once)


#: How values fall with the strength of the noise: as each form of the extrapolation has it.
DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda factor: 1 - 0.08 * factor,
    "exponential": lambda factor: float(np.exp(-0.12 * factor)),
    "exponential, strong": lambda factor: float(np.exp(-0.3 * factor)),
    "richardson": lambda factor: 1 - 0.12 * factor + 0.008 * factor**2,
}


def zero_noise(decay: str, circuit: QuantumCircuit, observables: Any, shots: int) -> Case:
    """Extrapolated to no noise, where the noise has the form that is fitted."""
    planned = expectation.plan(circuit, observables)
    stage = ZeroNoise(extrapolation=decay.split(",")[0])
    given = [
        (exact(each, partial(weaker, factor=DECAYS[decay](factor))), factor)
        for each in planned.circuits
        for factor in stage.factors_of(each)
    ]
    truth, rarer = truth_of(circuit, observables)

    def once(rng: np.random.Generator) -> tuple[Array, Array]:
        outcomes = [with_factor(each.drawn(shots, rng), factor) for each, factor in given]
        found = without_noise(stage, planned.constants, planned.norms, planned.combine, outcomes)
        return found.values, found.standard_errors

    return Case(f"zne, {decay}", circuit.num_qubits, shots, truth, shots * rarer, once)


def with_factor(outcome: Outcomes, factor: float) -> Outcomes:
    return replace(outcome, noise_factor=factor)


def twirling(n: int, shots: int) -> Case:
    """Twirled on a device that turns too far after each cx. The truth is the mean over all ways to twirl."""
    circuit, observables = blocks(n), observables_of(n)
    planned = expectation.plan(circuit, observables)
    truth, rarer = truth_of(circuit, observables, TwirledBlocks(n))

    def once(rng: np.random.Generator) -> tuple[Array, Array]:
        to_run = Twirling().plan(planned.circuits, shots, Device(), int(rng.integers(2**31)))
        outcomes = [
            coherent(each, number or 0, rng) for each, number in zip(to_run.circuits, to_run.shots, strict=True)
        ]
        found = planned.combine(to_run.combine(outcomes))
        return found.values, found.standard_errors

    return Case("twirling", n, shots, truth, shots * rarer, once, costly=True)


def coherent(circuit: QuantumCircuit, shots: int, rng: np.random.Generator) -> Outcomes:
    """Samples of a circuit of blocks where an error follows each cx."""
    places = {bit: number for number, bit in enumerate(circuit.clbits)}
    numbers = {qubit: number for number, qubit in enumerate(circuit.qubits)}
    gates: dict[int, list[Any]] = {}
    for entry in circuit.data:
        if entry.name != "barrier":
            qubits = [numbers[qubit] for qubit in entry.qubits]
            within = tuple(qubit % BLOCK for qubit in qubits)
            gates.setdefault(qubits[0] // BLOCK, []).append((entry, within))
    codes = np.zeros(shots, dtype=np.int64)
    for its_gates in gates.values():
        drawn = sampled(of_block(its_gates), shots, rng)
        measured = [places[bit] for entry, _ in its_gates for bit in entry.clbits]
        for number, place in enumerate(measured):
            codes |= (drawn >> number & 1) << place
    seen, counts = np.unique(codes, return_counts=True)
    bits = (seen[:, None] >> np.arange(circuit.num_clbits) & 1).astype(bool)
    return Outcomes.from_bits(bits, counts, registers=registers_of(circuit), shots=shots)


def of_block(gates: Sequence[Any]) -> Array:
    """Sums of the probabilities of what a block's measurements give, the first of these the lowest bit."""
    key = tuple((entry.name, *entry.params, *qubits) for entry, qubits in gates)
    if key not in _BLOCKS:
        state = np.zeros(1 << BLOCK, dtype=complex)
        state[0] = 1
        for entry, qubits in gates:
            if not entry.clbits:
                matrix = entry.matrix
                state = applied(ERROR.data @ matrix if entry.name == "cx" else matrix, state, qubits, BLOCK)
        order = [BLOCK - 1 - qubits[0] for entry, qubits in reversed(gates) if entry.clbits]
        rest = [axis for axis in range(BLOCK) if axis not in order]
        tensor = (np.abs(state) ** 2).reshape((2,) * BLOCK).transpose([*order, *rest])
        _BLOCKS[key] = cumulated(tensor.reshape(1 << len(order), -1).sum(axis=1))
    return _BLOCKS[key]


#: By the standard gates that they consist of: different copies have many blocks in common.
_BLOCKS: dict[Any, Array] = {}


def applied(matrix: Array, state: Array, qubits: Sequence[int], n: int) -> Array:
    """A gate on a state vector, in Qiskit's order."""
    axes = [n - 1 - qubit for qubit in reversed(qubits)]
    k = len(qubits)
    tensor = np.tensordot(matrix.reshape((2,) * (2 * k)), state.reshape((2,) * n), axes=(range(k, 2 * k), axes))
    return np.moveaxis(tensor, range(k), axes).reshape(-1)


class TwirledBlocks:
    """Where the twirled error, a random Pauli operator, follows each cx of `blocks(n)`."""

    def __init__(self, n: int) -> None:
        self._sizes = [min(BLOCK, n - first) for first in range(0, n, BLOCK)]
        self._states = {size: twirled_state(chain(size)) for size in set(self._sizes)}

    def expectation_value(self, pauli: Pauli) -> Any:
        """The product of those of the blocks."""
        values = [
            self._states[size].expectation_value(pauli[BLOCK * number : BLOCK * number + size])
            for number, size in enumerate(self._sizes)
        ]
        return np.prod(values)


def twirled_state(circuit: QuantumCircuit) -> DensityMatrix:
    """Where the twirled error follows each cx."""
    channel = np.zeros((16, 16), dtype=complex)
    for label in (a + b for a in "IXYZ" for b in "IXYZ"):
        pauli = Pauli(label).to_matrix()
        share = abs(np.trace(pauli @ ERROR.data) / 4) ** 2
        channel += share * np.kron(pauli.conj(), pauli)
    state = DensityMatrix.from_int(0, 2**circuit.num_qubits)
    for entry in circuit.data:
        qubits = [circuit.find_bit(qubit).index for qubit in entry.qubits]
        state = state.evolve(entry.operation, qubits)
        if entry.name == "cx":
            state = state.evolve(SuperOp(channel), qubits)
    return state


def cut(n: int, shots: int, num_samples: int | None, closed: str = "") -> Case:
    """In halves; with `num_samples` other terms are drawn in each repetition."""
    truth, rarer = truth_of(ring(n, closed), observables_of(n))
    number = itertools.count() if num_samples is not None else itertools.repeat(0)

    def once(rng: np.random.Generator) -> tuple[Array, Array]:
        planned, experiments = cut_plan(n, closed, num_samples, next(number))
        found = planned.combine([each.drawn(shots, rng) for each in experiments])
        return found.values, found.standard_errors

    kind = "cutting" if num_samples is None else f"cutting, {num_samples} draws"
    return Case(f"{kind}, {closed}" if closed else kind, n, shots, truth, shots * rarer, once, costly=True)


def ring(n: int, closed: str) -> QuantumCircuit:
    """`circuit_of(n)`, where `closed` names a gate with one of that on its first and last qubit: two cuts for one.

    The 36 terms of two cx have the same weight, so fewer draws than that take none exactly; those of a turned pair
    differ, so some are taken exactly and the others drawn.
    """
    circuit = circuit_of(n)
    if closed == "cx":
        circuit.cx(n - 1, 0)
    elif closed == "rzz":
        circuit.rzz(0.8, n - 1, 0)
    if closed:
        circuit.rx(0.3, range(n))
    return circuit


@lru_cache(maxsize=10_000)
def cut_plan(n: int, closed: str, num_samples: int | None, seed: int) -> tuple[cutting.CutPlan, list[Exact]]:
    """A ring in halves, and what its subexperiments give."""
    planned = cutting.plan(ring(n, closed), observables_of(n), n // 2, num_samples=num_samples, seed=seed)
    return planned, [subexperiment(each) for each in planned.experiments()]


def subexperiment(circuit: QuantumCircuit) -> Exact:
    """What a circuit of standard gates gives."""
    places = {bit: number for number, bit in enumerate([*circuit.qubits, *circuit.clbits])}
    gates = [(each.name, *each.params, *[places[bit] for bit in (*each.qubits, *each.clbits)]) for each in circuit.data]
    key = (tuple((register.name, register.size) for register in circuit.cregs), *gates)
    if key not in _SUBEXPERIMENTS:
        _SUBEXPERIMENTS[key] = Exact(run_circuit(circuit, None, 0))
    return _SUBEXPERIMENTS[key]


#: By their gates: plans with other draws have many in common.
_SUBEXPERIMENTS: dict[Any, Exact] = {}


def of_tomography(n: int, qubits: Sequence[int], shots: int, *, corrected: bool) -> Case:
    """Values that the settings of tomography of some qubits give, with and without correction of the readout."""
    circuit, observables = circuit_of(n), observables_of(len(qubits))
    planned = tomography.plan(circuit, qubits)
    stage, device = Readout(calibrations=Calibrations()), Device(name="known")
    circuits = stage.plan(planned.circuits, shots, device).circuits if corrected else planned.circuits
    given = [exact(each, misread) if corrected else exact(each) for each in circuits]
    state = partial_trace(Statevector(circuit), [qubit for qubit in range(n) if qubit not in qubits])
    truth, rarer = truth_of(QuantumCircuit(len(qubits)), observables, state)

    def once(rng: np.random.Generator) -> tuple[Array, Array]:
        if corrected:
            to_run = stage.plan(planned.circuits, shots, device)
            drawn = [each.drawn(number or 0, rng) for each, number in zip(given, to_run.shots, strict=True)]
            outcomes = to_run.combine(drawn)
        else:
            outcomes = [each.drawn(shots, rng) for each in given]
        found = planned.combine(outcomes, "projected").expectation(observables)
        return found.values, found.standard_errors

    return Case("tomography, readout" if corrected else "tomography", n, shots, truth, shots * rarer, once)


#: Qubits, drawn terms, and the gate that closes a ring, of each cut circuit.
CUT = [
    *[(4, None, ""), (6, None, ""), (16, None, ""), (6, None, "cx")],
    *[(6, 12, "cx"), (6, 30, "rzz"), (16, 12, "cx")],
]


def cases(widest: int) -> list[Callable[[], Case]]:
    """All of them; each is made when it is called."""
    found: list[Callable[[], Case]] = []
    for shots in SHOTS:
        for n in (each for each in (2, 4, 8, 12, 16) if each <= widest):
            found += [
                partial(groups, "groups", circuit_of(n), observables_of(n), shots),
                partial(groups, "near a pole", *near_a_pole(n), shots),
                partial(readout, circuit_of(n), observables_of(n), shots),
                partial(readout, *near_a_pole(n), shots),
            ]
            for decay in ("linear", "exponential", "richardson"):
                found.append(partial(zero_noise, decay, circuit_of(n), observables_of(n), shots))
            if shots >= 1_000:
                found.append(partial(zero_noise, "exponential, strong", bricks(n), observables_of(n), shots))
        found += [partial(twirling, n, shots) for n in (2, 3, 8, 16) if n <= widest]
        for n, samples, closed in CUT:
            if n <= widest:
                found.append(partial(cut, n, shots, samples, closed))
        found.append(partial(of_tomography, 2, (0, 1), shots, corrected=False))
        found.append(partial(of_tomography, 3, (0, 1, 2), shots, corrected=True))
        if widest >= 16:
            found.append(partial(of_tomography, 16, (3, 4, 11), shots, corrected=False))
            found.append(partial(of_tomography, 16, (7, 8), shots, corrected=True))
    return found
