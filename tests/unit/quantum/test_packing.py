"""What travels comes back as it was: `packing`."""

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, ControlModifier, Parameter
from qiskit.circuit import library as qiskit_gates
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector, random_unitary

from pilot.errors import DescriptionError
from pilot.quantum.compilation import structure
from pilot.quantum.packing import pack, unpack

VECTOR = np.array([0.6, 0.1, -0.3, 0.7]) / np.linalg.norm([0.6, 0.1, -0.3, 0.7])
HAMILTONIAN = SparsePauliOp(["XZ", "YY", "ZI"], [0.3, 0.5, -0.2]).to_matrix()
UNITARIES = [random_unitary(2, seed=seed).data for seed in range(2)]

#: Gates that QPY changes or cannot read again.
GATES = {
    "state preparation": qiskit_gates.StatePreparation(VECTOR),
    "modular adder": qiskit_gates.ModularAdderGate(1),
    "and": qiskit_gates.AndGate(2, [1, -1]),
    "xor": qiskit_gates.BitwiseXorGate(2, 2),
    "inner product": qiskit_gates.InnerProductGate(1),
    "ms": qiskit_gates.MSGate(2, 0.3),
    "linear rotations": qiskit_gates.LinearPauliRotationsGate(2, 0.3, 0.2),
    "piecewise rotations": qiskit_gates.PiecewiseLinearPauliRotationsGate(1, [0, 1], [0.3, 0.1], [0.2, 0.4]),
    "comparator": qiskit_gates.IntegerComparatorGate(1, 1),
    "uniformly controlled": qiskit_gates.UCGate(UNITARIES),
    "isometry": qiskit_gates.Isometry(VECTOR, 0, 0),
    "cu": qiskit_gates.CUGate(0.3, 0.4, 0.5, 0.6),
    "mcmt": qiskit_gates.MCMTGate(qiskit_gates.ZGate(), 2, 1, ctrl_state=1),
    "hamiltonian": qiskit_gates.HamiltonianGate(HAMILTONIAN, 0.7),
    "superposition": qiskit_gates.UniformSuperpositionGate(3, 2),
    "quadratic form": qiskit_gates.QuadraticFormGate(2, [[1]], [1], 1),
    "evolution": qiskit_gates.PauliEvolutionGate(SparsePauliOp(["XZ", "YY"], [0.3, 0.5]), 0.4),
}
FORMS = {
    "plain": lambda gate: gate,
    "inverse": lambda gate: gate.inverse(),
    "control": lambda gate: gate.control(1),
    "open control": lambda gate: gate.control(1, ctrl_state=0),
    "annotated": lambda gate: AnnotatedOperation(gate, ControlModifier(1, 0)),
    "inside": lambda gate: placed(gate).to_gate(),
}


def placed(operation):
    circuit = QuantumCircuit(operation.num_qubits, name="layer")
    circuit.append(operation, circuit.qubits)
    return circuit


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")  # of Qiskit's matrix of an evolution
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gate", GATES)
def test_gates_do_the_same_when_they_arrive(gate, form):
    if gate == "isometry" and form != "plain" and form != "annotated":
        pytest.skip("an instruction, which Qiskit controls or inverts no other way")
    circuit = placed(FORMS[form](GATES[gate]))
    assert np.allclose(Operator(unpack(pack(circuit))[0]).data, Operator(circuit).data, atol=1e-8)


def test_a_state_and_its_inverse_are_nothing():
    circuit = QuantumCircuit(2)
    circuit.prepare_state(VECTOR)
    circuit = circuit.compose(circuit.inverse())
    assert Statevector(unpack(pack(circuit))[0]).probabilities()[0] == pytest.approx(1)


def test_a_hamiltonians_time_may_be_free():
    time = Parameter("t")
    circuit = placed(qiskit_gates.HamiltonianGate(HAMILTONIAN, time))
    arrived = unpack(pack(circuit))[0]
    assert [one.name for one in arrived.parameters] == ["t"]
    expected = Operator(placed(qiskit_gates.HamiltonianGate(HAMILTONIAN, 0.7)))
    assert np.allclose(Operator(arrived.assign_parameters([0.7])).data, expected.data)


@pytest.mark.parametrize(
    ("duration", "unit"), [(1000, "us"), (50.0, "ns"), (1, "ms"), (2.5, "us"), (1e-3, "s"), (3, "ps"), (7, "dt")]
)
def test_delays_keep_their_units(duration, unit):
    circuit = QuantumCircuit(2, 1)
    circuit.delay(duration, 1, unit=unit)
    inner = QuantumCircuit(1, name="waits")
    inner.delay(duration, 0, unit=unit)
    circuit.append(inner.to_instruction(), [0])
    with circuit.if_test((0, 1)):
        circuit.delay(duration, 0, unit=unit)
    direct, nested, branch = unpack(pack(circuit))[0].data
    delays = [
        direct.operation,
        nested.operation.definition.data[0].operation,
        branch.operation.blocks[0].data[0].operation,
    ]
    assert [(delay.duration, delay.unit) for delay in delays] == [(duration, unit)] * 3


def test_delays_of_free_durations_keep_their_units():
    time = Parameter("t")
    circuit = QuantumCircuit(1)
    circuit.delay(time, 0, unit="us")
    delay = unpack(pack(circuit))[0].assign_parameters([2.5]).data[0].operation
    assert (delay.duration, delay.unit) == (2.5, "us")


def test_circuits_with_other_delays_have_other_structures():
    circuits = []
    for duration, unit in [(1, "us"), (1, "ms"), (1, "dt"), (2, "us")]:
        circuit = QuantumCircuit(1)
        circuit.delay(duration, 0, unit=unit)
        circuits.append(circuit)
    assert len({structure(circuit) for circuit in circuits}) == 4


def test_what_cannot_travel_is_refused_with_the_circuits_name():
    circuit = QuantumCircuit(1, name="noted", metadata={"why": object()})
    with pytest.raises(DescriptionError, match="'noted' cannot travel"):
        pack(circuit)
