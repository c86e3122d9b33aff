"""The backend over a manager: its target, what it runs, and Qiskit's own primitives on top of it. Without pilots."""

from __future__ import annotations

import copy
from concurrent.futures import CancelledError
from typing import Any

import msgspec
import numpy as np
import pytest
from here import Here
from pilot_plugins.qpus.fake import FakeQPU
from primitive_cases import Later, ansatz
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.circuit.random import random_circuit
from qiskit.exceptions import QiskitError
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2, StatevectorEstimator
from qiskit.providers import JobStatus
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from pilot.descriptions import PilotDescription, TaskDescription
from pilot.errors import DescriptionError, PilotFailed, QPUUnavailable
from pilot.quantum.faces import PilotBackend, PilotEstimator, PilotSampler
from pilot.resources import QPUInfo
from pilot.states import PilotState

LINE = QPUInfo(
    name="fake:manila",
    qubits=5,
    gates=("cx", "id", "rz", "sx", "x", "if_else", "measure", "something_new"),
    coupling=((0, 1), (1, 2), (2, 3), (3, 4)),
)


@pytest.fixture
def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


@pytest.fixture
def registers() -> QuantumCircuit:
    """Three registers, one of them never written, all bits in odd places."""
    qubits = QuantumRegister(4)
    circuit = QuantumCircuit(qubits, ClassicalRegister(3, "a"), ClassicalRegister(1, "idle"), ClassicalRegister(2, "b"))
    circuit.x([0, 2])
    circuit.h(3)
    circuit.measure([0, 1, 2, 3], [2, 0, 5, 4])
    return circuit


# ---- target ---------------------------------------------------------------------------------------------------


def test_a_qpus_target_has_its_gates_and_coupling() -> None:
    here: Any = Here()
    here.qpus = {"fake:manila": LINE}
    backend = PilotBackend(here, "fake:manila")
    assert backend.num_qubits == 5
    assert {"cx", "rz", "sx", "x", "if_else", "measure", "reset", "delay"} <= set(backend.operation_names)
    assert sorted(backend.coupling_map.get_edges()) == sorted(LINE.coupling or ())
    far = QuantumCircuit(5)
    far.h(0)
    far.cx(4, 0)
    compiled = transpile(far, backend, seed_transpiler=1)
    assert set(compiled.count_ops()) <= set(LINE.gates)
    places = [tuple(compiled.find_bit(qubit).index for qubit in one.qubits) for one in compiled.get_instructions("cx")]
    assert set(places) <= set(LINE.coupling or ())


def test_simulators_take_all_gates_between_any_qubits(bell: QuantumCircuit) -> None:
    backend = PilotBackend(Here())
    assert isinstance(backend.num_qubits, int)
    assert backend.num_qubits >= 1000
    assert backend.coupling_map is None
    assert {"ccx", "h", "rzz", "while_loop"} <= set(backend.operation_names)
    assert transpile(bell, backend).count_ops() == bell.count_ops()


def test_a_qpu_that_no_pilot_has_is_not_guessed() -> None:
    with pytest.raises(QPUUnavailable, match="no pilot has fake:manila: the manager's pilots have no QPU"):
        _ = PilotBackend(Here(), "fake:manila").target


def test_any_device_has_no_target() -> None:
    for qpu in ("*", ["fake:manila"]):
        with pytest.raises(QPUUnavailable, match="name it"):
            _ = PilotBackend(Here(), qpu).target


class Starting:
    """A pilot that has a device, which says what it is when it is waited for, or never."""

    def __init__(self, manager: Any, says: QPUInfo | None) -> None:
        self.name, self.job, self.log_path = "first", "Slurm job 7: pending", "agent.log"
        self.state = PilotState.STARTING
        self.description = PilotDescription(cores_per_node=1, qpus=["fake:manila"])
        self._manager, self._says = manager, says

    def wait(self, timeout: float) -> None:
        self.waited = timeout
        if self.state is PilotState.FAILED:
            raise PilotFailed("lost", pilot=self.name)
        if self._says is not None:
            self._manager.qpus = {self._says.name: self._says}


@pytest.fixture(scope="module")
def manila() -> QPUInfo:
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    return qpu.info()


def test_a_target_waits_for_the_pilot_that_has_it(manila: QPUInfo) -> None:
    here: Any = Here()
    here.pilots, here.qpus = [Starting(here, manila)], {}
    assert PilotBackend(here, "fake:manila").num_qubits == 5
    assert here.pilots[0].waited > 100


