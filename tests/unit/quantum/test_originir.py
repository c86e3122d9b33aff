"""OriginIR's text: notations, blocks, definitions, classical bits; what is wrong, and where."""

from math import pi

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import ClassicalRegister, Parameter, QuantumRegister
from qiskit.circuit.classical import expr, types
from qiskit.quantum_info import Operator, Statevector

from pilot.errors import DescriptionError, ProgramError
from pilot.quantum.aer import run_circuit
from pilot.quantum.programs.conditions import truth
from pilot.quantum.programs.originir import dumps, loads

MEASURED = "QINIT 6\nCREG 6\nH q[0]\nCNOT q[0],q[1]\nMEASURE q[0],c[0]\nMEASURE q[1],c[1]"
DISTRIBUTED = """QINIT 6
CREG 6
RY(q[0], 0.162461319481123)
RY(q[1], 1.13411443752956)
RY(q[2], 0.349219035305167)
CNOT(q[0], q[1])
RY(q[0], -1.30314609114098)
RY(q[1], -0.000403011347911202)
CNOT(q[1], q[2])
RY(q[1], -0.0668867624864373)
RY(q[2], 0.751632608892654)
CNOT(q[2], q[0])
RY(q[2], 0.943957761048972)\x20
RY(q[0], 0.877382733682492)
CNOT(q[2], q[0])
CNOT(q[1], q[2])
CNOT(q[0], q[1])"""


def matrix(body, qubits=2):
    return Operator(loads(f"QINIT {qubits}\n{body}")).data


def same(first, second, qubits=2):
    return np.allclose(matrix(first, qubits), matrix(second, qubits))


def test_the_measured_example():
    circuit = loads(MEASURED)
    assert (circuit.num_qubits, circuit.num_clbits) == (6, 6)
    assert run_circuit(circuit, None, 1).get_counts() == pytest.approx({"000000": 0.5, "000011": 0.5})


def test_the_expectation_example():
    state = Statevector(loads("QINIT 6\nCREG 6\nH q[0]\nCNOT q[0],q[1]"))
    assert np.allclose(state.data[[0, 3]], 1 / np.sqrt(2))


def test_the_distributed_example_in_functional_notation():
    circuit = loads(DISTRIBUTED)
    expected = QuantumCircuit(6)
    angles = {"ry": iter(float(line[9:].rstrip(") ")) for line in DISTRIBUTED.split("\n") if line.startswith("RY"))}
    for line in DISTRIBUTED.split("\n")[2:]:
        if line.startswith("RY"):
            expected.ry(next(angles["ry"]), int(line[5]))
        else:
            expected.cx(int(line[7]), int(line[13]))
    assert np.allclose(Operator(circuit).data, Operator(expected).data, atol=1e-14)
    standard = dumps(circuit)
    assert "RY q[1],(-0.000403011347911202)\n" in standard
    assert [each.operation.params for each in loads(standard).data] == [each.operation.params for each in circuit.data]


@pytest.mark.parametrize(
    "line",
    [
        "RX q[0],(0.5)",
        "RX q[0],0.5",
        "RX q[0] 0.5",
        "RX q[0], (0.5)",
        "RX(q[0], 0.5)",
        "RX(q[0],(0.5))",
        "RX q[0],(PI/2-PI/2+.5)",
        "RX q[0],(5e-1)",
        "RX q[0],(+1/2)",
        "RX q[0],(0.25)*2",
        "  RX   q[ 0 ] , ( 0.5 )  // half\r",
        "RX q[0],(-0.5) dagger",
        "DAGGER\nRX q[0],(-0.5)\nENDDAGGER",
    ],
)
def test_notations_of_parameters(line):
    assert same(line, "RX q[0],(0.5)")


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("H q", "H q[0]\nH q[1]"),
        ("RY q,(0.3)", "RY q[0],(0.3)\nRY q[1],(0.3)"),
        ("X q[0] controlled_by (q[1])", "CNOT q[1],q[0]"),
        ("S q[0] controlled_by (q[1]) dagger", "DAGGER\nCONTROL q[1]\nS q[0]\nENDCONTROL\nENDDAGGER"),
        ("S q[0] dagger dagger", "S q[0]"),
        ("QGATE g a,b\nH a\nCNOT a,b\nENDQGATE\ng q[1],q[0]", "H q[1]\nCNOT q[1],q[0]"),
        ("QGATE g a,(t)\nRX a,(t/2+PI)\nENDQGATE\ng q[1],(0.3)", "RX q[1],(PI+0.15)"),
        ("QGATE g a\nT a\nENDQGATE\nDAGGER\ng q[1]\nENDDAGGER", "U1 q[1],(-PI/4)"),
        (
            "DEF f(q[0],q[1]) (x)\nRZ q[1],(x)\nCNOT q[0],q[1]\nENDDEF\nf(q[1],q[0]) (0.5)",
            "RZ q[0],(0.5)\nCNOT q[1],q[0]",
        ),
        ("DEF f(q[0])\nH q[0]\nENDDEF\nf(q[1])", "H q[1]"),
        ("CNOT q[0],q[0+1]", "CNOT q[0],q[1]"),
    ],
)
def test_short_forms(short, long):
    assert same(short, long)


