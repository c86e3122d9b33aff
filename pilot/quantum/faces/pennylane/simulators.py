"""Tapes on PennyLane's own simulators in the workers.

Lightning runs one set of values at a time. Narrow tapes with many sets run on ``default.qubit``, which computes them
together, and travel as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pennylane as qml
from pennylane.devices import ExecutionConfig, MCMConfig
from pennylane.exceptions import DeviceError
from pennylane.tape import QuantumScript

from pilot.descriptions import TaskDescription
from pilot.quantum.faces.pennylane.refusals import TapeRefused
from pilot.quantum.faces.submission import task_fields
from pilot.quantum.outcomes import draw_seeds

#: Tapes of up to so many wires run faster on ``default.qubit``, all sets of values together, than one by one on
#: lightning (measured with two layers of rotations: 1.2 against 3.0 ms a set with 10 wires, 4.7 against 3.3 with 12).
MAX_TOGETHER_WIRES = 10
#: Sets of values of a task have so many amplitudes together.
AMPLITUDES = 1 << 20
#: More tapes than this share tasks.
MAX_TASKS = 1024


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tasks, and what makes of their results one for each tape."""

    descriptions: Sequence[TaskDescription]
    finish: Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class Simulated:
    """What a worker runs: a method of the simulator's, for some tapes."""

    immutable: ClassVar[bool] = True

    simulator: str
    wires: int | tuple[Any, ...] | None
    options: tuple[tuple[str, Any], ...]
    method: str
    gradient: str | None
    mcm_method: str | None
    postselect_mode: str | None

    def __call__(self, tapes: Sequence[QuantumScript], seeds: Sequence[int]) -> list[Any]:
        """The tapes' results; results and Jacobian of each with ``execute_and_compute_derivatives``.

        Raises:
            TapeRefused: the simulator cannot run a tape.
        """
        try:
            return [self._run(tape, seed) for tape, seed in zip(tapes, seeds, strict=True)]
        except Exception as error:
            raise refusal(self.simulator, error) from error

    def _run(self, tape: QuantumScript, seed: int) -> Any:
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


def refusal(simulator: str, error: Exception) -> TapeRefused:
    """What is raised where a simulator raised this."""
    other = "" if simulator == "default.qubit" else "; simulator='default.qubit' or a QPU may take it"
    return TapeRefused(f"{simulator}: {type(error).__name__}: {error}{other}", simulator=simulator)


class Simulators:
    """A simulator for each worker, and one here that shows what it supports and never runs anything."""

    def __init__(self, simulator: str, wires: Any, options: dict[str, Any], fields: Mapping[str, Any]) -> None:
        """Make it.

        Args:
            simulator: PennyLane's name of it.
            wires: as for any device.
            options: its own.
            fields: of the tasks.

        Raises:
            DescriptionError: an unknown field, or one that is not valid.
            DeviceError, ImportError, TypeError: there is no such simulator, or it does not take the options.
        """
        self._here = qml.device(simulator, wires=wires, **options)
        self._together = qml.device("default.qubit", wires=wires) if simulator == "lightning.qubit" else self._here
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
        pipeline = qml.CompilePipeline()
        one_by_one = self._here.preprocess_transforms(config)
        adjoint = config.gradient_method == "adjoint"
        plain = replace(config, gradient_method=None) if adjoint else config
        together = self._together.preprocess_transforms(plain) if self._runs_together() else None
        pipeline.add_transform(_prepared, self._simulator, one_by_one, together, adjoint)
        return pipeline

    def _runs_together(self) -> bool:
        """Sets of values may run at once on ``default.qubit``, and give the same there."""
        if self._simulator == "default.qubit":
            return True
        return self._simulator == "lightning.qubit" and not self._options

    def plan(self, method: str, tapes: Sequence[QuantumScript], config: ExecutionConfig, seeds: Sequence[int]) -> Plan:
        """A task for each tape; some for one with many sets of values, and for many tapes."""
        alone = Simulated(
            simulator=self._simulator,
            wires=self._wires,
            options=self._options,
            method=method,
            gradient="adjoint" if config.gradient_method == "adjoint" else None,
            mcm_method=config.mcm_config.mcm_method,
            postselect_mode=config.mcm_config.postselect_mode,
        )
        together = replace(alone, simulator="default.qubit", gradient=None)
        work = _in_tasks(alone, [number for number, tape in enumerate(tapes) if tape.batch_size is None], tapes, seeds)
        for number, tape in enumerate(tapes):
            if tape.batch_size is not None:
                parts = _parts(tape)
                drawn = draw_seeds(seeds[number], len(parts))
                work += [_Work(together, [number], [part], [seed]) for part, seed in zip(parts, drawn, strict=True)]
        descriptions = [
            TaskDescription(function=one.function, args=(one.tapes, one.seeds), **self._fields) for one in work
        ]

        def finish(results: list[Any]) -> list[Any]:
            found: dict[int, list[Any]] = {}
            for one, values in zip(work, results, strict=True):
                for number, value in zip(one.numbers, values, strict=True):
                    found.setdefault(number, []).append(value)
            return [_joined(tape, found[number]) for number, tape in enumerate(tapes)]

        return Plan(descriptions=descriptions, finish=finish)


