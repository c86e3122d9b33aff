"""PennyLane's tapes and QNodes."""

import numpy as np
import pytest
from qiskit.quantum_info import Operator

from pilot.errors import DescriptionError
from pilot.quantum import load
from pilot.quantum.circuits import run_circuit

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
    with pytest.raises(DescriptionError, match="a tape or QNode is wanted; PauliX"):
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
