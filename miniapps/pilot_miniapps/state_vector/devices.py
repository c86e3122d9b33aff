"""What simulates the circuits, for a worker to run: the kernel, PennyLane's Lightning devices, and Aer."""

from __future__ import annotations

import os
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pilot_miniapps.state_vector.kernel import Ranks, Simulation
from pilot_miniapps.state_vector.layers import Layer, random_weights, strongly_entangling

KERNEL = "kernel"
#: Device → the package to install for it, and the compiled module in it.
PACKAGES = {
    "lightning.qubit": ("pennylane-lightning", "pennylane_lightning.lightning_qubit_ops"),
    "lightning.kokkos": ("pennylane-lightning-kokkos", "pennylane_lightning.lightning_kokkos_ops"),
    "lightning.gpu": ("pennylane-lightning-gpu", "pennylane_lightning.lightning_gpu_ops"),
    "aer": ("qiskit-aer", "qiskit_aer.backends.controller_wrappers"),
}
#: Those that can spread a state vector over MPI ranks, where they are built for it.
WITH_MPI = ("lightning.kokkos", "lightning.gpu", "aer")
#: A compiled program that asks MPI for its rank has this name in it.
_MPI_SYMBOL = b"MPI_Comm_rank"
#: Runs for values of which the median counts, below so many qubits; what takes longer runs once.
_RUNS, _SHORT_QUBITS = 3, 22


class Circuits(msgspec.Struct, frozen=True):
    """Strongly entangling layers of several sizes, with angles from one seed.

    Attributes:
        qubits: the sizes.
        gradient_qubits: the gradient is computed up to this size.
        layers: of each circuit.
        seed: of the angles.
        batch: how many observed qubits the kernel takes back at a time.
    """

    qubits: tuple[int, ...]
    gradient_qubits: int
    layers: int
    seed: int
    batch: int

    def of(self, qubits: int) -> list[Layer]:
        """The circuit of this size."""
        return strongly_entangling(random_weights(self.layers, qubits, self.seed))


class Measured(msgspec.Struct, frozen=True):
    """One circuit on one device. The gradient is of shape ``(qubits, layers, qubits, 3)``; its time and its bytes
    include the values, which come with it."""

    qubits: int
    threads: int
    seconds: float
    values: Any
    bytes_sent: int
    gradient_seconds: float | None = None
    gradient: Any = None
    gradient_bytes_sent: int = 0


def missing(device: str) -> str | None:
    """The package to install for a device; None where it is installed."""
    package, module = PACKAGES[device]
    return None if _library(module) else package


def has_mpi(device: str) -> bool:
    """True where the installed device is built with MPI: its compiled module calls it."""
    library = _library(PACKAGES[device][1])
    return library is not None and _MPI_SYMBOL in library.read_bytes()


def _library(module: str) -> Path | None:
    try:
        found = util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(found.origin) if found and found.origin else None


def measure(device: str, circuits: Circuits, mpi: bool) -> list[Measured]:
    """Run the circuits. With MPI, on every rank of the communicator; rank 0 returns what was measured."""
    comm = _world() if mpi else None
    _simulator(device, circuits, min(circuits.qubits), comm).values()  # what is loaded late is loaded now
    found = []
    for qubits in circuits.qubits:
        simulator = _simulator(device, circuits, qubits, comm)
        seconds, values = _median(simulator, simulator.values, _RUNS if qubits < _SHORT_QUBITS else 1)
        one = Measured(qubits, int(os.environ.get("OMP_NUM_THREADS", "1")), seconds, values, simulator.bytes_sent())
        if qubits <= circuits.gradient_qubits and simulator.has_gradient:
            seconds, gradient = _median(simulator, simulator.gradient, 1)
            one = msgspec.structs.replace(
                one, gradient_seconds=seconds, gradient=gradient, gradient_bytes_sent=simulator.bytes_sent()
            )
        found.append(one)
    return found if comm is None or comm.rank == 0 else []


def _simulator(device: str, circuits: Circuits, qubits: int, comm: Any) -> Simulator:
    layers = circuits.of(qubits)
    if device == KERNEL:
        return Kernel(layers, comm, circuits.batch)
    return Aer(layers, comm) if device == "aer" else PennyLane(layers, comm, device)


def _world() -> Any:
    from mpi4py import MPI

    return MPI.COMM_WORLD


