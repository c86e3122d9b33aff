"""PennyLane's device over a manager: results, gradients and refusals. Without pilots."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from here import Here

from pilot import PilotDescription
from pilot.errors import DescriptionError
from pilot.states import PilotState

qml = pytest.importorskip("pennylane")
from pennylane import numpy as pnp  # noqa: E402
from pennylane.devices import ExecutionConfig  # noqa: E402
from pennylane.tape import QuantumScript  # noqa: E402

from pilot.quantum.faces.pennylane import PilotQubit  # noqa: E402
from pilot.quantum.faces.pennylane.sets import stacked  # noqa: E402

WIRES = 3
KINDS: list[dict[str, Any]] = [{}, {"simulator": "default.qubit"}, {"qpu": "aer"}]
HAMILTONIAN = 0.3 * qml.X(0) @ qml.Z(1) + 0.7 * qml.Y(2) - 1.1 * qml.Z(0) @ qml.Z(2) + 0.25 * qml.I(1)


def named(kind: dict[str, Any]) -> str:
    return next(iter(kind.values()), "lightning.qubit")


@pytest.fixture(params=KINDS, ids=named)
def device(request: pytest.FixtureRequest) -> Any:
    return PilotQubit(wires=WIRES, manager=Here(), seed=5, **request.param)


@pytest.fixture
def weights() -> Any:
    return pnp.array(np.random.default_rng(3).uniform(size=(2, WIRES, 3)), requires_grad=True)


def layers(weights: Any) -> None:
    qml.AngleEmbedding([0.2, 0.5, 0.9], wires=range(WIRES))
    qml.StronglyEntanglingLayers(weights, wires=range(WIRES))


def one(weights: Any) -> Any:
    layers(weights)
    return qml.expval(HAMILTONIAN)


def two(weights: Any) -> Any:
    layers(weights)
    return qml.expval(HAMILTONIAN), qml.expval(qml.Y(0) @ qml.Y(1))


def here(function: Any) -> Any:
    return qml.QNode(function, qml.device("default.qubit", wires=WIRES))


def test_exact_results_are_pennylanes(device: Any, weights: Any) -> None:
    def all_kinds(weights: Any) -> Any:
        layers(weights)
        return qml.expval(HAMILTONIAN), qml.probs(wires=[2, 0]), qml.var(qml.X(1)), qml.probs(), qml.expval(qml.H(1))

    for given, wanted in zip(qml.QNode(all_kinds, device)(weights), here(all_kinds)(weights), strict=True):
        np.testing.assert_allclose(given, wanted, atol=1e-9)


def test_one_exact_value_has_double_precision(device: Any, weights: Any) -> None:
    def one(weights: Any) -> Any:
        layers(weights)
        return qml.expval(HAMILTONIAN)

    tape = qml.workflow.construct_tape(qml.QNode(one, device))(weights)
    (value,) = qml.execute([tape], device, diff_method=None)
    assert getattr(value, "dtype", None) == np.float64


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *((kind, method) for kind in KINDS for method in ("parameter-shift", "best")),
        *((k, "adjoint") for k in KINDS[:2]),
    ],
    ids=str,
)
def test_gradients_and_jacobians_are_pennylanes(weights: Any, kind: dict[str, Any], method: str) -> None:
    device = PilotQubit(wires=WIRES, manager=Here(), **kind)
    given = qml.grad(qml.QNode(one, device, diff_method=method))(weights)
    np.testing.assert_allclose(given, qml.grad(here(one))(weights), atol=1e-9)
    pair, wanted = qml.QNode(two, device, diff_method=method), here(two)
    given = qml.jacobian(lambda weights: pnp.stack(pair(weights)))(weights)
    np.testing.assert_allclose(given, qml.jacobian(lambda weights: pnp.stack(wanted(weights)))(weights), atol=1e-9)


class Pilots(Here):
    """Has a pilot of so many cores, and counts the tasks of each batch."""

    def __init__(self, cores: int) -> None:
        super().__init__()
        self.pilots = [SimpleNamespace(state=PilotState.ACTIVE, description=PilotDescription(cores_per_node=cores))]
        self.batches: list[int] = []

    def submit_tasks(self, descriptions: Any) -> Any:
        wanted = list(descriptions)
        self.batches.append(len(wanted))
        return super().submit_tasks(wanted)


@pytest.mark.parametrize(
    ("simulator", "wires"), [("lightning.qubit", 8), ("lightning.qubit", 11), ("default.qubit", 8)]
)
def test_the_tapes_of_a_parameter_shift_gradient_are_as_many_tasks_as_slots(simulator: str, wires: int) -> None:
    def ring(weights: Any) -> Any:
        for layer in weights:
            for wire in range(wires):
                qml.RY(layer[wire], wire)
                qml.CNOT([wire, (wire + 1) % wires])
        return qml.expval(qml.Z(0) @ qml.Y(1)), qml.probs(wires=2)

    manager = Pilots(cores=3)
    device = PilotQubit(wires=wires, manager=manager, simulator=simulator)
    weights = pnp.array(np.random.default_rng(3).uniform(size=(8, wires)), requires_grad=True)

    def gradient(device: Any) -> Any:
        node = qml.QNode(ring, device, diff_method="parameter-shift")
        return qml.jacobian(lambda weights: pnp.hstack(node(weights)))(weights)

    np.testing.assert_allclose(gradient(device), gradient(qml.device("lightning.qubit", wires=wires)), atol=1e-9)
    assert manager.batches == [1, 3]


def test_tapes_that_differ_are_not_put_together() -> None:
    """Shots, measurements, wires, other operations and values of other shapes, each beside a plain tape."""
    turn, value = qml.RX(0.1, 0), qml.expval(qml.Z(0))
    tapes = [
        QuantumScript([turn], [value]),
        QuantumScript([turn], [qml.expval(qml.Y(0))]),
        QuantumScript([qml.RX(0.4, 1)], [value]),
        QuantumScript([qml.RY(0.5, 0)], [value]),
        QuantumScript([qml.RX(0.6, 0)], [value]),
        QuantumScript([qml.RX(np.array([0.1, 0.2]), 0)], [value]),
        QuantumScript([qml.adjoint(qml.RX(0.7, 0))], [value]),
        QuantumScript([turn, turn], [value]),
        QuantumScript([qml.RX(0.8, 0)], [value], shots=100),
        QuantumScript([qml.RX(np.array([0.3, 0.4]), 0)], [value]),
        QuantumScript([qml.adjoint(qml.RX(0.9, 0))], [value]),
    ]
    device = PilotQubit(manager=Here(), seed=1)
    config = device.setup_execution_config(ExecutionConfig(gradient_method=qml.gradients.param_shift))
    given = device.execute(tapes, config)
    assert [len(one.numbers) for one in stacked(tapes)] == [2, 1, 1, 1, 2, 2, 1, 1]
    for number, (result, wanted) in enumerate(zip(given, qml.device("default.qubit").execute(tapes), strict=True)):
        np.testing.assert_allclose(result, wanted, atol=0.4 if number == 8 else 1e-9)


def test_one_angle_for_several_parameters_is_shifted_in_each() -> None:
    """The same number, the same object even, stands for different parameters."""

    def turned(angle: Any) -> Any:
        qml.Rot(angle, angle, angle, wires=0)
        qml.CRot(angle, angle, angle, wires=[0, 1])
        return qml.expval(qml.X(0) @ qml.Y(1))

    angle = pnp.array(0.7, requires_grad=True)
    for kind in KINDS:
        node = qml.QNode(turned, PilotQubit(wires=2, manager=Here(), **kind), diff_method="parameter-shift")
        np.testing.assert_allclose(qml.grad(node)(angle), qml.grad(here(turned))(angle), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_batch_of_one_keeps_its_axis(kind: dict[str, Any]) -> None:
    def turned(angles: Any) -> Any:
        qml.RY(angles, 0)
        return qml.expval(0.5 * qml.Z(0) + 1.2 * qml.X(0) @ qml.Z(1))

    node = qml.QNode(turned, PilotQubit(wires=2, manager=Here(), **kind), diff_method="parameter-shift")
    np.testing.assert_allclose(node(np.array([0.4])), [0.5 * np.cos(0.4) + 1.2 * np.sin(0.4)], atol=1e-9)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gates_that_depend_on_outcomes_have_gradients(kind: dict[str, Any]) -> None:
    def steered(angles: Any) -> Any:
        qml.RX(angles[0], 0)
        qml.cond(qml.measure(0), qml.RY)(angles[1], 1)
        return qml.expval(qml.Z(1))

    angles = pnp.array([0.4, 0.9], requires_grad=True)
    node = qml.QNode(steered, PilotQubit(wires=2, manager=Here(), **kind), diff_method="parameter-shift")
    wanted = [-np.sin(0.4) / 2 * (1 - np.cos(0.9)), -(np.sin(0.2) ** 2) * np.sin(0.9)]
    np.testing.assert_allclose(qml.grad(node)(angles), wanted, atol=1e-9)


@pytest.mark.parametrize("wires", [4, 11])
def test_broadcast_values_are_as_many_tasks_as_slots(wires: int) -> None:
    def chain(angles: Any) -> Any:
        for layer in range(6):
            for wire in range(wires):
                qml.RY(angles * (1 + layer), wire)
                qml.CNOT([wire, (wire + 1) % wires])
        return qml.expval(qml.Z(0)), qml.probs(wires=[1, 0])

    manager = Pilots(cores=2)
    angles = np.linspace(0, 3, 64 if wires == 11 else 3000)
    given = qml.QNode(chain, PilotQubit(wires=wires, manager=manager))(angles)
    assert manager.batches == [2]
    for one, wanted in zip(given, qml.QNode(chain, qml.device("default.qubit", wires=wires))(angles), strict=True):
        np.testing.assert_allclose(one, wanted, atol=1e-9)


def test_an_adjoint_gradient_is_one_task(weights: Any) -> None:
    manager = Here()
    qml.grad(qml.QNode(one, PilotQubit(wires=WIRES, manager=manager)))(weights)
    (task,) = manager.submitted
    assert task.function.method == "execute_and_compute_derivatives"


def test_samples_are_pennylanes(device: Any) -> None:
    @qml.set_shots(2000)
    @qml.qnode(device)
    def bell(angle: float) -> Any:
        qml.RY(angle, 0)
        qml.CNOT([0, 1])
        return qml.counts(wires=[0, 1]), qml.sample(qml.Z(0)), qml.probs(wires=[1, 2]), qml.expval(HAMILTONIAN)

    counts, samples, probabilities, energy = bell(0.7)
    assert set(counts) == {"00", "11"}
    assert sum(counts.values()) == 2000
    assert samples.shape == (2000,)
    assert samples.mean() == pytest.approx(np.cos(0.7), abs=0.08)
    np.testing.assert_allclose(probabilities, [np.cos(0.35) ** 2, 0, np.sin(0.35) ** 2, 0], atol=0.04)
    assert energy == pytest.approx(-1.1 * np.cos(0.7) + 0.25, abs=0.15)
    first, second = qml.set_shots(bell, [10, 20])(0.7)
    assert (sum(first[0].values()), sum(second[0].values())) == (10, 20)
    assert (first[1].shape, second[1].shape) == ((10,), (20,))


def test_a_seed_gives_the_same_samples() -> None:
    def coin() -> Any:
        qml.Hadamard(0)
        return qml.sample(wires=0)

    for kind in KINDS:
        devices = [PilotQubit(wires=1, manager=Here(), seed=seed, **kind) for seed in (1, 1, 2)]
        same, again, other = (qml.set_shots(qml.QNode(coin, device), 50)().tolist() for device in devices)
        assert same == again != other


def test_wires_have_names_and_an_order(device: Any) -> None:
    def skewed() -> Any:
        qml.RY(0.7, "b")
        qml.CNOT(["b", "a"])
        qml.RX(0.2, "a")
        return qml.probs(wires=["a", "b"]), qml.expval(qml.Y("a") @ qml.Z("b")), qml.probs()

    for wires in (["a", "b"], ["b", "a", "c"], None):
        kind = {"qpu": "aer"} if not device.supports_derivatives() else {}
        named = PilotQubit(wires=wires, manager=Here(), **kind)
        wanted = qml.QNode(skewed, qml.device("default.qubit", wires=wires))()
        for given, expected in zip(qml.QNode(skewed, named)(), wanted, strict=True):
            np.testing.assert_allclose(given, expected, atol=1e-9)


def test_measurements_in_the_middle_and_many_values(device: Any) -> None:
    def middle(angle: Any) -> Any:
        qml.RY(angle, 0)
        outcome = qml.measure(0)
        qml.cond(outcome, qml.X)(1)
        return qml.expval(qml.Z(1)), qml.probs(op=outcome)

    for given, wanted in zip(qml.QNode(middle, device)(0.7), here(middle)(0.7), strict=True):
        np.testing.assert_allclose(given, wanted, atol=1e-9)

    def plain(angle: Any) -> Any:
        qml.RY(angle, 0)
        return qml.expval(qml.Z(0))

    np.testing.assert_allclose(qml.QNode(plain, device)(np.array([0.1, 0.7])), np.cos([0.1, 0.7]), atol=1e-9)


def test_what_is_not_supported_is_refused_in_words(weights: Any) -> None:
    circuits = PilotQubit(wires=WIRES, manager=Here(), qpu="aer")
    refused = (qml.exceptions.DeviceError, qml.exceptions.QuantumFunctionError)
    with pytest.raises(refused, match=r"state\(.*not accepted for analytic simulation on pilot.qubit with a QPU"):
        qml.QNode(lambda: qml.state(), circuits)()
    with pytest.raises(refused, match="does not support adjoint"):
        qml.grad(qml.QNode(one, circuits, diff_method="adjoint"))(weights)
    with pytest.raises(refused, match="mcm_method: 'one-shot' is not valid; expected 'deferred'"):
        qml.set_shots(qml.QNode(lambda: qml.counts(), circuits, mcm_method="one-shot"), 5)()
    with pytest.raises(refused, match="does not support backprop"):
        qml.grad(qml.QNode(one, PilotQubit(wires=WIRES, manager=Here()), diff_method="backprop"))(weights)


def test_wrong_arguments_are_refused_in_words() -> None:
    with pytest.raises(DescriptionError, match="no option 'prioritty' \\(did you mean 'priority'"):
        PilotQubit(wires=1, manager=Here(), prioritty=3)
    with pytest.raises(DescriptionError, match=r"lightning\.qubits"):
        PilotQubit(wires=1, manager=Here(), simulator="lightning.qubits")
    with pytest.raises(DescriptionError, match="either qpu or simulator"):
        PilotQubit(wires=1, manager=Here(), qpu="aer", simulator="default.qubit")
    with pytest.raises(DescriptionError, match="min_fidelity"):
        PilotQubit(wires=1, manager=Here(), min_fidelity=0.5)
