"""Circuits keep their registers, their bit order and their statistics on the way to a worker and back."""

import pickle

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import AnnotatedOperation, Clbit, ControlModifier, InverseModifier, Parameter, PowerModifier, Qubit
from qiskit.circuit import library as lib
from qiskit.circuit.library import (
    C3SXGate,
    CSdgGate,
    DCXGate,
    RC3XGate,
    RCCXGate,
    XXMinusYYGate,
    XXPlusYYGate,
    real_amplitudes,
)
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import DensityMatrix, Kraus, SparsePauliOp, Statevector
from qiskit_aer import AerSimulator

from pilot.errors import DescriptionError
from pilot.quantum import aer as circuits
from pilot.quantum.aer import exact_values, run_circuit, run_circuits, run_sets
from pilot.quantum.aer_simulators import Simulator
from pilot.quantum.deferral import without_final_measurements
from pilot.quantum.packing import pack, unpack
from pilot.quantum.programs.gate_names import truly_named


def two_registers():
    """b[0] is 1, a[0] equals a[1], a fair coin; the qubit behind b is used again after a reset."""
    a, b = ClassicalRegister(2, "a"), ClassicalRegister(1, "b")
    circuit = QuantumCircuit(QuantumRegister(3), a, b)
    circuit.x(0)
    circuit.measure(0, b[0])
    circuit.reset(0)
    circuit.h(1)
    circuit.measure(1, a[1])
    circuit.cx(1, 2)
    circuit.cx(0, 2)
    circuit.measure(2, a[0])
    return circuit


def test_circuits_survive_packing():
    circuits = [random_circuit(3, 4, measure=True, seed=seed) for seed in range(4)] + [two_registers()]
    assert unpack(pack(circuits)) == circuits


def test_registers_and_bit_order_are_qiskits():
    outcomes = run_circuit(two_registers(), 2000, seed=1)
    assert set(outcomes.get_counts()) == set(AerSimulator().run(two_registers(), shots=100).result().get_counts())
    assert sum(outcomes.get_counts().values()) == outcomes.shots == 2000
    assert outcomes.get_counts("b") == {"1": 2000}
    assert set(outcomes.get_counts("a")) == {"00", "11"}
    assert outcomes.bits("a").shape == (2, 2)


def test_bit_zero_is_rightmost():
    circuit = QuantumCircuit(3, 3)
    circuit.x(0)
    circuit.measure(range(3), range(3))
    assert run_circuit(circuit, None, seed=0).get_counts() == {"001": 1.0}


def test_bits_outside_registers_are_kept():
    circuit = QuantumCircuit(1)
    circuit.add_bits([Clbit(), Clbit()])
    circuit.x(0)
    circuit.measure(0, 1)
    assert run_circuit(circuit, None, seed=0).get_counts() == {"10": 1.0}


def test_unknown_register_names_the_known_ones():
    with pytest.raises(KeyError, match=r"\['a', 'b'\]"):
        run_circuit(two_registers(), None, seed=0).bits("c")


@pytest.mark.parametrize("seed", range(10))
def test_probabilities_are_the_state_vectors(seed):
    circuit = random_circuit(4, 5, max_operands=2, seed=seed)
    exact = Statevector(circuit).probabilities()
    circuit.measure_all()
    counts = run_circuit(circuit, None, seed=0).get_counts()
    assert np.allclose([counts.get(f"{outcome:04b}", 0.0) for outcome in range(16)], exact, atol=1e-12)


def test_measurements_in_the_middle_have_aers_statistics():
    circuit = QuantumCircuit(3, 4)
    for qubit, angle in enumerate((0.5, 1.1, 1.9)):
        circuit.ry(angle, qubit)
    circuit.cx(0, 1)
    circuit.measure(1, 3)
    circuit.ry(0.7, 1)
    circuit.cx(1, 2)
    circuit.reset(1)
    circuit.reset(1)
    circuit.cx(2, 1)
    circuit.measure([0, 1, 2], [0, 1, 2])
    shots = 20_000
    sampled = AerSimulator().run(circuit, shots=shots, seed_simulator=5).result().get_counts()
    exact = run_circuit(circuit, None, seed=0).get_counts()
    assert set(sampled) <= set(exact)
    for outcome, probability in exact.items():
        deviation = (probability * (1 - probability) / shots) ** 0.5
        assert abs(sampled.get(outcome, 0) / shots - probability) < 5 * deviation


