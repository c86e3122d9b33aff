"""Gates of a user's own that have the name of another operation: they do what they are made of."""

import numpy as np
import pytest
from here import Here
from qiskit import QuantumCircuit
from qiskit.circuit import AnnotatedOperation, ControlModifier, Gate, Instruction, Parameter, PowerModifier
from qiskit.circuit.library import (
    CUGate,
    CXGate,
    MSGate,
    PauliEvolutionGate,
    PauliGate,
    PauliProductRotationGate,
    RYGate,
    UnitaryGate,
)
from qiskit.quantum_info import Operator, Pauli, SparsePauliOp, Statevector

from pilot import TaskDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Offer
from pilot.quantum.aer import run_circuit
from pilot.quantum.aer_simulators import Simulator
from pilot.quantum.mitigation.folding import fold_global
from pilot.quantum.programs import load
from pilot.quantum.programs.definitions import inverse_of
from pilot.quantum.programs.gate_names import truly_named
from pilot.quantum.tasks import prepare

#: Names of standard gates, of simulators' instructions, of what compilers synthesise, and of directives.
NAMES = (
    *("h", "id", "p", "u", "rzz", "cx", "ccx", "mcx", "swap", "ecr", "global_phase", "cu3"),
    *("multiplexer", "diagonal", "initialize", "quantum_channel", "mcu", "mcphase", "pauli", "unitary", "kraus"),
    *("qft", "permutation", "clifford", "linear_function", "PauliEvolution", "ModularAdder", "annotated"),
    *("delay", "reset", "barrier", "measure", "if_else", "save_state", "set_statevector"),
)


def own(name, width=2):
    """A gate that is none of Qiskit's."""
    circuit = QuantumCircuit(width, name=name)
    circuit.ry(1.0, 0)
    if width > 1:
        circuit.cx(0, width - 1)
        circuit.rx(0.3, width - 1)
    return circuit


def whole(circuit, width):
    """It between gates, and the unitary that it makes."""
    around = QuantumCircuit(width)
    around.h(range(width))
    around.t(range(width))
    around.compose(circuit, range(circuit.num_qubits), inplace=True)
    around.h(range(width))
    return around


def placed(operation, width):
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.append(operation, circuit.qubits)
    return whole(circuit, width)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [1, 2])
def test_an_own_gate_is_what_it_is_made_of(name, width):
    outer = QuantumCircuit(width, name="layer")
    outer.append(own(name, width).to_gate(), range(width))
    expected = Operator(whole(own(name, width), width))
    for operation in (own(name, width).to_gate(), own(name, width).to_instruction(), outer.to_gate()):
        circuit = truly_named(placed(operation, width))
        taken = {entry.name for entry in circuit.data if not entry.is_standard_gate()} & set(NAMES)
        assert not taken, "a simulator would take it for another one"
        assert Operator(circuit) == expected
        assert Operator(load(placed(operation, width)).to_qiskit()) == expected


@pytest.mark.parametrize("name", ["h", "id", "z", "qft", "layer"])
def test_an_annotated_control_of_an_own_gate_controls_what_it_is_made_of(name):
    operation = AnnotatedOperation(own(name).to_gate(), ControlModifier(1))
    expected = own("harmless").to_gate().control(1)
    assert Operator(truly_named(placed(operation, 3))) == Operator(placed(expected, 3))


@pytest.mark.parametrize("name", ["h", "z", "x", "sx"])
def test_a_control_that_took_qiskits_gate_is_refused(name):
    """Its definition is the control of Qiskit's gate, its base gate another: no one can tell what is meant."""
    controlled = own(name, 1).to_gate().control(1)
    with pytest.raises(DescriptionError, match="another name"):
        load(placed(controlled, 2))
    inside = QuantumCircuit(1, name="layer")
    inside.append(own(name, 1).to_gate(), [0])
    with pytest.raises(DescriptionError, match="another name"):
        load(placed(inside.to_gate().control(2), 3))


def test_a_control_of_an_own_gate_stays_one():
    controlled = own("layer", 2).to_gate().control(2, ctrl_state=1)
    circuit = placed(controlled, 4)
    assert truly_named(circuit) is circuit


def test_own_gates_in_bodies_of_control_flow_get_other_names():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    with circuit.if_test((0, 1)):
        circuit.append(own("h", 1).to_gate(), [0])
    with circuit.for_loop(range(2)):
        circuit.append(own("reset", 1).to_instruction(), [0])
    found = truly_named(circuit)
    blocks = [
        block for entry in found.data if entry.name in ("if_else", "for_loop") for block in entry.operation.blocks
    ]
    assert [entry.name for block in blocks for entry in block.data] == ["h_defined", "reset_defined"]


