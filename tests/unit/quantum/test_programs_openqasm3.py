"""OpenQASM 3: what Qiskit's importer lacks, and places of errors."""

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.classical import expr
from qiskit.circuit.library import CUGate
from qiskit.quantum_info import Operator

from pilot.errors import ProgramError
from pilot.quantum import Program, load
from pilot.quantum.circuits import run_circuit

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[3] q;\nbit[3] c;\n'


def circuit_of(body):
    return load(HEAD + body, "openqasm3").to_qiskit()


def outcomes(body, shots=200):
    return run_circuit(circuit_of(body), shots, 1).get_counts()


@pytest.mark.parametrize(
    ("body", "gates"),
    [
        ("cs q[0], q[1];", lambda c: c.cs(0, 1)),
        ("rx(pi/2**2) q[0];", lambda c: c.rx(3.141592653589793 / 4, 0)),
        ("rx(sqrt(0.25)*cos(0)) q[0];", lambda c: c.rx(0.5, 0)),
        ("const float a = 0.25; rx(2*a) q[0];", lambda c: c.rx(0.5, 0)),
        ("const int n = 3; for int i in [0:n-1] { h q[i]; }", lambda c: c.h([0, 1, 2])),
        ("for int i in {2, 0} { h q[i]; }", lambda c: c.h([2, 0])),
        ("int k = 2; x q[k];", lambda c: c.x(2)),
        (
            "def f(qubit a, qubit b, angle t) { rx(t) b; cx a, b; }\nf(q[2], q[0], 0.5);",
            lambda c: (c.rx(0.5, 0), c.cx(2, 0)),
        ),
        ("ctrl @ inv @ s q[0], q[1];", lambda c: c.csdg(0, 1)),
        (
            "inv @ ctrl @ cu(0.3, 0.4, 0.5, 0.6) q[0], q[1], q[2];",
            lambda c: c.append(CUGate(0.3, 0.4, 0.5, 0.6).control(1).definition.inverse(), [0, 1, 2]),
        ),
        ("gate mine(t) a, b { rx(t) a; cx a, b; }\nmine(0.3) q[1], q[0];", lambda c: (c.rx(0.3, 1), c.cx(1, 0))),
        ("pragma something\nx q[0];", lambda c: c.x(0)),
    ],
)
def test_gates(body, gates):
    expected = QuantumCircuit(3)
    gates(expected)
    found = circuit_of(body)
    found.remove_final_measurements()
    assert Operator(found.copy_empty_like().compose(found)).equiv(Operator(expected))


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ("x q[0]; c[0] = measure q[0]; if (c[0] == 1) { x q[1]; } c[1] = measure q[1];", "011"),
        ("x q[0]; c = measure q; if (c == 1) { x q[1]; } c = measure q;", "011"),
        ("x q[0]; c = measure q; if (c[0] && !c[1]) { x q[1]; } else { x q[2]; } c = measure q;", "011"),
        ("x q[0]; c = measure q; if (c[0] ^ c[1]) { x q[2]; } c = measure q;", "101"),
        ("x q[1]; c = measure q; if (c > 1) { x q[2]; } c = measure q;", "110"),
        ("x q[1]; c = measure q; switch (c) { case 1, 2 { x q[2]; } default { x q[0]; } } c = measure q;", "110"),
        ("def m(qubit a) -> bit { x a; return measure a; }\nc[1] = m(q[0]);", "010"),
        ("c[2] = true; c[0] = measure q[0];", "100"),
        ("h q[0]; c[0] = measure q[0]; while (c[0] == 1) { h q[0]; c[0] = measure q[0]; }", "000"),
    ],
)
def test_outcomes(body, counts):
    assert outcomes(body) == {counts: 200}


def test_inputs_become_parameters():
    circuit = load('OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float a;\nqubit q;\nrx(2*a) q;\n').to_qiskit()
    assert circuit.parameters[0].name == "a"
    assert repr(load(circuit)) == "<Program from Qiskit: 1 qubits, 0 bits, 1 instructions, 1 parameters>"
    again = load(Program(circuit).dumps("openqasm3")).to_qiskit()
    assert [parameter.name for parameter in again.parameters] == ["a"]


def test_variables_go_round():
    circuit = QuantumCircuit(1, 1)
    counter = circuit.add_var("counter", expr.lift(3, expr.Var.new("x", expr.lift(3).type).type))
    circuit.store(counter, expr.bit_and(counter, 1))
    with circuit.if_test(expr.equal(counter, 1)):
        circuit.x(0)
    again = load(Program(circuit).dumps("openqasm3")).to_qiskit()
    assert dict(again.count_ops()) == {"store": 2, "if_else": 1}


def test_free_parameters_keep_their_gates():
    circuit = QuantumCircuit(2)
    circuit.rzx(Parameter("a"), 0, 1)
    again = load(Program(circuit).dumps("openqasm3")).to_qiskit()
    assert type(again.data[0].operation).__name__ == "RZXGate"


@pytest.mark.parametrize(
    ("body", "line", "column", "words"),
    [
        ("h q[0]\ncx q[0], q[1];", 6, 1, "cx"),
        ("foo q[0];", 5, 1, "'foo' is not defined"),
        ("cx q[0], q[0];", 5, 1, "duplicate"),
        ("x q[0]; h q[7];", 5, 11, "out of range"),
        ("rx(1/0) q[0];", 5, 4, "division"),
        ("rx q[0];", 5, 1, "rx takes 1 parameters, 0 are given"),
        ("cx q[0];", 5, 1, "cx takes 2 qubits, 1 are given"),
        ("@@ $$", 5, 1, "'@'"),
        ("x q[0", 5, 6, "no viable"),
        ('x q[0]; "abc', 5, 9, "token"),
        ("qubit[10000000] r;", 5, 1, "register of size 10000000"),
        ("rx(2**100000) q[0];", 5, 4, "too large"),
        ("def f(qubit a) { f(a); }\nf(q[0]);", 5, 18, "call one another"),
        ("for int i in [0:100000000] { x q[i]; }", 5, 32, "out of range"),
        ("for int i in [0:100000000] { x q[i-i]; }", 5, 1, "unrolled"),
        ("int k = 2; k = 3;", 5, 12, "signed integers"),
        ("x " + "(" * 200, 5, 103, "nested too deep"),
        ("rx(" + "-" * 200 + "1) q[0];", 5, 4, "too many signs"),
        ("rx(1" + "+1" * 3000 + ") q[0];", 5, 1, "nested too deep"),
    ],
)
def test_errors_name_the_place(body, line, column, words):
    with pytest.raises(ProgramError) as caught:
        circuit_of(body)
    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)
    assert words in str(caught.value)