def test_a_bit_measured_twice_holds_the_later_outcome():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    circuit.x(0)
    circuit.measure(0, 0)
    assert run_circuit(circuit, None, seed=0).get_counts() == {"1": 1.0}


def test_many_measured_bits_are_sampled():
    circuit = QuantumCircuit(40, 40)
    circuit.h(0)
    for qubit in range(39):
        circuit.cx(qubit, qubit + 1)
    circuit.measure(range(40), range(40))
    counts = run_circuit(circuit, 100, seed=3).get_counts()
    assert set(counts) == {"0" * 40, "1" * 40}
    assert sum(counts.values()) == 100


def test_a_circuit_that_acts_on_an_outcome_is_sampled():
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.measure(1, 1)
    assert set(run_circuit(circuit, 100, seed=3).get_counts()) == {"00", "11"}
    with pytest.raises(DescriptionError, match="no exact probabilities"):
        run_circuit(circuit, None, seed=3)


def test_the_seed_decides_the_counts():
    circuit = random_circuit(4, 4, measure=True, seed=1)
    first, again, other = run_circuits(pack([circuit] * 3), 1000, seeds=[7, 7, 8])
    assert first.get_counts() == again.get_counts() != other.get_counts()


def test_outcomes_travel_compactly():
    circuit = random_circuit(12, 8, measure=True, seed=2)
    outcomes = run_circuit(circuit, 1024, seed=1)
    assert len(pickle.dumps(outcomes)) < 12_000
    assert pickle.loads(pickle.dumps(outcomes)).get_counts() == outcomes.get_counts()


def test_a_circuit_without_measurement_is_refused():
    with pytest.raises(DescriptionError, match="measures nothing"):
        run_circuit(QuantumCircuit(2), 10, seed=0)


def test_a_condition_is_no_measurement():
    circuit = QuantumCircuit(1, 1)
    with circuit.if_test((0, 1)):
        circuit.x(0)
    with pytest.raises(DescriptionError, match="measures nothing"):
        run_circuit(circuit, 10, seed=0)
    with circuit.for_loop(range(2)):
        circuit.h(0)
        circuit.measure(0, 0)
    assert sum(run_circuit(circuit, 10, seed=0).get_counts().values()) == 10


def test_final_measurements_are_taken_away_and_no_others():
    circuit = QuantumCircuit(3, 3)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.barrier()
    circuit.measure([1, 2], [1, 2])
    bare = without_final_measurements(circuit)
    assert [instruction.name for instruction in bare.data] == ["h", "measure", "if_else"]
    assert [instruction.name for instruction in circuit.data][-2:] == ["measure", "measure"]


def test_without_measurements_no_classical_bits_stay_and_all_else_does():
    angle = Parameter("a")
    circuit = QuantumCircuit(QuantumRegister(2, "left"), QuantumRegister(1, "right"), global_phase=0.5)
    circuit.rx(angle, 1)
    bare = circuit.copy()
    bare.measure_all()
    bare = without_final_measurements(bare)
    assert bare == circuit
    assert bare.num_clbits == 0
    assert list(bare.parameters) == [angle]


def test_many_shots_are_drawn_in_parts(monkeypatch):
    circuit = QuantumCircuit(16)
    circuit.h(range(4))
    circuit.x(15)
    circuit.measure_all()
    monkeypatch.setattr(circuits, "SHOTS_AT_ONCE", 100)
    first, again, other = (run_circuit(circuit, 250, seed).get_counts() for seed in (1, 1, 2))
    assert first == again != other
    assert {outcome[:12] for outcome in first} == {"1" + "0" * 11}
    assert len(first) == 16
    assert sum(first.values()) == 250


