"""PennyLane over pilots: adjoint gradients computed on the workers, parameter-shift ones from circuits side by side."""

import pennylane as qml
from pennylane import numpy as np

from pilot import PilotDescription, PilotManager

HAMILTONIAN = qml.Z(0) @ qml.Z(1) + qml.Z(1) @ qml.Z(2) + 0.5 * (qml.X(0) + qml.X(1) + qml.X(2))


def ising(weights: np.tensor) -> object:
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return qml.expval(HAMILTONIAN)


def counted(weights: np.tensor) -> object:
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return qml.counts()


if __name__ == "__main__":
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
        device = qml.device("pilot.qubit", wires=3, manager=manager)
        circuits = qml.device("pilot.qubit", wires=3, manager=manager, qpu="aer", seed=1)

        weights = np.array(qml.numpy.random.default_rng(7).uniform(size=(2, 3, 3)), requires_grad=True)
        adjoint = qml.grad(qml.QNode(ising, device, diff_method="adjoint"))(weights)
        shifted = qml.grad(qml.QNode(ising, circuits, diff_method="parameter-shift"))(weights)
        print("both gradients are equal:", np.allclose(adjoint, shifted))

        cost = qml.QNode(ising, device, diff_method="adjoint")
        optimizer = qml.AdamOptimizer(0.2)
        for _ in range(60):
            weights = optimizer.step(cost, weights)
        print(f"energy {cost(weights):.3f}; the ground state has {min(qml.eigvals(HAMILTONIAN)):.3f}")
        print("shots:", sum(qml.set_shots(qml.QNode(counted, circuits), 500)(weights).values()))
