"""Every classical bit is told, whatever the registers are."""

import numpy as np
import pytest
from pilot_plugins.qpus.fake import FakeQPU
from pilot_plugins.qpus.qiskit import QiskitQPU
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, generate_preset_pass_manager
from qiskit.circuit import Clbit
from qiskit.circuit.classical import expr

from pilot.errors import QPUError
from pilot.interfaces import Run
from pilot.quantum.aer import run_circuit
from pilot.quantum.answers import run_on
from pilot.quantum.outcomes import Outcomes, Register


def of(num_bits, registers, ones):
    bits = np.zeros((1, num_bits), dtype=bool)
    bits[0, ones] = True
    return Outcomes.from_bits(bits, np.array([7]), registers=registers, shots=7)


@pytest.mark.parametrize(
    ("num_bits", "registers", "ones", "text"),
    [
        (3, [("c", (0, 1))], [2], "1 00"),
        (3, [("c", (1, 2))], [0], "00 1"),
        (5, [("c", (1, 2)), ("d", (4,))], [0, 3], "0 1 00 1"),
        (4, [("c", (0, 1))], [3], "10 00"),
        (3, [], [1], "010"),
        (3, [("r", (2, 0))], [2], "01 0"),
        (3, [("r", (0, 1)), ("s", (1, 2))], [1], "01 10"),
        (4, [("d", (2, 3)), ("c", (0, 1))], [3], "00 10"),
    ],
)
def test_bit_strings_tell_every_bit(num_bits, registers, ones, text):
    outcomes = of(num_bits, tuple(Register(*each) for each in registers), ones)
    assert outcomes.get_counts() == {text: 7}
    assert np.flatnonzero(outcomes.bits()[0]).tolist() == ones


def odd_circuits():
    """Circuits whose classical bit 0 is 0, 1 is 1, 2 is 1, …, and what their bit string is."""
    for name, registers, text in (
        ("a loose bit behind a register", lambda b: [b[:2]], "1 10"),
        ("a loose bit before a register", lambda b: [b[1:]], "11 0"),
        ("loose bits around registers", lambda b: [b[1:2]], "1 1 0"),
        ("no register", lambda b: [], "110"),
        ("a register in another order", lambda b: [[b[2], b[0], b[1]]], "101"),
        ("registers in another order", lambda b: [b[2:], b[:2]], "10 1"),
        ("registers that share a bit", lambda b: [b[:2], b[1:]], "11 10"),
        ("a register of some bits, crosswise", lambda b: [[b[2], b[0]]], "01 1"),
    ):
        bits = [Clbit() for _ in range(3)]
        circuit = QuantumCircuit(QuantumRegister(3, "q"), bits, name=name)
        for number, its in enumerate(registers(bits)):
            circuit.add_register(ClassicalRegister(bits=list(its), name=f"r{number}"))
        circuit.x([0, 1])
        circuit.measure([2, 0, 1], bits)
        yield pytest.param(circuit, text, id=name)


def on_device(qpu, circuit):
    compiled = generate_preset_pass_manager(optimization_level=0, target=qpu.target()).run(circuit)
    (outcomes,) = run_on(qpu, Run(circuits=[compiled], shots=400, seeds=[1]))
    return outcomes


def most(outcomes):
    counts = outcomes.get_counts()
    return max(counts, key=counts.get)


OBJECTS = ["qiskit_aer:AerSimulator()", "qiskit_aer.primitives:SamplerV2()"]


@pytest.mark.parametrize(("circuit", "text"), list(odd_circuits()))
def test_odd_registers_on_simulators_and_devices(circuit, text):
    assert run_circuit(circuit, 400, 1).get_counts() == {text: 400}
    assert run_circuit(circuit, None, 1).get_counts() == {text: 1.0}
    qpus = [FakeQPU("fake:manila", "manila"), *(QiskitQPU(f"qiskit:{each}", each) for each in OBJECTS)]
    for qpu in qpus:
        qpu.open()
        outcomes = (
            on_device(qpu, circuit)
            if qpu.target() is not None
            else run_on(qpu, Run(circuits=[circuit], shots=400, seeds=[1]))[0]
        )
        assert most(outcomes) == text, qpu.name
        assert outcomes.bits()[outcomes.weights.argmax()].tolist() == [0, 1, 1], qpu.name
        assert [register.name for register in outcomes.registers] == [register.name for register in circuit.cregs]


def branching():
    """Bit 2 is outside the register and decides; the register's own value decides too."""
    register = ClassicalRegister(2, "c")
    circuit = QuantumCircuit(QuantumRegister(2, "q"), register, [Clbit()])
    circuit.x(0)
    circuit.measure(0, 2)
    with circuit.if_test((circuit.clbits[2], 1)):
        circuit.x(1)
    circuit.measure(1, 1)
    with circuit.if_test(expr.equal(register, 2)):
        circuit.x(0)
    circuit.measure(0, 0)
    return circuit


@pytest.mark.parametrize("qpu", ["aer", *OBJECTS])
def test_branches_and_a_loose_bit(qpu):
    circuit = branching()
    if qpu == "aer":
        outcomes = run_circuit(circuit, 100, 1)
    else:
        (outcomes,) = QiskitQPU(f"qiskit:{qpu}", qpu).run(Run(circuits=[circuit], shots=100, seeds=[1]))
    assert outcomes.get_counts() == {"1 10": 100}
    assert outcomes.bits().tolist() == [[0, 1, 1]]


def test_hexadecimal_keys_have_the_bits_of_the_circuit():
    circuit = QuantumCircuit(QuantumRegister(10), ClassicalRegister(4, "c"), ClassicalRegister(6, "d"))
    assert Outcomes.from_counts(circuit, {"0x3f1": 5}, 5).get_counts() == {"111111 0001": 5}
    for key in ("0x7ff", "0xfffffff", "0xzz", "-0x1"):
        with pytest.raises(QPUError, match=f"has 10 bits, its counts have the key '{key}'"):
            Outcomes.from_counts(circuit, {key: 5}, 5)


def test_outcomes_of_a_plugin_know_their_shots():
    """Else they would be taken for exact ones, and values for free of errors."""

    class Forgetful(FakeQPU):
        def run(self, run):
            return [
                Outcomes.from_bits(np.eye(1, dtype=bool), np.array([7]), registers=(Register("c", (0,)),), shots=None)
            ]

    (found,) = run_on(Forgetful("fake:manila", "manila"), Run(circuits=[QuantumCircuit(1, 1)], shots=7, seeds=[1]))
    assert found.shots == 7
