"""What the circuit-cutting mini-app is told: circuit, observable, sizes."""

import msgspec
import pytest
from pilot_miniapps.circuit_cutting import CircuitCutting, Settings, whole
from pilot_miniapps.circuit_cutting.problem import Problem
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.quantum_info import Statevector

from pilot.errors import DescriptionError
from pilot.quantum.aer import exact_value


def test_the_papers_circuit_is_the_default():
    problem = CircuitCutting(Settings()).problem
    assert (problem.circuit.num_qubits, problem.circuit.count_ops()["cx"]) == (34, 66)
    assert problem.observable == "Z" + "I" * 33
    assert exact_value(problem.circuit, problem.observable) == pytest.approx(-0.115779635, abs=1e-8)


@pytest.mark.parametrize("method", [whole.STATE_VECTOR, whole.PRODUCT_STATE])
def test_the_oracle_is_the_value_of_the_state(method):
    problem = Problem.of_paper(7, 2, "XIZYIZZ")
    expected = Statevector(problem.circuit).expectation_value(whole.SparsePauliOp(problem.observable)).real
    assert whole.exact_value(problem.circuit, problem.observable, method) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("language", [qasm2, qasm3], ids=["OpenQASM 2", "OpenQASM 3"])
def test_a_file_of_the_users(language, tmp_path):
    circuit = QuantumCircuit(2)
    circuit.ry(0.4, 0)
    circuit.cx(0, 1)
    expected = exact_value(circuit, "ZZ")
    circuit.measure_all()
    file = tmp_path / "mine.qasm"
    file.write_text(language.dumps(circuit))
    read = CircuitCutting(Settings(circuit=str(file), observable="ZZ")).problem
    assert exact_value(read.circuit, read.observable) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "observable", "message"),
    [
        ("OPENQASM 2.0;\nqubits 3;", "ZZ", "--circuit: .*: OpenQASM 2, line 2"),
        ("OPENQASM 3.0;\nqubit[2] q;\nnonsense", "ZZ", "--circuit: .*: OpenQASM 3, line 3"),
        ("OPENQASM 2.0;\nqreg q[2];", "ZQ", "--observable: 'ZQ' is not valid; expected 2 letters"),
        (None, "ZZ", "--circuit: .* cannot be read"),
    ],
)
def test_a_wrong_file_or_observable_is_named(text, observable, message, tmp_path):
    file = tmp_path / "mine.qasm"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DescriptionError, match=message):
        CircuitCutting(Settings(circuit=str(file), observable=observable))


@pytest.mark.parametrize("given", [{"subcircuit_size": []}, {"subcircuit_size": [0]}, {"shots": 1}, {"whole": [99]}])
def test_settings_have_bounds(given):
    with pytest.raises(msgspec.ValidationError, match=next(iter(given))):
        msgspec.convert(given, Settings)


def test_memory_is_that_of_the_widest_state():
    assert CircuitCutting(Settings(whole=(30,))).memory() == 2 * 16 * 2**30
    assert CircuitCutting(Settings(whole=(), subcircuit_size=(28,))).memory() == 2 * 16 * 2**30
