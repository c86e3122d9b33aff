"""Circuits with a noise model of the user's own, beside Aer with the same model. Without pilots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from here import OFFER, Here
from primitive_cases import ansatz
from qiskit import ClassicalRegister, QuantumCircuit, transpile
from qiskit.circuit import Clbit, Qubit
from qiskit.circuit.classical import expr
from qiskit.circuit.library import XGate
from qiskit.quantum_info import DensityMatrix, SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, QPUError
from pilot.quantum import cutting
from pilot.quantum.faces import PilotBackend, PilotEstimator, PilotSampler
from pilot.quantum.noise import PackedNoiseModel
from pilot.quantum.noise_errors import ReducedSimulators
from pilot.quantum.tasks import prepare

SHOTS = 4000
#: Of a cx; it takes <ZZ> of a Bell pair to 1 - DEPOLARIZED.
DEPOLARIZED = 0.2


@pytest.fixture
def model() -> NoiseModel:
    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(DEPOLARIZED, 2), "cx")
    return noise


@pytest.fixture
def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    return circuit


def run(**fields: Any) -> Any:
    (future,) = Here().submit_tasks([TaskDescription(**fields)])
    return future.result()


def test_observables_and_counts_feel_the_noise(model: NoiseModel, bell: QuantumCircuit) -> None:
    result = run(circuit=bell, observables=["ZZ", "XX"], shots=SHOTS, noise_model=model, seed=1)
    assert (np.abs(result.values - (1 - DEPOLARIZED)) < 5 * result.standard_errors).all()
    bell.measure_all()
    counts = run(circuit=bell, shots=SHOTS, noise_model=model, seed=1).get_counts()
    assert abs((counts["01"] + counts["10"]) / SHOTS - DEPOLARIZED / 2) < 0.03
    assert counts == run(circuit=bell, shots=SHOTS, noise_model=model, seed=1).get_counts()


@pytest.mark.parametrize("name", ["crz", "csx", "cswap", "cu"])
def test_gates_that_density_matrices_do_not_take_run(model: NoiseModel, name: str) -> None:
    circuit = QuantumCircuit(3)
    circuit.h(0)
    angles = {"crz": [0.3], "cu": [0.1, 0.2, 0.3, 0.4]}.get(name, [])
    getattr(circuit, name)(*angles, *range(3 if name == "cswap" else 2))
    value = run(circuit=circuit, observables=["IXX", "ZII"], shots=SHOTS, noise_model=model, seed=1)
    exact = run(circuit=circuit, observables=["IXX", "ZII"])
    assert (np.abs(value.values - exact.values) < 5 * value.standard_errors).all()


def test_own_gates_and_a_lone_measurement_in_conditions_run(model: NoiseModel) -> None:
    own = QuantumCircuit(1, name="own")
    own.x(0)
    circuit = QuantumCircuit(3, 1)
    with circuit.if_test((0, 0)):
        circuit.append(own.to_gate(), [2])
        circuit.measure(2, 0)
    assert run(circuit=circuit, shots=20, noise_model=model).get_counts() == {"1": 20}


def test_a_condition_asks_for_bits_that_nothing_has_written(model: NoiseModel) -> None:
    circuit = QuantumCircuit(2, 3)
    with circuit.if_test(expr.less(circuit.cregs[0], 3)):
        circuit.x(0)
        circuit.cx(0, 1)
    circuit.measure(0, 1)
    counts = run(circuit=circuit, shots=SHOTS, noise_model=model, seed=1).get_counts()
    assert counts["000"] / SHOTS == pytest.approx(DEPOLARIZED / 2, abs=0.03)


def test_boxes_have_the_noise_of_what_is_in_them(model: NoiseModel) -> None:
    boxed = QuantumCircuit(2, 1)
    with boxed.box():
        boxed.h(0)
        with boxed.box():
            boxed.cx(0, 1)
    values = run(circuit=boxed, observables=["ZZ"], shots=SHOTS, noise_model=model, seed=1).values
    assert values == pytest.approx(1 - DEPOLARIZED, abs=0.05)
    with boxed.if_test((boxed.clbits[0], 0)), boxed.box():
        boxed.cx(0, 1)
    boxed.measure(1, 0)
    counts = run(circuit=boxed, shots=SHOTS, noise_model=model, seed=1).get_counts()
    assert counts["1"] / SHOTS == pytest.approx((1 - (1 - DEPOLARIZED) ** 2) / 2, abs=0.04)


def test_sets_of_values_and_tomography_feel_the_noise(model: NoiseModel, bell: QuantumCircuit) -> None:
    result = run(circuit=bell, tomography=True, shots=SHOTS, noise_model=model, seed=2)
    purity = DensityMatrix(result.density_matrix).purity().real
    ideal = (1 - DEPOLARIZED) ** 2 + (1 - (1 - DEPOLARIZED) ** 2) / 4
    assert abs(purity - ideal) < 0.05
    circuit = ansatz(2, 3)
    values = np.random.default_rng(3).uniform(size=(3, 3))
    noisy = run(circuit=circuit, parameters=values, observables=["ZZ"], shots=SHOTS, noise_model=model, seed=3)
    alone = [run(circuit=circuit, parameters=one, observables=["ZZ"], shots=SHOTS, noise_model=model) for one in values]
    assert (np.abs(noisy.values - [one.values for one in alone]) < 0.1).all()


def test_readout_errors_and_gates_that_aer_does_not_know(bell: QuantumCircuit) -> None:
    noise = NoiseModel()
    noise.add_all_qubit_readout_error(ReadoutError([[0.9, 0.1], [0.3, 0.7]]))
    own = QuantumCircuit(1, name="mine")
    own.x(0)
    circuit = QuantumCircuit(10, 10)
    circuit.append(own.to_gate(), [9])
    circuit.measure(range(10), range(10))
    outcomes = run(circuit=circuit, shots=SHOTS, noise_model=noise, seed=4)
    ones = outcomes.weights @ outcomes.bits() / SHOTS
    assert abs(ones[9] - 0.7) < 0.03
    assert np.abs(ones[:9] - 0.1).max() < 0.03


def test_every_face_takes_a_noise_model(model: NoiseModel, bell: QuantumCircuit) -> None:
    (value,) = PilotEstimator(Here(), noise_model=model, seed=5).run([(bell, "ZZ")], precision=0.02).result()
    assert abs(value.data.evs - (1 - DEPOLARIZED)) < 0.08
    assert value.metadata["qpu"] == "aer"
    bell.measure_all()
    counts = [
        PilotSampler(Here(), noise_model=model, seed=5).run([bell], shots=SHOTS).result()[0].data.meas.get_counts(),
        PilotBackend(Here()).run(bell, noise_model=model, shots=SHOTS).result().get_counts(),
        PilotBackend(Here(), noise_model=model).run(bell, shots=SHOTS, memory=True).result().get_counts(),
        PilotBackend.from_backend(Here(), AerSimulator(noise_model=model)).run(bell, shots=SHOTS).result().get_counts(),
    ]
    for its in counts:
        assert abs((its["01"] + its["10"]) / SHOTS - DEPOLARIZED / 2) < 0.03


def test_another_backend_is_simulated_with_its_noise_and_target(bell: QuantumCircuit) -> None:
    bell.measure_all()
    device = FakeManilaV2()
    backend = PilotBackend.from_backend(Here(), device)
    assert backend.name == device.name
    compiled = transpile(bell, backend, initial_layout=[3, 4], seed_transpiler=1)
    wanted = AerSimulator.from_backend(device).run(compiled, shots=SHOTS, seed_simulator=1).result().get_counts()
    given = backend.run(compiled, shots=SHOTS, seed_simulator=1).result().get_counts()
    assert all(abs(given.get(key, 0) - wanted.get(key, 0)) < 5 * (2 * SHOTS) ** 0.5 / 2 for key in wanted)
    assert given["01"] + given["10"] > 10


def test_what_cannot_be_taken_from_a_simulator_is_refused() -> None:
    with pytest.raises(DescriptionError, match="method='matrix_product_state'"):
        PilotBackend.from_backend(Here(), AerSimulator(method="matrix_product_state"))
    with pytest.raises(DescriptionError, match=r"from_backend\.backend: str is not valid; expected a BackendV2"):
        PilotBackend.from_backend(Here(), "aer")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shots": None}, "shots: None is not valid; expected a number with a noise model"),
        ({"qpu": "fake:manila"}, "'aer' or None with a noise model"),
        ({"mitigation": ["readout"]}, "nothing with a noise model"),
        ({"min_fidelity": 0.5}, "nothing with a noise model"),
        ({"num_gpus": 1}, "0 with a noise model"),
        ({"noise_model": {"cx": 0.1}}, "a NoiseModel of qiskit_aer.noise"),
    ],
)
def test_what_does_not_go_with_a_noise_model_is_refused(
    model: NoiseModel, bell: QuantumCircuit, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(DescriptionError, match=message):
        run(**{"circuit": bell, "observables": ["ZZ"], "shots": 10, "noise_model": model, **fields})


def test_a_model_is_packed_once_for_many_tasks(
    model: NoiseModel, bell: QuantumCircuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[NoiseModel] = []
    kept = PackedNoiseModel.__init__
    monkeypatch.setattr(PackedNoiseModel, "__init__", lambda self, given: (made.append(given), kept(self, given))[1])
    bell.measure_all()
    PilotBackend(Here()).run([bell] * 5, noise_model=model, shots=10).result()
    PilotSampler(Here(), noise_model=model).run([bell] * 5, shots=10).result()
    assert len(made) == 2
    packed = PackedNoiseModel(model)
    assert run(circuit=bell, shots=10, noise_model=packed, seed=1).shots == 10
    assert len(made) == 3


def test_the_pieces_of_a_cut_circuit_have_the_noise() -> None:
    flips = NoiseModel()
    flips.add_all_qubit_readout_error(ReadoutError([[0.8, 0.2], [0.2, 0.8]]))
    circuit = QuantumCircuit(4)
    circuit.x(0)
    circuit.cx(0, 1)
    circuit.cz(1, 2)
    circuit.cx(2, 3)
    here = Here()
    result = cutting.plan(circuit, ["IIIZ"], max_qubits=2).run(here, shots=4000, seed=1, noise_model=flips)
    assert all(one.noise_model is flips for one in here.submitted)
    assert abs(result.values[0] + 0.6) < 0.1  # a readout of qubit 0 alone; the cut measures others


def test_a_noise_model_is_for_circuits_alone(model: NoiseModel) -> None:
    with pytest.raises(DescriptionError, match=r"noise_model: .* nothing without a circuit"):
        TaskDescription(function=print, noise_model=model)


def test_circuits_without_a_seed_are_in_one_run_and_one_that_fails_harms_no_other(
    model: NoiseModel, bell: QuantumCircuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    kept = AerSimulator.run

    def counted(self: AerSimulator, circuits: list[QuantumCircuit], **options: Any) -> Any:
        runs.append(len(circuits))
        return kept(self, circuits, **options)

    monkeypatch.setattr(AerSimulator, "run", counted)
    bell.measure_all()
    wide = QuantumCircuit(60)
    wide.h(range(60))
    wide.cx(range(59), range(1, 60))
    wide.t(range(60))
    wide.h(range(60))
    wide.measure_all()
    parts = []
    for circuit in (bell, bell, bell):
        described = TaskDescription(circuit=circuit, shots=50, noise_model=model)
        parts += prepare(described, OFFER).parts
    assert len({part.function for part in parts}) == 1
    results = parts[0].function.run_together([part.args for part in parts])
    assert runs == [3]
    assert all(one.shots == 50 for one in results)
    described = TaskDescription(circuit=wide, shots=50, noise_model=model, num_cpus=1)
    (bad,) = prepare(described, OFFER).parts
    first, second = parts[0].function.run_together([parts[0].args, bad.args])
    assert first.shots == 50
    assert isinstance(second, QPUError)


def test_sums_of_paulis_of_a_noisy_circuit_have_one_value(model: NoiseModel, bell: QuantumCircuit) -> None:
    total = SparsePauliOp(["ZZ", "XX", "II"], [0.5, -0.25, 2.0])
    result = run(circuit=bell, observables=[total], shots=SHOTS, noise_model=model, seed=6)
    assert abs(result.values[0] - (2 + 0.25 * (1 - DEPOLARIZED))) < 5 * result.standard_errors[0]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many circuits each run of Aer had."""
    sizes: list[int] = []
    kept = AerSimulator.run

    def counted(self: AerSimulator, circuits: list[QuantumCircuit], **options: Any) -> Any:
        sizes.append(len(circuits))
        return kept(self, circuits, **options)

    monkeypatch.setattr(AerSimulator, "run", counted)
    return sizes


