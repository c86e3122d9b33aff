"""QNodes on `pilot.qubit` under JAX: mapped, differentiated and compiled, beside PennyLane's own device. No pilots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from here import Here

jax = pytest.importorskip("jax")
qml = pytest.importorskip("pennylane")
import jax.numpy as jnp  # noqa: E402

from pilot.quantum.faces.pennylane import PilotQubit  # noqa: E402


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


#: PennyLane 0.45 asks JAX for these under `jit` and in second derivatives.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:jax.core.(is_concrete|concrete_or_error) is deprecated:DeprecationWarning"
)
WIRES = 2
WEIGHTS = np.random.default_rng(3).uniform(size=(1, WIRES, 3))
POINTS = np.random.default_rng(4).uniform(size=(4, WIRES))
#: Devices and gradient methods: adjoint on the workers (in all cases), shifted tapes on simulators and on circuits.
KINDS: list[tuple[dict[str, Any], str]] = [
    ({}, "best"),
    ({"simulator": "default.qubit"}, "best"),
    ({}, "parameter-shift"),
    ({"qpu": "aer"}, "best"),
]


def model(weights: Any, point: Any) -> Any:
    qml.AngleEmbedding(point, wires=range(WIRES))
    qml.StronglyEntanglingLayers(weights, wires=range(WIRES))
    return qml.expval(qml.Z(0) @ qml.Y(1)), qml.expval(qml.X(0))


def energy(node: Any) -> Callable[[Any, Any], Any]:
    return lambda weights, point: node(weights, point)[0]


def loss(node: Any) -> Callable[[Any, Any], Any]:
    return lambda weights, points: jnp.mean(jax.vmap(lambda point: node(weights, point)[0] ** 2)(points))


def mapped(node: Any) -> Any:
    return jax.vmap(node, in_axes=(None, 0))


#: What users write, and the tasks that it may take. `POINTS` at once, or the first.
CASES: dict[str, tuple[Callable[[Any], Callable[[Any, Any], Any]], Any]] = {
    "call": (lambda node: node, POINTS[0]),
    "broadcast": (lambda node: node, POINTS),
    "vmap": (mapped, POINTS),
    "vmap of vmap": (lambda node: jax.vmap(mapped(node), in_axes=(None, 0)), POINTS.reshape(2, 2, WIRES)),
    "vmap of broadcast": (mapped, POINTS.reshape(2, 2, WIRES)),
    "vmap of nothing": (mapped, POINTS[:0]),
    "vmap of both": (lambda node: jax.vmap(node), POINTS),
    "jacobian by the point": (lambda node: jax.jacobian(node, argnums=1), POINTS[0]),
    "forward": (lambda node: jax.jacfwd(node), POINTS[0]),
    "vmap of grad": (lambda node: mapped(jax.grad(energy(node), argnums=(0, 1))), POINTS),
    "grad of vmap": (lambda node: jax.grad(loss(node)), POINTS),
    "grad of broadcast": (lambda node: jax.grad(lambda w, p: jnp.mean(node(w, p)[1])), POINTS),
    "jit of grad of vmap": (lambda node: jax.jit(jax.value_and_grad(loss(node), argnums=(0, 1))), POINTS),
}


def applied(case: str, device: Any, method: str) -> list[Any]:
    make, points = CASES[case]
    weights = jnp.stack([jnp.asarray(WEIGHTS)] * len(points)) if case == "vmap of both" else jnp.asarray(WEIGHTS)
    return jax.tree_util.tree_leaves(make(qml.QNode(model, device, diff_method=method))(weights, jnp.asarray(points)))


@pytest.mark.parametrize(
    ("case", "kind", "method"),
    [
        (case, *kind)
        for kind in KINDS
        for case in (CASES if kind == KINDS[0] else ("vmap", "jacobian by the point", "jit of grad of vmap"))
    ],
    ids=str,
)
def test_one_call_gives_what_pennylane_gives(case: str, kind: dict[str, Any], method: str) -> None:
    manager = Here()
    given = applied(case, PilotQubit(wires=WIRES, manager=manager, **kind), method)
    wanted = applied(case, qml.device("default.qubit", wires=WIRES), "backprop")
    for one, its in zip(given, wanted, strict=True):
        assert one.shape == its.shape
        np.testing.assert_allclose(one, its, atol=1e-9)
    # Both gradients of a sum: what is mapped has tapes of its own beside those for the weights.
    # What is broadcast already has a tape for each of the outer sets.
    assert len(manager.submitted) <= (2 if "grad" in case or case == "vmap of broadcast" else 1)


def test_single_precision_is_jaxs_default() -> None:
    with jax.enable_x64(False):
        node = qml.QNode(model, PilotQubit(wires=WIRES, manager=Here()))
        value, gradient = jax.jit(jax.value_and_grad(loss(node)))(jnp.asarray(WEIGHTS), jnp.asarray(POINTS))
        assert value.dtype == gradient.dtype == jnp.float32
    wanted = jax.grad(loss(qml.QNode(model, qml.device("default.qubit", wires=WIRES))))(WEIGHTS, POINTS)
    np.testing.assert_allclose(gradient, wanted, atol=2e-6)


def test_samples_are_drawn_in_one_call_too() -> None:
    @qml.set_shots(50)
    @qml.qnode(PilotQubit(wires=1, manager=Here(), seed=3))
    def coin(angle: Any) -> Any:
        qml.RY(angle, 0)
        return qml.sample(wires=0)

    samples = jax.vmap(coin)(jnp.array([0.0, np.pi]))
    assert samples.shape[:2] == (2, 50)
    assert samples.reshape(2, 50).sum(axis=1).tolist() == [0, 50]


def test_an_operation_without_sets_is_a_tape_for_each() -> None:
    """Coefficients of an observable cannot be broadcast."""

    def tilted(angle: Any) -> Any:
        qml.RY(0.3, 0)
        return qml.expval(angle * qml.Z(0) + 2.0 * qml.X(0))

    manager = Here()
    angles = jnp.array([0.1, 0.7, -0.4])
    given = jax.vmap(qml.QNode(tilted, PilotQubit(wires=1, manager=manager), diff_method=None))(angles)
    np.testing.assert_allclose(given, angles * np.cos(0.3) + 2 * np.sin(0.3), atol=1e-9)


def test_second_derivatives_are_those_of_shifted_tapes() -> None:
    def turned(angles: Any) -> Any:
        qml.RX(angles[0], 0)
        qml.RY(angles[0] * angles[1], 1)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(0) @ qml.X(1))

    device, point = PilotQubit(wires=WIRES, manager=Here()), jnp.asarray(POINTS[0])
    given = jax.hessian(qml.QNode(turned, device, diff_method="parameter-shift", max_diff=2))(point)
    wanted = jax.hessian(qml.QNode(turned, qml.device("default.qubit", wires=WIRES)))(point)
    np.testing.assert_allclose(given, wanted, atol=1e-9)
    with pytest.raises(qml.exceptions.DeviceError, match="'parameter-shift' or 'finite-diff' and max_diff=2"):
        jax.hessian(qml.QNode(turned, device))(point)


def test_what_jax_cannot_have_is_refused_in_words() -> None:
    def counted(angle: Any) -> Any:
        qml.RY(angle, 0)
        return qml.counts()

    device = PilotQubit(wires=1, manager=Here(), seed=1)
    node = qml.set_shots(qml.QNode(counted, device), 20)
    assert sum(node(jnp.array(0.4)).values()) == 20
    with pytest.raises(qml.exceptions.DeviceError, match=r"counts have no form .* measure qml.probs or qml.sample"):
        jax.vmap(node)(jnp.array([0.4, 0.7]))

    def plain(angle: Any) -> Any:
        qml.RY(angle, 0)
        return qml.expval(qml.Z(0))

    with pytest.raises(qml.exceptions.DeviceError, match="diff_method=None, so that it has no gradient"):
        jax.grad(qml.QNode(plain, device, diff_method=None))(0.3)
