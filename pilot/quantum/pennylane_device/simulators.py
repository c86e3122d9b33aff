"""Tapes on PennyLane's own simulators in the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pennylane as qml
from pennylane.devices import ExecutionConfig, MCMConfig
from pennylane.tape import QuantumScript

from pilot.descriptions import TaskDescription
from pilot.quantum.primitives.submission import task_fields


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tasks, and what makes of their results one for each tape."""

    descriptions: Sequence[TaskDescription]
    finish: Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class Simulated:
    """What a worker runs: a method of the simulator's, for one tape."""

    immutable: ClassVar[bool] = True

    simulator: str
    wires: int | tuple[Any, ...] | None
    options: tuple[tuple[str, Any], ...]
    method: str
    gradient: str | None
    mcm_method: str | None
    postselect_mode: str | None

    def __call__(self, tape: QuantumScript, seed: int) -> Any:
        """The tape's result; results and Jacobian of ``execute_and_compute_derivatives``."""
        seeded = {"seed": seed} if tape.shots or "MidMeasureMP" in {one.name for one in tape.operations} else {}
        device = qml.device(self.simulator, wires=self.wires, **seeded, **dict(self.options))
        config = ExecutionConfig(
            gradient_method=self.gradient, mcm_config=MCMConfig(self.mcm_method, self.postselect_mode)
        )
        given = getattr(device, self.method)([tape], config)
        if self.method == "execute_and_compute_derivatives":
            (result,), (jacobian,) = given
            return result, jacobian
        (result,) = given
        return result


class Simulators:
    """A simulator for each worker, and one here that says what it supports and never runs anything."""

    def __init__(self, simulator: str, wires: Any, options: dict[str, Any], fields: Mapping[str, Any]) -> None:
        """Make it.

        Args:
            simulator: PennyLane's name of it.
            wires: as for any device.
            options: its own.
            fields: of the tasks.

        Raises:
            DescriptionError: an unknown field, or one that is not allowed.
            DeviceError, ImportError, TypeError: there is no such simulator, or it does not take the options.
        """
        self._here = qml.device(simulator, wires=wires, **options)
        self._simulator = simulator
        self._wires = wires if wires is None or isinstance(wires, int) else tuple(wires)
        self._options = tuple(options.items())
        self._fields = task_fields("pilot.qubit", None, fields)
        TaskDescription(function=Simulated, **self._fields)

    def supports_derivatives(self, config: ExecutionConfig | None, circuit: QuantumScript | None) -> bool:
        """Adjoint ones, if the simulator has them for this circuit."""
        if config is None:
            return True
        if config.gradient_method not in ("adjoint", "best", "device") or config.derivative_order != 1:
            return False
        if circuit is not None and circuit.shots:
            return False
        return bool(self._here.supports_derivatives(replace(config, gradient_method="adjoint"), circuit))

    def setup(self, config: ExecutionConfig, circuit: QuantumScript | None) -> ExecutionConfig:
        """The simulator's choices. Jacobians travel, not products with them: one journey gives results and gradient."""
        if config.gradient_method in ("best", "device"):
            config = replace(config, gradient_method="adjoint")
        products = config.use_device_jacobian_product
        chosen = self._here.setup_execution_config(replace(config, use_device_jacobian_product=False), circuit)
        adjoint = config.gradient_method == "adjoint"
        return replace(
            chosen,
            use_device_jacobian_product=bool(products),  # True is refused: there is no compute_vjp
            use_device_gradient=adjoint,
            grad_on_execution=config.grad_on_execution if config.grad_on_execution is not None else adjoint,
            convert_to_numpy=True,
        )

    def transforms(self, config: ExecutionConfig) -> qml.CompilePipeline:
        """Those of the simulator."""
        return self._here.preprocess_transforms(config)

    def plan(self, method: str, tapes: Sequence[QuantumScript], config: ExecutionConfig, seeds: Sequence[int]) -> Plan:
        """A task for each tape."""
        function = Simulated(
            simulator=self._simulator,
            wires=self._wires,
            options=self._options,
            method=method,
            gradient="adjoint" if config.gradient_method == "adjoint" else None,
            mcm_method=config.mcm_config.mcm_method,
            postselect_mode=config.mcm_config.postselect_mode,
        )
        descriptions = [
            TaskDescription(function=function, args=(tape, seed), **self._fields)
            for tape, seed in zip(tapes, seeds, strict=True)
        ]
        return Plan(descriptions=descriptions, finish=list)
