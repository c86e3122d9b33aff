"""Options under qiskit-ibm-runtime's names: what each of them makes of the tasks, and which are refused."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from here import Here
from qiskit import QuantumCircuit
from qiskit_aer.noise import NoiseModel, depolarizing_error

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.quantum.faces import PilotEstimator, PilotSampler
from pilot.quantum.faces.options import precision_of
from pilot.quantum.mitigation import DynamicalDecoupling, Twirling, ZeroNoise


class Noted:
    """A manager that only notes what is submitted."""

    pilots = ()

    def __init__(self) -> None:
        self.submitted: list[TaskDescription] = []
        self.futures: list[Any] = []

    def submit_tasks(self, descriptions: Iterable[TaskDescription]) -> list[Future[Any]]:
        new = list(descriptions)
        self.submitted += new
        self.futures += [Future() for _ in new]
        return self.futures[-len(new) :] if new else []


@pytest.fixture
def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    return circuit


def submitted(face: Any, options: dict[str, Any], circuit: QuantumCircuit, **fields: Any) -> TaskDescription:
    """The task that one pub becomes."""
    noted = Noted()
    primitive = face(noted, qpu="fake:manila", options=options, **fields)
    measured = circuit.measure_all(inplace=False) if face is PilotSampler else circuit
    primitive.run([(measured,) if face is PilotSampler else (measured, "ZZ")])
    (task,) = noted.submitted
    return task


#: The options, and the stages that they are.
STAGES: list[tuple[dict[str, Any], list[Any]]] = [
    ({"resilience_level": 0}, []),
    ({"resilience_level": 1}, ["readout"]),
    ({"resilience_level": 2}, ["readout", ZeroNoise(extrapolation="exponential")]),
    ({"resilience_level": 2, "resilience": {"measure_mitigation": False}}, [ZeroNoise(extrapolation="exponential")]),
    ({"resilience_level": 2, "resilience": {"zne_mitigation": False}}, ["readout"]),
    ({"resilience": {"measure_mitigation": True}}, ["readout"]),
    (
        {"resilience": {"zne_mitigation": True, "zne": {"noise_factors": [1, 2, 3], "extrapolator": "linear"}}},
        [ZeroNoise(factors=(1, 2, 3))],
    ),
    (
        {"resilience": {"zne_mitigation": True, "zne": {"extrapolator": ("polynomial_degree_2",)}}},
        [ZeroNoise(extrapolation="richardson")],
    ),
    ({"resilience": {"zne": {"noise_factors": (1, 3)}}}, []),
    ({"dynamical_decoupling": {"enable": True}}, [DynamicalDecoupling()]),
    ({"dynamical_decoupling": {"enable": True, "sequence_type": "XY4"}}, [DynamicalDecoupling(sequence="XY4")]),
    ({"dynamical_decoupling": {"sequence_type": "XY4"}}, []),
    ({"twirling": {"enable_gates": True}}, ["twirling"]),
    ({"twirling": {"enable_gates": True, "num_randomizations": 8}}, [Twirling(num=8)]),
    ({"twirling": {"enable_gates": True, "num_randomizations": "auto"}}, ["twirling"]),
    (
        {"twirling": {"enable_gates": True, "shots_per_randomization": 100}, "default_shots": 1000},
        [Twirling(num=10)],
    ),
    (
        {
            "resilience_level": 2,
            "dynamical_decoupling": {"enable": True, "sequence_type": "XpXm"},
            "twirling": {"enable_gates": True, "num_randomizations": 4},
        },
        ["readout", Twirling(num=4), DynamicalDecoupling(sequence="XpXm"), ZeroNoise(extrapolation="exponential")],
    ),
]


@pytest.mark.parametrize(("options", "stages"), STAGES, ids=[str(options) for options, _ in STAGES])
def test_options_ask_for_stages(bell: QuantumCircuit, options: dict[str, Any], stages: list[Any]) -> None:
    assert list(submitted(PilotEstimator, options, bell).mitigation) == stages


def test_options_are_set_as_attributes_as_dicts_and_taken_from_others(bell: QuantumCircuit) -> None:
    noted = Noted()
    estimator = PilotEstimator(noted, qpu="fake:manila")
    estimator.options.default_shots = 100
    estimator.options.twirling.enable_gates = True
    estimator.options.dynamical_decoupling = {"enable": True, "sequence_type": "XY4"}
    estimator.options.update(environment={"job_tags": ["mine"]}, max_execution_time=30)
    job = estimator.run([(bell, "ZZ")])
    (task,) = noted.submitted
    assert (task.shots, task.timeout, job.tags) == (100, 30.0, ["mine"])
    assert list(task.mitigation) == ["twirling", DynamicalDecoupling(sequence="XY4")]
    assert estimator.options.twirling.enable_gates is True and estimator.options.resilience_level is None
    before = estimator.options.to_dict()
    estimator.options.dynamical_decoupling = {"enable": False}  # in the place of all that was set in the group
    assert estimator.options.dynamical_decoupling.sequence_type is None
    del estimator.options.max_execution_time
    other = PilotEstimator(noted, options=before)
    other.options = {"default_shots": 7}
    assert other.options.to_dict() == {"default_shots": 7}
    assert copy.deepcopy(other.options) == pickle.loads(pickle.dumps(other.options)) == other.options
    assert "dynamical_decoupling" in dir(other.options) and "'default_shots': 7" in repr(other.options)


def test_the_options_of_qiskit_ibm_runtime_themselves_are_taken(bell: QuantumCircuit) -> None:
    runtime = pytest.importorskip("qiskit_ibm_runtime.options")
    options = runtime.EstimatorOptions()
    options.default_shots = 256
    options.resilience_level = 1
    options.twirling.enable_gates = True
    task = submitted(PilotEstimator, options, bell)
    assert (task.shots, list(task.mitigation)) == (256, ["readout", "twirling"])
    options = runtime.SamplerOptions()
    options.dynamical_decoupling.enable = True
    assert list(submitted(PilotSampler, options, bell).mitigation) == [DynamicalDecoupling()]


def test_every_name_of_qiskit_ibm_runtime_is_known() -> None:
    runtime = pytest.importorskip("qiskit_ibm_runtime.options")
    pairs = (PilotSampler, runtime.SamplerOptions()), (PilotEstimator, runtime.EstimatorOptions())
    for face, theirs in pairs:
        _compare(face(Noted()).options, theirs)


def _compare(ours: Any, theirs: Any) -> None:
    for name in theirs.__dataclass_fields__:
        if name.startswith("_"):
            continue
        value = getattr(theirs, name)
        mine = getattr(ours, name)  # raises where it is not known
        if hasattr(value, "__dataclass_fields__"):
            _compare(mine, value)


def test_shots_precision_and_seeds(bell: QuantumCircuit) -> None:
    for shots in (1, 2, 3, 100, 1000, 4096, 10_007):
        assert math.ceil(1 / precision_of(shots) ** 2) == shots
        assert submitted(PilotEstimator, {"default_shots": shots, "default_precision": 0.5}, bell).shots == shots
    assert submitted(PilotEstimator, {"default_precision": 0.1}, bell).shots == 100
    assert submitted(PilotSampler, {"default_shots": 123}, bell, default_shots=5).shots == 123
    each = {"enable_gates": True, "num_randomizations": 8, "shots_per_randomization": 50}
    task = submitted(PilotSampler, {"twirling": each}, bell)
    assert (task.shots, list(task.mitigation)) == (400, [Twirling(num=8)])
    sampler = PilotSampler(Here(), options={"simulator": {"seed_simulator": 5}, "default_shots": 50})
    counts = [sampler.run([bell.measure_all(inplace=False)]).result()[0].data.meas.get_counts() for _ in range(2)]
    wanted = PilotSampler(Here(), seed=5).run([bell.measure_all(inplace=False)], shots=50).result()
    assert counts[0] == counts[1] == wanted[0].data.meas.get_counts()
    assert (sampler.default_shots, sampler.seed) == (50, 5)
    estimator = PilotEstimator(Here(), seed=1, options={"seed_estimator": 9, "default_shots": 64})
    assert (estimator.seed, estimator.default_precision) == (9, 1 / 8)


def test_a_noise_model_among_the_options_is_simulated(bell: QuantumCircuit) -> None:
    model, error = NoiseModel(), 0.3
    model.add_all_qubit_quantum_error(depolarizing_error(error, 2), ["cx"])
    options = {"simulator": {"noise_model": model, "seed_simulator": 3}, "default_shots": 20_000}
    (result,) = PilotEstimator(Here(), qpu="aer", options=options).run([(bell, "ZZ")]).result()
    assert result.data.evs == pytest.approx(1 - error, abs=5 / math.sqrt(20_000))


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (PilotSampler, {"default_shot": 3}, "PilotSampler.options has no option 'default_shot' \\(did you mean"),
    (PilotSampler, {"twirling": {"enable_gate": True}}, "options.twirling has no option 'enable_gate' \\(did you mean"),
    (PilotSampler, {"resilience_level": 1}, "has no option 'resilience_level'"),
    (PilotEstimator, {"optimization_level": 1}, "give optimization_level=… to the primitive itself"),
    (PilotSampler, {"default_shots": 0}, "default_shots: 0 is not valid; expected an integer from 1 on"),
    (PilotSampler, {"default_shots": True}, "an integer from 1 on"),
    (PilotSampler, {"twirling": 3}, "a dict with names and values"),
    (PilotSampler, {"execution": {"meas_type": "kerneled"}}, "results are bits"),
    (PilotSampler, {"execution": {"init_qubits": False}}, "write resets into the circuit"),
    (PilotEstimator, {"resilience_level": 3}, "expected 0, 1 or 2"),
    (PilotEstimator, {"default_precision": 0}, "leave it out for exact values"),
    (PilotEstimator, {"twirling": {"enable_measure": True}}, "resilience.measure_mitigation"),
    (PilotEstimator, {"resilience": {"pec_mitigation": True}}, "is not carried out here: noise is not learned"),
    (PilotEstimator, {"resilience": {"zne": {"amplifier": "pea"}}}, "two-qubit gates are folded"),
    (
        PilotEstimator,
        {"resilience": {"zne": {"noise_factors": (1, "three")}}},
        "expected two numbers from 1 on or more",
    ),
    (PilotEstimator, {"dynamical_decoupling": {"sequence_type": "YY"}}, "one of XX, XpXm, XY4"),
    (PilotEstimator, {"environment": {"log_level": "DEBUG"}}, r"logging.getLogger\('pilot'\)"),
    (PilotEstimator, {"simulator": {"coupling_map": [[0, 1]]}}, "compile the circuit"),
    (PilotEstimator, {"experimental": {"fast": True}}, "is not carried out here"),
]


@pytest.mark.parametrize(("face", "options", "text"), REFUSED, ids=[str(options) for _, options, _ in REFUSED])
def test_what_is_not_carried_out_is_refused_by_name(face: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(DescriptionError, match=text):
        face(Noted(), options=options)
    assert face(Noted(), options={}).options.to_dict() == {}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resilience_level": 1}, "mitigation.*nothing beside options that ask for 'readout'"),
        (
            {"resilience": {"zne_mitigation": True, "zne": {"extrapolator": "double_exponential"}}},
            r"polynomial_degree_2' with 3 noise factors",
        ),
        ({"twirling": {"enable_gates": True, "shots_per_randomization": 10}}, "num_randomizations or default_shots"),
        (
            {
                "twirling": {"enable_gates": True, "shots_per_randomization": 10, "num_randomizations": 4},
                "default_shots": 50,
            },
            "num_randomizations times shots_per_randomization",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused_at_the_run(
    bell: QuantumCircuit, options: dict[str, Any], text: str
) -> None:
    own = {"mitigation": ["dd"]} if "resilience_level" in options else {}
    with pytest.raises(DescriptionError, match=text):
        PilotEstimator(Noted(), default_precision=0.0, options=options, **own).run([(bell, "ZZ")])


def test_a_job_knows_its_seconds_and_times(bell: QuantumCircuit) -> None:
    noted = Noted()
    job = PilotEstimator(noted).run([(bell, "ZZ"), (bell, "XX")])
    metrics = job.metrics()
    assert (job.usage(), metrics["usage"]["status"], metrics["timestamps"]["finished"]) == (0.0, "pending", None)
    for number, future in enumerate(noted.futures):
        qpu = "fake:manila" if number else None
        future.info = SimpleNamespace(
            submitted=90.0, started=100.0 + number, finished=103.0 + number, seconds=3.0, qpu=qpu
        )
        future.set_result(SimpleNamespace(values=np.ones((1, 1)), standard_errors=np.zeros((1, 1))))
        assert job.usage(partial=True) == 3.0 * 2 if number else 3.0
    metrics = job.metrics()
    assert job.usage() == metrics["bss"]["seconds"] == 6.0
    assert metrics["usage"] == {
        "status": "completed",
        "seconds": 6.0,
        "quantum_seconds": 3.0,
        "qpu_charge_time_seconds": 6.0,
    }
    assert metrics["timestamps"]["created"] == "1970-01-01T00:01:30.000Z"
    assert metrics["timestamps"]["running"] == "1970-01-01T00:01:40.000Z"
    assert datetime.fromisoformat(metrics["timestamps"]["finished"]).timestamp() == 104.0
    assert pickle.loads(pickle.dumps(job)).metrics() == metrics