@dataclass(frozen=True)
class _Work:
    """A task: which of the tapes it runs, or a part of one."""

    function: Simulated
    numbers: list[int]
    tapes: list[QuantumScript]
    seeds: list[int]


def _in_tasks(
    function: Simulated, numbers: Sequence[int], tapes: Sequence[QuantumScript], seeds: Sequence[int]
) -> list[_Work]:
    """A task for each of these tapes; `MAX_TASKS` for more of them."""
    size = max(1, -(-len(numbers) // MAX_TASKS))
    chunks = [list(numbers[first : first + size]) for first in range(0, len(numbers), size)]
    return [_Work(function, some, [tapes[one] for one in some], [seeds[one] for one in some]) for some in chunks]


@qml.transform  # type: ignore[untyped-decorator]
def _prepared(
    tape: QuantumScript,
    simulator: str,
    one_by_one: qml.CompilePipeline,
    together: qml.CompilePipeline | None,
    adjoint: bool,
) -> Any:
    """The tape as the simulator takes it; adjoint gradients are those of one set of values.

    Raises:
        TapeRefused: it does not.
    """
    middle = any(one.name == "MidMeasureMP" for one in tape.operations)
    narrow = simulator == "default.qubit" or tape.num_wires <= MAX_TOGETHER_WIRES
    derived = adjoint and tape.trainable_params
    whole = together if tape.batch_size is not None and narrow and not middle and not derived else None
    try:
        tapes, finish = (whole or one_by_one)([tape])
    except DeviceError as error:
        raise refusal(simulator, error) from error
    return tapes, lambda results: finish(results)[0]


# ---- many sets of values ------------------------------------------------------------------------------------------


def _parts(tape: QuantumScript) -> list[QuantumScript]:
    """The tape in ones with fewer sets of values, in order; one with a single set is a plain tape."""
    size = max(1, AMPLITUDES >> tape.num_wires)
    if size >= tape.batch_size:
        return [tape]
    starts = range(0, tape.batch_size, size)
    try:
        return [_with_sets(tape, slice(first, first + size)) for first in starts]
    except (AttributeError, TypeError, ValueError):  # an operation that is not made of its own parts, as `Evolution`
        return [tape]


def _with_sets(tape: QuantumScript, sets: slice) -> QuantumScript:
    """The tape with some of its sets. PennyLane's ``bind_new_parameters`` keeps the old number of them."""

    def cut(value: Any) -> Any:
        some = value[sets]
        return some if len(some) > 1 else some[0]

    operations = []
    for operation in tape.operations:
        if operation.batch_size is not None:
            pairs = zip(operation.data, operation.ndim_params, strict=True)
            many = {id(value) for value, dimensions in pairs if np.ndim(value) > dimensions}
            leaves, structure = qml.pytrees.flatten(operation)
            leaves = [cut(leaf) if id(leaf) in many else leaf for leaf in leaves]
            operation = qml.pytrees.unflatten(leaves, structure)
            operation.batch_size  # noqa: B018 - raises where the operation is not whole
        operations.append(operation)
    return tape.copy(operations=operations)


def _joined(tape: QuantumScript, parts: list[Any]) -> Any:
    """The result of a tape from those of its parts."""
    if len(parts) == 1:
        return parts[0]
    if tape.shots.has_partitioned_shots:
        return tuple(_measurements(tape, [part[number] for part in parts]) for number in range(len(parts[0])))
    return _measurements(tape, parts)


def _measurements(tape: QuantumScript, parts: list[Any]) -> Any:
    if len(tape.measurements) == 1:
        return _sets(tape, parts)
    return tuple(_sets(tape, list(one)) for one in zip(*parts, strict=True))


def _sets(tape: QuantumScript, parts: list[Any]) -> Any:
    """Of one measurement."""
    size = max(1, AMPLITUDES >> tape.num_wires)
    alone = [min(size, tape.batch_size - number * size) == 1 for number in range(len(parts))]
    whole = [[part] if one else part for part, one in zip(parts, alone, strict=True)]
    if isinstance(whole[0][0], dict):  # counts: one mapping a set
        return [one for part in whole for one in part]
    return np.concatenate([np.asarray(part) for part in whole])
