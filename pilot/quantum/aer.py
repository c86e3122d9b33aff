"""How circuits are simulated in a worker.

A worker process keeps its simulator and its pass manager:
building the second costs a hundred times what running it does. A circuit with few measured bits is simulated
once for the exact probabilities of its outcomes, from which its counts are drawn: half the time of Aer's own
sampling.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import (
    Barrier,
    CircuitError,
    ClassicalRegister,
    ControlFlowOp,
    ControlledGate,
    Delay,
    Gate,
    Instruction,
    ParameterExpression,
)
from qiskit.circuit.library import IGate, Initialize, UnitaryGate
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.library import SaveExpectationValue, SaveProbabilities

from pilot.errors import DescriptionError, QPUError
from pilot.quantum import costs, lightning
from pilot.quantum.blocks import without_boxes
from pilot.quantum.deferral import defer_measurements, inlined, without_final_measurements
from pilot.quantum.outcomes import Outcomes, draw_seeds, registers_of
from pilot.quantum.packing import pack, unpack
from pilot.quantum.programs.definitions import Change, changed, defined, expanded, is_library, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from qiskit.circuit import Clbit, Operation, Parameter, Qubit
    from qiskit.transpiler import PassManager

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
#: What Aer 0.18 says where it has left out a qubit that only the body of a condition uses.
_TRUNCATED = "unordered_map::at"
#: Methods that draw shots faster than they list probabilities.
_SAMPLED = frozenset({"matrix_product_state", "stabilizer"})


def run_circuits(payload: bytes, shots: int | None, seeds: Sequence[int]) -> list[Outcomes]:
    """Simulate the circuits in `payload` on this process's Aer simulator. This is what a worker runs.

    Args:
        payload: circuits as `pack` wrote them.
        shots: samples a circuit; None for the exact probabilities.
        seeds: one a circuit. The same seed gives the same counts on whatever worker.

    Returns:
        One `Outcomes` a circuit, in order.

    Raises:
        DescriptionError: a circuit measures nothing, or has no exact probabilities that could be computed.
    """
    return [run_circuit(circuit, shots, seed) for circuit, seed in zip(unpack(payload), seeds, strict=True)]


def run_circuit(circuit: QuantumCircuit, shots: int | None, seed: int, simulator: Simulator = AUTOMATIC) -> Outcomes:
    """Simulate one circuit: `run_circuits` without the journey, on the simulator that is wanted."""
    if not any(instruction.clbits for instruction in circuit.data):
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
    sets = _run_bound(gates, circuit.parameters, values, Simulator("statevector"))
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
    20 qubits, above with what `simulation` predicts to be fastest. Measurements at the circuit's end are left out.

    Args:
        circuit: on as many qubits as the observables.
        observables: with real coefficients.
        values: sets of values for the circuit's parameters, `(n_sets, n_parameters)` in the order of
            ``circuit.parameters``; then the result is `(n_sets, n_observables)`, with Aer from one run.

    Raises:
        DescriptionError: as `state_of`.
    """
    gates, qubits = state_of(circuit)
    simulator, seconds = _for_values(gates, sum(map(len, observables)), values)
    found = _by_lightning(gates, qubits, observables, list(circuit.parameters), values, seconds)
    if found is not None:
        return found
    labels = [f"value {number}" for number in range(len(observables))]
    places = [gates.find_bit(qubit).index for qubit in qubits]
    for label, observable in zip(labels, observables, strict=True):
        # of all qubits: where the circuit has idle ones, Aer 0.18 takes the value of some for that of others
        # (qiskit-aer#2442)
        whole = observable.apply_layout(places, gates.num_qubits)
        gates.append(SaveExpectationValue(whole, label=label), gates.qubits)
    if values is None:
        data = _run(gates, shots=1, seed=0, simulator=simulator)
        return np.array([data[label] for label in labels])
    sets = _run_bound(gates, circuit.parameters, values, simulator)
    return np.array([[data[label] for label in labels] for data in sets])