def test_a_pilot_that_failed_does_not_hide_another_one(manila: QPUInfo) -> None:
    here: Any = Here()
    here.pilots, here.qpus = [Starting(here, None), Starting(here, manila)], {}
    here.pilots[0].state = PilotState.FAILED
    assert PilotBackend(here, "fake:manila").num_qubits == 5
    here.pilots, here.qpus = here.pilots[:1], {}
    with pytest.raises(QPUUnavailable, match="first is failed"):
        _ = PilotBackend(here, "fake:manila").target


def test_a_target_says_what_it_has_waited_for_and_why_a_device_cannot_be_used(manila: QPUInfo) -> None:
    here: Any = Here()
    here.pilots, here.qpus = [Starting(here, None)], {}
    with pytest.raises(QPUUnavailable, match=r"first is starting \(Slurm job 7: pending\); its log is agent.log"):
        _ = PilotBackend(here, "fake:manila").target
    here.pilots = [Starting(here, QPUInfo(name="fake:manila", qubits=0, problem="no key was given"))]
    with pytest.raises(QPUUnavailable, match="fake:manila cannot be used: no key was given"):
        _ = PilotBackend(here, "fake:manila").target


def test_a_target_has_the_devices_errors_and_times(manila: QPUInfo) -> None:
    here: Any = Here()
    here.qpus = {"fake:manila": msgspec.msgpack.decode(msgspec.msgpack.encode(manila), type=QPUInfo)}  # as it travels
    given, wanted = PilotBackend(here, "fake:manila").target, FakeManilaV2().target
    for name in ("sx", "x", "rz", "id", "cx", "measure", "reset"):
        assert set(given[name]) == set(wanted[name])
        for places, properties in wanted[name].items():
            assert (given[name][places].error, given[name][places].duration) == (properties.error, properties.duration)
    assert given.dt == wanted.dt
    assert given.acquire_alignment == wanted.acquire_alignment
    assert [(one.t1, one.t2) for one in given.qubit_properties] == [(one.t1, one.t2) for one in wanted.qubit_properties]
    for seed in range(3):
        circuit = random_circuit(3, 4, seed=seed, measure=True)
        ours, qiskits = (
            transpile(circuit, target=target, optimization_level=3, seed_transpiler=1) for target in (given, wanted)
        )
        assert ours == qiskits  # so the same qubits are chosen


def test_copies_have_the_same_manager_and_options_of_their_own(bell: QuantumCircuit) -> None:
    here = Here()
    backend = PilotBackend(here, shots=30)
    for copied in (copy.copy(backend), copy.deepcopy(backend), copy.deepcopy({"in": [backend]})["in"][0]):
        assert sum(copied.run(bell).result().get_counts().values()) == 30
    assert len(here.submitted) == 3
    deep = copy.deepcopy(backend)
    deep.set_options(shots=50)
    assert backend.options.shots == 30


# ---- runs -----------------------------------------------------------------------------------------------------


def test_counts_are_written_as_aer_writes_them(registers: QuantumCircuit) -> None:
    given = PilotBackend(Here()).run(registers, shots=1000, seed_simulator=1).result().get_counts()
    wanted = AerSimulator().run(registers, shots=1000).result().get_counts()
    assert set(given) == set(wanted) == {"10 0 100", "11 0 100"}
    assert sum(given.values()) == 1000
    assert abs(given["10 0 100"] - 500) < 80


def test_memory_is_the_outcome_of_each_shot(bell: QuantumCircuit, registers: QuantumCircuit) -> None:
    result = PilotBackend(Here()).run([bell, registers], shots=200, memory=True, seed_simulator=2).result()
    for number in range(2):
        memory = result.get_memory(number)
        assert {key: memory.count(key) for key in set(memory)} == dict(result.get_counts(number))
    first = result.get_memory(0)[:100].count("11")
    assert 25 < first < 75  # shuffled
    with pytest.raises(QiskitError):
        PilotBackend(Here()).run(bell).result().get_memory()


def test_shots_are_those_of_the_run_or_of_the_backend(bell: QuantumCircuit) -> None:
    backend = PilotBackend(Here(), shots=30)
    assert sum(backend.run(bell).result().get_counts().values()) == 30
    assert sum(backend.run(bell, shots=40).result().get_counts().values()) == 40
    backend.set_options(shots=50)
    assert sum(backend.run(bell).result().get_counts().values()) == 50