def together(model: NoiseModel, circuits: list[QuantumCircuit], seeds: list[int], shots: int = SHOTS) -> list[Any]:
    """Counts of tasks that a worker has at a time."""
    packed = PackedNoiseModel(model)
    parts = []
    for circuit, seed in zip(circuits, seeds, strict=True):
        parts += prepare(TaskDescription(circuit=circuit, shots=shots, noise_model=packed, seed=seed), OFFER).parts
    assert len({part.function for part in parts}) == 1
    return [one.get_counts() for one in parts[0].function.run_together([part.args for part in parts])]


def noisy_everywhere() -> NoiseModel:
    """Errors of gates, and readout errors: of qubit 0 its own, not symmetric; of all others the same."""
    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(DEPOLARIZED, 2), "cx")
    noise.add_all_qubit_quantum_error(depolarizing_error(0.05, 1), ["h", "x", "reset"])
    noise.add_all_qubit_readout_error(ReadoutError([[0.95, 0.05], [0.15, 0.85]]))
    noise.add_readout_error(ReadoutError([[0.7, 0.3], [0.1, 0.9]]), [0])
    return noise


def many_kinds() -> list[QuantumCircuit]:
    """Measured in another order, into registers with a gap, with a reset, with an own gate; then those that have to be
    simulated shot by shot."""
    turned = QuantumCircuit(3, 4)
    turned.h(0)
    turned.cx(0, 2)
    turned.x(1)
    turned.measure([2, 0], [0, 3])
    again = QuantumCircuit(2, 2)
    again.x(0)
    again.reset(0)
    again.h(1)
    again.cx(1, 0)
    again.measure([0, 1], [1, 0])
    own = QuantumCircuit(2, name="mine")
    own.h(0)
    own.cx(0, 1)
    named = QuantumCircuit(3)
    named.append(own.to_gate(), [2, 0])
    named.measure_all()
    middle = QuantumCircuit(1, 2)
    middle.h(0)
    middle.measure(0, 0)
    middle.h(0)
    middle.measure(0, 1)
    dynamic = QuantumCircuit(2, 2)
    dynamic.h(0)
    dynamic.measure(0, 0)
    with dynamic.if_test((dynamic.clbits[0], 1)):
        dynamic.x(1)
    dynamic.measure(1, 1)
    return [turned, again, named, middle, dynamic]


