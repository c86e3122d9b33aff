"""Qiskit's primitives over a manager: what comes out of tasks that run here, and the jobs. Without pilots."""

from __future__ import annotations

import pickle
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from here import Here
from primitive_cases import Later, ansatz, estimator_pubs, same_distribution, sampler_pubs
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Parameter
from qiskit.circuit.library import RXGate
from qiskit.primitives import StatevectorEstimator, StatevectorSampler
from qiskit.providers import JobStatus
from qiskit.quantum_info import SparseObservable

from pilot.errors import DescriptionError
from pilot.quantum.faces import PilotBackend, PilotEstimator, PilotSampler, mitiq_executor

ESTIMATOR_PUBS = estimator_pubs()
SAMPLER_PUBS = sampler_pubs()


@pytest.fixture
def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    return circuit


# ---- estimator ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(ESTIMATOR_PUBS)))
def test_exact_values_are_those_of_qiskit(number: int) -> None:
    pub = ESTIMATOR_PUBS[number]
    (wanted,) = StatevectorEstimator().run([pub]).result()
    (given,) = PilotEstimator(Here()).run([pub]).result()
    assert given.data.shape == wanted.data.shape
    assert given.data.evs.shape == wanted.data.evs.shape
    np.testing.assert_allclose(given.data.evs, wanted.data.evs, atol=1e-9)
    assert (given.data.stds == 0).all()
    assert {"qpu": "aer", **given.metadata} == {
        **wanted.metadata,
        "qpu": "aer",
    }  # nothing ran where nothing is measured


@pytest.mark.parametrize("precision", [0.0, 0.02])
def test_a_circuit_that_was_changed_after_a_run_gives_its_new_values(precision: float) -> None:
    """What is known of a circuit is kept between the iterations of a loop."""
    own = QuantumCircuit(1, name="own")
    own.rx(0.3, 0)
    circuit = QuantumCircuit(2)
    circuit.ry(Parameter("b"), 0)
    circuit.append(own.to_gate(), [1])

    def rotated() -> None:
        circuit.data[0] = circuit.data[0].replace(operation=RXGate(Parameter("b")))

    changes = [
        lambda: None,
        lambda: circuit.cx(0, 1),
        lambda: circuit.data[1].operation.definition.h(0),
        lambda: circuit.rz(Parameter("a"), 0),  # comes before the other parameter
        rotated,
        lambda: circuit.measure_all(),
    ]
    estimator = PilotEstimator(Here(), seed=1)
    for change in changes:
        change()
        pub = (circuit, ["ZZ", "IY", "XI"], [0.4, 1.1][: circuit.num_parameters])
        bare = circuit.remove_final_measurements(inplace=False)
        (wanted,) = StatevectorEstimator().run([(bare, *pub[1:])]).result()
        (given,) = estimator.run([pub], precision=precision).result()
        np.testing.assert_allclose(given.data.evs, wanted.data.evs, atol=5 * precision + 1e-9)


@pytest.mark.parametrize("number", range(len(ESTIMATOR_PUBS)))
def test_sampled_values_are_within_their_errors(number: int) -> None:
    pub = ESTIMATOR_PUBS[number]
    (wanted,) = StatevectorEstimator().run([pub]).result()
    (given,) = PilotEstimator(Here(), seed=number).run([pub], precision=0.04).result()
    assert given.metadata["shots"] == 625
    assert given.data.stds.shape == wanted.data.evs.shape
    assert (np.abs(given.data.evs - wanted.data.evs) <= 5 * given.data.stds + 0.02).all()


def test_precision_of_a_pub_comes_first(bell: QuantumCircuit) -> None:
    here = Here()
    results = PilotEstimator(here, default_precision=0.1).run([(bell, "ZZ"), (bell, "ZZ", None, 0.02)]).result()
    assert [one.shots for one in here.submitted] == [100, 2500]
    assert [one.metadata["target_precision"] for one in results] == [0.1, 0.02]
    assert results.metadata == {"version": 2}