def counts(body):
    return run_circuit(loads(body), None, 1).get_counts()


def test_bits_that_no_measurement_decides_are_followed():
    text = "QINIT 4\nCREG 2\nc[0]=0\nQWHILE c[0]<3\nX q[c[0]]\nc[0]=c[0]+1\nENDQWHILE\nQIF c[0]==3\nX q[3]\nENDQIF"
    assert dict(loads(text).count_ops()) == {"x": 4}


def test_a_condition_on_outcomes():
    text = (
        "QINIT 2\nCREG 2\nX q[0]\nMEASURE q[0],c[0]\nQIF c[0]+c[1]==1\nX q[1]\nELSE\nH q[1]\nENDIF\nMEASURE q[1],c[1]"
    )
    outcomes = run_circuit(loads(text), 100, 1).get_counts()
    assert outcomes == {"11": 100}


def test_repeat_until_success():
    text = "QINIT 1\nCREG 1\nc[0]=1\nQWHILE c[0]==1\nH q[0]\nMEASURE q[0],c[0]\nENDQWHILE"
    circuit = loads(text)
    assert "while_loop" in circuit.count_ops()
    assert run_circuit(circuit, 200, 1).get_counts() == {"0": 200}


def test_values_are_stored_before_an_outcome_decides():
    text = "QINIT 2\nCREG 2\nX q[0]\nMEASURE q[0],c[0]\nc[1]=1\nQIF c[0]\nc[1]=0\nENDQIF"
    assert run_circuit(loads(text), 50, 1).get_counts() == {"01": 50}
    assert run_circuit(loads("QINIT 1\nCREG 2\nMEASURE q[0],c[0]\nc[1]=1"), 50, 1).get_counts() == {"10": 50}


def test_creg_may_be_missing():
    assert loads("QINIT 3\nMEASURE q[0],c[4]").num_clbits == 5
    assert loads("QINIT 3\nMEASURE q,c").num_clbits == 3


