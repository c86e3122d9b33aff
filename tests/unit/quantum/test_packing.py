"""Circuits come back from their journey as they were."""

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import AnnotatedOperation, Clbit, ControlModifier, Gate, Instruction, Parameter, Qubit
from qiskit.circuit import library as lib
from qiskit.circuit.classical import expr
from qiskit.quantum_info import Operator, SparsePauliOp

from pilot.errors import DescriptionError
from pilot.quantum.aer import run_circuit
from pilot.quantum.compilation import structure
from pilot.quantum.packing import pack, unpack
from pilot.quantum.programs import load

STATE = np.array([0.6, 0.1, -0.3, 0.7]) / np.linalg.norm([0.6, 0.1, -0.3, 0.7])

GATES = [
    lib.StatePreparation(STATE).inverse(),
    lib.StatePreparation(STATE).control(1),
    lib.ModularAdderGate(2),
    lib.AndGate(3),
    lib.OrGate(2).inverse(annotated=True),
    lib.BitwiseXorGate(2, 1),
    lib.InnerProductGate(2),
    lib.MSGate(3, 0.3),
    lib.LinearPauliRotationsGate(2),
    lib.IntegerComparatorGate(2, 1),
    lib.UCGate([np.eye(2), np.array([[0, 1], [1, 0]])]),
    lib.Isometry(STATE, 0, 0),
    lib.Isometry(STATE, 0, 0).inverse(),
    lib.CUGate(0.1, 0.2, 0.3, 0.4).control(1),
    lib.MCMTGate(lib.XGate(), 2, 1, ctrl_state=1),
    lib.UniformSuperpositionGate(3, 2),
    lib.HamiltonianGate(np.diag([1, 2]), 0.3),
    lib.MultiplierGate(1).control(1, annotated=True),
    lib.ExactReciprocalGate(2, 0.5),
    lib.UnitaryGate(Operator(lib.QFTGate(3)).data),
]


def nested(gate):
    inner = QuantumCircuit(gate.num_qubits, name="inner")
    inner.append(gate, range(gate.num_qubits))
    return inner.to_gate() if isinstance(gate, Gate | AnnotatedOperation) else inner.to_instruction()


@pytest.mark.parametrize("wrap", [lambda gate: gate, nested], ids=["plain", "in a gate"])
@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_gates_keep_their_unitary(gate, wrap):
    circuit = QuantumCircuit(gate.num_qubits)
    circuit.append(wrap(gate), range(gate.num_qubits))
    (back,) = unpack(pack(circuit))
    assert Operator(back).data == pytest.approx(Operator(circuit).data, abs=1e-9)


@pytest.mark.parametrize(
    ("duration", "unit"), [(1000, "us"), (2.5, "us"), (1e-3, "s"), (1, "ms"), (50.0, "ns"), (7, "dt")]
)
@pytest.mark.parametrize("inside", ["circuit", "instruction", "block"])
def test_delays_keep_their_unit(duration, unit, inside):
    delayed = QuantumCircuit(1, 1)
    delayed.delay(duration, 0, unit=unit)
    circuit = QuantumCircuit(1, 1)
    if inside == "circuit":
        circuit = delayed
    elif inside == "instruction":
        circuit.append(delayed.to_instruction(), [0], [0])
    else:
        circuit.if_test((circuit.clbits[0], 1), delayed, [0], [0])
    (back,) = unpack(pack(circuit))
    operation = back.data[0].operation
    if inside != "circuit":
        operation = (operation.definition if inside == "instruction" else operation.blocks[0]).data[0].operation
    assert (operation.duration, operation.unit) == (duration, unit)


@pytest.mark.parametrize("metadata", [{"a": object()}, {"a": 1j}, {(1, 2): 3}, {"a": np.int64(3)}])
def test_metadata_of_any_kind_may_stand_in_a_circuit(metadata):
    circuit = QuantumCircuit(1, metadata=metadata)
    circuit.x(0)
    assert unpack(pack(circuit))[0].count_ops() == {"x": 1}
    assert circuit.metadata == metadata