def test_one_task_has_all_sets_that_need_the_same_observables() -> None:
    here, circuit = Here(), ansatz(2, 3)
    values = np.random.default_rng(5).uniform(size=(100, 3))
    PilotEstimator(here).run([(circuit, [["ZZ"], ["XX"], ["ZZ"]], values)])
    (task,) = here.submitted
    assert task.parameters.shape == (100, 3)
    assert len(task.observables) == 2


def test_sets_and_observables_in_pairs_are_not_multiplied() -> None:
    here, circuit = Here(), ansatz(2, 3)
    values = np.random.default_rng(5).uniform(size=(4, 3))
    PilotEstimator(here).run([(circuit, ["ZZ", "XX", "ZZ", "YY"], values)])
    assert sorted((len(one.parameters), len(one.observables)) for one in here.submitted) == [(1, 1), (1, 1), (2, 1)]


def test_projectors_are_observables_too(bell: QuantumCircuit) -> None:
    (result,) = PilotEstimator(Here()).run([(bell, [SparseObservable("00"), SparseObservable("01")])]).result()
    np.testing.assert_allclose(result.data.evs, [0.5, 0.0], atol=1e-12)


def test_a_pub_without_entries_is_empty() -> None:
    (result,) = PilotEstimator(Here()).run([(ansatz(2, 3), "ZZ", np.zeros((0, 3)))]).result()
    assert result.data.evs.shape == (0,)


def test_devices_are_not_asked_for_exact_values(bell: QuantumCircuit) -> None:
    assert PilotEstimator(Here()).default_precision == 0
    assert PilotEstimator(Here(), qpu="aer").default_precision == 0
    assert PilotEstimator(Here(), qpu="fake:kolkata").default_precision == 1 / 64


def test_wrong_pubs_are_refused_as_qiskit_does(bell: QuantumCircuit) -> None:
    estimator = PilotEstimator(Here())
    wrong: list[Any] = [bell, (bell,), (bell, "ZZZ"), (bell, "ZZ", [1.0]), (bell, ["ZZ", "XX"], np.zeros((3, 0)))]
    for pub in wrong:
        with pytest.raises(ValueError) as qiskits:
            StatevectorEstimator().run([pub])
        with pytest.raises(ValueError) as ours:
            estimator.run([pub])
        assert str(ours.value) == str(qiskits.value)
    with pytest.raises(ValueError, match="non-negative"):
        estimator.run([(bell, "ZZ")], precision=-1)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e-12])
def test_a_precision_that_no_number_of_shots_gives_is_refused(bell: QuantumCircuit, wrong: float) -> None:
    with pytest.raises(DescriptionError, match=f"^precision: {wrong} is not valid; expected 0 for exact values"):
        PilotEstimator(Here()).run([(bell, "ZZ")], precision=wrong)
    with pytest.raises(DescriptionError, match=r"^precision: "):
        PilotEstimator(Here(), default_precision=wrong)


# ---- sampler --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(SAMPLER_PUBS)))
def test_samples_are_distributed_as_qiskits(number: int) -> None:
    pub = SAMPLER_PUBS[number]
    (wanted,) = StatevectorSampler(seed=np.random.default_rng(number)).run([pub], shots=2000).result()
    (given,) = PilotSampler(Here(), seed=number).run([pub], shots=2000).result()
    assert {"qpu": "aer", **given.metadata} == {
        **wanted.metadata,
        "qpu": "aer",
    }  # nothing ran where nothing is measured
    same_distribution(given, wanted)


def test_registers_are_shuffled_together() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure(0, 0)
    circuit.measure_all(add_bits=True)
    (result,) = PilotSampler(Here(), seed=1).run([circuit], shots=400).result()
    first, second = result.data.c.array[:, 0], result.data.meas.array[:, 0]
    assert (first == (second & 1)).all()
    assert 60 < first[:200].sum() < 140  # no counts in a row


