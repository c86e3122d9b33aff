"""PennyLane's tapes and QNodes."""

import numpy as np
import pytest
from here import Here
from qiskit.quantum_info import Operator

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.quantum import load
from pilot.quantum.aer import run_circuit

qml = pytest.importorskip("pennylane")


def tape(*operations, measurements=()):
    return qml.tape.QuantumScript(list(operations), list(measurements))


def matrix(given):
    """The circuit's matrix with the first wire as the most significant bit, as PennyLane has it."""
    return Operator(given.to_qiskit()).reverse_qargs().data


OPERATIONS = [
    *[getattr(qml, name)(0) for name in ("H", "X", "Y", "Z", "S", "T", "SX", "Identity")],
    *[getattr(qml, name)(0.3, 0) for name in ("RX", "RY", "RZ", "PhaseShift", "U1")],
    qml.U2(0.1, 0.2, 0),
    qml.U3(0.1, 0.2, 0.3, 0),
    qml.Rot(0.1, 0.2, 0.3, 0),
    *[getattr(qml, name)([0, 1]) for name in ("CNOT", "CY", "CZ", "CH", "SWAP", "ISWAP", "SISWAP", "ECR")],
    *[
        getattr(qml, name)(0.3, [0, 1])
        for name in ("CRX", "CRY", "CRZ", "CPhase", "IsingXX", "IsingYY", "IsingZZ", "IsingXY", "PSWAP")
    ],
    *[getattr(qml, name)([0, 1, 2]) for name in ("Toffoli", "CSWAP", "CCZ")],
    qml.adjoint(qml.T(0)),
    qml.ctrl(qml.RX(0.3, 2), (0, 1), control_values=(0, 1)),
    qml.ctrl(qml.S(0), 1) @ qml.X(2),
    qml.pow(qml.RX(0.3, 0), 2),
    qml.MultiControlledX([0, 1, 2, 3], control_values=[1, 0, 1]),
    qml.QFT([0, 1, 2]),
    qml.QubitUnitary(qml.matrix(qml.CRX(0.4, [0, 1])), [1, 0]),
    qml.DiagonalQubitUnitary(np.exp(1j * np.arange(4)), [0, 1]),
    qml.MultiRZ(0.3, [0, 1, 2]),
    qml.DoubleExcitation(0.3, [0, 1, 2, 3]),
    qml.PauliRot(0.3, "XYZ", [0, 1, 2]),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_operations(operation):
    program = load(tape(operation))
    assert program.format == "pennylane"
    expected = qml.matrix(operation, wire_order=sorted(operation.wires))
    overlap = abs(np.trace(expected.conj().T @ matrix(program))) / len(expected)
    assert overlap == pytest.approx(1, abs=1e-9)


def test_measured_wires_in_their_order():
    script = tape(qml.X("a"), qml.Identity("b"), measurements=[qml.counts(wires=["b", "a"])])
    circuit = load(script).to_qiskit()
    assert run_circuit(circuit, 10, 1).get_counts() == {"10": 10}, "bit 0 is b, bit 1 is a"


def test_expectation_values_measure_nothing():
    circuit = load(tape(qml.H(0), measurements=[qml.expval(qml.Z(0))])).to_qiskit()
    assert circuit.num_clbits == 0


def test_samples_of_an_observable_are_rotated():
    circuit = load(tape(qml.H(0), measurements=[qml.counts(qml.X(0))])).to_qiskit()
    assert run_circuit(circuit, 10, 1).get_counts() == {"0": 10}


@qml.qnode(qml.device("default.qubit"))
def dynamic():
    qml.X(0)
    first = qml.measure(0, reset=True)
    second = qml.measure(1)
    qml.cond(first & ~second, qml.X, qml.Z)(2)
    return qml.probs([0, 2])


def test_measurements_in_the_middle():
    circuit = load(dynamic).to_qiskit()
    assert run_circuit(circuit, 10, 1).get_counts() == {"10 01": 10}, "wire 0 is reset, wire 2 flipped"


@qml.qnode(qml.device("default.qubit"))
def rotated(angle, *, wire=0):
    qml.RX(angle, wire)
    return qml.probs(wire)


def test_qnodes_are_called_with_their_arguments():
    assert load(rotated, args=(0.3,)).to_qiskit().data[0].operation.params == [0.3]
    assert load(rotated, args=(0.3,), kwargs={"wire": 5}).to_qiskit().num_qubits == 6
    tape_of = qml.workflow.construct_tape(rotated)
    assert load(tape_of(0.3)).to_qiskit() == load(rotated, args=(0.3,)).to_qiskit()
    with pytest.raises(DescriptionError, match=r"args=.*angle"):
        load(rotated)


def test_what_is_refused():
    with pytest.raises(DescriptionError, match="postselection"):
        load(tape(*qml.tape.make_qscript(lambda: qml.measure(0, postselect=1))().operations))
    with pytest.raises(DescriptionError, match="3 values"):
        load(tape(qml.RX(np.array([0.1, 0.2, 0.3]), 0)))
    with pytest.raises(DescriptionError, match="circuit: PauliX is not valid; expected a tape or QNode"):
        load(qml.X(0))
    with pytest.raises(DescriptionError, match="object of PennyLane"):
        load(tape(qml.X(0)), "qir")


def test_integer_wires_are_qubits_of_that_number():
    script = tape(qml.X(2), qml.RY(0.4, 0), qml.CNOT([0, 1]), measurements=[qml.counts()])
    circuit = load(script).to_qiskit()
    assert {key[0] for key in run_circuit(circuit, 100, 1).get_counts()} == {"1"}, "wire 2 is bit 2"
    assert load(tape(qml.X(3), qml.X(1))).to_qiskit().num_qubits == 4
    with pytest.raises(DescriptionError, match="wire -1"):
        load(tape(qml.X(-1)))


STATE = (qml.RY(0.4, 0), qml.CNOT([0, 1]))


@pytest.mark.parametrize(
    "measurements",
    [
        [qml.counts(qml.Z(0)), qml.sample(qml.Y(0))],
        [qml.probs(wires=0), qml.sample(qml.X(0))],
        [qml.probs(op=qml.X(0)), qml.counts(qml.Y(0) @ qml.Z(1))],
    ],
    ids=["Z and Y", "wires and X", "X and YZ"],
)
def test_a_wire_in_two_bases_is_refused(measurements):
    with pytest.raises(DescriptionError, match="different bases on wire 0"):
        load(tape(*STATE, measurements=measurements))


@pytest.mark.parametrize(
    "measurements",
    [
        [qml.counts(qml.X(0)), qml.counts(qml.X(0))],
        [qml.probs(op=qml.X(0)), qml.counts(qml.X(0) @ qml.Z(1))],
    ],
    ids=["twice", "in a product"],
)
def test_a_wire_in_one_basis_is_turned_once(measurements):
    circuit = load(tape(*STATE, measurements=measurements)).to_qiskit()
    assert circuit.count_ops()["h"] == 1
    zero = sum(value for key, value in run_circuit(circuit, None, 1).get_counts().items() if key[-1] == "0")
    assert zero == pytest.approx(0.5)


def test_other_labels_take_the_numbers_that_are_left():
    circuit = load(tape(qml.X("b"), qml.X(0), qml.I("a"), qml.X(3))).to_qiskit()
    flipped = [circuit.find_bit(entry.qubits[0]).index for entry in circuit.data if entry.name == "x"]
    assert flipped == [1, 0, 3]
    circuit = load(tape(qml.X("b"), qml.CNOT(["b", "a"]))).to_qiskit()
    assert [circuit.find_bit(qubit).index for qubit in circuit.data[1].qubits] == [0, 1]
    for wire in (-1, 10**6):
        with pytest.raises(DescriptionError, match=f"wire {wire} is not valid"):
            load(tape(qml.X(wire), qml.X("a")))


def test_a_qnodes_device_says_which_wires_there_are():
    def flips():
        qml.X("a")
        return qml.counts()

    named = load(qml.QNode(flips, qml.device("default.qubit", wires=["c", "b", "a"]))).to_qiskit()
    assert run_circuit(named, 10, 1).get_counts() == {"100": 10}, "a is the device's third wire"

    def numbers():
        qml.X(3)
        qml.Hadamard(1)
        qml.Hadamard(1)
        return qml.probs()

    wide = load(qml.QNode(numbers, qml.device("default.qubit", wires=5))).to_qiskit()
    assert run_circuit(wide, 10, 1).get_counts() == {"01000": 10}


def test_ones_own_operations_are_what_they_are_made_of():
    class Hadamard(qml.operation.Operation):
        num_wires = 1

        @staticmethod
        def compute_decomposition(wires):
            return [qml.RY(1.0, wires)]

    class Barrier(Hadamard):
        pass

    for own in (Hadamard, Barrier):
        circuit = load(tape(own(0))).to_qiskit()
        assert [entry.name for entry in circuit.data] == ["ry"]
    adjoint = load(tape(qml.adjoint(Hadamard(0)))).to_qiskit()
    assert Operator(adjoint).equiv(Operator(load(tape(qml.RY(-1.0, 0))).to_qiskit()))


def test_observables_of_a_tape_are_those_of_its_state():
    script = tape(qml.RY(0.4, 0), qml.CNOT([0, 1]), measurements=[qml.counts(qml.X(0)), qml.sample(qml.Y(0))])
    (task,) = Here().submit_tasks([TaskDescription(circuit=script, observables=["Z0", "X0 X1"])])
    np.testing.assert_allclose(task.result().values, [np.cos(0.4), np.sin(0.4)], atol=1e-9)


def test_a_measurement_without_a_basis_is_refused():
    sparse = qml.SparseHamiltonian(qml.X(0).sparse_matrix(), [0])
    with pytest.raises(DescriptionError, match="SparseHamiltonian has no gates"):
        load(tape(qml.X(0), measurements=[qml.counts(sparse)]))


def test_a_complex_angle_is_refused():
    with pytest.raises(DescriptionError, match="expected a real number"):
        load(tape(qml.RX(0.1 + 0.2j, 0)))
