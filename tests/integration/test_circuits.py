"""Circuits through a manager: simulators on its slots, fake QPUs as devices, and what goes wrong with them."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from circuit_cases import SOON, bell, describe, total
from qiskit import QuantumCircuit
from qiskit.circuit import ClassicalRegister, Parameter, QuantumRegister
from qiskit.quantum_info import SparsePauliOp, Statevector

from pilot import DescriptionError, NoPilotError, PilotDescription, PilotManager, PilotState
from pilot.errors import DependencyFailed, PluginError, ProgramError, QPUError, TaskTimeout
from pilot.qos.estimation import CircuitEstimator

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    """Two cores without devices, and two small fake QPUs of one pilot."""
    with PilotManager(tmp_path_factory.mktemp("session") / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2, name="cpu"))
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["fake:manila", "fake:belem"], name="devices"))
        yield manager


@pytest.fixture(scope="module")
def devices(manager: PilotManager, eventually: Callable[..., Any]) -> None:
    """Both have reported."""
    eventually(lambda: len(manager.qpus) == 2, timeout=60)


def registers() -> QuantumCircuit:
    """|1> and |0> into two registers, in an order of their own."""
    circuit = QuantumCircuit(QuantumRegister(3), ClassicalRegister(1, "b"), ClassicalRegister(2, "a"))
    circuit.x(2)
    circuit.measure([2, 0, 1], [2, 0, 1])
    return circuit


@pytest.mark.parametrize("qpu", ["aer", "fake:manila"])
def test_registers_and_their_order_are_the_users(manager: PilotManager, devices: None, qpu: str) -> None:
    outcome = manager.submit_task(describe(registers(), shots=500, qpu=qpu, optimization_level=3)).result()
    most = max(outcome.get_counts().items(), key=lambda item: item[1])
    assert most[0] == "10 0"
    assert most[1] > 400
    assert max(outcome.get_counts("a"), key=outcome.get_counts("a").get) == "10"
    assert outcome.shots == 500


def test_the_seed_decides(manager: PilotManager) -> None:
    first, again, other = (
        manager.submit_task(describe(bell(), shots=1000, qpu="aer", seed=seed)).result().get_counts()
        for seed in (5, 5, 6)
    )
    assert first == again != other


def test_without_shots_probabilities_are_exact(manager: PilotManager) -> None:
    task = manager.submit_task(describe(bell()))
    assert task.result().get_counts() == pytest.approx({"00": 0.5, "11": 0.5})
    assert task.info.qpu is None


def test_with_shots_devices_are_used_when_there_are_any(manager: PilotManager, devices: None) -> None:
    tasks = [manager.submit_task(describe(bell(), shots=200)) for _ in range(40)]
    for task in tasks:
        assert sum(task.result().get_counts().values()) == 200
    assert {task.info.qpu for task in tasks} == {"fake:manila", "fake:belem"}
    assert {task.info.pilot for task in tasks} == {"devices"}
    assert "fake:" in manager.explain(tasks[0])


def test_the_best_device_by_fidelity(manager: PilotManager, devices: None) -> None:
    """What is asked for is between the estimates of the two, or above both."""
    circuit = QuantumCircuit(2)
    for _ in range(40):
        circuit.cx(0, 1)
    circuit.measure_all()
    asked = manager.submit_task(describe(circuit, shots=10, min_fidelity=0))
    asked.result()
    known = {one.qpu: one.fidelity or 0.0 for one in asked.estimates}
    assert set(known) == {"fake:manila", "fake:belem"}
    best, between = max(known, key=known.__getitem__), sum(known.values()) / 2
    tasks = [manager.submit_task(describe(circuit, shots=10, min_fidelity=between)) for _ in range(6)]
    assert {task.result() and task.info.qpu for task in tasks} == {best}
    refused = manager.submit_task(describe(circuit, shots=10, min_fidelity=0.999))
    with pytest.raises(QPUError, match=rf"a fidelity of 0\.999: the best offer is {known[best]:.3f} by {best}"):
        refused.result()
    gone = manager.submit_task(describe(circuit, shots=10, min_fidelity=0.1))
    assert gone.cancel() or gone.done()


@pytest.mark.parametrize("method", ["work", "estimates", "learn"])
def test_an_estimator_that_raises_fails_its_own_circuits(
    manager: PilotManager, devices: None, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def raises(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("no numbers")

    monkeypatch.setattr(CircuitEstimator, method, raises)
    asked = manager.submit_task(describe(bell(), shots=10, min_fidelity=0.1))
    plain = manager.submit_task(describe(bell(), shots=10))
    assert total(plain) == 10
    if method == "learn":  # that is for later ones
        assert total(asked) == 10
    else:
        with pytest.raises(PluginError, match=f"CircuitEstimator: {method} raised ZeroDivisionError: no numbers"):
            asked.result(timeout=SOON)


def test_expectation_values_exact_and_sampled(manager: PilotManager) -> None:
    state = QuantumCircuit(3)
    state.ry(0.4, 0)
    state.cx(0, 1)
    state.rx(1.1, 2)
    observables = ["ZZI", SparsePauliOp(["IXX", "YII"], [0.5, -2.0]), {"III": 1.0, "IIZ": 3.0}]
    truth = [
        Statevector(state).expectation_value(operator).real
        for operator in (
            SparsePauliOp("ZZI"),
            SparsePauliOp(["IXX", "YII"], [0.5, -2.0]),
            SparsePauliOp(["III", "IIZ"], [1, 3]),
        )
    ]
    exact = manager.submit_task(describe(state, observables=observables)).result()
    assert exact.values == pytest.approx(truth, abs=1e-12)
    assert not exact.standard_errors.any()
    sampled = manager.submit_task(describe(state, observables=observables, shots=20_000, qpu="aer", seed=1)).result()
    assert (np.abs(sampled.values - truth) < 5 * sampled.standard_errors + 1e-12).all()


def test_a_sweep_is_one_task_of_many_bindings(manager: PilotManager, devices: None) -> None:
    angle = Parameter("angle")
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    angles = np.linspace(0, np.pi, 9)
    values = (
        manager.submit_task(describe(circuit, parameters={"angle": angles}, observables=["Z", "Y"])).result().values
    )
    assert values == pytest.approx(np.stack([np.cos(angles), -np.sin(angles)], axis=1), abs=1e-12)
    noisy = describe(circuit, parameters=angles[:, None], observables=["Z"], shots=2000, qpu="fake:belem", seed=2)
    task = manager.submit_task(noisy)
    assert task.result().values[:, 0] == pytest.approx(np.cos(angles), abs=0.15)
    circuit.measure_all()
    outcomes = manager.submit_task(describe(circuit, parameters=angles[:, None], shots=100, qpu="aer")).result()
    assert [outcome.shots for outcome in outcomes] == [100] * 9
    one = manager.submit_task(describe(circuit, parameters=[0.0], shots=100, qpu="aer")).result()
    assert one.get_counts() == {"0": 100}


def test_tomography_on_a_simulator_and_on_a_device(manager: PilotManager, devices: None) -> None:
    ideal = manager.submit_task(describe(bell(measured=False), tomography=True, shots=4096, qpu="aer", seed=3))
    assert ideal.result().fidelity(bell(measured=False)) > 0.99
    assert all(part.done() for part in ideal.parts)
    noisy = manager.submit_task(describe(bell(measured=False), tomography=[1], shots=1000, qpu="fake:manila"))
    assert noisy.result().purity == pytest.approx(0.5, abs=0.1)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="mthree has no wheels for it yet")
def test_mitigation_brings_values_closer(manager: PilotManager, devices: None) -> None:
    ghz = QuantumCircuit(3)
    ghz.h(0)
    ghz.cx(0, 1)
    ghz.cx(1, 2)
    described = {"observables": ["ZZI", "IZZ", "XXX"], "shots": 8000, "qpu": "fake:belem", "seed": 4}
    raw, better = (
        manager.submit_task(describe(ghz, **described, mitigation=stages)).result()
        for stages in ((), ("readout", "twirling", "dd", "zne"))
    )
    assert np.abs(better.values - 1).mean() < 0.5 * np.abs(raw.values - 1).mean()


PROGRAMS = {
    "openqasm2": 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;',
    "openqasm3": 'OPENQASM 3; include "stdgates.inc"; qubit[2] q; bit[2] c; h q[0]; cx q[0],q[1]; c = measure q;',
    "originir": "QINIT 2\nCREG 2\nH q[0]\nCNOT q[0],q[1]\nMEASURE q[0],c[0]\nMEASURE q[1],c[1]\n",
}


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_is_a_circuit(manager: PilotManager, text: str) -> None:
    assert set(manager.submit_task(describe(text, shots=100, qpu="aer")).result().get_counts()) == {"00", "11"}


free = QuantumCircuit(1)
free.rx(Parameter("t"), 0)
free.measure_all()

#: id: (the circuit, its fields, the error, words of it)
WRONG: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "no measurement": (
        bell(measured=False),
        {"shots": 5},
        DescriptionError,
        "measures nothing: add circuit.measure_all",
    ),
    "free parameters": (free, {"shots": 5}, DescriptionError, r"values for the 1 free parameters of the circuit \(t\)"),
    "too many values": (free, {"shots": 5, "parameters": [1.0, 2.0]}, DescriptionError, r"of shape \(1,\)"),
    "another name": (
        free,
        {"shots": 5, "parameters": {"u": 1.0}},
        DescriptionError,
        "exactly the circuit's parameters: t",
    ),
    "exact on a device": (bell(), {"qpu": "fake:manila"}, DescriptionError, "shots: None is not valid"),
    "no such device": (bell(), {"qpu": "fake:oslo", "shots": 5}, NoPilotError, "devices has no device 'fake:oslo'"),
    "too wide": (QuantumCircuit(6, 1), {"qpu": "fake:manila", "shots": 5}, DescriptionError, "measures nothing"),
    "stages without noise": (bell(), {"qpu": "aer", "shots": 5, "mitigation": ["dd"]}, DescriptionError, "mitigation"),
    "unknown stage": (bell(), {"shots": 5, "mitigation": ["magic"]}, DescriptionError, "'magic' is not one of them"),
    "zne of counts": (bell(), {"shots": 5, "mitigation": ["zne"]}, DescriptionError, "no 'zne' without observables"),
    "wrong observable": (bell(False), {"observables": ["ZZZ"]}, DescriptionError, "observable"),
    "two settings": (
        bell(False),
        {"observables": ["ZZ"], "tomography": True},
        DescriptionError,
        "expected nothing with observables",
    ),
    "no program": ("QINIT 2\nH q[0\n", {"shots": 5}, ProgramError, "OriginIR, line 2"),
}


@pytest.mark.parametrize("circuit, fields, error, words", WRONG.values(), ids=WRONG)
def test_wrong_wishes_say_so_at_once(
    manager: PilotManager, devices: None, circuit: Any, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        manager.submit_task(describe(circuit, **fields))


def test_a_part_that_fails_fails_the_whole_with_its_own_error(manager: PilotManager) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.while_loop((circuit.clbits[0], 1)):
        circuit.h(0)
        circuit.measure(0, 0)
    task = manager.submit_task(describe(circuit, observables=["Z", "X"], shots=100, qpu="fake:manila"))
    with pytest.raises(
        QPUError, match=r"cannot be compiled for fake:manila: .*'while_loop' is not supported"
    ) as caught:
        task.result()
    assert not isinstance(caught.value, DependencyFailed)


def test_what_acts_on_outcomes_needs_shots(manager: PilotManager) -> None:
    midway = QuantumCircuit(2, 1)
    midway.h(0)
    midway.measure(0, 0)
    with midway.if_test((midway.clbits[0], 1)):
        midway.x(1)
    with pytest.raises(DescriptionError, match="give a number of shots"):
        manager.submit_task(describe(midway, observables=["ZI", "XI"]))
    assert manager.submit_task(describe(midway, observables=["ZI"], shots=4000, qpu="aer")).result().values[
        0
    ] == pytest.approx(0.0, abs=0.1)


# ---- what breaks ----------------------------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path, eventually: Callable[..., Any]) -> Iterator[PilotManager]:
    """A fake QPU whose queue takes a minute."""
    with PilotManager(tmp_path / "s") as manager:
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["fake:manila?queue=60"]))
        assert pilot.wait(60) is PilotState.ACTIVE
        eventually(lambda: manager.qpus, timeout=60)
        yield manager
        manager.close()


def job_notes(manager: PilotManager) -> list[Path]:
    """Where the native ids of jobs under way are kept."""
    return list(manager.session_dir.glob("pilots/*/*.job"))


def test_cancel_reaches_the_devices_job(slow: PilotManager, eventually: Callable[..., Any]) -> None:
    task = slow.submit_task(describe(bell(), shots=10))
    eventually(lambda: job_notes(slow), timeout=60)
    began = time.monotonic()
    assert task.cancel()
    assert time.monotonic() - began < 60
    with pytest.raises(CancelledError):
        task.result()
    assert not job_notes(slow)


def test_closing_does_not_wait_for_the_queue(slow: PilotManager, eventually: Callable[..., Any]) -> None:
    task = slow.submit_task(describe(bell(), shots=10))
    eventually(task.running, timeout=60)
    began = time.monotonic()
    slow.close()
    assert time.monotonic() - began < 60
    assert task.cancelled()


def worker_process(name: str) -> psutil.Process:
    """The process of this worker, by the file that takes its output."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if any(name in Path(file.path).name for file in process.open_files()):
                return process
    raise AssertionError(f"no process has the output of {name} open")


