"""Cut circuits on pilots: a distribution, sums as tasks of tasks, and a calibration."""

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector

from pilot import DescriptionError, PilotDescription, PilotManager, TaskDescription
from pilot.quantum.cutting import Predictor, distributions, plan, reconstruction


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    with PilotManager(tmp_path_factory.mktemp("cutting") / "session") as manager:
        for name in ("one", "other"):
            manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=1, name=name))
        yield manager


def entangled():
    rng = np.random.default_rng(5)
    circuit = QuantumCircuit(6)
    for _ in range(2):
        for qubit in range(6):
            circuit.u(*rng.uniform(0, np.pi, 3), qubit)
        for qubit in range(5):
            circuit.cx(qubit, qubit + 1)
    return circuit


def test_values_and_distribution_are_those_of_the_uncut_circuit(manager, monkeypatch):
    circuit, observable = entangled(), "ZIXIIZ"
    planned = plan(circuit, observable, 3, distribution=True, wires=False)
    monkeypatch.setattr(reconstruction, "PARALLEL_PRODUCTS", 20)  # a task for each few terms, and a tree of sums
    monkeypatch.setattr(distributions, "PARALLEL_PRODUCTS", 100)
    before = len(manager.tasks)
    result = planned.run(manager, shots=None)
    names = [task.name for task in list(manager.tasks.values())[before:]]
    assert names.count("subexperiment") == planned.num_distinct
    assert names.count("sums_of") > 8
    assert names.count("add_sums") >= 3
    assert names.count("block_on_grid") >= 4
    state = Statevector(circuit)
    assert abs(result.values[0] - state.expectation_value(SparsePauliOp(observable)).real) < 1e-9
    got = result.distribution.get_counts()
    assert max(abs(each - got.get(bits, 0)) for bits, each in state.probabilities_dict().items()) < 1e-9


def test_wishes_pick_the_pilot(manager):
    before = len(manager.tasks)
    plan(entangled(), "ZIXIIZ", 3, wires=False).run(manager, total_shots=5000, seed=1, pilots=("other",))
    tasks = list(manager.tasks.values())[before:]
    other = next(pilot.id for pilot in manager.pilots if pilot.name == "other")
    assert {task.info.pilot for task in tasks} <= {other, "other"}


def test_a_calibrated_predictor_does_not_cut_a_small_circuit(manager):
    predictor = Predictor().calibrate(manager)
    assert {each.name for each in predictor.workers} == {"one", "other"}
    chosen = predictor.choose(entangled(), "ZIXIIZ", [3])
    assert chosen.cuts == ()
    assert chosen.run(manager, shots=None).values.shape == (1,)


def test_a_cut_circuit_is_one_task(manager):
    circuit = entangled()
    state = Statevector(circuit)
    pieces = {"kind": "cut", "circuit": circuit, "kwargs": {"max_qubits": 3, "wires": False}}
    whole = manager.submit_task(TaskDescription(**pieces, key="cut"))
    values = manager.submit_task(TaskDescription(**pieces, observables=["ZIXIIZ"], shots=4000))
    got = whole.result().get_counts()
    assert max(abs(each - got.get(bits, 0)) for bits, each in state.probabilities_dict().items()) < 1e-9
    exact = state.expectation_value(SparsePauliOp("ZIXIIZ")).real
    found = values.result()
    assert abs(found.values[0] - exact) < 5 * found.standard_errors[0]
    assert manager.submit_task(TaskDescription(**pieces, key="cut")) is whole
    assert whole.name == circuit.name


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kwargs": {}}, "max_qubits"),
        ({"kwargs": {"max_qubits": 0}}, "max_qubits"),
        ({"kwargs": {"max_qubits": 3, "size": 1}}, "'size'.*max_overhead"),
        ({"shots": 1}, "shots: 1 is not valid"),
        ({"tomography": True}, "tomography"),
        ({"mitigation": ("readout",), "shots": 10}, "mitigation"),
    ],
)
def test_wishes_that_a_cut_circuit_cannot_have_are_refused(manager, changed, said):
    with pytest.raises(DescriptionError, match=said):
        manager.submit_task(
            TaskDescription(**{"kind": "cut", "circuit": entangled(), "kwargs": {"max_qubits": 3}, **changed})
        )
