"""`load` and `Program`: what is guessed, what is given back, what goes round."""

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Gate, Parameter, ParameterVector
from qiskit.circuit.library import (
    HamiltonianGate,
    Isometry,
    LinearFunction,
    MultiplierGate,
    PauliProductRotationGate,
    RXXGate,
    RYGate,
    RZZGate,
    UnitaryGate,
    WeightedSumGate,
)
from qiskit.quantum_info import Operator, Pauli, Statevector, random_unitary

import pilot.quantum
from pilot.errors import DescriptionError, ProgramError
from pilot.quantum import Program, load
from pilot.quantum.aer import run_circuit
from pilot.quantum.programs import openqasm2

QASM2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg low[1];\ncreg high[1];\nh q[0];\ncx q[0],q[1];\n'
QASM3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nh q[0];\ncx q[0], q[1];\n'
ORIGINIR = "QINIT 2\nH q[0]\nCNOT q[0],q[1]\n"
QIR = """define void @main() #0 {
  call void @__quantum__qis__h__body(ptr null)
  call void @__quantum__qis__cnot__body(ptr null, ptr inttoptr (i64 1 to ptr))
  ret void
}
declare void @__quantum__qis__h__body(ptr)
declare void @__quantum__qis__cnot__body(ptr, ptr)
attributes #0 = { "entry_point" "qir_profiles"="base_profile" "required_num_qubits"="2" "required_num_results"="0" }
"""
TEXTS = {"openqasm2": QASM2, "openqasm3": QASM3, "originir": ORIGINIR, "qir": QIR}


