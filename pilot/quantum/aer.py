"""How circuits are simulated in a worker: their outcomes, and exact expectation values.

A circuit with few measured bits is simulated once for the exact probabilities of its outcomes, from which its counts
are drawn: half the time of Aer's own sampling. The simulators themselves are in `aer_simulators`.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import (
    Barrier,
    ClassicalRegister,
    Delay,
    Gate,
)
from qiskit.quantum_info import PauliList, SparsePauliOp
from qiskit_aer.library import SaveExpectationValue, SaveProbabilities

from pilot.errors import DescriptionError
from pilot.interfaces.qpus import measures
from pilot.quantum import costs, lightning
from pilot.quantum.aer_simulators import AUTOMATIC, Simulator, data_of, data_of_sets, pass_manager
from pilot.quantum.deferral import defer_measurements, inlined, without_final_measurements
from pilot.quantum.outcomes import Outcomes, draw_seeds, registers_of
from pilot.quantum.packing import pack, unpack
from pilot.quantum.programs.definitions import append

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from qiskit.circuit import Clbit, Parameter, Qubit

#: Counts of up to this many measured bits are drawn from the exact probabilities of all their outcomes.
MAX_LISTED_BITS = 14
#: Measurements are moved to the end while the circuit then has at most this many qubits (1 GiB of
#: amplitudes).
MAX_DEFERRED_QUBITS = 26
#: Aer draws so many shots in one go at most: it keeps each of them, in 100 to 300 bytes.
SHOTS_AT_ONCE = 1 << 20
#: Exact values of up to this many qubits come from the state vector.
MAX_STATE_VECTOR_QUBITS = 20


#: Seconds a gate to put values into a circuit, where each set is simulated for itself.
_BIND_GATE = 5e-6


class State(NamedTuple):
    """A circuit as the gates that make the state of its qubits."""

    #: On the qubits that it uses alone: idle ones would double what the others take.
    gates: QuantumCircuit
    #: The places in `gates` of the qubits that hold it, in the order of the circuit's; None: that one is 0.
    places: Sequence[int | None]
    #: The circuit's, in its order; `gates` may have fewer.
    parameters: Sequence[Parameter]


#: Methods that draw shots faster than they list probabilities.
_SAMPLED = frozenset({"matrix_product_state", "stabilizer"})


def run_circuits(payload: bytes, shots: int | None, seeds: Sequence[int]) -> list[Outcomes]:
    """Simulate the circuits in `payload` on this process's Aer simulator. This is what a worker runs.

    Args:
        payload: circuits as `pack` wrote them.
        shots: samples a circuit; None for the exact probabilities.
        seeds: one a circuit. The same seed gives the same counts on every worker.

    Returns:
        One `Outcomes` a circuit, in order.

    Raises:
        DescriptionError: a circuit measures nothing, or has no exact probabilities that could be computed.
    """
    return [run_circuit(circuit, shots, seed) for circuit, seed in zip(unpack(payload), seeds, strict=True)]


def run_circuit(circuit: QuantumCircuit, shots: int | None, seed: int, simulator: Simulator = AUTOMATIC) -> Outcomes:
    """Simulate one circuit: `run_circuits` without the payload, on a given simulator."""
    if not measures(circuit):
        raise DescriptionError(f"circuit {circuit.name!r} measures nothing: add `circuit.measure_all()`")
    sampled = shots is not None and simulator.method in _SAMPLED
    gates, holder = _deferred(circuit)
    if sampled and simulator.method == "stabilizer":
        gates, holder = circuit, {}
    measured = list(holder) or circuit.clbits
    if holder and not sampled and len(holder) <= (MAX_DEFERRED_QUBITS if shots is None else MAX_LISTED_BITS):
        return drawn(circuit, measured, _probabilities(gates, list(holder.values()), simulator), shots, seed)
    if shots is None:
        raise _without_probabilities(circuit)
    outcomes, weights = _sample(_measured(gates, list(holder.values())), shots, seed, simulator)
    return _outcomes_of(circuit, measured, outcomes, weights, shots)


def run_sets(
    circuit: QuantumCircuit, values: NDArray[np.float64], shots: int | None, seeds: Sequence[int]
) -> list[Outcomes] | None:
    """Simulate one circuit with many sets of values for its parameters, in one run of the simulator.

    Args:
        circuit: with free parameters.
        values: `(n_sets, n_parameters)`, in the order of ``circuit.parameters``.
        shots: of each set; None: exact.
        seeds: one a set.

    Returns:
        One `Outcomes` a set; None where counts are not drawn from the probabilities of all outcomes (`run_circuit`
        says when), so that each set has to be run for itself.
    """
    gates, holder = _deferred(circuit)
    if not 0 < len(holder) <= MAX_LISTED_BITS or gates.num_qubits > MAX_STATE_VECTOR_QUBITS:
        return None
    gates.append(SaveProbabilities(len(holder)), list(holder.values()))
    sets = data_of_sets(gates, circuit.parameters, values, Simulator("statevector"))
    return [
        drawn(circuit, list(holder), data["probabilities"], shots, seed) for data, seed in zip(sets, seeds, strict=True)
    ]


def drawn(
    circuit: QuantumCircuit, measured: Sequence[Clbit], probabilities: Any, shots: int | None, seed: int
) -> Outcomes:
    """Outcomes of a circuit from the probabilities of all of them.

    Args:
        circuit: whose bits and registers the outcomes have; bits that are not measured are 0.
        measured: its measured bits.
        probabilities: `(2 ** len(measured),)`, `measured[0]` the lowest digit; they are made to add up to 1.
        shots: samples; None: the probabilities themselves.
        seed: of the sampling.
    """
    return _outcomes_of(circuit, measured, *_draw(_normalised(probabilities), shots, seed), shots)


def _outcomes_of(
    circuit: QuantumCircuit,
    measured: Sequence[Clbit],
    outcomes: list[int],
    weights: NDArray[np.int64] | NDArray[np.float64],
    shots: int | None,
) -> Outcomes:
    """What the circuit gave; bit `j` of an outcome is that of `measured[j]`."""
    place = {clbit: index for index, clbit in enumerate(circuit.clbits)}
    bits = np.zeros((len(outcomes), circuit.num_clbits), dtype=bool)
    bits[:, [place[clbit] for clbit in measured]] = _digits(outcomes, len(measured))
    return Outcomes.from_bits(bits, weights, registers=registers_of(circuit), shots=shots)


def exact_value(circuit: QuantumCircuit, observable: str) -> float:
    """The expectation value of a Pauli string, qubit 0 rightmost, in the state that the circuit's gates make."""
    return float(exact_values(circuit, [SparsePauliOp(observable)])[0])