def state_of(circuit: QuantumCircuit) -> tuple[QuantumCircuit, list[Qubit]]:
    """Gates that make the circuit's state, and the qubits that hold it, in the circuit's order.

    Measurements at the end are left out; those in the middle, and resets, take a further qubit each, so that the
    state of the circuit's qubits is the mixture of all outcomes.

    Raises:
        DescriptionError: the circuit acts on outcomes, does something else than gates, measurements and resets, or
            needs too many qubits for that.
    """
    bare = without_final_measurements(inlined(circuit))
    if all(isinstance(entry.operation, Gate | Barrier | Delay) for entry in bare.data):
        return bare, list(bare.qubits)
    deferred = defer_measurements(bare, keep_qubits=True)
    if deferred is None or deferred.gates.num_qubits > max(MAX_DEFERRED_QUBITS, circuit.num_qubits):
        other = {entry.name for entry in bare.data if not isinstance(entry.operation, Gate | Barrier | Delay)}
        raise DescriptionError(
            f"circuit {circuit.name!r} has no exact expectation values here: it has {sorted(other)} in its middle, and "
            f"acts on outcomes or needs over {MAX_DEFERRED_QUBITS} qubits for that; give a number of shots",
            field="circuit",
        )
    return deferred.gates, [deferred.wires[qubit] for qubit in circuit.qubits]


def _without_probabilities(circuit: QuantumCircuit) -> DescriptionError:
    return DescriptionError(
        f"circuit {circuit.name!r} has no exact probabilities here: it acts on measured bits, is not all gates, "
        f"measurements and resets, or needs over {MAX_DEFERRED_QUBITS} qubits for that; give a number of shots",
        field="circuit",
    )


def check_known(circuit: QuantumCircuit) -> None:
    """Refuse variables, and operations that Aer does not know and that nothing says the meaning of, also inside others.

    Raises:
        DescriptionError: there is one; the message names it.
    """
    known = _gate_names(AUTOMATIC)
    if _has_variables(circuit):
        raise DescriptionError(
            f"circuit {circuit.name!r} has variables, which simulators cannot follow: write what they hold into "
            "classical registers by measurements, and act on these",
            field="circuit",
        )
    if known.issuperset(_names(circuit)):
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
                    f"circuit {circuit.name!r} has {base.name!r}, which simulators do not know, and nothing says what "
                    "it is made of: give it a definition (QuantumCircuit.to_gate()), or name a QPU that knows it",
                    field="circuit",
                )
            if made_of is not None and not is_library(base):
                check_known(made_of)


def _has_variables(circuit: QuantumCircuit) -> bool:
    """Variables of Qiskit's (`add_var`), not bits that are set."""
    if next(circuit.iter_vars(), None) is not None:
        return True
    blocks = [
        block
        for entry in circuit.data
        if isinstance(entry.operation, ControlFlowOp)
        for block in entry.operation.blocks
    ]
    return any(map(_has_variables, blocks))


def _for_values(gates: QuantumCircuit, terms: int, values: NDArray[np.float64] | None) -> tuple[Simulator, float]:
    """Which of Aer's methods is best for expectation values, with the threads that this worker may have; and the
    seconds that it is predicted to take, for each set of values."""
    measuring = terms * lightning.TERM_AMPLITUDE * 2.0**gates.num_qubits
    if gates.num_qubits <= MAX_STATE_VECTOR_QUBITS:
        sets = values is not None and len(values) > 1
        seconds = costs.state_vector_seconds(gates.num_qubits, len(gates.data), sets=sets)
        return Simulator("statevector"), seconds + measuring
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    estimates = costs.predict(costs.facts(gates), None, cores=threads)
    best = costs.choose(estimates) or estimates[0]
    measuring = measuring if best.method == "statevector" else 0.0
    return Simulator(best.method, threads=threads), best.seconds + measuring


def _by_lightning(
    gates: QuantumCircuit,
    qubits: Sequence[Qubit],
    observables: Sequence[SparsePauliOp],
    parameters: Sequence[Parameter],
    values: NDArray[np.float64] | None,
    seconds: float,
) -> NDArray[np.float64] | None:
    """`exact_values` by lightning; None where it cannot, or is not predicted to take less than ``seconds``, for each
    set of values."""
    width, terms = gates.num_qubits, sum(map(len, observables))
    if values is not None:
        seconds -= _BIND_GATE * len(gates.data)
    if width > lightning.MAX_QUBITS or lightning.least_seconds(len(gates.data), width, terms) >= seconds:
        return None
    if not lightning.is_available():
        return None
    wires = [gates.find_bit(qubit).index for qubit in qubits]
    found: list[NDArray[np.float64]] = []
    for row in [None] if values is None else values.tolist():
        bound = gates
        if row is not None:
            bound = gates.assign_parameters(dict(zip(parameters, row, strict=True)), strict=False)
        steps = lightning.steps_of(bound)
        if steps is None or (not found and lightning.seconds(steps, width, terms) >= seconds):
            return None
        found.append(lightning.values_after(steps, wires, observables, width))
    return found[0] if values is None else np.array(found)