def test_delays_of_different_units_are_different_structures():
    circuits = [QuantumCircuit(1), QuantumCircuit(1)]
    for circuit, unit in zip(circuits, ("us", "ms"), strict=True):
        circuit.delay(1, 0, unit=unit)
    assert structure(circuits[0]) != structure(circuits[1])


def test_free_angles_of_annotated_gates_stay_free():
    angle = Parameter("a")
    circuit = QuantumCircuit(2)
    circuit.append(AnnotatedOperation(lib.RXGate(angle), ControlModifier(1)), [0, 1])
    (back,) = unpack(pack(circuit))
    expected = QuantumCircuit(2)
    expected.crx(0.7, 0, 1)
    assert Operator(back.assign_parameters([0.7])) == Operator(expected)


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")  # of Qiskit's matrix of an evolution
def test_a_hamiltonians_time_may_be_free():
    matrix = SparsePauliOp(["XZ", "YY", "ZI"], [0.3, 0.5, -0.2]).to_matrix()
    circuit = QuantumCircuit(2)
    circuit.append(lib.HamiltonianGate(matrix, Parameter("t")), [0, 1])
    (back,) = unpack(pack(circuit))
    expected = Operator(lib.HamiltonianGate(matrix, 0.7).to_matrix())
    assert Operator(back.assign_parameters([0.7])).data == pytest.approx(expected.data, abs=1e-9)


def test_what_is_opened_has_no_name_that_simulators_take_for_another():
    """The definition of a state preparation's inverse has gates called "multiplexer", which kill Aer."""
    circuit = QuantumCircuit(2)
    circuit.append(lib.StatePreparation(STATE).inverse(), [0, 1])
    (back,) = unpack(pack(circuit))

    def names(circuit):
        for entry in circuit.data:
            yield entry.name
            if isinstance(getattr(entry.operation, "definition", None), QuantumCircuit):
                yield from names(entry.operation.definition)

    assert "multiplexer" not in set(names(back))


def test_what_cannot_travel_is_refused_with_the_circuits_name():
    circuit = QuantumCircuit(1, name="noted")
    circuit.append(Instruction("special", 1, 0, [object()]), [0])
    with pytest.raises(DescriptionError, match="'noted' cannot travel"):
        pack(circuit)


def blocks_that_only_set_bits(kind, wanted):
    circuit = QuantumCircuit(2, 3)
    circuit.x(0)
    circuit.measure([0, 1], [0, 1])
    test = (circuit.clbits[1], wanted)
    if kind == "if_test":
        with circuit.if_test(test):
            circuit.store(circuit.clbits[2], True)
    elif kind == "nested":
        with circuit.if_test((circuit.clbits[0], 1)), circuit.if_test(test):
            circuit.store(circuit.clbits[2], True)
    elif kind == "else":
        with circuit.if_test(test) as otherwise:
            circuit.store(circuit.clbits[2], True)
        with otherwise:
            circuit.store(circuit.clbits[2], False)
    elif kind == "switch":
        with circuit.switch(circuit.clbits[1]) as case, case(wanted):
            circuit.store(circuit.clbits[2], True)
    elif kind == "while":
        with circuit.while_loop((circuit.clbits[0], not wanted)):
            circuit.store(circuit.clbits[0], False)
            circuit.store(circuit.clbits[2], True)
        circuit.x(0)
        circuit.measure(0, 0)
        circuit.x(0)
        circuit.measure(0, 0)
    elif kind == "break":
        with circuit.for_loop(range(2)):
            with circuit.if_test((circuit.clbits[1], not wanted)):
                circuit.break_loop()
            circuit.store(circuit.clbits[2], True)
    return circuit


@pytest.mark.parametrize("kind", ["if_test", "nested", "else", "switch", "while", "break"])
@pytest.mark.parametrize("wanted", [0, 1])
def test_blocks_that_only_set_bits_keep_their_condition(kind, wanted):
    circuit = blocks_that_only_set_bits(kind, wanted)
    counts = run_circuit(unpack(pack(circuit))[0], 20, 1).get_counts()
    assert counts == {"001" if wanted else "101": 20}