def exact_values(
    circuit: QuantumCircuit, observables: Sequence[SparsePauliOp], values: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Expectation values in the state that the circuit's gates make, `(n_observables,)`.

    By PennyLane's lightning where it is installed and predicted to be fastest; else by Aer, with the state vector up to
    20 qubits, above with what `costs` predicts to be fastest. Measurements at the circuit's end are left out.

    Args:
        circuit: on as many qubits as the observables.
        observables: with real coefficients.
        values: sets of values for the circuit's parameters, `(n_sets, n_parameters)` in the order of
            ``circuit.parameters``; then the result is `(n_sets, n_observables)`, with Aer from one run.

    Raises:
        DescriptionError: as `state_of`.
    """
    return values_in(state_of(circuit), observables, values)


def values_in(
    state: State, observables: Sequence[SparsePauliOp], values: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """`exact_values` of a circuit whose state is known; the state stays as it is."""
    observables = [_on_gates(state, one) for one in observables]
    simulator, seconds = _for_values(state.gates, sum(map(len, observables)), values)
    found = _by_lightning(state, observables, values, seconds)
    if found is not None:
        return found
    labels = [f"value {number}" for number in range(len(observables))]
    gates = state.gates.copy()
    for label, observable in zip(labels, observables, strict=True):
        gates.append(SaveExpectationValue(observable, label=label), gates.qubits)
    if values is None:
        data = data_of(gates, shots=1, seed=0, simulator=simulator)
        return np.array([data[label] for label in labels])
    sets = data_of_sets(gates, state.parameters, values, simulator)
    return np.array([[data[label] for label in labels] for data in sets])


def state_of(circuit: QuantumCircuit) -> State:
    """What makes the state of the circuit's qubits.

    Measurements at the end are left out; those in the middle, and resets, take a further qubit each, so that the
    state of the circuit's qubits is the mixture of all outcomes.

    Raises:
        DescriptionError: the circuit acts on outcomes, does something else than gates, measurements and resets, or
            needs too many qubits for that.
    """
    bare = without_final_measurements(inlined(circuit))
    if all(isinstance(entry.operation, Gate | Barrier | Delay) for entry in bare.data):
        return _state(bare, bare.qubits, circuit)
    deferred = defer_measurements(bare, keep_qubits=True)
    if deferred is None or deferred.gates.num_qubits > max(MAX_DEFERRED_QUBITS, circuit.num_qubits):
        other = {entry.name for entry in bare.data if not isinstance(entry.operation, Gate | Barrier | Delay)}
        raise DescriptionError(
            f"circuit {circuit.name!r} has no exact expectation values here: it has {sorted(other)} in its middle, and "
            f"acts on outcomes or needs over {MAX_DEFERRED_QUBITS} qubits for that; give a number of shots",
            field="circuit",
        )
    return _state(deferred.gates, [deferred.wires[qubit] for qubit in circuit.qubits], circuit)


def _state(gates: QuantumCircuit, holders: Sequence[Qubit], circuit: QuantumCircuit) -> State:
    """The state of a circuit by gates that make it, on the qubits that they use; on one where they use none."""
    acting = [entry for entry in gates.data if not isinstance(entry.operation, Barrier | Delay)]
    used = {qubit for entry in acting for qubit in entry.qubits} or {gates.qubits[0]}
    small = QuantumCircuit([qubit for qubit in gates.qubits if qubit in used], global_phase=gates.global_phase)
    append(small, acting)
    places = [small.find_bit(qubit).index if qubit in used else None for qubit in holders]
    return State(small, places, circuit.parameters)


def _on_gates(state: State, observable: SparsePauliOp) -> SparsePauliOp:
    """An observable of the circuit's qubits as one of all qubits that the gates are on. On a qubit that is 0, Z is 1,
    and the mean of X and Y is 0."""
    idle = [number for number, place in enumerate(state.places) if place is None]
    if idle:
        kept = [number for number, place in enumerate(state.places) if place is not None]
        terms = observable.paulis
        coefficients = observable.coeffs * ~terms.x[:, idle].any(axis=1)
        observable = SparsePauliOp(PauliList.from_symplectic(terms.z[:, kept], terms.x[:, kept]), coefficients)
    places = [place for place in state.places if place is not None]
    return observable.apply_layout(places, state.gates.num_qubits)


def _without_probabilities(circuit: QuantumCircuit) -> DescriptionError:
    return DescriptionError(
        f"circuit {circuit.name!r} has no exact probabilities here: it acts on measured bits, is not all gates, "
        f"measurements and resets, or needs over {MAX_DEFERRED_QUBITS} qubits for that; give a number of shots",
        field="circuit",
    )


def _for_values(gates: QuantumCircuit, terms: int, values: NDArray[np.float64] | None) -> tuple[Simulator, float]:
    """Which of Aer's methods is best for expectation values, with the threads that this worker may have; and the
    seconds that it is predicted to take, for each set of values."""
    measuring = terms * lightning.TERM_AMPLITUDE * 2.0**gates.num_qubits
    if gates.num_qubits <= MAX_STATE_VECTOR_QUBITS:
        sets = values is not None and len(values) > 1
        seconds = costs.state_vector_seconds(gates.num_qubits, len(gates.data), sets=sets)
        return Simulator("statevector"), seconds + measuring
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    estimates = costs.estimate(costs.facts(gates), None, cores=threads)
    best = costs.choose(estimates) or estimates[0]
    measuring = measuring if best.method == "statevector" else 0.0
    return Simulator(best.method, threads=threads), best.seconds + measuring


def _by_lightning(
    state: State, observables: Sequence[SparsePauliOp], values: NDArray[np.float64] | None, seconds: float
) -> NDArray[np.float64] | None:
    """`values_in` by lightning; None where it cannot, or is not predicted to take less than ``seconds``, for each
    set of values."""
    gates = state.gates
    width, terms = gates.num_qubits, sum(map(len, observables))
    if values is not None:
        seconds -= _BIND_GATE * len(gates.data)
    if width > lightning.MAX_QUBITS or lightning.least_seconds(len(gates.data), width, terms) >= seconds:
        return None
    if not lightning.is_available():
        return None
    found: list[NDArray[np.float64]] = []
    for row in [None] if values is None else values.tolist():
        bound = gates
        if row is not None:
            bound = gates.assign_parameters(dict(zip(state.parameters, row, strict=True)), strict=False)
        steps = lightning.steps_of(bound)
        if steps is None or (not found and lightning.seconds(steps, width, terms) >= seconds):
            return None
        found.append(lightning.values_after(steps, range(width), observables, width))
    return found[0] if values is None else np.array(found)


def warm_up() -> int:
    """Import Qiskit and build what a worker keeps, ahead of its first circuit. Returns the process id."""
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    run_circuits(pack(circuit), 1, [0])
    pass_manager(AUTOMATIC)
    return os.getpid()


def _deferred(circuit: QuantumCircuit) -> tuple[QuantumCircuit, dict[Clbit, Qubit]]:
    """The circuit's gates, and the qubits that hold its measured bits; the circuit and nothing if this is not
    possible."""
    deferred = defer_measurements(circuit)
    if deferred is None:
        return circuit, {}
    gates, holder = deferred.gates, deferred.holder
    if gates.num_qubits > max(MAX_DEFERRED_QUBITS, circuit.num_qubits):
        return circuit, {}
    return gates, holder


def _probabilities(gates: QuantumCircuit, qubits: list[Qubit], simulator: Simulator) -> Any:
    """The probability of each outcome of `qubits`, `(2 ** len(qubits),)`; `qubits[0]` is the lowest bit."""
    gates.append(SaveProbabilities(len(qubits)), qubits)
    return data_of(gates, shots=1, seed=0, simulator=simulator)["probabilities"]


def _normalised(given: Any) -> NDArray[np.float64]:
    probabilities = np.asarray(given, dtype=np.float64).clip(min=0)
    normalised: NDArray[np.float64] = probabilities / probabilities.sum()
    return normalised


def _draw(
    probabilities: NDArray[np.float64], shots: int | None, seed: int
) -> tuple[list[int], NDArray[np.int64] | NDArray[np.float64]]:
    """Outcomes with a weight above zero, and the weights: probabilities, or counts drawn from them."""
    weights: NDArray[np.int64] | NDArray[np.float64] = probabilities
    if shots is not None:
        weights = np.random.default_rng(seed).multinomial(shots, probabilities)
    seen = np.flatnonzero(weights)
    return seen.tolist(), weights[seen]


def _sample(
    circuit: QuantumCircuit, shots: int, seed: int, simulator: Simulator
) -> tuple[list[int], NDArray[np.int64]]:
    """Outcomes and counts by Aer's own sampling; bit `j` of an outcome is the circuit's classical bit `j`."""
    counts: Counter[str] = Counter(
        data_of(circuit, shots=min(shots, SHOTS_AT_ONCE), seed=seed, simulator=simulator)["counts"]
    )
    for number, first in enumerate(range(SHOTS_AT_ONCE, shots, SHOTS_AT_ONCE), start=1):
        fresh = draw_seeds([seed, number], 1)[0]
        part = min(SHOTS_AT_ONCE, shots - first)
        counts.update(data_of(circuit, shots=part, seed=fresh, simulator=simulator)["counts"])
    return [int(outcome, 16) for outcome in counts], np.array(list(counts.values()), dtype=np.int64)


def _measured(gates: QuantumCircuit, qubits: list[Qubit]) -> QuantumCircuit:
    """`gates` with `qubits` measured at their end; a circuit that measures for itself is left as it is."""
    if not qubits:
        return gates
    register = ClassicalRegister(len(qubits))
    gates.add_register(register)
    gates.measure(qubits, register)
    return gates


def _digits(outcomes: list[int], width: int) -> NDArray[np.uint8]:
    """The binary digits of `outcomes`, `(len(outcomes), width)`, the lowest first."""
    size = (width + 7) // 8
    octets = np.frombuffer(b"".join(outcome.to_bytes(size, "little") for outcome in outcomes), dtype=np.uint8)
    return np.unpackbits(octets.reshape(len(outcomes), size), axis=1, count=width, bitorder="little")