def test_a_seed_gives_the_same_counts_alone_and_in_company(runs: list[int]) -> None:
    circuits, seeds, noise = many_kinds(), [1, 2, 3, 4, 5], noisy_everywhere()
    all_of_them = together(noise, circuits, seeds, shots=500)
    assert sorted(runs) == [1, 1, 3]  # three in one run, the two others in one each
    alone = [together(noise, [circuit], [seed], shots=500)[0] for circuit, seed in zip(circuits, seeds, strict=True)]
    assert all_of_them == alone
    assert all_of_them == together(noise, circuits[::-1], seeds[::-1], shots=500)[::-1]
    assert all_of_them[0] != together(noise, circuits[:1], [9], shots=500)[0]


def test_distributions_are_those_of_aer_with_the_same_noise() -> None:
    noise = noisy_everywhere()
    circuits = many_kinds()[:4]
    known = transpile(circuits, basis_gates=[*noise.basis_gates, "h", "x", "cx"], optimization_level=0)
    simulator = AerSimulator(noise_model=noise)
    theirs = simulator.run(known, shots=SHOTS, seed_simulator=1).result()
    for number, ours in enumerate(together(noise, circuits, [1, 2, 3, 4])):
        wanted = theirs.get_counts(number)
        shares = [(ours.get(key, 0), wanted.get(key, 0)) for key in ours.keys() | wanted.keys()]
        assert all(abs(one - other) < 5 * (2 * max(one, other, 1)) ** 0.5 for one, other in shares)


