"""Qiskit's primitives and backend on real pilots: 50 pubs against Qiskit's own, side by side, and a noisy QPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from circuit_cases import bell, random_midway, state
from primitive_cases import ansatz, estimator_pubs, same_distribution, sampler_pubs
from qiskit import QuantumCircuit, transpile
from qiskit.primitives import BackendSamplerV2, StatevectorEstimator, StatevectorSampler
from qiskit.providers import JobStatus
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error

from pilot import PilotDescription, PilotManager
from pilot.errors import DescriptionError, NoPilotError, PilotError, SessionError
from pilot.quantum.faces import PilotBackend, PilotEstimator, PilotSampler


@pytest.fixture(scope="module")
def manager() -> Iterator[PilotManager]:
    with PilotManager() as manager:
        for name, qpus in (("one", ["fake:manila"]), ("two", [])):
            manager.submit_pilot(PilotDescription(name=name, engine="process", cores_per_node=1, qpus=qpus))
        for pilot in manager.pilots:
            pilot.wait()
        assert set(manager.qpus) == {"fake:manila"}  # devices were waited for
        yield manager


def test_25_estimator_pubs_in_one_run(manager: PilotManager) -> None:
    pubs = estimator_pubs()
    assert len(pubs) == 25
    exact = StatevectorEstimator().run(pubs).result()
    job = PilotEstimator(manager, seed=1).run(pubs)
    sampled = PilotEstimator(manager, seed=1, qpu="aer").run(pubs, precision=0.05)
    for given, wanted in zip(job.result(), exact, strict=True):
        np.testing.assert_allclose(given.data.evs, wanted.data.evs, atol=1e-9)
        assert (given.data.stds == 0).all()
    for given, wanted in zip(sampled.result(), exact, strict=True):
        assert given.data.evs.shape == wanted.data.evs.shape
        assert (np.abs(given.data.evs - wanted.data.evs) <= 5 * given.data.stds + 0.03).all()
    assert job.status() is sampled.status() is JobStatus.DONE


def test_many_sets_of_values_run_on_all_pilots(manager: PilotManager) -> None:
    circuit, values = ansatz(8, 12), np.random.default_rng(1).uniform(size=(600, 12))
    job = PilotEstimator(manager).run([(circuit, [["Z" * 8], ["X" * 8]], values)])
    (result,) = job.result()
    assert result.data.evs.shape == (2, 600)
    (task,) = job.tasks
    assert {part.info.pilot for part in task.parts} == {"one", "two"}


def test_25_sampler_pubs_in_one_run(manager: PilotManager) -> None:
    pubs = sampler_pubs()
    assert len(pubs) == 25
    wanted = StatevectorSampler(seed=np.random.default_rng(2)).run(pubs, shots=1000).result()
    given = PilotSampler(manager, qpu="aer", seed=2).run(pubs, shots=1000).result()
    for one, other in zip(given, wanted, strict=True):
        assert {"qpu": "aer", **one.metadata} == {**other.metadata, "qpu": "aer"}
        same_distribution(one, other)
    again = PilotSampler(manager, qpu="aer", seed=2).run(pubs, shots=1000).result()
    for one, other in zip(given, again, strict=True):
        assert all((one.data[name].array == other.data[name].array).all() for name in one.data)


def test_options_reduce_the_errors_that_they_are_about(manager: PilotManager) -> None:
    ghz = QuantumCircuit(3)
    ghz.h(0)
    ghz.cx(0, 1)
    ghz.cx(1, 2)
    estimator = PilotEstimator(manager, qpu="fake:manila", options={"default_shots": 20_000, "seed_estimator": 5})
    errors = {}
    for level in (0, 1, 2):
        estimator.options.resilience_level = level
        job = estimator.run([(ghz, ["ZZI", "IZZ", "XXX"])])
        (result,) = job.result()
        errors[level] = float(np.abs(result.data.evs - 1).mean())  # all three are 1 without noise
        usage = job.metrics()["usage"]
        assert usage["status"] == "completed" and 0 < usage["quantum_seconds"] == usage["seconds"] == job.usage()
    assert errors[0] > 0.04 and errors[1] < 0.6 * errors[0] and errors[2] < errors[0]
    times = job.metrics()["timestamps"]
    assert times["created"] <= times["running"] <= times["finished"]


def test_twirled_and_decoupled_circuits_give_the_same_counts(manager: PilotManager) -> None:
    circuit = bell()
    sampler = PilotSampler(
        manager, qpu="fake:manila", options={"default_shots": 4000, "simulator": {"seed_simulator": 2}}
    )
    (plain,) = sampler.run([circuit]).result()
    sampler.options.twirling = {"enable_gates": True, "num_randomizations": 4, "shots_per_randomization": 1000}
    sampler.options.default_shots = None
    sampler.options.dynamical_decoupling.enable = True
    (changed,) = sampler.run([circuit]).result()
    for result in (plain, changed):
        (bits,) = result.data.values()
        counts = bits.get_counts()
        assert sum(counts.values()) == 4000 and counts["00"] + counts["11"] > 0.9 * 4000
        assert counts["00"] == pytest.approx(2000, abs=250)


def test_a_noisy_qpu_behind_all_of_them(manager: PilotManager) -> None:
    bell = QuantumCircuit(2)
    bell.h(0)
    bell.cx(0, 1)
    (value,) = PilotEstimator(manager, qpu="fake:manila", seed=3).run([(bell, ["ZZ", "XX"])]).result()
    assert value.metadata["shots"] == 4096
    assert ((value.data.evs > 0.8) & (value.data.evs < 0.99)).all()  # noise shows

    bell.measure_all()
    backend = PilotBackend(manager, "fake:manila")
    assert backend.num_qubits == 5
    compiled = transpile(bell, backend, initial_layout=[3, 4], seed_transpiler=1)
    assert set(compiled.count_ops()) <= {*backend.operation_names, "barrier"}
    for counts in (
        backend.run(compiled, shots=2000, seed_simulator=4).result().get_counts(),
        BackendSamplerV2(backend=backend).run([compiled], shots=2000).result()[0].data.meas.get_counts(),
        PilotSampler(manager, seed=5).run([bell], shots=2000).result()[0].data.meas.get_counts(),
    ):
        assert counts["00"] + counts["11"] > 1700
        assert counts.get("01", 0) + counts.get("10", 0) > 10


def test_results_name_their_qpu_and_noise_models_travel(manager: PilotManager) -> None:
    bell = QuantumCircuit(2)
    bell.h(0)
    bell.cx(0, 1)
    bell.measure_all()
    (sampled,) = PilotSampler(manager).run([bell], shots=100).result()
    assert sampled.metadata["qpu"] == "fake:manila"  # any device that the pilots have
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.4, 2), "cx")
    backend = PilotBackend.from_backend(manager, AerSimulator(noise_model=model))
    result = backend.run([bell] * 40, shots=100).result()
    assert {one.header["qpu"] for one in result.results} == {"aer"}
    odd = sum(counts.get("01", 0) + counts.get("10", 0) for counts in result.get_counts())
    assert abs(odd / 4000 - 0.2) < 0.04


def test_circuits_that_cannot_be_run_are_refused(manager: PilotManager) -> None:
    wide = QuantumCircuit(9)
    wide.measure_all()
    with pytest.raises(NoPilotError, match="fake:manila of one has 5 qubits, but 9 are needed"):
        PilotSampler(manager, qpu="fake:manila").run([wide])
    middle = QuantumCircuit(1, 1)
    middle.h(0)
    middle.measure(0, 0)
    with middle.if_test((middle.clbits[0], 1)):
        middle.h(0)
    with pytest.raises(DescriptionError, match="no exact expectation values"):
        PilotEstimator(manager).run([(QuantumCircuit(1), "Z"), (middle, "Z")])


def test_a_job_is_cancelled_where_it_runs(manager: PilotManager, eventually: Any) -> None:
    deep = QuantumCircuit(22)
    for layer in range(400):
        for qubit in range(22):
            deep.ry(0.1 * layer + qubit, qubit)
            deep.cx(qubit, (qubit + 1) % 22)
    deep.measure_all()
    job = PilotSampler(manager, qpu="aer").run([deep, deep, deep])
    eventually(job.running, timeout=60)
    assert job.cancel()
    assert job.cancelled()
    assert job.in_final_state()
    assert PilotSampler(manager, qpu="aer").run([sampler_pubs()[0]]).result()[0].data.shape == ()


def test_primitives_misused(manager: PilotManager, tmp_path: Path) -> None:
    closed = PilotManager(tmp_path / "s")
    closed.close()
    with pytest.raises((SessionError, PilotError), match="closed"):
        PilotSampler(closed).run([bell()], shots=5).result()
    with pytest.raises((SessionError, PilotError), match="closed"):
        PilotEstimator(closed).run([(state, "ZZ")]).result()
    with pytest.raises(DescriptionError, match="no option 'qubits'"):
        PilotSampler(manager, qubits=5)
    job = PilotSampler(manager, qpu="aer").run([bell()], shots=2**40)
    job.cancel()
    assert job.in_final_state()
    with pytest.raises(DescriptionError, match="no exact expectation values"):
        PilotEstimator(manager, qpu="aer").run([(state, "ZZ"), (random_midway(), "Z")])
    assert PilotEstimator(manager).run([(state, "ZZ")]).result()[0].data.evs == pytest.approx(1.0, abs=0.2)