def test_exact_values_of_wide_circuits_that_are_easy():
    clifford = QuantumCircuit(30)  # entangled all over, which a matrix product state would follow for ever
    generator = np.random.default_rng(1)
    for _ in range(300):
        one, other = generator.choice(30, 2, replace=False).tolist()
        clifford.h(one)
        clifford.cx(one, other)
        clifford.s(other)
    back = clifford.compose(clifford.inverse())
    assert exact_values(back, [SparsePauliOp("Z" * 30)])[0] == pytest.approx(1.0)


@pytest.mark.parametrize("gates", [0, 1, 2])
def test_exact_values_of_many_qubits_most_of_which_are_idle(gates):
    circuit = QuantumCircuit(60)
    for qubit in range(gates):
        circuit.ry(0.3, 50 - 30 * qubit)
    circuit.delay(10, 3, "ns")
    circuit.barrier()
    wanted = SparsePauliOp.from_sparse_list(
        [("ZZ", [50, 3], 2.0), ("XZ", [50, 20], 3.0), ("YZ", [1, 50], 5.0), ("", [], 7.0)], num_qubits=60
    )
    z, x = (np.cos(0.3), np.sin(0.3)) if gates else (1.0, 0.0)
    other = z if gates > 1 else 1.0
    found = exact_values(circuit, [wanted, SparsePauliOp("Z" * 60)])
    assert found == pytest.approx([2 * z + 3 * x * other + 7, z * other])


def test_gates_that_aer_does_not_know_keep_their_meaning():
    mine = QuantumCircuit(2, name="mine")
    mine.h(0)
    mine.cx(0, 1)
    circuit = QuantumCircuit(5, global_phase=0.3)
    circuit.h(range(5))
    circuit.append(XXMinusYYGate(0.4, 0.2), [3, 1])
    circuit.append(RC3XGate(), [4, 0, 2, 3])
    circuit.append(C3SXGate(), [1, 4, 3, 0])
    circuit.append(mine.to_gate(), [2, 4])
    circuit.append(CSdgGate(), [2, 0])
    circuit.append(DCXGate(), [1, 2])
    circuit.append(RCCXGate(), [4, 3, 0])
    truth = Statevector(circuit).probabilities()
    circuit.barrier()
    circuit.measure_all()
    counts = run_circuit(circuit, None, seed=0).get_counts()
    assert np.allclose([counts.get(f"{outcome:05b}", 0.0) for outcome in range(32)], truth, atol=1e-12)


def test_unknown_gates_with_free_parameters_are_bound_for_each_set():
    angle = Parameter("a")
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.append(XXPlusYYGate(angle), [0, 1])
    values = np.array([[0.3], [2.0]])
    observables = [SparsePauliOp("IZ"), SparsePauliOp("XY")]
    truth = [
        [Statevector(circuit.assign_parameters(row)).expectation_value(one).real for one in observables]
        for row in values
    ]
    assert np.allclose(exact_values(circuit, observables, values), truth, atol=1e-12)


_P = Parameter("p")


@pytest.mark.parametrize(
    "gate",
    [
        lib.CPhaseGate(_P),
        lib.CRXGate(_P),
        lib.CRYGate(2 * _P, ctrl_state=0),
        lib.CRZGate(-_P),
        lib.CUGate(_P, 2 * _P, 0.3, _P),
        lib.CU1Gate(_P),
        lib.CU3Gate(_P, 0.1, _P),
        lib.MCPhaseGate(_P, 2),
        lib.RZZGate(_P).control(1),
        lib.CRXGate(_P).control(1, ctrl_state=0),
        lib.HamiltonianGate(np.diag([1, 2]), _P),
        QuantumCircuit.from_instructions([(lib.CRXGate(_P), (Qubit(), Qubit()), ())]).to_gate(),
    ],
    ids=lambda gate: gate.name,
)
def test_free_angles_of_controlled_gates_get_their_values(gate):
    circuit = QuantumCircuit(gate.num_qubits)
    circuit.h(circuit.qubits)
    circuit.t(circuit.qubits)
    circuit.append(gate, circuit.qubits)
    circuit.h(circuit.qubits)
    observable = SparsePauliOp("Z" * gate.num_qubits)
    values = np.array([[0.7], [1.9]])
    expected = [[Statevector(circuit.assign_parameters(row)).expectation_value(observable).real] for row in values]
    assert exact_values(circuit, [observable], values) == pytest.approx(np.array(expected), abs=1e-9)
    measured = circuit.measure_all(inplace=False)
    for row, outcomes in zip(values, run_sets(measured, values, None, [0, 0]), strict=True):
        probabilities = Statevector(circuit.assign_parameters(row)).probabilities_dict()
        counts = outcomes.get_counts()
        assert max(abs(counts.get(key, 0) - probabilities.get(key, 0)) for key in counts | probabilities) < 1e-9