def test_a_device_whose_worker_is_killed_is_opened_again(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["fake:manila?queue=2"]))
        first = manager.submit_task(describe(bell(), shots=10))
        eventually(first.running, timeout=60)
        worker_process(first.info.worker or "?").kill()
        assert sum(first.result(timeout=60).get_counts().values()) == 10
        assert len(first.info.attempts) == 1


def test_of_many_tasks_none_stays_when_one_is_refused(manager: PilotManager) -> None:
    before = len(manager.tasks)
    with pytest.raises(DescriptionError, match="measures nothing"):
        manager.submit_tasks([describe(bell(), shots=10, qpu="aer"), describe(bell(measured=False), shots=10)])
    (task,) = list(manager.tasks.values())[before:]
    done, open = manager.wait_tasks([task], timeout=60)
    assert (done, open) == ([task], [])
    # cancelled, unless it had finished before
    assert task.cancelled() or sum(task.result().get_counts().values()) == 10


def test_observables_that_need_no_measurement(manager: PilotManager) -> None:
    result = manager.submit_task(describe(bell(measured=False), observables=[{"II": 2.5}], shots=100)).result()
    assert result.values.tolist() == [2.5]
    assert result.standard_errors.tolist() == [0.0]


def test_a_timeout_costs_the_tasks_of_the_same_job_nothing(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["fake:manila?queue=3"]))
        eventually(lambda: manager.qpus, timeout=60)
        tasks = manager.submit_tasks([describe(bell(), shots=10, timeout=1.0)] * 3)
        for task in tasks:
            with pytest.raises(TaskTimeout):
                task.result(timeout=60)
            assert task.info.attempts == ()