def _median(simulator: Simulator, work: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """Median seconds of some runs, each from when all ranks begin to when all have ended; and the last result."""
    seconds = []
    for _ in range(runs):
        simulator.barrier()
        begun = time.perf_counter()
        result = work()
        simulator.barrier()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds), result


class Simulator(ABC):
    """One circuit on one device. Without a communicator, in this process alone."""

    has_gradient = True

    def __init__(self, layers: Sequence[Layer], comm: Any) -> None:
        self.layers, self.comm = layers, comm
        self.qubits = len(layers[0].angles)

    def barrier(self) -> None:
        """Wait for the other ranks."""
        if self.comm is not None:
            self.comm.Barrier()

    def bytes_sent(self) -> int:
        """Bytes that all ranks handed to MPI in one run, where the device counts them."""
        return 0

    @abstractmethod
    def values(self) -> Any:
        """The expectation value of Z on each qubit."""

    @abstractmethod
    def gradient(self) -> Any:
        """The values' derivatives by all angles, of shape ``(qubits, layers, qubits, 3)``."""


class Kernel(Simulator):
    """The state vector of `kernel`, over the ranks of the communicator."""

    def __init__(self, layers: Sequence[Layer], comm: Any, batch: int) -> None:
        super().__init__(layers, comm)
        self._batch = batch
        self._last = Ranks(comm)

    def bytes_sent(self) -> int:
        sent = self._last.bytes_sent
        return sent if self.comm is None else self.comm.allreduce(sent)

    def values(self) -> Any:
        return self._simulation().values()

    def gradient(self) -> Any:
        simulation = self._simulation()
        simulation.values()
        return simulation.jacobian(self._batch)

    def _simulation(self) -> Simulation:
        self._last = Ranks(self.comm)
        return Simulation(self.layers, self._last)


class PennyLane(Simulator):
    """One of PennyLane's Lightning devices, as a user calls it: a QNode, and its adjoint Jacobian by autograd."""

    def __init__(self, layers: Sequence[Layer], comm: Any, device: str) -> None:
        super().__init__(layers, comm)
        import pennylane as qml

        options = {} if comm is None else {"mpi": True}
        self._device = qml.device(device, wires=self.qubits, **options)
        self._weights = np.array([layer.angles for layer in layers])

    def values(self) -> Any:
        return np.array(self._node(None)(self._weights))

    def gradient(self) -> Any:
        import pennylane as qml
        from pennylane import numpy

        node = self._node("adjoint")
        weights = numpy.array(self._weights, requires_grad=True)
        return np.array(qml.jacobian(lambda its: numpy.stack(node(its)))(weights))

    def _node(self, method: str | None) -> Any:
        import pennylane as qml

        @qml.qnode(self._device, diff_method=method)
        def node(weights: Any) -> Any:
            qml.StronglyEntanglingLayers(weights, wires=range(self.qubits))
            return [qml.expval(qml.Z(qubit)) for qubit in range(self.qubits)]

        return node


class Aer(Simulator):
    """Qiskit Aer's state vector; it has no gradient."""

    has_gradient = False

    def values(self) -> Any:
        from qiskit.quantum_info import Pauli
        from qiskit_aer import AerSimulator
        from qiskit_aer.library import SaveExpectationValue

        circuit = self._circuit()
        for qubit in range(self.qubits):
            circuit.append(SaveExpectationValue(Pauli("Z"), f"z{qubit}"), [qubit])
        options: dict[str, Any] = {"method": "statevector"}
        if self.comm is not None:  # a chunk for each rank; see the options of AerSimulator
            options |= {
                "blocking_enable": True,
                "blocking_qubits": self.qubits - (self.comm.size - 1).bit_length(),
            }
        data = AerSimulator(**options).run(circuit, shots=1).result().data()
        return np.array([data[f"z{qubit}"] for qubit in range(self.qubits)])

    def gradient(self) -> Any:
        raise NotImplementedError("Aer has no adjoint gradient")

    def _circuit(self) -> Any:
        from qiskit import QuantumCircuit

        circuit = QuantumCircuit(self.qubits)
        for layer in self.layers:
            for qubit, (phi, theta, omega) in enumerate(layer.angles.tolist()):
                circuit.rz(phi, qubit)
                circuit.ry(theta, qubit)
                circuit.rz(omega, qubit)
            for control, target in layer.cnots:
                circuit.cx(control, target)
        return circuit