def warm_up() -> int:
    """Import Qiskit and build what a worker keeps, ahead of its first circuit. Returns the process id."""
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    run_circuits(pack(circuit), 1, [0])
    _pass_manager(AUTOMATIC)
    return os.getpid()


def _deferred(circuit: QuantumCircuit) -> tuple[QuantumCircuit, dict[Clbit, Qubit]]:
    """The circuit's gates and what holds its measured bits; the circuit and nothing where there is no way."""
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
    return _run(gates, shots=1, seed=0, simulator=simulator)["probabilities"]


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
        _run(circuit, shots=min(shots, SHOTS_AT_ONCE), seed=seed, simulator=simulator)["counts"]
    )
    for number, first in enumerate(range(SHOTS_AT_ONCE, shots, SHOTS_AT_ONCE), start=1):
        fresh = draw_seeds([seed, number], 1)[0]
        part = min(SHOTS_AT_ONCE, shots - first)
        counts.update(_run(circuit, shots=part, seed=fresh, simulator=simulator)["counts"])
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


def _run(circuit: QuantumCircuit, *, shots: int, seed: int, simulator: Simulator) -> dict[str, Any]:
    """Aer's data for one circuit."""
    if simulator.method == "automatic" and circuit.num_qubits > _widest(simulator):
        simulator = simulator._replace(method="matrix_product_state")
    known = _known(circuit, simulator)
    options: dict[str, Any] = {"shots": shots, "seed_simulator": seed}
    if "store" in _names(known):  # Aer 0.18 ends the process where shots branch in a circuit that sets bits
        options["shot_branching_enable"] = False
    result = _simulator(simulator).run(known, **options).result()
    if not result.success and _TRUNCATED in str(result.status):
        result = _simulator(simulator).run(known, **options, enable_truncation=False).result()
    return _data(result, 0)


def _run_bound(
    circuit: QuantumCircuit, parameters: Iterable[Parameter], values: NDArray[np.float64], simulator: Simulator
) -> list[dict[str, Any]]:
    """Aer's data for each set of values of the parameters."""
    parameters = list(parameters)
    try:
        known = _bindable(_known(circuit, simulator))
        if _names(known) - _gate_names(simulator):
            known = _bindable(_pass_manager(simulator).run(known))
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
    names = _gate_names(simulator)
    circuit = without_boxes(circuit)
    if "delay" in _names(circuit):
        circuit = changed(circuit, _Undelayed())
    circuit = changed(circuit, _Prepared())
    if names.issuperset(_names(circuit)):
        return circuit
    if simulator.method in _TAKES_MATRICES:
        circuit = _with_matrices(circuit, names)
        if names.issuperset(_names(circuit)):
            return circuit
    known: QuantumCircuit = _pass_manager(simulator).run(circuit)
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


def _names(circuit: QuantumCircuit) -> set[str]:
    """Of its instructions and those in the bodies of its control flow, but for barriers."""
    names = set(circuit.count_ops()) - {"barrier"}
    if circuit.has_control_flow_op():
        for entry in circuit.data:
            if isinstance(entry.operation, ControlFlowOp):
                names.update(*map(_names, entry.operation.blocks))
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
        ):
            with contextlib.suppress(CircuitError):  # it has a definition only
                # a copy: Aer 0.18 transposes matrices that are read-only, as those of some gates are
                entry = entry.replace(operation=UnitaryGate(np.array(gate.to_matrix())))
        rewritten._append(entry)
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
def _gate_names(simulator: Simulator) -> frozenset[str]:
    return frozenset(_simulator(simulator).operation_names)


@lru_cache(maxsize=8)
def _pass_manager(simulator: Simulator) -> PassManager:
    return generate_preset_pass_manager(optimization_level=0, backend=_simulator(simulator))