def test_parameters_that_no_gate_is_left_with():
    circuit = QuantumCircuit(1, global_phase=_P)
    circuit.x(0)
    circuit.measure_all()
    assert [one.get_counts() for one in run_sets(circuit, np.array([[0.1], [0.2]]), None, [0, 0])] == [{"1": 1.0}] * 2


def _appended(circuit):
    circuit.append(real_amplitudes(2, reps=1).assign_parameters([0.3, 0.4, 0.5, 0.6]), [0, 1])


def _initialized(circuit):
    circuit.initialize([0.6, 0, 0, 0.8], [0, 1])


def _reset_first(circuit):
    circuit.reset([0, 1])
    circuit.ry(0.7, 0)


def _reset_later(circuit):
    circuit.ry(0.7, 0)
    circuit.cx(0, 1)
    circuit.reset(0)


def _measured_in_the_middle(circuit):
    circuit.ry(0.7, 0)
    circuit.add_register(ClassicalRegister(1))
    circuit.measure(0, 0)
    circuit.h(0)
    circuit.cx(0, 1)


@pytest.mark.parametrize("act", [_appended, _initialized, _reset_first, _reset_later, _measured_in_the_middle])
def test_exact_values_of_what_is_not_gates_alone(act):
    circuit = QuantumCircuit(2)
    act(circuit)
    observables = [SparsePauliOp(label) for label in ("ZI", "IZ", "ZZ", "XX", "IX")]
    exact = DensityMatrix(_opened(circuit))
    expected = [exact.expectation_value(observable).real for observable in observables]
    assert exact_values(circuit, observables) == pytest.approx(expected, abs=1e-9)


def _opened(circuit):
    """Channels for what is no gate: `DensityMatrix` takes resets, and a measurement that nothing reads dephases."""
    channels = QuantumCircuit(circuit.num_qubits)
    for entry in circuit.data:
        places = [circuit.find_bit(qubit).index for qubit in entry.qubits]
        if entry.name == "measure":
            channels.append(Kraus([np.diag([1, 0]), np.diag([0, 1])]).to_instruction(), places)
        else:
            channels.append(entry.operation, places)
    return channels


@pytest.mark.parametrize("seed", range(4))
def test_exact_values_with_qubits_that_nothing_reads(seed):
    """A reset leaves a qubit behind, and the simulator leaves out those that no observable needs."""
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(4, 1)
    for qubit in (1, 2):
        circuit.ry(rng.uniform(0, 6), qubit)
        circuit.reset(qubit)
    for step in range(6):
        first, second = rng.permutation(3)[:2].tolist()  # the last qubit is idle
        circuit.ry(rng.uniform(0, 6), first)
        if step in (1, 3):
            circuit.measure(first, 0)
            circuit.rx(0.4, first)
        if step > 3:
            circuit.cx(first, second)
    exact = DensityMatrix(_opened(circuit))
    for label in ("IIIZ", "IIZI", "IZII", "ZIII", "IXYZ", "IYIX"):
        observable = SparsePauliOp(label)
        expected = exact.expectation_value(observable).real
        assert exact_values(circuit, [observable]) == pytest.approx([expected], abs=1e-9), label