def test_an_own_gate_that_is_qiskits_becomes_qiskits():
    same = QuantumCircuit(2, name="cz")
    same.h(1)
    same.cx(0, 1)
    same.h(1)
    assert truly_named(placed(same.to_gate(), 2)).count_ops()["cz"] == 1


def test_two_own_gates_of_one_name_stay_two():
    first, second = own("h", 1), QuantumCircuit(1, name="h")
    second.rx(2.0, 0)
    circuit = QuantumCircuit(1)
    for each in (first, second, first):
        circuit.append(each.to_gate(), [0])
    expected = QuantumCircuit(1)
    expected.ry(1.0, 0)
    expected.rx(2.0, 0)
    expected.ry(1.0, 0)
    assert Operator(truly_named(circuit)) == Operator(expected)


def test_free_angles_of_own_gates_stay_free():
    angle = Parameter("a")
    inner = QuantumCircuit(1, name="p")
    inner.ry(2 * angle, 0)
    circuit = QuantumCircuit(1)
    circuit.append(inner.to_gate(), [0])
    bound = truly_named(circuit).assign_parameters([0.4])
    assert np.allclose(Statevector(bound).probabilities(), [np.cos(0.4) ** 2, np.sin(0.4) ** 2])


def test_what_needs_no_change_comes_back_itself():
    circuit = QuantumCircuit(4, 1)
    circuit.h(0)
    circuit.append(UnitaryGate(np.eye(4)), [0, 1])
    circuit.append(CXGate(ctrl_state=0), [0, 1])
    circuit.append(PauliGate("XYZ"), [0, 1, 2])
    circuit.mcx([0, 1, 2], 3)
    circuit.initialize([1, 0], 3)
    circuit.reset(0)
    circuit.delay(3, 0)
    circuit.barrier()
    circuit.append(own("layer").to_gate(), [0, 1])
    circuit.measure(0, 0)
    assert truly_named(circuit) is circuit


def test_tasks_run_what_own_gates_are_made_of():
    circuit = QuantumCircuit(1)
    circuit.append(own("id", 1).to_gate(), [0])
    (task,) = Here().submit_tasks([TaskDescription(circuit=circuit, observables=["Z"])])
    assert task.result().values == pytest.approx([np.cos(1.0)])


@pytest.mark.parametrize("name", ["h", "layer"])
def test_own_gates_in_conditions_run(name):
    """Aer's gates are looked for in the bodies of conditions as well."""
    circuit = QuantumCircuit(1, 2)
    circuit.x(0)
    circuit.measure(0, 0)
    with circuit.if_test((0, 1)):
        circuit.append(own(name, 1).to_gate(), [0])
    circuit.measure(0, 1)
    counts = run_circuit(truly_named(circuit), 4000, 3).get_counts()
    assert counts["11"] / 4000 == pytest.approx(np.cos(0.5) ** 2, abs=0.03)


def test_delays_in_several_units_run_on_simulators():
    circuit = QuantumCircuit(1, 1)
    circuit.append(own("layer", 1).to_gate(), [0])
    for duration, unit in [(100, "dt"), (2.5, "us"), (7, "ns")]:
        circuit.delay(duration, 0, unit=unit)
    circuit.append(PauliProductRotationGate(Pauli("X"), 0.0), [0])  # one that has to be compiled
    circuit.measure(0, 0)
    assert run_circuit(circuit, None, 0, Simulator("matrix_product_state")).get_counts()["0"] == pytest.approx(
        np.cos(0.5) ** 2
    )


@pytest.mark.parametrize("open_control", [0, 1, 2])
def test_the_inverse_of_a_control_of_a_cu_undoes_it(open_control):
    gate = CUGate(0.3, 0.4, 0.5, 0.6).control(2, ctrl_state=open_control)
    assert Operator(inverse_of(gate)) == Operator(gate).adjoint()


def turned(angle, name="layer"):
    circuit = QuantumCircuit(2, name=name)
    circuit.ry(2 * angle, 0)
    circuit.cx(0, 1)
    circuit.rz(angle, 1)
    return circuit.to_gate()


def nested(angle):
    circuit = QuantumCircuit(3, name="outer")
    circuit.append(turned(angle, "inner").control(1), [2, 0, 1])
    return circuit.to_gate()


@pytest.mark.parametrize(
    "make",
    [
        lambda angle: turned(angle).control(1),
        lambda angle: turned(angle, "multiplexer").control(1, ctrl_state=0),
        lambda angle: turned(angle).control(1).inverse(),
        lambda angle: MSGate(2, 3 * angle).control(1),
        nested,
        lambda angle: nested(angle).control(1),
    ],
)
def test_a_control_whose_angles_got_values_keeps_them(make):
    """Qiskit gives the values to what a controlled gate is made of, not to what its base gate is made of."""
    angle = Parameter("a")
    width = make(0.7).num_qubits
    circuit = placed(make(angle), width).assign_parameters([0.7])
    state = Statevector(placed(make(0.7), width))
    assert np.allclose(Statevector(fold_global(circuit, 3)).data, state.data)
    label = "XYZZ"[:width]
    (task,) = Here().submit_tasks([TaskDescription(circuit=circuit, observables=[label])])
    assert task.result().values == pytest.approx([state.expectation_value(Pauli(label)).real])