def test_a_seed_gives_the_same_shots_at_each_run(bell: QuantumCircuit) -> None:
    bell.measure_all()
    runs = [PilotSampler(Here(), seed=7).run([bell, bell]).result() for _ in range(2)]
    first, again = ([one.data.meas.array.tolist() for one in run] for run in runs)
    assert first == again
    assert first[0] != first[1]
    sampler = PilotSampler(Here(), seed=np.random.default_rng(7))
    one, other = (sampler.run([bell]).result()[0].data.meas.array.tolist() for _ in range(2))
    assert one != other


def test_shots_of_a_pub_come_first(bell: QuantumCircuit) -> None:
    bell.measure_all()
    results = PilotSampler(Here(), default_shots=10).run([bell, (bell, None, 20)]).result()
    assert [one.data.meas.num_shots for one in results] == [10, 20]
    results = PilotSampler(Here()).run([bell, (bell, None, 20)], shots=30).result()
    assert [one.data.meas.num_shots for one in results] == [30, 20]


def test_many_sets_of_values_are_one_task() -> None:
    here, circuit = Here(), ansatz(2, 3)
    circuit.measure_all()
    PilotSampler(here).run([(circuit, np.zeros((5, 2, 3)))])
    (task,) = here.submitted
    assert task.parameters.shape == (10, 3)


def test_nothing_measured_is_warned_of(bell: QuantumCircuit) -> None:
    with pytest.warns(UserWarning, match="no output classical registers"):
        job = PilotSampler(Here()).run([bell])
    assert list(job.result()[0].data) == []


def test_bits_that_conditions_alone_read_are_0() -> None:
    circuit = QuantumCircuit(1, 2)
    with circuit.if_test((0, 1)):
        circuit.x(0)
    assert PilotSampler(Here()).run([circuit], shots=7).result()[0].data.c.get_counts() == {"00": 7}
    assert PilotBackend(Here()).run(circuit, shots=7).result().success


def test_imaginary_parts_of_parameters_are_refused() -> None:
    circuit = ansatz(2, 1)
    values = np.full(circuit.num_parameters, 0.3 + 0.1j)
    with pytest.raises(DescriptionError, match="complex values"):
        PilotEstimator(Here()).run([(circuit, "ZZ", values)])
    circuit.measure_all()
    with pytest.raises(DescriptionError, match="complex values"):
        PilotSampler(Here()).run([(circuit, values)])


def test_wrong_sampler_pubs_are_refused_as_qiskit_does(bell: QuantumCircuit) -> None:
    for pub, error in (
        ((), ValueError),
        ((bell, [1.0]), ValueError),
        ((bell, None, 0), ValueError),
        (("x",), TypeError),
    ):
        with pytest.raises(error) as qiskits:
            StatevectorSampler().run([pub])
        with pytest.raises(error) as ours:
            PilotSampler(Here()).run([pub])
        assert str(ours.value) == str(qiskits.value)
    with pytest.raises(DescriptionError, match=r"PilotSampler.default_shots: None is not valid"):
        PilotSampler(Here(), default_shots=None)  # type: ignore[arg-type] # as a stranger may


@pytest.mark.parametrize("name", ["shape", "size", "values"])
def test_a_register_that_no_result_can_have_is_refused_before_it_runs(name: str) -> None:
    here, circuit = Here(), QuantumCircuit(QuantumRegister(1, "q"), ClassicalRegister(1, name))
    circuit.measure(0, 0)
    with pytest.raises(DescriptionError, match=f"register of the name '{name}'.*rename the register"):
        PilotSampler(here).run([circuit])
    assert not here.submitted


# ---- both -----------------------------------------------------------------------------------------------------


def test_options_are_fields_of_the_tasks(bell: QuantumCircuit) -> None:
    here = Here()
    PilotEstimator(here, priority=3, labels=["quiet"], name="energy").run([(bell, "ZZ")])
    assert (here.submitted[0].priority, here.submitted[0].labels, here.submitted[0].name) == (3, ("quiet",), "energy")