WRONG = [
    ("", 1, 1, "QINIT"),
    ("// nothing\n", 1, 11, "QINIT"),
    ("CREG 2", 1, 1, "'QINIT'"),
    ("QINIT 0", 1, 7, "at least 1"),
    ("QINIT two", 1, 7, "whole number"),
    ("QINIT 2;", 1, 8, "the end of the line"),
    ("QINIT 2\n# comment", 2, 1, "//"),
    ("QINIT 2\nh q[0]", 2, 1, "expected H"),
    ("QINIT 2\nHADAMARD q[0]", 2, 1, "no gate"),
    ("QINIT 2\n  X q[2]", 2, 5, "q[0] to q[1]"),
    ("QINIT 2\nX q[0.5]", 2, 3, "whole number"),
    ("QINIT 2\nCNOT q[0],q[0]", 2, 11, "different"),
    ("QINIT 2\nCNOT q", 2, 1, "2 qubits"),
    ("QINIT 2\nRX q[0]", 2, 1, "1 parameter"),
    ("QINIT 2\nRX q[0],(0.1", 2, 13, "')'"),
    ("QINIT 2\nRX q[0],(1/0)", 2, 11, "division"),
    ("QINIT 2\nRX q[0],(1e999)", 2, 10, "too large"),
    ("QINIT 2\nX q[0] q[1]", 2, 8, "dagger"),
    ("QINIT 2\nDAGGER\nX q[0]", 3, 7, "ENDDAGGER"),
    ("QINIT 2\nENDDAGGER", 2, 1, "closes nothing"),
    ("QINIT 2\nDAGGER\nX q[0]\nENDCONTROL", 4, 1, "ENDDAGGER"),
    ("QINIT 2\nCONTROL q[0]\nX q[0]\nENDCONTROL", 2, 9, "itself"),
    ("QINIT 3\nCONTROL q[0]\nX q[1]\nENDCONTROL q[2]", 4, 12, "the same qubits"),
    ("QINIT 2\nCREG 1\nDAGGER\nMEASURE q[0],c[0]\nENDDAGGER", 4, 1, "gates only"),
    ("QINIT 2\nCONTROL q[1]\nRESET q[0]\nENDCONTROL", 3, 1, "gates only"),
    ("QINIT 2\nCREG 1\nMEASURE q[0],c[1]", 3, 14, "c[0] to c[0]"),
    ("QINIT 2\nCREG 1\nMEASURE q,c", 3, 1, "one size"),
    ("QINIT 2\nCREG 1\nMEASURE q[0]", 3, 13, "','"),
    ("QINIT 1\nX q[0]\nCREG 1", 3, 1, "beginning"),
    ("QINIT 1\nCREG 1\nMEASURE q[0],c[0]\nQWHILE c[0]\nX q[0]\nENDQWHILE", 4, 1, "never ends"),
    ("QINIT 1\nCREG 1\nQWHILE 1\nX q[0]\nENDQWHILE", 3, 1, "10000 rounds"),
    ("QINIT 2\nCREG 1\nMEASURE q[0],c[0]\nX q[c[0]]", 4, 3, "is measured"),
    ("QINIT 2\nCREG 2\nMEASURE q[0],c[0]\nc[1]=3\nQIF c[0]\nc[1]=1\nENDIF", 5, 1, "0 or 1"),
    ("QINIT 1\nQGATE X a\nH a\nENDQGATE", 2, 7, "word of the language"),
    ("QINIT 1\nQGATE g a\ng a\nENDQGATE", 3, 1, "no gate"),
    ("QINIT 1\nQGATE g a\nX q[0]\nENDQGATE\ng q[0]", 3, 3, "expected a"),
    ("QINIT 1\nDEF f(q[0])\nX q[1]\nENDDEF\nf(q[0])", 3, 3, "no operand"),
    ("QINIT 999999", 1, 1, "at most"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), WRONG, ids=[repr(each[0][-24:]) for each in WRONG])
def test_errors_name_the_place(text, line, column, words):
    with pytest.raises(ProgramError) as caught:
        loads(text)
    error = caught.value
    assert (error.line, error.column, error.format) == (line, column, "originir"), str(error)
    assert str(error).startswith(f"OriginIR, line {line}, column {column}: ")
    assert words in str(error)


def test_definitions_in_definitions_end():
    text = "QINIT 1\nQGATE g0 a\nX a\nENDQGATE\n"
    for number in range(1, 12):
        text += f"QGATE g{number} a\n" + f"g{number - 1} a\n" * 10 + "ENDQGATE\n"
    with pytest.raises(ProgramError, match="more than 1000000 gates"):
        loads(text + "g11 q[0]")


# writing


def test_numbers_are_exact():
    angles = [0.1 + 0.2, 1e-17, -pi / 7, 1 / 3, 123456.789012345678]
    circuit = QuantumCircuit(1)
    for angle in angles:
        circuit.rz(angle, 0)
    assert [each.operation.params[0] for each in loads(dumps(circuit)).data] == angles


def test_control_flow_is_written():
    circuit = QuantumCircuit(3, 3)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)) as otherwise:
        circuit.x(1)
    with otherwise:
        circuit.ccx(0, 1, 2)
    with circuit.if_test(expr.bit_xor(circuit.clbits[0], circuit.clbits[1])):
        circuit.x(2)
    with circuit.if_test((circuit.cregs[0], 5)):
        circuit.h(2)
    with circuit.switch(circuit.cregs[0]) as case:
        with case(1, 2):
            circuit.x(0)
        with case(case.DEFAULT):
            circuit.y(0)
    with circuit.for_loop(range(3)):
        circuit.s(0)
    with circuit.while_loop((circuit.clbits[0], 1)):
        circuit.h(0)
        circuit.measure(0, 0)
    circuit.measure([1, 2], [1, 2])
    text = dumps(circuit)
    for words in ("QIF c[0]==1", "ELSE", "QIF (c[0]!=c[1])", "QIF c[0]==1&&c[1]==0&&c[2]==1", "QWHILE c[0]==1"):
        assert words in text
    first, second = (run_circuit(each, 20_000, 1).get_counts() for each in (circuit, loads(text)))
    assert set(first) == set(second)
    assert all(abs(first[key] - second[key]) < 600 for key in first)


