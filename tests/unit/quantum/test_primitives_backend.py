"""The backend over a manager: its target, what it runs, and Qiskit's own primitives on top of it. Without pilots."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from primitive_cases import Here, Later, ansatz
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.exceptions import QiskitError
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2, StatevectorEstimator
from qiskit.providers import JobStatus
from qiskit_aer import AerSimulator

from pilot.errors import DescriptionError, QPUUnavailable
from pilot.interfaces import QPUInfo
from pilot.quantum.primitives import PilotBackend

LINE = QPUInfo(
    name="fake:line",
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
    here.qpus = {"fake:line": LINE}
    backend = PilotBackend(here, "fake:line")
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
    assert backend.num_qubits is None
    assert backend.coupling_map is None
    assert {"ccx", "h", "rzz", "while_loop"} <= set(backend.operation_names)
    assert transpile(bell, backend).count_ops() == bell.count_ops()


def test_a_qpu_that_has_not_told_is_not_guessed() -> None:
    with pytest.raises(QPUUnavailable, match="nothing is known of fake:line yet: the manager's pilots have no QPU"):
        _ = PilotBackend(Here(), "fake:line").target


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
    with pytest.raises(DescriptionError, match="takes circuits; str was given"):
        backend.run(["h q[0]"])
    with pytest.raises(DescriptionError, match=r"free parameters \(angle\[0\]"):
        backend.run(ansatz(2, 3))


def test_options_of_other_backends_are_warned_of(bell: QuantumCircuit) -> None:
    with pytest.warns(UserWarning, match="Option blocking_qubits is not used"):
        PilotBackend(Here()).run(bell, blocking_qubits=3)


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
