"""OpenQASM 3: what Qiskit's importer lacks, and places of errors."""

import re
import warnings

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.classical import expr
from qiskit.circuit.library import CUGate
from qiskit.quantum_info import Operator

from pilot.errors import ProgramError
from pilot.quantum import Program, load
from pilot.quantum.aer import run_circuit
from pilot.quantum.packing import pack, unpack

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[3] q;\nbit[3] c;\n'


def circuit_of(body):
    return load(HEAD + body, "openqasm3").to_qiskit()


def outcomes(body, shots=200):
    return run_circuit(unpack(pack(circuit_of(body)))[0], shots, 1).get_counts()


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


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        # numbers: C's rules, widths, bits of integers, functions
        ("uint[2] n = 3; n += 1; if (n == 0) x q[0];", "001"),
        ("int n = -7; if (n / 2 == -3 && n % 2 == -1) x q[0];", "001"),
        ("int[3] n = 3; n = n + 1; if (n == -4) x q[0];", "001"),
        ("uint[3] n = 5; for uint i in [0:2] { if (bool(n[i])) x q[i]; }", "101"),
        ("uint[3] n = 0; n[1] = 1; n[2] = true; if (n == 6) x q[0];", "001"),
        ('if (popcount("0110") == 2 && rotl("0011", 3) == 9) x q[0];', "001"),
        ("const uint n = sizeof(q); pow(n) @ x q[0];", "001"),
        ('angle[4] a = "1000"; rx(a) q[0];', "001"),
        ("int k = 2; k = 0; x q[k];", "001"),
        ("array[float, 3] w = {pi, 0, 3.0 * pi}; for int i in [0:sizeof(w) - 1] { rx(w[i]) q[i]; }", "101"),
        ("array[int[8], 2, 2] a = {{0, 1}, {2, 3}}; a[1] = a[0]; a[0, 1] = 7; x q[a[1][1]]; x q[a[0, 1] - 5];", "110"),
        ("duration d = 100ns; delay[2 * d] q[0]; x q[0];", "001"),
        # set from bits
        ("x q[0]; c[0] = measure q[0]; bool f = c[0]; if (f) x q[1];", "011"),
        ("x q[0]; bool f = measure q[0]; if (f) x q[1];", "1 011"),
        ("x q[2]; c = measure q; uint[3] n = c; if (n > 3) x q[0];", "101"),
        ("x q[0]; x q[1]; c = measure q; if (int[2](c[0:1]) == 3) x q[2];", "111"),
        ("x q[2]; c = measure q; float a = 0; if (c[2]) a = pi; rx(a) q[0];", "101"),
        ("uint[4] n = 1; x q[1]; c = measure q; if (c[1]) n = 2; x q[n];", "110"),
        ("x q[0]; c = measure q; uint[4] k = 0; for int i in [0:2] { if (c[i]) k += 1; } if (k == 1) x q[2];", "101"),
        (
            "x q[0]; c = measure q; int n; switch (c) { case 1 { n = 2; } default { n = 1; } } if (n == 2) x q[2];",
            "101",
        ),
        ("x q[0]; c = measure q; if (c[0]) { c[0] = 0; } else { c[1] = 1; } if (c == 0) x q[1];", "011"),
        ('c = "011"; c = c << 1; if (c == 6) x q[0];', "001"),
        # loops
        ("uint n = 0; while (n < 3) { x q[n]; n += 1; }", "111"),
        ("bool ok = false; while (!ok) { h q[0]; c[0] = measure q[0]; ok = c[0]; }", "001"),
        ("int n = 0; c[1] = 1; x q[1]; while (c[1] && n < 5) { x q[2]; n += 1; c[1] = measure q[1]; }", "110"),
        ("for int i in [0:9] { if (i == 2) break; x q[i]; }", "011"),
        ("for int i in [0:2] { if (i == 1) continue; x q[i]; }", "101"),
        ("x q[1]; for int i in [0:2] { c[i] = measure q[i]; if (c[i]) break; x q[i]; }", "011"),
        ("x q[1]; for int i in [0:2] { c[i] = measure q[i]; if (c[i]) continue; x q[i]; }", "111"),
        ("while (true) { x q[0]; c[0] = measure q[0]; if (c[0]) break; }", "001"),
        ("for uint i in [1:3] { p(pi / 2**i) q[0]; } x q[0];", "001"),
        # subroutines
        ("def f(qubit a) -> bit { bit b; x a; b = measure a; return b; } c[2] = f(q[0]); if (c[2]) x q[1];", "011"),
        ("def f(qubit a) -> bool { return measure a; } x q[0]; if (f(q[0])) x q[1];", "011"),
        ("def f(int n, qubit a) { n += 1; if (n == 3) x a; } int n = 2; f(n, q[0]); if (n == 2) x q[1];", "011"),
        ('def f(bit[2] b, qubit a) { if (b == 2) x a; } f("10", q[2]);', "100"),
        ("int n = 1; def f(qubit a) { int n = 2; x a; } if (n == 1) { f(q[n]); }", "010"),
        ("let a = q[1:2]; x a; let b = a[0]; x b;", "100"),
        ("x q[0]; end; x q[1];", "001"),
        ("x q[0]; measure q[0]; x q[1];", "011"),
    ],
)
def test_variables(body, counts):
    head, _, tail = body.partition(" end;")
    end = " end;" if tail else ""
    assert outcomes(f"{head} c = measure q;{end}{tail}", shots=20) == {counts: 20}


