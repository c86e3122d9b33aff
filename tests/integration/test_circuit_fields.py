"""Circuits at the edge: wrong fields, large circuits, many of them. An error names the field, and the pilots go on."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from circuit_cases import SOON, bell, describe, eventual_worker, free, named, random_midway, state, total, with_angle
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import SparsePauliOp

from pilot import DescriptionError, NoPilotError, PilotManager
from pilot.errors import DependencyFailed

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("plugin", "pilots_go_on")]

DEVICE = {"shots": 5, "qpu": "fake:manila"}
two = with_angle(Parameter("t"), global_phase=Parameter("u"))
wide = QuantumCircuit(10**6, 1)
wide.measure(0, 0)


#: The circuit, its fields, a part of the error (first the field, then the value, then what is expected).
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a number": (5, {}, "circuit: int is not valid; expected a Qiskit circuit"),
    "two circuits": ([bell(), bell()], {}, "circuit: list is not valid"),
    "an empty text": ("", {}, "the program is empty"),
    "no qubits": (QuantumCircuit(0), {"observables": [""]}, "circuit: circuit .* has no qubits"),
    "an angle that is none": (
        with_angle(float("nan")),
        {},
        "circuit: .* gate 'rx' with the angle nan; expected a finite number",
    ),
    "an endless angle": (with_angle(float("inf")), DEVICE, "circuit: .* the angle inf"),
    "a name that is no text": (named("caf\udce9"), {"shots": 5}, "circuit: its name .* not Unicode"),
    "a free global phase": (two, {"shots": 5}, r"parameters: None is not valid; .* 2 free parameters"),
    "half a shot": (bell(), {"shots": 1.5}, "shots: 1.5 is not valid"),
    "shots below 0": (bell(), {"shots": -1}, "shots: -1 is not valid"),
    "shots as text": (bell(), {"shots": "10"}, "shots: '10' is not valid"),
    "more shots than numbers": (
        bell(),
        {"shots": 2**63},
        r"shots: 9223372036854775808 is not valid; .* at most 2\*\*62",
    ),
    "observables that are no list": (
        state,
        {"observables": 5},
        "observables: 5 is not valid; expected a list of Pauli",
    ),
    "no observables": (state, {"observables": None}, "observables: None is not valid"),
    "an observable too wide": (state, {"observables": ["ZZZ"]}, "observables: 'ZZZ' is on 3 qubits, the circuit has 2"),
    "an imaginary one": (state, {"observables": [SparsePauliOp("ZZ", 1j)]}, "observables: .* not real and finite"),
    "a coefficient in words": (
        state,
        {"observables": [{"ZZ": "x"}]},
        "observables: the coefficient 'x' of 'ZZ' is not valid",
    ),
    "tomography of a number": (state, {"tomography": 1}, "tomography: 1 is not valid; expected True, or a list"),
    "tomography by truth": (state, {"tomography": [True]}, r"tomography: \[True\] is not valid"),
    "tomography of all": (state, {"tomography": "all"}, "tomography: 'all' is not valid"),
    "a qubit twice": (state, {"tomography": [0, 0]}, r"tomography: \[0, 0\] is not valid"),
    "a qubit that is none": (state, {"tomography": [7]}, r"tomography: \[7\] is not valid; .* 0 to 1"),
    "tomography of nine": (QuantumCircuit(9), {"tomography": True}, r"tomography: 9 qubits take 3\*\*9 circuits"),
    "ragged values": (free, {"parameters": [[1.0], [2.0, 3.0]]}, "parameters: .* is not valid; expected real numbers"),
    "ragged columns": (two, {"parameters": {"t": [1, 2], "u": [1, 2, 3]}}, "parameters: .* as many numbers as"),
    "values in words": (free, {"parameters": {"t": "x"}}, "parameters: {'t': 'x'} is not valid"),
    "values that are none": (free, {"parameters": [float("nan")]}, r"parameters: \[nan\] is not valid; .* \(1,\)"),
    "no sets": (free, {"parameters": np.zeros((0, 1))}, "parameters: .* n_sets at least 1"),
    "values without parameters": (
        bell(),
        {"parameters": [1.0]},
        "parameters: .* expected nothing: the circuit has no free parameters",
    ),
    "a stage that is none": (
        state,
        {"observables": ["ZZ"], "mitigation": 5, **DEVICE},
        r"mitigation: \[5\] is not valid",
    ),
    "an object as stage": (
        state,
        {"observables": ["ZZ"], "mitigation": [int], **DEVICE},
        "mitigation: .* is not one of them",
    ),
    "no QPU": (bell(), {"shots": 5, "qpu": ""}, "qpu: '' is not valid"),
    "a QPU without a name": (bell(), {"shots": 5, "qpu": "fake:"}, "qpu: QPU 'fake:': which device"),
    "a level": (
        bell(),
        {"optimization_level": 4, **DEVICE},
        "optimization_level: 4 is not valid; expected 0, 1, 2 or 3",
    ),
    "a seed below 0": (bell(), {"seed": -1}, "seed: -1 is not valid"),
    "a fidelity above 1": (bell(), {"shots": 5, "min_fidelity": 2}, "min_fidelity: 2 is not valid"),
    "arguments": (bell(), {"args": (1,)}, r"args: \(1,\) is not valid; .* in parameters"),
    "an environment": (bell(), {"environment": {"A": "b"}}, "environment: .* nothing with a circuit"),
    "cores of a device": (bell(), {"num_cpus": 2, **DEVICE}, "num_cpus: .* nothing for a device"),
}


@pytest.mark.parametrize("circuit, fields, words", WRONG.values(), ids=WRONG)
def test_wrong_fields_are_named_where_they_are_submitted(
    circuit: Any, fields: Any, words: str, manager: PilotManager
) -> None:
    before = len(manager.tasks)
    with pytest.raises(DescriptionError, match=f"(?s){words}"):
        manager.submit_task({"circuit": circuit, **fields})
    assert len(manager.tasks) == before


@pytest.mark.parametrize("field", ["circuit", "parameters", "observables", "shots"])
def test_a_task_is_no_value_of_a_circuits_fields(manager: PilotManager, field: str) -> None:
    task = manager.submit_task(pow, 2, 3)
    with pytest.raises(DescriptionError, match="is not valid"):
        manager.submit_task({"circuit": free, "shots": 5, field: task})


def test_what_no_pilot_has(manager: PilotManager) -> None:
    for settings, words in (
        ({"qpu": "fake:oslo"}, "devices has no device 'fake:oslo' .it has: fake:manila."),
        ({"qpu": "fake:manila", "pilot": "cpu"}, "cpu has no device 'fake:manila'"),
        ({"qpu": "fake:manila", "shots": 2**40}, "takes at most 100000 shots, but 1099511627776 are needed"),
    ):
        with pytest.raises(NoPilotError, match=words):
            manager.submit_task({"circuit": bell(), "shots": 5, **settings})
    with pytest.raises(NoPilotError, match="has 5 qubits, but 1000000 are needed"):
        manager.submit_task(describe(wide, **DEVICE))
    task = manager.submit_task(describe(bell(), shots=5, pilot="cpu"))
    assert total(task) == 5  # that pilot has no devices: it is simulated there
    assert task.info.qpu is None


def test_strange_names_and_no_values_do_no_harm(manager: PilotManager) -> None:
    for name in ("../..\n\0 '\"; rm -rf", "ü€𝄞", "x" * 5000):
        assert total(manager.submit_task(describe(named(name), shots=5, qpu="fake:manila"))) == 5
    for nothing in ({}, []):
        assert total(manager.submit_task(describe(bell(), shots=5, parameters=nothing, qpu="aer"))) == 5


def test_many_shots_take_no_memory(manager: PilotManager) -> None:
    assert total(manager.submit_task(describe(bell(), shots=2**62, qpu="aer"))) == 2**62
    sixteen = QuantumCircuit(16)
    sixteen.h(range(16))
    sixteen.measure_all()
    task = manager.submit_task(describe(sixteen, shots=2**40, qpu="aer"))
    worker = eventual_worker(manager, task)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert worker.memory_info().rss < 2 << 30
        assert not task.done()
        time.sleep(0.05)
    assert task.cancel()


def test_what_has_no_exact_result_is_refused_at_submit(manager: PilotManager) -> None:
    for wanted, what in (
        ({"observables": ["Z"]}, "expectation values"),
        ({}, "probabilities"),
        ({"tomography": True}, "probab"),
    ):
        with pytest.raises(DescriptionError, match=f"no exact {what}.*give a number of shots"):
            manager.submit_task(describe(random_midway(), **wanted))


def test_results_travel_on(manager: PilotManager) -> None:
    outcome = manager.submit_task(describe(bell(), shots=50, qpu="fake:manila"))
    value = manager.submit_task(describe(state, observables=["ZZ"]))
    added = manager.submit_task(
        lambda one, other: (sum(one.get_counts().values()), float(other.values[0])), outcome, value
    )
    assert added.result(timeout=SOON) == (50, pytest.approx(1.0))
    failing = manager.submit_task(fails)
    with pytest.raises(DependencyFailed):
        manager.submit_task(describe(bell(), shots=5, depends_on=failing, qpu="aer")).result(timeout=SOON)


def fails() -> None:
    raise ValueError("it fails")


def test_a_circuit_that_fits_nowhere_says_what_it_takes(manager: PilotManager) -> None:
    large = random_circuit(40, 40, max_operands=2, seed=1)
    for settings in ({"observables": ["Z0"]}, {"tomography": [0], "shots": 5, "qpu": "aer"}):
        with pytest.raises(NoPilotError, match=r"\(40 qubits\) takes statevector .* GiB.*; cut it .*cutting.plan"):
            manager.submit_task(describe(large, **settings))
    large.measure_all()
    with pytest.raises(
        DescriptionError, match="40 bits, the outcomes of 26 at most are listed; give a number of shots"
    ):
        manager.submit_task(describe(large))


def test_large_circuits_that_are_easy_run(manager: PilotManager) -> None:
    clifford = QuantumCircuit(35)
    generator = np.random.default_rng(1)
    for _ in range(400):
        first, second = generator.choice(35, 2, replace=False).tolist()
        clifford.h(first)
        clifford.cx(first, second)
        clifford.s(second)
    chain = QuantumCircuit(60)
    for qubit in range(59):
        chain.ry(0.1 * qubit, qubit)
        chain.cx(qubit, qubit + 1)
    tasks = [manager.submit_task(describe(clifford, observables=["Z0"]))]
    tasks.append(manager.submit_task(describe(chain, observables=["Z0", "Z59"])))
    assert tasks[0].result(timeout=SOON).values[0] in (-1.0, 0.0, 1.0)
    assert tasks[1].result(timeout=SOON).values[0] == pytest.approx(1.0)
    for circuit in (clifford, chain):
        circuit.measure_all()
        assert total(manager.submit_task(describe(circuit, shots=200, qpu="aer"))) == 200


def test_a_thousand_small_circuits(manager: PilotManager) -> None:
    circuits = [random_circuit(4, 4, measure=True, max_operands=2, seed=seed) for seed in range(20)]
    spent = time.process_time()
    tasks = manager.submit_tasks(
        describe(circuits[number % 20], shots=10, qpu="aer", seed=number) for number in range(1000)
    )
    manager.wait_tasks(tasks, timeout=60)
    assert {sum(task.result(timeout=0).get_counts().values()) for task in tasks} == {10}
    assert time.process_time() - spent < 5  # measured: 0.8 s, of which a half reads and packs the circuits
