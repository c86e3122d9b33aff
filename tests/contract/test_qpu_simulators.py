"""What the simulators add to the suite of all QPUs: aer and pennylane."""

from __future__ import annotations

import pytest
from pilot_plugins.qpus.aer import AerQPU
from qiskit import QuantumCircuit

from pilot.errors import QPUError
from pilot.registry import make
from pilot.testing.qpus import run


def test_aer_takes_a_tableau_for_wide_clifford_circuits() -> None:
    circuit = QuantumCircuit(200)
    circuit.h(0)
    for qubit in range(199):
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    qpu = AerQPU("aer", "")
    assert qpu.simulator(circuit, 100).method == "stabilizer"
    assert set(run(qpu, circuit, shots=100)[0].get_counts()) == {"0" * 200, "1" * 200}


def test_aer_takes_a_matrix_product_state_for_wide_circuits_of_low_entanglement() -> None:
    circuit = QuantumCircuit(40)
    for qubit in range(39):
        circuit.ry(0.3, qubit)
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    qpu = AerQPU("aer", "")
    assert qpu.simulator(circuit, 100).method == "matrix_product_state"
    assert run(qpu, circuit, shots=100)[0].weights.sum() == 100


def test_aer_says_what_a_circuit_would_need_that_fits_by_no_method() -> None:
    circuit = QuantumCircuit(60)
    for layer in range(60):
        circuit.ry(0.3 + layer, range(60))
        for qubit in range(layer % 2, 59, 2):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    with pytest.raises(QPUError, match=r"fits by no method .* statevector .* GiB"):
        run(AerQPU("aer", ""), circuit)


def test_aer_runs_circuits_that_act_on_outcomes() -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.x(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.measure(1, 1)
    qpu = AerQPU("aer", "")
    assert run(qpu, circuit, shots=50)[0].get_counts() == {"11": 50}
    with pytest.raises(QPUError, match="acts on measured bits"):
        run(qpu, circuit, shots=None)


def test_pennylane_gates_are_qiskits() -> None:
    """All standard gates on random states, against Qiskit's own probabilities."""
    import numpy as np
    from qiskit.circuit.library import get_standard_gate_name_mapping
    from qiskit.quantum_info import Statevector

    qpu = make("pennylane:default.qubit")
    circuits, expected = [], []
    generator = np.random.default_rng(5)
    for name, gate in get_standard_gate_name_mapping().items():
        if name in ("measure", "reset", "delay", "global_phase"):
            continue
        circuit = QuantumCircuit(max(gate.num_qubits, 2))
        for qubit in range(circuit.num_qubits):
            circuit.u(*generator.uniform(0, 3, 3), qubit)
        bound = gate.base_class(*generator.uniform(0.2, 2.9, len(gate.params))) if gate.params else gate
        circuit.append(bound, range(gate.num_qubits))
        for qubit in range(circuit.num_qubits):
            circuit.u(*generator.uniform(0, 3, 3), qubit)
        expected.append(Statevector(circuit).probabilities())
        circuit.measure_all()
        circuits.append(circuit)
    for circuit, probabilities, outcomes in zip(circuits, expected, run(qpu, *circuits, shots=None), strict=True):
        found = np.zeros(len(probabilities))
        for text, probability in outcomes.get_counts().items():
            found[int(text, 2)] = probability
        assert found == pytest.approx(probabilities, abs=1e-9), circuit.name


def test_pennylane_samples_what_it_cannot_list() -> None:
    circuit = QuantumCircuit(16)
    circuit.x([0, 15])
    circuit.measure_all()
    (outcomes,) = run(make("pennylane:lightning.qubit"), circuit, shots=20)
    assert outcomes.get_counts() == {"1" + "0" * 14 + "1": 20}


def test_pennylane_refuses_circuits_that_act_on_outcomes() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    with pytest.raises(QPUError, match="acts on measured bits"):
        run(make("pennylane:default.qubit"), circuit)