def test_a_single_bit_is_a_register_of_its_name():
    circuit = circuit_of("bit flag; bit[2] Caps; x q[2]; flag = measure q[2]; Caps = measure q[0:1];")
    result = run_circuit(circuit, 20, 1)
    assert result.get_counts() == {"00 1 000": 20}
    assert result.get_counts("flag") == {"1": 20}
    assert [register.name for register in circuit.cregs] == ["c", "flag", "Caps"]


def test_bits_of_subroutines_are_not_counted():
    body = """
def parity(qubit[3] a) -> bit { bit[3] b; b = measure a; return b[0] ^ b[1] ^ b[2]; }
x q[0]; c[1] = parity(q); c[2] = parity(q);"""
    assert outcomes(body) == {"110": 200}


def test_the_syndrome_of_a_subroutine_is_measured_straight_into_its_target():
    body = """
def syndrome(qubit[3] d) -> bit[3] { bit[3] b; measure d -> b; return b; }
c = syndrome(q);"""
    assert dict(circuit_of(body).count_ops()) == {"measure": 3}


def test_iterative_phase_estimation_with_an_angle_of_measured_bits():
    body = """
angle[3] result = 0;
uint[4] power = 4;
x q[1];
for int i in [0:2] {
  result >>= 1;
  reset q[0]; h q[0];
  ctrl @ pow(power) @ p(2 * pi * 5 / 8) q[0], q[1];
  inv @ p(result) q[0];
  h q[0];
  measure q[0] -> result[2];
  power >>= 1;
}
if (uint[3](result) == 5) x q[2];
c[2] = measure q[2];"""
    counts = outcomes(body)
    assert len(counts) == 1
    assert next(iter(counts)).endswith("100"), counts


def test_an_own_gate_with_the_name_of_a_rotation_is_no_sum_over_bits():
    text = """OPENQASM 3.0;
gate rx(a) q { U(pi * sin(a), -pi / 2, pi / 2) q; }
qubit[3] q; bit[2] c; bit last;
U(pi, 0, pi) q[0]; U(pi, 0, pi) q[1];
c = measure q[0:1];
float angle_of_bits = int(c[0]) * pi / 4 + int(c[1]) * pi / 4;
rx(angle_of_bits) q[2];
last = measure q[2];"""
    assert run_circuit(load(text).to_qiskit(), 50, 1).get_counts("last") == {"1": 50}


def test_branches_that_only_set_variables_leave_nothing():
    circuit = circuit_of("c[0] = measure q[0]; int n = 0; if (c[0]) n = 1; else n = 2; if (n == 2) x q[1];")
    assert dict(circuit.count_ops()) == {"measure": 1, "if_else": 1}


