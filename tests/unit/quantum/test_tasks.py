"""What the description of a circuit becomes: parts, what each takes, and what puts them together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.classical import expr, types
from qiskit.circuit.library import quantum_volume
from qiskit.quantum_info import SparseObservable, SparsePauliOp
from qiskit_aer.noise import NoiseModel

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Offer, Part, Prepared
from pilot.quantum.compilation import TRIES
from pilot.quantum.execution import DeviceRun, ExactValues, Simulation
from pilot.quantum.joint_simulation import JointSimulation
from pilot.quantum.mitigation import DynamicalDecoupling, Readout, Twirling, ZeroNoise
from pilot.quantum.tasks import prepare
from pilot.resources import SLOT, CircuitFacts, Resources


def offer(**changes: Any) -> Offer:
    return Offer(**{"devices": {}, "cores": 4, "cores_per_node": 4, "gpus": 0, **changes})


def bell(measured: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def wide(qubits: int) -> QuantumCircuit:
    """Entangled as far as it can be."""
    circuit = quantum_volume(qubits, depth=qubits, seed=1)
    circuit.measure_all()
    return circuit


def run(prepared: Prepared) -> Any:
    """What the tasks give, run here and now."""
    results = [part.function(*part.args) for part in prepared.parts]
    if prepared.combine is None:
        (result,) = results
        return result
    return prepared.combine.function(*prepared.combine.args, results)


def function_of(prepared: Prepared) -> Any:
    (function,) = {part.function for part in prepared.parts}
    return function


def test_one_circuit_is_one_part_on_a_slot() -> None:
    prepared = prepare(TaskDescription(circuit=bell(), shots=10, seed=1), offer())
    assert (prepared.resources, prepared.others, prepared.combine) == (SLOT, (), None)
    assert function_of(prepared) == Simulation(shots=10)
    assert sum(run(prepared).get_counts().values()) == 10


def test_tasks_alike_share_a_function() -> None:
    one, two = (prepare(TaskDescription(circuit=bell(), shots=10, seed=seed), offer()) for seed in (1, 2))
    assert function_of(one) == function_of(two)
    assert one.parts[0].args != two.parts[0].args


def test_short_circuits_with_parameters_run_together() -> None:
    """Not with a timeout, for which the whole run would count."""
    angle = Parameter("a")
    cases: list[tuple[int, dict[str, Any], bool]] = [(2, {}, True), (2, {"timeout": 1.0}, False), (18, {}, False)]
    for qubits, fields, is_joint in cases:
        circuit = quantum_volume(qubits, depth=qubits, seed=1)
        circuit.ry(angle, 0)
        circuit.measure_all()
        wanted = TaskDescription(circuit=circuit, shots=10, parameters={angle: 0.1}, **fields)
        assert isinstance(function_of(prepare(wanted, offer())), JointSimulation) == is_joint


def test_wide_circuits_weigh_more() -> None:
    weights = [
        prepare(TaskDescription(circuit=wide(qubits), shots=10), offer()).parts[0].weight for qubits in (4, 12, 16, 20)
    ]
    assert weights == sorted(weights)
    assert weights[-1] > 50 * weights[0]


def test_long_simulations_get_all_cores_of_a_node_and_the_memory_they_need() -> None:
    prepared = prepare(TaskDescription(circuit=wide(28), shots=10), offer())
    assert prepared.resources == Resources(num_cpus=4.0, memory=1 << 32)
    assert prepare(TaskDescription(circuit=wide(28), shots=10), offer(cores_per_node=1)).resources.num_cpus == 1.0


def test_what_is_asked_for_holds() -> None:
    asked = {"num_cpus": 2, "memory": "1 GiB"}
    prepared = prepare(TaskDescription(circuit=wide(26), shots=10, **asked), offer(gpus=1))
    assert (prepared.resources, prepared.others) == (Resources(2.0, 0.0, 1 << 30), ())
    with pytest.raises(DescriptionError, match=r"memory: .* nothing for a device"):
        prepare(TaskDescription(circuit=bell(), shots=10, qpu="*", memory="1 GiB"), offer())


def test_a_gpu_where_it_pays_and_cores_instead() -> None:
    big = prepare(TaskDescription(circuit=wide(26), shots=10), offer(gpus=1))
    assert big.resources == Resources(num_gpus=1.0)
    (instead,) = big.others
    assert instead.resources.num_cpus == 4.0
    assert instead.slowness > 2
    assert prepare(TaskDescription(circuit=bell(), shots=10), offer(gpus=1)).resources == SLOT


def test_without_shots_devices_are_not_used() -> None:
    devices = {"fake:manila": None}
    assert isinstance(function_of(prepare(TaskDescription(circuit=bell()), offer(devices=devices))), Simulation)
    exact = prepare(TaskDescription(circuit=bell(False), observables=["ZZ"]), offer(devices=devices))
    assert isinstance(function_of(exact), ExactValues)
    assert run(exact).values == pytest.approx([1.0])


def test_devices_take_no_cores_and_know_the_circuit() -> None:
    described = TaskDescription(circuit=bell(), shots=10, min_fidelity=0.5)
    prepared = prepare(described, offer(devices={"fake:manila": None}))
    assert prepared.resources == Resources(num_cpus=0.0, qpu="*")
    assert prepared.facts == CircuitFacts(2, 10, gates_1q=1, gates_2q=1, measurements=2)
    assert function_of(prepared) == DeviceRun(shots=10, min_fidelity=0.5, tries=TRIES)
    assert prepared.sample.circuit == bell() and prepared.sample.values is None
    plain = prepare(TaskDescription(circuit=bell(), shots=10), offer(devices={"fake:manila": None}))
    assert function_of(plain) == DeviceRun(shots=10) and plain.sample is None
    asked = prepare(TaskDescription(circuit=bell(), shots=10), offer(devices={"fake:manila": None}, estimated=True))
    assert function_of(asked) == DeviceRun(shots=10, tries=TRIES) and asked.sample is not None


@pytest.mark.parametrize(
    ("fields", "circuits"),
    [
        ({}, 1),
        ({"parameters": np.zeros((7, 1))}, 7),
        ({"observables": ["ZZ", "XX", "YY"]}, 3),
        ({"observables": ["ZZ", "XX"], "mitigation": ["zne"], "parameters": np.zeros((5, 1))}, 2 * 3 * 5),
        ({"tomography": True}, 9),
    ],
)
def test_all_circuits_of_a_task_are_estimated(fields: dict[str, Any], circuits: int) -> None:
    circuit = bell("observables" not in fields and "tomography" not in fields)
    if "parameters" in fields:
        free = QuantumCircuit(2)
        free.rx(Parameter("a"), 0)
        circuit = free.compose(circuit) if not circuit.num_clbits else circuit.compose(free, front=True)
    wanted = TaskDescription(circuit=circuit, shots=10, qpu="fake:manila", min_fidelity=0.0, **fields)
    prepared = prepare(wanted, offer(devices={"fake:manila": None}))
    assert prepared.sample.circuits == circuits


def test_one_of_several_devices() -> None:
    devices = {"fake:manila": None, "fake:belem": None, "fake:oslo": None}
    described = TaskDescription(circuit=bell(), shots=10, qpu=["fake:manila", "fake:belem"])
    prepared = prepare(described, offer(devices=devices))
    assert [prepared.resources.qpu, *(one.resources.qpu for one in prepared.others)] == ["fake:manila", "fake:belem"]
    with pytest.raises(DescriptionError, match="one simulator, or devices, but not both"):
        prepare(TaskDescription(circuit=bell(), shots=10, qpu=["fake:manila", "aer"]), offer(devices=devices))


def test_a_sweep_is_split_and_sends_its_circuit_once() -> None:
    circuit = QuantumCircuit(14)
    angle = Parameter("a")
    for qubit in range(14):
        circuit.rx(angle, qubit)
    circuit.measure_all()
    values = np.linspace(0, 1, 300)[:, None]
    prepared = prepare(TaskDescription(circuit=circuit, parameters=values, shots=5, seed=3), offer())
    assert len(prepared.parts) > 3
    assert function_of(prepared).program is not None
    assert np.concatenate([part.args[0] for part in prepared.parts]) == pytest.approx(values)
    seeds = [seed for part in prepared.parts for seed in part.args[1]]
    assert len(set(seeds)) == 300
    assert len(run(prepared)) == 300


def test_tomography_is_split_and_put_together() -> None:
    described = TaskDescription(circuit=bell(False), tomography=True, shots=4096, seed=1)
    prepared = prepare(described, offer())
    assert run(prepared).fidelity(bell(False)) > 0.99
    on_device = prepare(TaskDescription(circuit=bell(False), tomography=True, shots=9, qpu="*"), offer())
    assert len(on_device.parts) == 9
    assert isinstance(on_device.combine, Part)


def test_the_oracle_of_origins_example() -> None:
    energy = '"": -1.0534210769165204,"Z0": 0.39484436335590356,"Z1": 0.39484436335590356,'
    energy += '"Z0 Z1": -0.01124615715082114,"X0 X1": 0.18121046201519694'
    from pilot.quantum.observables import hamiltonian

    exact = run(prepare(TaskDescription(circuit=bell(False), observables=[hamiltonian(energy, 2)]), offer()))
    assert exact.values[0] == pytest.approx(-0.88345677205214, abs=1e-12)


def ghz(qubits: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    circuit.h(0)
    circuit.cx(range(qubits - 1), range(1, qubits))
    circuit.measure_all()
    return circuit


def coins(bits: int) -> QuantumCircuit:
    """One qubit, measured and reset again and again."""
    circuit = QuantumCircuit(1, bits)
    for bit in range(bits):
        circuit.h(0)
        circuit.measure(0, bit)
        circuit.reset(0)
    circuit.x(0)
    return circuit


@pytest.mark.parametrize(
    ("circuit", "fields", "words"),
    [
        (coins(40), {}, "no exact probabilities: .*middle"),
        (coins(40), {"observables": "Z"}, "no exact expectation values: .*middle.* shots"),
        (ghz(27), {}, "no exact probabilities: it measures 27 bits"),
    ],
)
def test_what_is_too_wide_for_exact_results_is_refused_at_submit(
    circuit: QuantumCircuit, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(DescriptionError, match=words):
        prepare(TaskDescription(circuit=circuit, **fields), offer())


@pytest.mark.parametrize("sets", [None, 3])
def test_a_vector_of_parameters_has_a_value_for_each(sets: int | None) -> None:
    angles, last = ParameterVector("angles", 2), Parameter("a")
    circuit = QuantumCircuit(1)
    for angle in (*angles, last):
        circuit.ry(angle, 0)
    vector = np.array([0.2, 0.3]) if sets is None else np.linspace(0, 1, 2 * sets).reshape(sets, 2)
    described = TaskDescription(circuit=circuit, observables="Z", parameters={angles: vector, last: np.float32(0.5)})
    values = run(prepare(described, offer())).values
    assert np.allclose(values[..., 0], np.cos(vector.sum(axis=-1) + 0.5))


@pytest.mark.parametrize("value", [np.array([0.5 + 0j]), [np.float32(0.5)], np.array([0.5], dtype=object)])
def test_numbers_of_other_types_are_values_too(value: Any) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("a"), 0)
    (found,) = run(prepare(TaskDescription(circuit=circuit, observables="Z", parameters=value), offer())).values
    assert found == pytest.approx(np.cos(0.5))


def boxed() -> QuantumCircuit:
    """Two boxes, one inside the other and one in a block."""
    angle = Parameter("a")
    circuit = QuantumCircuit(2, 2)
    with circuit.box(label="first"):
        circuit.ry(angle, 0)
        with circuit.box():
            circuit.cx(0, 1)
    return circuit


@pytest.mark.parametrize("shots", [None, 10_000])
def test_boxes_are_what_they_contain(shots: int | None) -> None:
    described = TaskDescription(
        circuit=boxed(), observables=["ZZ", "IZ", "XX"], parameters=[0.4], shots=shots, seed=1, qpu="aer"
    )
    result = run(prepare(described, offer()))
    wanted = [1, np.cos(0.4), np.sin(0.4)]
    assert np.allclose(result.values, wanted, atol=1e-9 if shots is None else 5 * result.standard_errors.max())


def test_boxes_with_measurements_and_in_conditions() -> None:
    circuit = QuantumCircuit(3, 3)
    with circuit.box():
        circuit.x(0)
        circuit.measure(0, 2)
    with circuit.if_test((circuit.clbits[2], 1)), circuit.box():
        circuit.x(1)
        circuit.measure(1, 1)
    outcomes = run(prepare(TaskDescription(circuit=circuit, shots=10, qpu="aer"), offer()))
    assert outcomes.get_counts() == {"110": 10}


#: id: (fields, words)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a sweep of tomography": (
        {"tomography": True, "parameters": [[0.1], [0.2]], "shots": 5},
        "one set of values with tomography",
    ),
    "not finite": ({"parameters": [float("nan")], "shots": 5}, "finite numbers"),
    "text": ({"parameters": ["x"], "shots": 5}, "numbers"),
    "imaginary": ({"parameters": np.array([1 + 0.5j]), "shots": 5}, "real numbers"),
    "imaginary columns": ({"parameters": {"a": np.array([1j, 2])}, "shots": 5}, "a real number"),
    "a vector of another length": ({"parameters": {ParameterVector("a", 3): [1, 2]}, "shots": 5}, "vector a .*3"),
    "an imaginary vector": ({"parameters": {ParameterVector("a", 1): [1j]}, "shots": 5}, "vector a real"),
    "missing": ({"shots": 5}, "values for the 1 free parameters"),
    "a deadline of a simulation": (
        {"parameters": [1.0], "shots": 5, "qpu": "aer", "deadline": 9},
        "deadline: .* nothing for a simulator",
    ),
    "a cost of exact results": ({"parameters": [1.0], "max_cost": 9}, "max_cost: .* nothing for a simulator"),
    "a fallback with noise": (
        {"parameters": [1.0], "shots": 5, "noise_model": NoiseModel(), "fallback": "wait"},
        "fallback: .* nothing for a simulator",
    ),
    "exact on any device": ({"parameters": [1.0], "qpu": "*"}, "a device cannot give exact results"),
}


@pytest.mark.parametrize("fields, words", WRONG.values(), ids=WRONG)
def test_wrong_fields_are_named(fields: dict[str, Any], words: str) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("a"), 0)
    circuit.measure_all()
    with pytest.raises(DescriptionError, match=words):
        prepare(TaskDescription(circuit=circuit, **fields), offer())


def test_stages_themselves_go_along_with_their_settings() -> None:
    entries = [Readout(shots=100), Twirling(num=2), DynamicalDecoupling(), ZeroNoise()]
    described = TaskDescription(circuit=bell(False), observables=["ZZ"], shots=10, qpu="*", mitigation=entries)
    function = function_of(prepare(described, offer()))
    assert function.stages == tuple(entries)
    assert hash(function) == hash(function_of(prepare(described, offer())))


def loop_with_a_break() -> tuple[QuantumCircuit, dict[str, float]]:
    """Three rounds, left at the first 1: bit 1 says whether an odd number of rounds were whole."""
    circuit = QuantumCircuit(2, 2)
    with circuit.for_loop(range(3)):
        circuit.h(0)
        circuit.measure(0, 0)
        with circuit.if_test((circuit.clbits[0], 1)):
            circuit.break_loop()
        circuit.x(1)
    circuit.measure(1, 1)
    return circuit, {"01": 0.625, "11": 0.25, "10": 0.125}


def boxes_in_conditions() -> tuple[QuantumCircuit, dict[str, float]]:
    circuit = QuantumCircuit(2, 2)
    with circuit.box():
        circuit.h(0)
        circuit.measure(0, 0)
        with circuit.if_test((circuit.clbits[0], 1)), circuit.box():
            circuit.x(1)
    circuit.measure(1, 1)
    return circuit, {"00": 0.5, "11": 0.5}


@pytest.mark.parametrize("make", [loop_with_a_break, boxes_in_conditions])
def test_loops_that_are_left_and_boxes_run(make: Any) -> None:
    circuit, expected = make()
    shots = 2000
    counts = run(prepare(TaskDescription(circuit=circuit, shots=shots, seed=1), offer())).get_counts()
    assert set(counts) == set(expected)
    assert all(abs(counts[key] / shots - chance) < 5 * (chance / shots) ** 0.5 for key, chance in expected.items())


@pytest.mark.parametrize("nothing", [{}, SparseObservable.zero(2), SparsePauliOp(["ZZ"], [0.0])[:0]], ids=repr)
@pytest.mark.parametrize("shots", [None, 10])
def test_an_observable_without_terms_has_the_value_0(nothing: Any, shots: int | None) -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.measure_all()
    result = run(prepare(TaskDescription(circuit=circuit, observables=nothing, shots=shots), offer()))
    assert result.values.tolist() == [0.0]
    assert result.standard_errors.tolist() == [0.0]


def test_a_box_of_gates_has_exact_results() -> None:
    circuit = QuantumCircuit(2)
    with circuit.box():
        circuit.ry(0.7, 1)
    result = run(prepare(TaskDescription(circuit=circuit, observables=["ZI"], shots=None), offer()))
    assert result.values == pytest.approx([np.cos(0.7)])


@pytest.mark.parametrize("kind", [types.Bool(), types.Uint(4)])
def test_variables_are_refused_where_the_circuit_is_given(kind: Any) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.add_var("v", expr.lift(1, kind) if kind == types.Uint(4) else expr.lift(False))
    circuit.measure(0, 0)
    with pytest.raises(DescriptionError, match="has variables, which simulators cannot follow"):
        prepare(TaskDescription(circuit=circuit, shots=10), offer())


def test_a_delay_may_have_a_free_length() -> None:
    length, angle = Parameter("t"), Parameter("a")
    circuit = QuantumCircuit(1)
    circuit.delay(length, 0)
    circuit.ry(angle, 0)
    circuit.measure_all()
    task = TaskDescription(circuit=circuit, shots=10, parameters={"t": 30.0, "a": np.pi})
    assert run(prepare(task, offer())).get_counts() == {"1": 10}