class ByMatrix(Gate):
    """Its matrix is all that it says."""

    def __init__(self, angle):
        super().__init__("by_matrix", 1, [angle])

    def __array__(self, dtype=None, copy=None):
        return RYGate(float(self.params[0])).to_matrix()


class WithoutInverse(Gate):
    def __init__(self, angle):
        super().__init__("without_inverse", 2, [angle])

    def _define(self):
        self.definition = QuantumCircuit(2)
        self.definition.ry(self.params[0], 0)
        self.definition.barrier()
        self.definition.cx(0, 1)

    def inverse(self, annotated=False):
        raise NotImplementedError


@pytest.mark.parametrize("kind", [ByMatrix, WithoutInverse])
@pytest.mark.parametrize("form", ["plain", "inside", "control", "power"])
def test_a_class_of_ones_own_says_little(kind, form):
    gate = kind(0.8)
    expected = ByMatrix(0.8).to_matrix() if kind is ByMatrix else Operator(gate.definition).data
    if form == "inside":
        inside = QuantumCircuit(gate.num_qubits, name="layer")
        inside.append(gate, inside.qubits)
        gate = inside.to_gate()
    elif form == "control":
        gate, expected = AnnotatedOperation(gate, ControlModifier(1)), Operator(UnitaryGate(expected).control(1)).data
    elif form == "power":
        gate, expected = AnnotatedOperation(gate, PowerModifier(2)), expected @ expected
    circuit = placed(gate, gate.num_qubits)
    state = Statevector(placed(UnitaryGate(expected), gate.num_qubits))
    label = "XYZ"[: gate.num_qubits]
    (task,) = Here().submit_tasks([TaskDescription(circuit=circuit, observables=[label])])
    assert task.result().values == pytest.approx([state.expectation_value(Pauli(label)).real])
    if form in ("plain", "inside"):
        assert np.allclose(Statevector(fold_global(circuit, 3)).data, state.data)


def in_a_condition(operation):
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    with circuit.if_test((0, 1)):
        circuit.append(operation, [0, 1])
    return circuit


def inside_a_gate(operation):
    circuit = QuantumCircuit(2, name="layer")
    circuit.append(operation, [0, 1])
    return placed(circuit.to_instruction(), 2)


@pytest.mark.parametrize("operation", [Gate("mystery", 2, []), Instruction("mystery", 2, 0, [])])
@pytest.mark.parametrize("around", [lambda operation: placed(operation, 2), in_a_condition, inside_a_gate])
def test_what_nothing_says_the_meaning_of_is_refused_where_it_is_given(operation, around):
    circuit = around(operation)
    circuit.measure_all()
    offer = Offer(devices={}, cores=4, cores_per_node=4, gpus=0)
    with pytest.raises(DescriptionError, match="'mystery', which simulators do not know"):
        prepare(TaskDescription(circuit=circuit, shots=10), offer)


def test_a_gate_without_an_inverse_is_not_folded():
    with pytest.raises(DescriptionError, match="zne: gate 'mystery' has no inverse"):
        fold_global(placed(Gate("mystery", 2, []), 2), 3)


@pytest.mark.parametrize("qpu", [None, "aer", "aer:statevector", "aer:matrix_product_state"])
@pytest.mark.parametrize("form", ["itself", "within a gate", "with a free time"])
def test_an_evolution_is_the_product_that_its_synthesis_asks_for(qpu, form):
    time = Parameter("t") if form == "with a free time" else 0.3
    circuit = QuantumCircuit(2)
    circuit.append(PauliEvolutionGate(SparsePauliOp(["XX", "ZI"]), time), [0, 1])
    if form == "within a gate":
        whole = QuantumCircuit(2)
        whole.append(circuit.to_gate(), [0, 1])
        circuit = whole
    free = {"parameters": [0.3]} if form == "with a free time" else {}
    measured = circuit.copy()
    measured.h([0, 1])
    measured.measure_all()
    both = [
        TaskDescription(circuit=circuit, observables=["XX"], qpu=qpu, **free),
        TaskDescription(circuit=measured, qpu=qpu, **free),
    ]
    value, outcomes = (task.result() for task in Here().submit_tasks(both))
    parities = sum(weight * (-1) ** bits.count("1") for bits, weight in outcomes.get_counts().items())
    assert value.values[0] == pytest.approx(np.sin(0.6) ** 2)  # the exact evolution has 0.169
    assert parities == pytest.approx(np.sin(0.6) ** 2)