@pytest.mark.parametrize("qubits", [[1, 2], [2, 0]])
def test_a_state_set_in_the_middle_leaves_the_other_qubits_as_they_are(qubits):
    """Also on a matrix product state, and inside an instruction."""
    circuit = QuantumCircuit(3, 4)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.ry(0.4, 1)
    circuit.cx(1, 2)
    circuit.measure(0, 3)
    with circuit.if_test((3, 1)):  # so that it is followed shot by shot
        circuit.x(0)
    state = QuantumCircuit(2, name="layer")
    state.initialize([0.1, 0.5, 0.5j, 0.7])
    circuit.append(state.to_instruction(), qubits)
    circuit.ry(0.7, 1)
    circuit.cx(1, 2)
    circuit.measure([0, 1, 2], [0, 1, 2])
    shots = 4000
    found = run_circuit(circuit, shots, 1, Simulator("matrix_product_state")).get_counts()
    expected = run_circuit(circuit, shots, 2, Simulator("statevector")).get_counts()
    for outcome in {*found, *expected}:
        number = expected.get(outcome, 0)
        assert found.get(outcome, 0) == pytest.approx(number, abs=5 * (2 * number + 4) ** 0.5), outcome


def test_a_condition_on_an_idle_qubit_runs():
    circuit = QuantumCircuit(3, 2)
    circuit.cx(2, 0)
    with circuit.if_test((circuit.clbits[1], 0)):
        circuit.x(1)
    circuit.measure(0, 0)
    assert run_circuit(circuit, 20, 0).get_counts() == {"00": 20}


def test_a_condition_that_alone_measures_runs():
    circuit = QuantumCircuit(3, 1)
    with circuit.if_test((0, 0)):
        circuit.x(2)
        circuit.measure(2, 0)
    assert run_circuit(circuit, 20, 0).get_counts() == {"1": 20}


def test_a_multiplexer_without_matrices_is_opened():
    state = QuantumCircuit(2)
    state.prepare_state(np.array([0.6, 0.1, -0.3, 0.7]) / np.linalg.norm([0.6, 0.1, -0.3, 0.7]))
    circuit = truly_named(state.inverse().decompose())
    expected = Statevector(state.inverse()).probabilities_dict()
    circuit.measure_all()
    assert run_circuit(unpack(pack(circuit))[0], None, 0).get_counts() == pytest.approx(expected)


@pytest.mark.parametrize("nested", [False, True])
def test_for_loops_have_exact_results(nested):
    circuit, expected = QuantumCircuit(2), QuantumCircuit(2)
    angle = Parameter("angle")
    circuit.h(0)
    expected.h(0)
    with circuit.for_loop(range(1, 4)) as number:
        circuit.rx(0.3 * number, 0)
        circuit.ry(angle, 1)
        if nested:
            with circuit.for_loop((0, 1)) as inner:
                circuit.rzz(0.2 * inner + 0.1 * number, 0, 1)
    for number in range(1, 4):
        expected.rx(0.3 * number, 0)
        expected.ry(0.7, 1)
        for inner in (0, 1) if nested else ():
            expected.rzz(0.2 * inner + 0.1 * number, 0, 1)
    labels = ["XZ", "YY", "IX"]
    state = Statevector(expected)
    bound = circuit.assign_parameters({angle: 0.7})
    found = exact_values(bound, [SparsePauliOp(label) for label in labels])
    assert np.allclose(found, [state.expectation_value(SparsePauliOp(label)).real for label in labels], atol=1e-12)
    bound.measure_all()
    counts = run_circuit(bound, None, 0).get_counts()
    assert all(abs(counts.get(key, 0) - value) < 1e-12 for key, value in state.probabilities_dict().items())


@pytest.mark.parametrize("modifier", [InverseModifier(), PowerModifier(2), ControlModifier(1)])
def test_annotated_hamiltonians_with_a_free_time(modifier):
    time = Parameter("time")
    hamiltonian = np.array([[1, 0.5], [0.5, -1]])
    circuits = []
    for value in (time, 0.7):
        circuit = QuantumCircuit(2)
        circuit.h([0, 1])
        operation = AnnotatedOperation(lib.HamiltonianGate(hamiltonian, value), [modifier])
        circuit.append(operation, range(operation.num_qubits))
        circuits.append(circuit)
    free, bound = circuits
    labels = ["IY", "ZX", "YI"]
    found = exact_values(truly_named(free), [SparsePauliOp(label) for label in labels], np.array([[0.7]]))
    state = Statevector(bound)
    assert np.allclose(found, [[state.expectation_value(SparsePauliOp(label)).real for label in labels]], atol=1e-9)
