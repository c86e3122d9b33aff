"""QNodes on `pilot.qubit` as layers of torch, beside PennyLane's own device. Without pilots."""

from __future__ import annotations

from typing import Any

import pytest
from here import Here

qml = pytest.importorskip("pennylane")
torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")

from pilot.quantum.faces.pennylane import PilotQubit  # noqa: E402

WIRES = 2
KINDS: list[tuple[dict[str, Any], str]] = [({}, "best"), ({}, "parameter-shift"), ({"qpu": "aer"}, "best")]


def model(inputs: Any, weights: Any) -> Any:
    qml.AngleEmbedding(inputs, wires=range(WIRES))
    qml.StronglyEntanglingLayers(weights, wires=range(WIRES))
    return [qml.expval(qml.Z(wire)) for wire in range(WIRES)]


def trained(device: Any, method: str) -> list[Any]:
    """The outputs, the gradients, and the loss after some steps of an optimizer, for a batch of inputs."""
    torch.manual_seed(0)
    inputs, wanted = torch.rand(5, WIRES, dtype=torch.float64), torch.rand(5, 1, dtype=torch.float64)
    layer = qml.qnn.TorchLayer(qml.QNode(model, device, diff_method=method), {"weights": (1, WIRES, 3)})
    network = torch.nn.Sequential(layer, torch.nn.Linear(WIRES, 1)).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    found = [network(inputs).detach()]
    for _ in range(3):
        optimizer.zero_grad()
        loss = ((network(inputs) - wanted) ** 2).mean()
        loss.backward()
        found.append(layer.weights.grad.clone())
        optimizer.step()
    return [*found, loss.detach()]


@pytest.mark.parametrize(("kind", "method"), KINDS, ids=str)
def test_a_layer_learns_as_with_pennylane(kind: dict[str, Any], method: str) -> None:
    manager = Here()
    given = trained(PilotQubit(wires=WIRES, manager=manager, **kind), method)
    for one, its in zip(given, trained(qml.device("default.qubit", wires=WIRES), "backprop"), strict=True):
        torch.testing.assert_close(one, its, rtol=0, atol=1e-6)
    if method == "parameter-shift":
        assert len(manager.submitted) == 1 + 2 * 3  # values and gradient of a batch are a task each