def test_exact_probabilities_are_no_counts(bell: QuantumCircuit) -> None:
    message = "PilotBackend.shots: None is not valid; expected a whole number of at least 1, since a backend's results"
    with pytest.raises(DescriptionError, match=message):
        PilotBackend(Here(), shots=None)  # type: ignore[arg-type] # as a stranger may
    backend = PilotBackend(Here())
    backend.set_options(shots=None)
    with pytest.raises(DescriptionError, match=message):
        backend.run(bell)


def test_circuits_stay_on_their_qubits(bell: QuantumCircuit) -> None:
    here = Here()
    PilotBackend(here).run([bell, bell])
    PilotBackend(here, optimization_level=2).run(bell)
    assert [one.optimization_level for one in here.submitted] == [0, 0, 2]


def test_results_are_found_by_name_and_number(bell: QuantumCircuit) -> None:
    silent = QuantumCircuit(1, 1, name="silent")
    result = PilotBackend(Here()).run([bell, silent], shots=10).result()
    assert result.get_counts(bell) == result.get_counts(0)
    assert result.results[0].header["n_qubits"] == 2
    with pytest.raises(QiskitError, match="No counts"):
        result.get_counts("silent")


def test_what_is_no_circuit_or_not_bound_is_refused(bell: QuantumCircuit) -> None:
    backend = PilotBackend(Here())
    with pytest.raises(DescriptionError, match=r"PilotBackend\.run: str is not valid; expected a circuit"):
        backend.run(["h q[0]"])
    with pytest.raises(DescriptionError, match=r"PilotBackend\.run: NoneType is not valid"):
        backend.run(None)
    with pytest.raises(DescriptionError, match="seed: -1 is not valid"):
        backend.run(bell, seed_simulator=-1)
    with pytest.raises(DescriptionError, match=r"free parameters \(angle\[0\]"):
        backend.run(ansatz(2, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocking_qubits": 3}, "no option 'blocking_qubits'"),
        ({"shot": 3}, "did you mean 'shots'"),
        ({"noisemodel": 3}, "did you mean 'noise_model'"),
        ({"meas_level": 1}, "'meas_level' of 1: here it is 2"),
        ({"method": "stabilizer"}, "no option 'method'"),
        ({"noise_model": "depolarizing"}, "a NoiseModel of qiskit_aer.noise"),
    ],
)
def test_options_that_change_the_result_are_refused(
    bell: QuantumCircuit, options: dict[str, Any], message: str
) -> None:
    here = Here()
    with pytest.raises(DescriptionError, match=message):
        PilotBackend(here).run(bell, **options)


def test_options_that_say_what_is_done_anyway_are_taken(bell: QuantumCircuit) -> None:
    job = PilotBackend(Here()).run(bell, meas_level=2, meas_return="single", init_qubits=True, noise_model=None)
    assert sum(job.result().get_counts().values()) == 1024


def _saves(name: str) -> QuantumCircuit:
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    if name == "save_expectation_value":
        circuit.save_expectation_value(SparsePauliOp("ZZ"), [0, 1])
    else:
        getattr(circuit, name)()
    circuit.measure([0, 1], [0, 1])
    return circuit


@pytest.mark.parametrize(
    "name",
    ["save_statevector", "save_density_matrix", "save_probabilities", "save_expectation_value", "save_state"],
)
def test_instructions_that_save_a_simulators_state_are_refused(name: str) -> None:
    with pytest.raises(DescriptionError, match=r"results of pilots are counts\. Take TaskDescription"):
        PilotBackend(Here()).run(_saves(name))


def test_loops_that_are_left_and_boxes_are_in_a_simulators_target() -> None:
    circuit = QuantumCircuit(2, 1)
    with circuit.box():
        circuit.x(0)
    with circuit.for_loop(range(3)):
        circuit.x(1)
        circuit.break_loop()
    circuit.measure(1, 0)
    backend = PilotBackend(Here())
    compiled = transpile(circuit, backend, optimization_level=1)
    assert backend.run(compiled, shots=10).result().get_counts() == {"1": 10}


def test_instructions_that_save_inside_a_block_are_refused() -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.save_statevector()
    with pytest.raises(DescriptionError, match="has save_statevector"):
        PilotBackend(Here()).run(circuit)