@pytest.fixture(scope="module")
def formats():
    """The script that sends circuits through each format; its comparisons serve here, too."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
    try:
        module = importlib.import_module("formats")
    finally:
        del sys.path[0]
    module.SHOTS, module.SAMPLED = 2_000, 0.15
    return module


def bell():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    return circuit


@pytest.mark.parametrize("format", TEXTS)
@pytest.mark.parametrize("prefix", ["", "\n\n"])
def test_the_format_is_guessed(format, prefix):
    program = load(prefix + TEXTS[format])
    assert program.format == format
    assert Operator(program.to_qiskit()).equiv(Operator(bell()))


@pytest.mark.parametrize(("format", "begin"), [("openqasm3", "qubit q;"), ("openqasm2", "// me\nqreg q[1];")])
def test_the_format_is_guessed_without_a_version(format, begin):
    assert load(begin + "\nU(0,0,0) q;" if format == "openqasm3" else begin, format).format == format
    assert pilot.quantum.programs.program.guess(begin) == format


@pytest.mark.parametrize("suffix", [".qasm", ".txt", ".originir"])
def test_paths(tmp_path, suffix):
    path = tmp_path / f"circuit{suffix}"
    path.write_bytes(b"\xef\xbb\xbf" + ORIGINIR.replace("\n", "\r\n").encode())
    assert load(path).format == load(str(path)).format == "originir"


def test_a_path_that_is_none(tmp_path):
    with pytest.raises(DescriptionError, match=r"nothing\.qasm cannot be read: No such file"):
        load(str(tmp_path / "nothing.qasm"))


def test_includes_come_from_the_files_folder_alone(tmp_path):
    (tmp_path / "mine.inc").write_text("gate mine a { U(0,0,pi/2) a; }\n")
    path = tmp_path / "circuit.qasm"
    path.write_text('OPENQASM 2.0;\ninclude "mine.inc";\nqreg q[1];\nmine q[0];\n')
    assert "mine" in load(path).to_qiskit().count_ops()
    with pytest.raises(ProgramError, match=r"line 2, column 10: .*mine\.inc"):
        load(path.read_text())


def test_a_program_is_a_value():
    program = load(bell())
    program.to_qiskit().x(0)
    assert len(program.to_qiskit().data) == 2
    assert load(program) is program
    assert repr(program) == "<Program from Qiskit: 2 qubits, 0 bits, 2 instructions>"
    again = pickle.loads(pickle.dumps(load(ORIGINIR)))
    assert (again.format, again.to_qiskit()) == ("originir", load(ORIGINIR).to_qiskit())


@pytest.mark.parametrize(
    ("given", "format", "words"),
    [
        (3, None, "circuit: int is not valid"),
        ("QINIT 1", "quil", "'quil' is not valid; expected one of openqasm2, openqasm3"),
        ("QINIT 1", "qiskit", "'qiskit' is not valid; expected a format of texts"),
        (QuantumCircuit(1), "originir", "object of Qiskit"),
        ("hello", None, "'hello' is neither a program nor the name of a file that is there"),
        ("hello\nyou", None, "line 1, column 1: its format is not recognised"),
        ("", None, "line 1, column 1: the program is empty"),
    ],
)
def test_what_is_no_program(given, format, words):
    with pytest.raises(DescriptionError, match=words):
        load(given, format)


def test_formats_that_cannot_be_written():
    with pytest.raises(DescriptionError, match="'qiskit' is not valid; expected one of"):
        load(bell()).dumps()


def test_importing_the_package_loads_no_qiskit():
    code = "import sys, pilot.quantum as q; assert 'qiskit' not in sys.modules; q.load; assert 'qiskit' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_registers_and_bit_order_are_kept():
    circuit = load(QASM2 + "measure q[0] -> high[0];\n").to_qiskit()
    again = load(Program(circuit).dumps("openqasm3")).to_qiskit()
    assert [register.name for register in again.cregs] == ["low", "high"]
    assert [again.find_bit(each.clbits[0]).index for each in again.data if each.clbits] == [1]


# round trips: the whole table is in benchmarks/formats.py


@pytest.mark.parametrize("format", ["qiskit", "openqasm2", "openqasm3", "originir", "qir"])
def test_random_circuits_there_and_back(formats, format):
    for name, circuit in formats.random_circuits(11).items():
        dynamic = not formats.is_unitary(circuit)
        if dynamic and format == "qir" and "if_else" in circuit.count_ops():
            continue
        back = formats.there_and_back(circuit, format)
        if dynamic:
            assert formats.distance(circuit, back) < formats.SAMPLED, name
        else:
            assert formats.distance(circuit, back) < 1e-9, name


@pytest.mark.parametrize("format", ["openqasm2", "openqasm3", "originir", "qir"])
@pytest.mark.parametrize("name", ["ae", "dynamic_qft", "ghz_dynamic", "randomcircuit", "qwalk", "modular_adder"])
def test_benchmark_circuits_there_and_back(formats, name, format):
    from mqt.bench import BenchmarkLevel, get_benchmark

    circuit = get_benchmark(name, BenchmarkLevel.ALG, 4)
    if format == "qir" and "if_else" in circuit.count_ops():
        with pytest.raises(DescriptionError, match="'if_else'"):
            Program(circuit).dumps("qir")
        return
    limit = 1e-9 if formats.is_unitary(circuit) else formats.SAMPLED
    assert formats.distance(circuit, formats.there_and_back(circuit, format)) < limit


@pytest.mark.parametrize("format", ["openqasm2", "openqasm3", "originir", "qir"])
def test_matrices_and_annotations_are_written_by_definitions(formats, format):
    circuit = QuantumCircuit(3)
    circuit.append(UnitaryGate(random_unitary(4, seed=1)), [0, 2])
    circuit.append(RXXGate(0.3).control(1, ctrl_state=0, annotated=True), [1, 0, 2])
    circuit.append(UnitaryGate(random_unitary(4, seed=2)).inverse(annotated=True), [2, 1])
    assert formats.distance(circuit, formats.there_and_back(circuit, format)) < 1e-9


# OpenQASM 2


@pytest.mark.parametrize("name", ["cs", "rzx", "ryy", "ecr", "iswap", "xx_plus_yy", "csdg", "dcx"])
def test_all_of_qiskits_gates_are_known(name):
    from pilot.quantum.programs.definitions import standard_gates

    gate = standard_gates()[name]
    angles = [0.1 * (k + 1) for k in range(len(gate.params))]
    call = f"{name}({','.join(map(str, angles))})" if angles else name
    operands = ",".join(f"q[{k}]" for k in range(gate.num_qubits))
    circuit = load(QASM2.partition("h q")[0] + f"{call} {operands};\n").to_qiskit()
    assert type(circuit.data[0].operation).__name__ == type(gate.base_class(*angles)).__name__
    circuit = load(QASM3.partition("h q")[0] + f"{call} {operands};\n").to_qiskit()
    assert np.allclose(Operator(circuit).data, Operator(gate.base_class(*angles)).data)


@pytest.mark.parametrize("text", [QASM2, QASM3])
def test_a_definition_in_the_text_counts(text):
    head, _, _ = text.partition("h q")
    body = "gate rxx(t) a,b { x a; } rxx(0.3) q[0],q[1];"
    circuit = load(head.replace("qreg", "gate rxx(t) a,b { x a; }\nqreg", 1) + "rxx(0.3) q[0],q[1];\n").to_qiskit()
    if text is QASM3:
        circuit = load(head + body).to_qiskit()
    expected = QuantumCircuit(2)
    expected.x(0)
    assert Operator(circuit).equiv(Operator(expected))
    assert circuit.data[0].operation.name == "rxx_defined", "a compiler would take it for Qiskit's"


def test_a_definition_that_is_qiskits_own_becomes_qiskits():
    text = Program(QuantumCircuit(2)).dumps("openqasm3")
    circuit = QuantumCircuit(2)
    circuit.rzx(0.4, 0, 1)
    circuit.ecr(0, 1)
    for format in ("openqasm2", "openqasm3"):
        names = [type(each.operation).__name__ for each in load(Program(circuit).dumps(format)).to_qiskit().data]
        assert names[0] == "RZXGate", text
        assert "ECR" in names[1]


def test_conditions_on_single_bits_list_the_registers_values():
    circuit = QuantumCircuit(2, 2)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)) as otherwise:
        circuit.x(1)
    with otherwise:
        circuit.y(1)
    text = openqasm2.dumps(circuit)
    assert [line for line in text.split("\n") if line.startswith("if")] == [
        "if (c == 1) x q[1];",
        "if (c == 3) x q[1];",
        "if (c == 0) y q[1];",
        "if (c == 2) y q[1];",
    ]


def test_conditions_that_openqasm2_cannot_express_are_named():
    circuit = QuantumCircuit(1, 1)
    with circuit.while_loop((circuit.clbits[0], 0)):
        circuit.measure(0, 0)
    with pytest.raises(DescriptionError, match="OpenQASM 2 cannot express"):
        Program(circuit).dumps("openqasm2")


@pytest.mark.parametrize(
    ("text", "line", "column", "expected"),
    [
        ("OPENQASM 2.0;\nqreg q[2];\nU(0,0,0) q[0]\nCX q[0],q[1];", 4, 1, ";"),
        ("OPENQASM 2.0;\nqreg q[2];\nfoo q[0];", 3, 1, None),
        ("OPENQASM 2.0;\nqreg q[2];\nCX q[0],q[2];", 3, 11, None),
        ("OPENQASM 2.0;\nqreg q[9999999999];", 2, 8, "at most 100000"),
        ("OPENQASM 2.0;\nqreg q[2];\nU(" + "(" * 101, 3, 102, "at most 100 in one another"),
        ("OPENQASM 2.0;\nqreg q[2];\0", 2, 11, None),
    ],
)
def test_errors_of_openqasm2(text, line, column, expected):
    with pytest.raises(ProgramError, match=f"^OpenQASM 2, line {line}, column {column}: ") as caught:
        load(text)
    assert (caught.value.line, caught.value.column, caught.value.format) == (line, column, "openqasm2")
    assert caught.value.expected == expected
    assert pickle.loads(pickle.dumps(caught.value)).line == line


@pytest.mark.parametrize("before", ["", "qreg spare[1]; ", "gate mine a { h a; } ", "// gate h a { }\n"])
def test_openqasm2_definitions_count_wherever_they_stand(before):
    text = (
        f'OPENQASM 2.0; include "qelib1.inc"; {before}gate ryy(p) a,b {{ U(p,0,0) a; }} qreg q[2]; ryy(1.0) q[0],q[1];'
    )
    circuit = load(text).to_qiskit()
    state = Statevector(circuit).probabilities([1, 2] if "spare" in before else [0, 1])
    assert state == pytest.approx([np.cos(0.5) ** 2, np.sin(0.5) ** 2, 0, 0])


def test_openqasm2_definitions_in_an_included_file_count(tmp_path):
    (tmp_path / "mine.inc").write_text("gate first a { x a; }\ngate iswap a,b { ry(0.4) a; }\n")
    file = tmp_path / "main.qasm"
    file.write_text('OPENQASM 2.0; include "qelib1.inc"; include "mine.inc"; qreg q[2]; iswap q[0],q[1];')
    assert Statevector(load(file).to_qiskit()).probabilities([0])[1] == pytest.approx(np.sin(0.2) ** 2)


@pytest.mark.parametrize(
    ("body", "line", "column"), [("foo q[0];", 4, 1), ("gate bar a { foo a; }\nbar q[0];", 4, 14), ("foo q;", 4, 1)]
)
def test_a_use_of_an_opaque_gate_is_refused_with_its_place(body, line, column):
    text = f"OPENQASM 2.0;\nopaque foo a; // foo\nqreg q[1];\n{body}"
    with pytest.raises(ProgramError, match="'foo' is opaque") as caught:
        load(text)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_an_opaque_gate_that_is_not_used_is_no_matter():
    assert load("OPENQASM 2.0;\nopaque foo a;\nqreg q[1];\nU(0,0,0) q[0];").to_qiskit().num_qubits == 1


@pytest.mark.parametrize("format", ["openqasm2", "originir"])
def test_a_condition_on_a_wide_register_is_written_and_read(format):
    circuit = QuantumCircuit(QuantumRegister(1), ClassicalRegister(70, "c"))
    circuit.measure([0], [69])
    with circuit.if_test((circuit.cregs[0], 2**69)):
        circuit.x(0)
    text = load(circuit).dumps(format)
    assert len(text) < 10_000
    assert load(text, format=format).to_qiskit().count_ops() == circuit.count_ops()


@pytest.mark.parametrize("modifier", ["ctrl", "negctrl", "ctrl @ inv", "inv @ ctrl"])
def test_openqasm3_modifiers_of_an_own_gate_with_a_standard_name(modifier):
    text = f"OPENQASM 3.0; gate h a {{ U(1,0,0) a; }} qubit[2] q; U(0.3,0,0) q[0]; {modifier} @ h q[0],q[1];"
    expected = QuantumCircuit(2)
    expected.ry(0.3, 0)
    gate = RYGate(-1 if "inv" in modifier else 1).control(1, ctrl_state=0 if "neg" in modifier else 1)
    expected.append(gate, [0, 1])
    assert Operator(load(text).to_qiskit()).equiv(Operator(expected))


@pytest.mark.parametrize("angle", [2 * Parameter("x"), -Parameter("x"), Parameter("x") + 1, Parameter("x")], ids=str)
def test_openqasm3_keeps_expressions_of_free_parameters(angle):
    circuit = QuantumCircuit(4)
    circuit.mcp(angle, [0, 1, 2], 3)
    circuit.append(RZZGate(angle).control(1), [0, 1, 2])
    back = load(load(circuit).dumps("openqasm3"), format="openqasm3").to_qiskit()
    bound = [Operator(one.assign_parameters([1.1])) for one in (circuit, back)]
    assert bound[1].equiv(bound[0])


@pytest.mark.parametrize(
    "parameters",
    [
        [ParameterVector("v", 13)[place] for place in (1, 10, 12)],
        [*(ParameterVector("v", 11)[place] for place in (2, 10)), Parameter("v_2"), Parameter("v_02")],
        [Parameter(name) for name in ("p", "q", "o")],
        [Parameter(name) for name in ("θ", "gate", "_x", "a b")],
    ],
    ids=str,
)
def test_openqasm3_keeps_the_order_of_free_parameters(parameters):
    circuit = QuantumCircuit(len(parameters))
    for qubit, parameter in enumerate(parameters):
        circuit.rx(parameter, qubit)
    back = load(load(circuit).dumps("openqasm3"), format="openqasm3").to_qiskit()
    values = np.linspace(0.3, 1.7, len(parameters))
    first, second = (Operator(each.assign_parameters(values)) for each in (circuit, back))
    assert second.equiv(first)


# what a format cannot say


def delayed():
    circuit = QuantumCircuit(1)
    circuit.delay(2.5, 0, unit="us")
    circuit.h(0)
    return circuit


def weighted_sum(annotated=False):
    gate = WeightedSumGate(2, [1, 2])  # needs auxiliary qubits in |0>: by itself it has no definition
    return of(gate.inverse(annotated=True) if annotated else gate)


def of(operation):
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.append(operation, circuit.qubits)
    return circuit


@pytest.mark.parametrize(
    ("circuit", "format", "words"),
    [
        (delayed(), "openqasm2", "OpenQASM 2 cannot express 'delay'"),
        (delayed(), "originir", "OriginIR cannot express delay"),
        (delayed(), "qir", "cannot express 'delay'"),
        (weighted_sum(), "openqasm2", "OpenQASM 2 cannot express 'WeightedSum'"),
        (weighted_sum(annotated=True), "openqasm2", "OpenQASM 2 cannot express 'annotated'"),
        (weighted_sum(), "openqasm3", "WeightedSum"),
        (weighted_sum(), "originir", "OriginIR cannot express 'WeightedSum'"),
        (of(RYGate(Parameter("t"))), "openqasm2", "free parameters: give values to t"),
        (of(RYGate(Parameter("t"))), "qir", "free parameters: give values to t"),
        (of(Gate("oracle", 2, [])), "openqasm2", "'oracle'"),
    ],
)
def test_what_a_format_cannot_say_is_refused(circuit, format, words):
    with pytest.raises(DescriptionError, match=words):
        load(circuit).dumps(format)


def of_matrices():
    inner = QuantumCircuit(2, name="inner")
    inner.append(LinearFunction([[1, 1], [0, 1]]), [0, 1])
    inner.append(Isometry(np.array([0.6, 0.8]), 0, 0), [0])
    return inner.to_instruction()


@pytest.mark.parametrize("format", ["openqasm2", "openqasm3", "originir", "qir"])
@pytest.mark.parametrize(
    "operation",
    [
        of_matrices(),
        MultiplierGate(1).control(1, annotated=True),
        PauliProductRotationGate(Pauli("XZ"), 0.3),
        HamiltonianGate([[1, 0.2], [0.2, -1]], 0.3),
    ],
    ids=lambda each: each.name,
)
def test_operations_without_a_name_of_their_own_go_round(operation, format):
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.ry(0.7, 0)
    circuit.append(operation, circuit.qubits)
    back = load(load(circuit).dumps(format), format=format).to_qiskit()
    assert Statevector(back).equiv(Statevector(circuit))


OWN = ("reset", "barrier", "measure", "h", "u2", "delay", "if_else", "id", "pi", "sin", "pow", "gate", "U", "unitary")


@pytest.mark.parametrize("format", ["openqasm2", "openqasm3", "originir", "qir"])
@pytest.mark.parametrize("name", OWN)
def test_own_gates_are_written_as_what_they_are(name, format):
    own = QuantumCircuit(1, name=name)
    own.ry(0.4, 0)
    back = load(load(of(own.to_gate())).dumps(format), format=format).to_qiskit()
    assert Statevector(back).probabilities() == pytest.approx([np.cos(0.2) ** 2, np.sin(0.2) ** 2])


@pytest.mark.parametrize("format", ["openqasm2", "openqasm3"])
@pytest.mark.parametrize("name", ["x", "pi", "sin", "measure", "gate", "U", "a b", "θ"])
@pytest.mark.parametrize("classical", [False, True])
def test_registers_may_have_any_name(name, classical, format):
    names = ("other", name) if classical else (name, "other")
    circuit = QuantumCircuit(QuantumRegister(1, names[0]), ClassicalRegister(2, names[1]), ClassicalRegister(1, "c"))
    circuit.x(0)
    circuit.measure(0, 1)
    with circuit.if_test((circuit.cregs[0], 2)):
        circuit.measure(0, 2)
    back = load(load(circuit).dumps(format), format=format).to_qiskit()
    assert run_circuit(back, 10, 1).get_counts() == {"1 10": 10}
