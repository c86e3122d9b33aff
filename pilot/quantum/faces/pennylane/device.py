"""The device ``pilot.qubit``: PennyLane's tapes as tasks, those of a batch side by side.

Where PennyLane's gradient transforms make the tapes, and where JAX traces their values, the device gets them before
they are prepared: equal ones are then put together first, and prepared once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.math import Interface
from pennylane.tape import QuantumScript
from pennylane.transforms import convert_to_numpy_parameters
from pennylane.transforms.core import Transform

from pilot.errors import DescriptionError
from pilot.quantum.faces.jobs import Gathering
from pilot.quantum.faces.pennylane.circuits import Circuits
from pilot.quantum.faces.pennylane.gradients import by_transform
from pilot.quantum.faces.pennylane.sets import stacked
from pilot.quantum.faces.pennylane.simulators import Simulators
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.runner import Runner, slots

#: Of a configuration's options: the gradient method of a QNode whose values are JAX's; None: it has no gradient.
_GRADIENT = "gradient of JAX"
#: What a tape's numbers are where they need not be converted.
_NUMBERS = (float, int, complex, np.ndarray, np.float64, np.int64, np.complex128)


@simulator_tracking
@single_tape_support
class PilotQubit(Device):  # type: ignore[misc]
    """Runs tapes on a manager's pilots: ``qml.device("pilot.qubit", wires=4, manager=manager)``.

    Without a QPU, tapes run on a PennyLane simulator in each worker, a task each: everything that it supports, adjoint
    gradients among it, which the workers compute. With a QPU they become circuits; expectation values of Pauli sums are
    estimated as with ``TaskDescription.observables``, all else is sampled. All tapes of a batch are submitted at once:
    those of a parameter-shift gradient run side by side, in as many tasks as the pilots have slots. Several sets of
    values of a QNode, and those of ``jax.vmap`` around it, are one batch.
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
        chosen = config or ExecutionConfig()
        if _GRADIENT in chosen.device_options:
            its = self._kind.setup(_plain(chosen, chosen.device_options[_GRADIENT]), circuit)
            return replace(chosen, mcm_config=its.mcm_config)
        chosen = self._kind.setup(chosen, circuit)
        gradient = chosen.gradient_method
        traced = chosen.interface in (Interface.JAX, Interface.JAX_JIT) and not chosen.use_device_jacobian_product
        if traced and chosen.derivative_order == 1 and (gradient in (None, "adjoint") or _is_transform(gradient)):
            return replace(
                chosen,
                gradient_method="backprop",  # PennyLane hands the values over as they are
                use_device_gradient=False,
                grad_on_execution=False,
                convert_to_numpy=False,
                device_options={**chosen.device_options, _GRADIENT: gradient},
            )
        return replace(chosen, convert_to_numpy=not _is_late(chosen))

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> qml.CompilePipeline:
        """What makes tapes of any form ones that run as they are; it refuses what cannot, with an error text."""
        config = execution_config or ExecutionConfig()
        pipeline = qml.CompilePipeline()
        if _GRADIENT in config.device_options:
            gradient = config.device_options[_GRADIENT]
            if gradient == "adjoint":
                return self._kind.open_transforms(_plain(config, gradient))
            if expand := getattr(gradient, "expand_transform", None):
                pipeline.add_transform(qml.transform(expand), **config.gradient_keyword_arguments)
            return pipeline
        return pipeline if _is_late(config) else self._kind.transforms(config)

    # ---- what it runs -----------------------------------------------------------------------------------------

    def execute(self, circuits: Any, execution_config: ExecutionConfig | None = None) -> Any:
        """The results of tapes, in their order; blocks.

        Args:
            circuits: a tape or a sequence of them, as `preprocess_transforms` made them.
            execution_config: as `setup_execution_config` made it.
        """
        config = execution_config or ExecutionConfig()
        if _GRADIENT in config.device_options:
            from pilot.quantum.faces.pennylane import jax_calls

            gradient = config.device_options[_GRADIENT]
            plain = _plain(config, gradient)
            run = self._run if gradient == "adjoint" else self._prepared
            derivatives = None if gradient is None else partial(self._derivatives, gradient, plain)
            host = jax_calls.Host(partial(run, "execute", config=plain), derivatives)
            return tuple(jax_calls.call(circuits, host, len(self.wires) if self.wires else None))
        run = self._prepared if _is_late(config) else self._run
        return tuple(run("execute", circuits, config))

    def compute_derivatives(self, circuits: Any, execution_config: ExecutionConfig | None = None) -> Any:
        """Adjoint Jacobians of tapes, in their order, computed on the workers; blocks."""
        return tuple(self._run("compute_derivatives", circuits, execution_config or ExecutionConfig()))

    def execute_and_compute_derivatives(self, circuits: Any, execution_config: ExecutionConfig | None = None) -> Any:
        """Results and adjoint Jacobians of tapes: one task each gives both; blocks."""
        pairs = self._run("execute_and_compute_derivatives", circuits, execution_config or ExecutionConfig())
        return tuple(result for result, _ in pairs), tuple(jacobian for _, jacobian in pairs)

    def _prepared(self, method: str, circuits: Any, config: ExecutionConfig) -> list[Any]:
        """The results of tapes that nobody has prepared: equal ones are put together first."""
        stacks = stacked(circuits)
        tapes = [_numbers(one.tape) for one in stacks]
        ready, finish = self._kind.transforms(replace(config, gradient_method=None))(tapes)
        results = finish(tuple(self._run(method, ready, config)))
        found: dict[int, Any] = {}
        for stack, result in zip(stacks, results, strict=True):
            found.update(zip(stack.numbers, stack.apart(result), strict=True))
        return [found[number] for number in range(len(found))]

    def _derivatives(
        self, gradient: Any, config: ExecutionConfig, tapes: Sequence[QuantumScript]
    ) -> list[tuple[Any, Any]]:
        """Results of tapes and their Jacobians, by the method of the QNode."""
        if gradient != "adjoint":
            options = dict(config.gradient_keyword_arguments)
            return by_transform(gradient, options, partial(self._prepared, "execute", config=config), tapes)
        derived = [number for number, tape in enumerate(tapes) if tape.trainable_params]
        others = [number for number, tape in enumerate(tapes) if not tape.trainable_params]
        pairs = self._run("execute_and_compute_derivatives", [tapes[one] for one in derived], config)
        values = self._run("execute", [tapes[one] for one in others], config)
        found = dict(zip(derived, pairs, strict=True)) | {
            one: (value, ()) for one, value in zip(others, values, strict=True)
        }
        return [found[number] for number in range(len(tapes))]

    def _run(self, method: str, circuits: Any, config: ExecutionConfig) -> list[Any]:
        tapes = [_numbers(one) for one in circuits]
        plan = self._kind.plan(method, tapes, config, draw_seeds(self._rng, len(tapes)), slots(self._manager))
        tasks: list[Future[Any]] = list(self._manager.submit_tasks(plan.descriptions))
        results: list[Any] = Gathering(tasks, plan.finish).result(None)
        return results


def _is_transform(gradient: Any) -> bool:
    return isinstance(gradient, Transform)


def _is_late(config: ExecutionConfig) -> bool:
    """Tapes come before they are prepared: those of a gradient transform."""
    return _is_transform(config.gradient_method) and config.derivative_order == 1


def _plain(config: ExecutionConfig, gradient: Any) -> ExecutionConfig:
    """That of the numbers, for a configuration of JAX's values."""
    options = {name: value for name, value in config.device_options.items() if name != _GRADIENT}
    method = gradient if gradient == "adjoint" else None
    return replace(
        config, gradient_method=method, device_options=options, interface=Interface.NUMPY, convert_to_numpy=True
    )


def _numbers(tape: QuantumScript) -> QuantumScript:
    """The tape with the numbers of numpy, which travel."""
    if all(type(one) in _NUMBERS for one in tape.get_parameters(trainable_only=False)):
        return tape
    (converted,), _ = convert_to_numpy_parameters(tape)
    return converted