def test_unknown_and_wrong_options_are_refused() -> None:
    with pytest.raises(DescriptionError, match="no option 'optimisation_level' \\(did you mean 'optimization_level'"):
        PilotSampler(Here(), optimisation_level=1)
    with pytest.raises(DescriptionError, match="optimization_level"):
        PilotSampler(Here(), optimization_level=7)
    with pytest.raises(DescriptionError, match="no option 'shots'"):
        PilotEstimator(Here(), shots=7)
    with pytest.raises(DescriptionError, match="all but 'readout', which gives weights instead of shots"):
        PilotSampler(Here(), qpu="fake:manila", mitigation=["readout", "dd"])


def test_a_batched_executor_gives_one_value_a_circuit(bell: QuantumCircuit) -> None:
    here = Here()
    execute = mitiq_executor(here, "XX")
    assert execute([bell, QuantumCircuit(2)]) == pytest.approx([1.0, 0.0])
    assert [one.optimization_level for one in here.submitted] == [0, 0]


# ---- jobs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def job(later: Later, bell: QuantumCircuit) -> Any:
    return PilotEstimator(later).run([(bell, "ZZ"), (bell, "XX")])


class Value:
    """An expectation value."""

    def __init__(self, value: float) -> None:
        self.values = np.array([value])
        self.standard_errors = np.zeros(1)


def test_a_job_is_queued_runs_and_is_done(job: Any, later: Later) -> None:
    assert job.status() is JobStatus.QUEUED
    assert not job.in_final_state()
    later.futures[0].set_running_or_notify_cancel()
    assert job.running()
    later.futures[0].set_result(Value(0.5))
    assert job.running()
    later.futures[1].set_result(Value(-0.5))
    assert job.done()
    assert job.in_final_state()
    assert [float(one.data.evs) for one in job.result()] == [0.5, -0.5]
    assert job.result() is job.result()
    assert not job.cancel()


def test_a_job_waits_as_long_as_it_is_told(job: Any) -> None:
    with pytest.raises(TimeoutError, match="2 of 2 tasks"):
        job.result(timeout=0.01)


def test_a_task_that_fails_ends_the_job(job: Any, later: Later) -> None:
    later.futures[1].set_exception(RuntimeError("no such qubit"))
    with pytest.raises(RuntimeError, match="no such qubit"):
        job.result()
    assert job.status() is JobStatus.ERROR
    assert later.futures[0].cancelled()


def test_a_job_is_cancelled_with_all_its_tasks(job: Any, later: Later) -> None:
    assert job.cancel()
    assert job.cancelled()
    assert all(one.cancelled() for one in later.futures)
    with pytest.raises(CancelledError):
        job.result()


def test_a_job_travels_with_its_result(bell: QuantumCircuit) -> None:
    job = PilotEstimator(Here()).run([(bell, "ZZ")])
    copy = pickle.loads(pickle.dumps(job))
    assert copy.job_id() == job.job_id()
    assert copy.done()
    assert copy.result()[0].data.evs == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("face", "option", "advice"),
    [
        (PilotSampler, "options", "a dict with names and values, or options"),
        (PilotSampler, "mode", "give the manager first"),
        (PilotEstimator, "default_shots", r"default_precision=1/sqrt\(shots\)"),
        (PilotEstimator, "resilience_level", "options={'resilience_level': …}, or mitigation="),
        (PilotSampler, "dynamical_decoupling", r"mitigation=\['dd'\]"),
        (PilotEstimator, "mitigatoin", "did you mean 'mitigation'"),
    ],
)
def test_options_of_other_primitives_are_refused_with_how_to_say_them(face: Any, option: str, advice: str) -> None:
    with pytest.raises(DescriptionError, match=advice):
        face(Here(), **{option: 1})
