"""What the circuit-cutting mini-app is told: circuit, observable, pilots."""

import msgspec
import pytest
from pilot_miniapps.circuit_cutting import Settings, read_problem
from qiskit import QuantumCircuit, qasm2, qasm3

from pilot.errors import DescriptionError
from pilot.quantum.aer import exact_value


def test_the_papers_circuit_is_the_default():
    circuit, observable = read_problem(Settings())
    assert (circuit.num_qubits, circuit.count_ops()["cx"], observable) == (34, 66, "Z" + "I" * 33)
    assert exact_value(circuit, observable) == pytest.approx(-0.115779635, abs=1e-8)


@pytest.mark.parametrize("language", [qasm2, qasm3], ids=["OpenQASM 2", "OpenQASM 3"])
def test_a_file_of_the_users(language, tmp_path):
    circuit = QuantumCircuit(2)
    circuit.ry(0.4, 0)
    circuit.cx(0, 1)
    expected = exact_value(circuit, "ZZ")
    circuit.measure_all()
    file = tmp_path / "mine.qasm"
    file.write_text(language.dumps(circuit))
    read, observable = read_problem(Settings(circuit=str(file), observable="ZZ"))
    assert exact_value(read, observable) == pytest.approx(expected, abs=1e-12)


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
        read_problem(Settings(circuit=str(file), observable=observable))


@pytest.mark.parametrize("pilot", ["slurm:1", "ray", "ray:0", "ray:two"])
def test_a_wrong_pilot_is_named(pilot):
    with pytest.raises(msgspec.ValidationError, match=f"pilot: '{pilot}' is not valid; expected "):
        msgspec.convert({"pilot": [pilot]}, Settings)