def test_repeat_until_success():
    body = """
def segment(qubit[2] a, qubit b) -> bit[2] {
  bit[2] s; reset a; h a; ccx a[0], a[1], b; s_gate b; ccx a[0], a[1], b; z b; h a; measure a -> s; return s;
}
bit[2] flags = "11"; bit last;
h q[2];
while (int[2](flags) != 0) { flags = segment(q[0:1], q[2]); }
rz(pi - arccos(3.0 / 5)) q[2]; h q[2]; last = measure q[2];"""
    circuit = circuit_of("gate s_gate a { s a; }" + body)
    assert run_circuit(circuit, 300, 1).get_counts("last") == {"0": 300}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("rx(3/4*pi) q[0];", "line 5, column 4: 3/4 is a division of integers and gives 0; write 3.0/4 for 0.75"),
        ("pow(1/2) @ x q[0];", "1/2 is a division of integers and gives 0"),
        ("const float a = 7/2; rx(a) q[0];", "7/2 is a division of integers and gives 3"),
        ("stretch g; delay[2 * g] q[0]; x q[0];", "the stretch 'g' is 0, the shortest that it may be"),
        ("let a = q[0]; for int i in [0:1] { let a = q[1]; x a; }", "another name within this block only"),
    ],
)
def test_warnings(statement, words):
    with pytest.warns(UserWarning, match=re.escape(words)):
        circuit_of(statement)


def test_integer_divisions_that_count_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        circuit_of("const int n = 7; for int i in [0:(n - 3) / 2] { rx(pi / 4) q[i]; }")


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
    assert dict(again.count_ops()) == {"x": 1}


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
        ("k = 3;", 5, 1, "k"),
        ("const int k = 2; k = 3;", 5, 18, "'k' is 'const int' and cannot be set; expected a variable"),
        ("int k; x q[k];", 5, 12, "'k' has no value yet"),
        (
            "c[0] = measure q[0]; bool f = c[0]; c[0] = measure q[1]; if (f) x q[2];",
            5,
            62,
            "written since; expected its use",
        ),
        ("uint[4] h = 3;", 5, 1, "'h' is already defined, as 'gate'; expected another name"),
        ("c = measure q; uint[3] n = c; x q[n];", 5, 33, "index out of range, where 'n' is 3"),
        ("bit[20] w; uint[20] n = w; n = n + 1;", 5, 32, "depends on 20 measured bits; at most 10"),
        ("bool t1 = true; while (t1) { x q[0]; }", 5, 17, "never ends"),
        ("c[0] = measure q[0]; if (c[0]) { end; }", 5, 34, "expected the rest of the program in an else block"),
        (
            "def f(qubit a) -> bit { c[0] = measure a; if (c[0]) { return c[0]; } return c[0]; } f(q[0]);",
            5,
            55,
            "return",
        ),
        ("break;", 5, 1, "'break' statement outside loop"),
        ("let r = q[0:1] ++ q[2];", 5, 19, "joins registers, and this is 'qubit'; expected a register"),
        ("extern f(int) -> int;", 5, 1, "extern functions do not run in a circuit; expected a def"),
        ("defcal x $0 { }", 5, 1, "pulse calibrations are not supported; expected gates"),
        ("duration d = durationof({x q[0];});", 5, 14, "durationof is not supported"),
        ("array[int[8], 3] a; x q[a[3]];", 5, 25, "index 3 of a dimension of 3 is out of range"),
        ("array[int[8], 3] a; x q[a[1]];", 5, 25, "no value yet"),
        ("array[int[8], 3] a = {1, 2};", 5, 22, "'array[int, 2]' where 'array[int[8], 3]' is wanted"),
        ("output float f;", 5, 1, "expected output bit"),
        ("def f(qubit[2] a) { x a; } f(q);", 5, 28, "'a' of f is a qubit[2], 'qubit[3]' is given"),
        ("c[0:1] = measure q;", 5, 1, "3 qubits are measured into 2 bits"),
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