def test_registers_in_another_order_that_share_bits(model: NoiseModel) -> None:
    bits = [Clbit() for _ in range(4)]
    circuit = QuantumCircuit([Qubit() for _ in range(3)], bits)
    circuit.add_register(ClassicalRegister(bits=[bits[2], bits[0]], name="a"))
    circuit.add_register(ClassicalRegister(bits=[bits[0], bits[1]], name="b"))
    circuit.x([0, 1])
    circuit.measure([2, 0, 1], [0, 1, 3])
    wanted = run(circuit=circuit, shots=10).get_counts()
    assert together(model, [circuit, circuit], [1, 2], shots=10) == [wanted] * 2


def test_models_whose_measurements_share_errors_are_sampled_by_aer(runs: list[int]) -> None:
    both = NoiseModel()
    correlated = ReadoutError(np.kron([[0.9, 0.1], [0.2, 0.8]], np.eye(2)))
    both.add_readout_error(correlated, [0, 1])
    before = NoiseModel()
    before.add_all_qubit_quantum_error(depolarizing_error(0.3, 1), "measure")
    circuit = QuantumCircuit(2)
    circuit.x([0, 1])
    circuit.measure_all()
    for noise in (both, before):
        runs.clear()
        first, second = together(noise, [circuit, circuit], [1, 2])
        assert runs == [1, 1]
        wanted = AerSimulator(noise_model=noise).run([circuit], shots=SHOTS, seed_simulator=3).result().get_counts()
        for ours in (first, second):
            assert abs(ours["11"] - wanted["11"]) < 5 * (2 * SHOTS) ** 0.5