def test_instructions_that_save_are_refused_by_every_face_and_inside_instructions() -> None:
    inner = QuantumCircuit(2)
    inner.save_statevector()
    circuit = QuantumCircuit(2)
    circuit.append(inner.to_instruction(), [0, 1])
    with pytest.raises(DescriptionError, match="has save_statevector"):
        Here().submit_tasks([TaskDescription(circuit=circuit, observables=["ZZ"])])
    with pytest.raises(DescriptionError, match="has save_statevector"):
        PilotSampler(Here()).run([_saves("save_statevector")])
    setting = QuantumCircuit(1, 1)
    setting.set_statevector([0, 1])
    setting.measure(0, 0)
    with pytest.raises(DescriptionError, match="has set_statevector"):
        PilotBackend(Here()).run(setting)


def test_a_gate_of_the_users_own_may_be_called_save() -> None:
    own = QuantumCircuit(1, name="save_me")
    own.x(0)
    circuit = QuantumCircuit(1, 1)
    circuit.append(own.to_gate(), [0])
    circuit.append(own.to_instruction(), [0])
    circuit.append(own.to_gate(), [0])
    circuit.measure(0, 0)
    assert PilotBackend(Here()).run(circuit, shots=5).result().get_counts() == {"1": 5}


def test_a_gate_of_the_users_own_with_a_standard_name_is_what_it_is() -> None:
    own = QuantumCircuit(1, name="h")
    own.x(0)
    circuit = QuantumCircuit(1)
    circuit.append(own.to_gate(), [0])
    (value,) = PilotEstimator(Here()).run([(circuit, "Z")]).result()
    assert abs(value.data.evs + 1) < 1e-9
    circuit.measure_all()
    for noise in (None, NoiseModel()):
        backend = PilotBackend(Here(), noise_model=noise)
        assert backend.run(circuit, shots=5).result().get_counts() == {"1": 5}
        sampler = PilotSampler(Here(), noise_model=noise)
        assert sampler.run([circuit], shots=5).result()[0].data.meas.get_counts() == {"1": 5}


def test_results_say_which_qpu_ran_them(bell: QuantumCircuit) -> None:
    assert PilotBackend(Here()).run(bell).result().results[0].header["qpu"] == "aer"


# ---- jobs -----------------------------------------------------------------------------------------------------


def test_a_job_tells_its_state_and_can_be_cancelled(bell: QuantumCircuit) -> None:
    later = Later()
    job = PilotBackend(later).run([bell, bell])
    assert job.status() is JobStatus.QUEUED
    later.futures[0].set_running_or_notify_cancel()
    assert job.running()
    later.futures[0].set_result(None)
    assert job.cancel()
    job.wait_for_final_state()
    assert job.cancelled()
    with pytest.raises(CancelledError):
        job.result()


def test_who_waits_for_the_end_is_called(bell: QuantumCircuit) -> None:
    job = PilotBackend(Here()).run(bell)
    calls: list[Any] = []
    job.wait_for_final_state(callback=lambda *args: calls.append(args))
    assert calls == [(job.job_id(), JobStatus.DONE, job)]
    with pytest.raises(TimeoutError):
        PilotBackend(Later()).run(bell).wait_for_final_state(timeout=0.01)


# ---- Qiskit's own primitives on top ---------------------------------------------------------------------------


def test_qiskits_backend_sampler_runs_over_it(registers: QuantumCircuit) -> None:
    sampler = BackendSamplerV2(backend=PilotBackend(Here()), options={"seed_simulator": 3})
    (result,) = sampler.run([registers], shots=500).result()
    assert set(result.data.a.get_counts()) == {"100"}
    assert set(result.data.idle.get_counts()) == {"0"}
    assert set(result.data.b.get_counts()) == {"10", "11"}


def test_qiskits_backend_estimator_runs_over_it() -> None:
    circuit, values = ansatz(3, 3), np.random.default_rng(4).uniform(size=(2, 3))
    pub = (circuit, [["ZZZ"], ["XIY"]], values)
    estimator = BackendEstimatorV2(backend=PilotBackend(Here()), options={"seed_simulator": 3})
    (given,) = estimator.run([pub], precision=0.02).result()
    (wanted,) = StatevectorEstimator().run([pub]).result()
    assert (np.abs(given.data.evs - wanted.data.evs) < 0.1).all()