def refused_circuits():
    delay = QuantumCircuit(1)
    delay.delay(10, 0)
    free = QuantumCircuit(1)
    free.rx(Parameter("angle_of_mine"), 0)
    leaves = QuantumCircuit(1, 1)
    with leaves.while_loop((leaves.clbits[0], 0)):
        leaves.measure(0, 0)
        leaves.break_loop()
    opaque = QuantumCircuit(1)
    from qiskit.circuit import Gate

    opaque.append(Gate("mystery", 1, []), [0])
    variable = QuantumCircuit(1)
    variable.add_var("v", False)
    return {"delay": delay, "angle_of_mine": free, "break_loop": leaves, "mystery": opaque, "'v'": variable}


@pytest.mark.parametrize("name", list(refused_circuits()))
def test_what_cannot_be_written_is_named(name):
    with pytest.raises(DescriptionError, match=name):
        dumps(refused_circuits()[name])


def test_the_words_of_origins_current_sdk():
    text = """QINIT 2
CREG 2
X q[0]
MEASURE q[0],c[0]
MEASURE q[0],c[1]
QIF c[0],c[1]
RX q[1],(pi)
QELSEIF c[0]
H q[1]
QELSE
RESET q[1]
QENDIF
CRX q[0],q[1],(0.0)
MEASURE q[1],c[0]
"""
    circuit = loads(text)
    assert run_circuit(circuit, 10, 1).get_counts() == {"11": 10}
    other = loads(text.replace("X q[0]\n", "", 1))
    assert run_circuit(other, 10, 1).get_counts() == {"00": 10}


@pytest.mark.parametrize("line", ["ECHO q[0]", "ECHO q[0],(0.5)", "ECHO(q[0], 0.5)"])
def test_an_echo_may_have_a_parameter(line):
    assert same(line, "I q[0]")


def test_an_echo_has_one_parameter_at_most():
    with pytest.raises(ProgramError, match="line 2, column 1: ECHO has 1 qubit and 2 parameters"):
        loads("QINIT 1\nECHO q[0],(0.5,0.5)")


def test_barriers_stand_in_blocks_as_they_are():
    inside = loads("QINIT 3\nCONTROL q[2]\nDAGGER\nH q[0]\nBARRIER q\nS q[1]\nENDDAGGER\nENDCONTROL")
    assert [entry.operation.name for entry in inside.data] == ["csdg", "barrier", "ch"]
    assert loads("QINIT 2\nBARRIER q,q[0]").data[0].operation.num_qubits == 2


def test_a_gate_on_a_wide_register_counts_once_for_each_qubit():
    assert loads("QINIT 3000\nH q").size() == 3000


@pytest.mark.parametrize("word, ours", [("CX", "CNOT"), ("ccx", "TOFFOLI"), ("sdg", "S q[...] dagger")])
def test_the_names_of_other_languages_lead_to_ours(word, ours):
    with pytest.raises(ProgramError) as caught:
        loads(f"QINIT 3\n{word} q[0],q[1],q[2]")
    assert str(caught.value).endswith(f"expected {ours}")


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (lambda c: expr.equal(expr.div(c, 2), 1), "0011"),
        (lambda c: expr.equal(expr.sub(expr.lift(1, types.Uint(2)), c), 2), "0001"),
        (lambda c: expr.equal(expr.add(c, 1), 0), "0001"),
        (lambda c: expr.less(expr.mul(c, 3), 2), "1001"),
        (lambda c: expr.less(expr.cast(expr.div(expr.cast(c, types.Float()), 2.0), types.Uint(2)), 1), "1100"),
    ],
)
def test_numbers_that_are_calculated_are_those_of_qiskit(condition, rows):
    """They have so many bits, and division gives whole ones."""
    register = ClassicalRegister(2, "c")
    made = QuantumCircuit(QuantumRegister(2, "q"), register)
    made.measure([0, 1], [0, 1])
    with made.if_test(condition(register)):
        made.x(0)
    read = loads(dumps(made))
    (found,) = (entry.operation.condition for entry in read.data if entry.name == "if_else")
    assert (
        "".join("01"[truth(found, dict(zip(read.clbits, (row & 1, row >> 1), strict=True)))] for row in range(4))
        == rows
    )