def test_many_qubits_are_sampled_by_aer(model: NoiseModel, runs: list[int]) -> None:
    circuit = QuantumCircuit(9)
    circuit.x(range(9))
    circuit.measure_all()
    assert together(model, [circuit], [1], shots=20) == [{"1" * 9: 20}]
    idle = QuantumCircuit(30, 1)
    idle.x(29)
    idle.measure(29, 0)
    assert together(model, [idle, idle], [1, 2], shots=20) == [{"1": 20}] * 2
    assert runs == [1, 2]


def test_a_run_has_the_errors_that_its_circuits_meet_and_no_others() -> None:
    model = NoiseModel.from_backend(FakeManilaV2())
    model.add_all_qubit_quantum_error(depolarizing_error(0.1, 1), "marked")
    model.add_all_qubit_quantum_error(depolarizing_error(0.1, 1), "y")
    circuit = QuantumCircuit(3, 1)
    circuit.sx(0)
    circuit.append(XGate(label="marked"), [1])
    circuit.delay(2000, 1, unit="dt")
    circuit.measure(0, 0)
    with circuit.if_test((0, 1)):
        circuit.cx(1, 2)
    whole = AerSimulator(noise_model=model, max_parallel_threads=1)
    reduced = ReducedSimulators(model, max_parallel_threads=1).of([circuit])
    met = [error["operations"] for error in reduced.options.noise_model.to_dict()["errors"]]
    assert sorted(met) == [["cx"], ["marked"], ["measure"], ["sx"], ["x"]]
    circuit.measure_all()
    counts, expected = (one.run(circuit, shots=500, seed_simulator=1).result().get_counts() for one in (reduced, whole))
    assert counts != expected  # measurements of other qubits have errors, too
    reduced = ReducedSimulators(model, max_parallel_threads=1).of([circuit])
    assert reduced.run(circuit, shots=500, seed_simulator=1).result().get_counts() == expected