def test_bits_that_are_set_before_a_loop_of_many_qubits():
    circuit = QuantumCircuit(3, 2)
    circuit.store(circuit.clbits[0], True)
    with circuit.while_loop((circuit.clbits[0], 1)):
        circuit.reset([0, 1])
        circuit.h([0, 1])
        circuit.ccx(0, 1, 2)
        circuit.h([0, 1])
        circuit.measure(0, 0)
    circuit.measure(2, 1)
    counts = run_circuit(unpack(pack(circuit))[0], 400, 1).get_counts()
    assert set(counts) == {"00", "10"}


def dynamic():
    """A qubit of two is 1, and so is the first bit."""
    circuit = QuantumCircuit(QuantumRegister(2), ClassicalRegister(3, "c"))
    circuit.x(0)
    circuit.measure(0, 0)
    return circuit


def switch_of_an_expression():
    circuit = dynamic()
    with circuit.switch(expr.bit_xor(circuit.cregs[0], 3)) as case:
        with case(0, 1):
            circuit.h(1)
        with case(2):
            circuit.x(1)
            circuit.measure(1, 1)  # the next case does not see this
        with case(0b101):
            circuit.x(0)
        with case(case.DEFAULT):
            circuit.x(0)
    return circuit


def switch_with_a_default_alone():
    circuit = dynamic()
    with circuit.switch(expr.bit_xor(circuit.cregs[0], 3)) as case, case(case.DEFAULT):
        circuit.x(1)
    return circuit


def shift():
    circuit = dynamic()
    with circuit.if_test(expr.equal(expr.shift_left(circuit.cregs[0], 1), 2)):
        circuit.x(1)
    return circuit


def index():
    circuit = dynamic()
    with circuit.while_loop(expr.index(circuit.cregs[0], 0)):
        circuit.x([0, 1])
        circuit.measure(0, 0)
    circuit.x(0)
    return circuit


def number_beyond_the_register():
    circuit = load(
        'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[3]; x q; measure q[0] -> c[0]; if (c == 9) x q[1];'
    )
    return circuit.to_qiskit()


def bits_outside_registers():
    circuit = QuantumCircuit([Qubit(), Qubit()], [Clbit(), Clbit(), Clbit()])
    circuit.x(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)), circuit.if_test((circuit.clbits[1], 0)):
        circuit.x(1)
    return circuit


def blocks_with_bits_of_their_own(register):
    """Their first bit is the circuit's second."""
    inner = QuantumCircuit(1)
    inner.x(0)
    body = QuantumCircuit(QuantumRegister(2), ClassicalRegister(2, register))
    body.if_test((body.clbits[0], 1), inner, [1], [])
    body.if_test((body.cregs[0], 3), inner, [1], [])
    circuit = QuantumCircuit(QuantumRegister(2), ClassicalRegister(2, "c"), [Clbit()])
    circuit.x(0)
    circuit.measure(0, 1)
    circuit.if_test((circuit.clbits[1], 1), body, [0, 1], [1, 0])
    return circuit


@pytest.mark.parametrize(
    "made",
    [
        switch_of_an_expression(),
        switch_with_a_default_alone(),
        shift(),
        index(),
        number_beyond_the_register(),
        bits_outside_registers(),
        blocks_with_bits_of_their_own("c"),
        blocks_with_bits_of_their_own("d"),
    ],
)
def test_every_condition_asks_for_the_bits_that_it_names(made):
    register = ClassicalRegister(2, "end")
    made.add_register(register)
    made.measure([0, 1], register)
    (arrived,) = unpack(pack(made))
    assert run_circuit(arrived, 10, 1).get_counts("end") == {"11": 10}


def test_a_circuit_keeps_its_name_while_its_structure_is_looked_at(monkeypatch):
    """Else another thread that looks at it at the same time puts back what it found: nothing."""
    circuit, seen = QuantumCircuit(1, name="mine", metadata={"run": 1}), []
    monkeypatch.setattr("pilot.quantum.compilation.pack", lambda one: seen.append((circuit.name, one.name)) or b"")
    structure(circuit)
    assert seen == [("mine", "")]
    assert (circuit.name, circuit.metadata) == ("mine", {"run": 1})
