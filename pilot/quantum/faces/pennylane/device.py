"""The device ``pilot.qubit``: PennyLane's tapes as tasks, those of a batch side by side."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.tape import QuantumScript
from pennylane.transforms import convert_to_numpy_parameters

from pilot.errors import DescriptionError
from pilot.quantum.faces.jobs import Gathering
from pilot.quantum.faces.pennylane.circuits import Circuits
from pilot.quantum.faces.pennylane.simulators import Simulators
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.runner import Runner


@simulator_tracking
@single_tape_support
class PilotQubit(Device):  # type: ignore[misc]
    """Runs tapes on a manager's pilots: ``qml.device("pilot.qubit", wires=4, manager=manager)``.

    Without a QPU, tapes run on a PennyLane simulator in each worker, a task each: everything that it supports, adjoint
    gradients among it, which the workers compute. With a QPU they become circuits; expectation values of Pauli sums are
    estimated as with ``TaskDescription.observables``, all else is sampled. All tapes of a batch are submitted at once:
    those of a parameter-shift gradient run side by side.
    """

    def __init__(
        self,
        wires: Any = None,
        shots: Any = None,
        *,
        manager: Runner,
        qpu: str | None = None,
        simulator: str = "lightning.qubit",
        simulator_options: Mapping[str, Any] | None = None,
        seed: np.random.Generator | int | None = None,
        **options: Any,
    ) -> None:
        """Make it.

        Args:
            wires: how many, or their labels. Default: those of each tape.
            shots: as for any device of PennyLane's, which prefers them on the QNode (``qml.set_shots``).
            manager: who submits the tasks.
            qpu: what runs the circuits, as in ``TaskDescription.qpu``: "fake:kolkata", "aer". Default: ``simulator``.
            simulator: a device of PennyLane's that is installed where the workers run: "lightning.qubit",
                "default.qubit", "lightning.gpu" (with ``num_gpus=1``).
            simulator_options: arguments of that device.
            seed: of sampling: a device that is made anew with it samples the same.
            **options: more fields of each `TaskDescription`, as for `PilotSampler`: ``num_cpus``, ``priority``, ….

        Raises:
            DescriptionError: an option is unknown, its value is not valid, or there is no such simulator.
        """
        super().__init__(wires=wires, shots=shots)
        self._manager = manager
        self._rng = np.random.default_rng(seed)
        self._kind: Simulators | Circuits
        if qpu is None:
            try:
                self._kind = Simulators(simulator, wires, dict(simulator_options or {}), options)
            except (qml.exceptions.DeviceError, ImportError, TypeError) as error:
                raise DescriptionError(f"simulator {simulator!r}: {error}", field="simulator") from error
        elif simulator_options or simulator != "lightning.qubit":
            raise DescriptionError("pilot.qubit: either qpu or simulator, not both", field="simulator", given=simulator)
        else:
            self._kind = Circuits(qpu, self.wires, options)

    @property
    def name(self) -> str:
        """By which ``qml.device`` knows it."""
        return "pilot.qubit"

    # ---- what PennyLane asks before ---------------------------------------------------------------------------

    def supports_derivatives(
        self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None
    ) -> bool:
        """True for adjoint gradients without shots, where a simulator on the workers computes them."""
        return self._kind.supports_derivatives(execution_config, circuit)

    def setup_execution_config(
        self, config: ExecutionConfig | None = None, circuit: QuantumScript | None = None
    ) -> ExecutionConfig:
        """``config`` with the choices of this device: the gradient and what is done with measurements in the middle."""
        return self._kind.setup(config or ExecutionConfig(), circuit)

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """What makes tapes of any form ones that run as they are; it refuses what cannot, with an error text."""
        return self._kind.transforms(execution_config or ExecutionConfig())

    # ---- what it runs -----------------------------------------------------------------------------------------

    def execute(self, circuits: Any, execution_config: ExecutionConfig | None = None) -> Any:
        """The results of tapes, in their order; blocks.

        Args:
            circuits: a tape or a sequence of them, as `preprocess_transforms` made them.
            execution_config: as `setup_execution_config` made it.
        """
        return tuple(self._run("execute", circuits, execution_config))

    def compute_derivatives(self, circuits: Any, execution_config: ExecutionConfig | None = None) -> Any:
        """Adjoint Jacobians of tapes, in their order, computed on the workers; blocks."""
        return tuple(self._run("compute_derivatives", circuits, execution_config))

    def execute_and_compute_derivatives(self, circuits: Any, execution_config: ExecutionConfig | None = None) -> Any:
        """Results and adjoint Jacobians of tapes: one task each gives both; blocks."""
        pairs = self._run("execute_and_compute_derivatives", circuits, execution_config)
        return tuple(result for result, _ in pairs), tuple(jacobian for _, jacobian in pairs)

    def _run(self, method: str, circuits: Any, config: ExecutionConfig | None) -> list[Any]:
        tapes, _ = convert_to_numpy_parameters(tuple(circuits))
        plan = self._kind.plan(method, tapes, config or ExecutionConfig(), draw_seeds(self._rng, len(tapes)))
        tasks: list[Future[Any]] = list(self._manager.submit_tasks(plan.descriptions))
        results: list[Any] = Gathering(tasks, plan.finish).result(None)
        return results
