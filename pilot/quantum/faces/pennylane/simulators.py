"""Tapes on PennyLane's own simulators in the workers.

Lightning runs one set of values at a time. Narrow tapes with many sets run on ``default.qubit``, which computes them
together. Either way the sets travel in one tape, in as many parts as there are slots.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pennylane as qml
from pennylane.devices import ExecutionConfig, MCMConfig
from pennylane.exceptions import DeviceError
from pennylane.tape import QuantumScript
from pennylane.transforms import broadcast_expand

from pilot.descriptions import TaskDescription
from pilot.quantum.faces.pennylane.refusals import TapeRefused
from pilot.quantum.faces.pennylane.sets import MAX_SHARED_WIRES, joined, one_below_the_other, parts, single, with_sets
from pilot.quantum.faces.submission import task_fields
from pilot.quantum.outcomes import draw_seeds

#: Tapes of up to so many wires run faster on ``default.qubit``, all sets of values together, than one by one on
#: lightning (measured with two layers of rotations: 1.2 against 3.0 ms a set with 10 wires, 4.7 against 3.3 with 12).
MAX_TOGETHER_WIRES = 10
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
            whole = zip(tapes, seeds, strict=True)
            if self.simulator == "default.qubit" and self.method == "execute":
                return self._run(list(whole))
            split = [(single(tape), seed) for tape, seed in whole]
            alone = [
                pair
                for ones, seed in split
                for pair in zip(ones, [seed] if len(ones) == 1 else draw_seeds(seed, len(ones)), strict=True)
            ]
            results = iter(self._run(alone))
            return [
                next(results) if tape.batch_size is None else one_below_the_other([next(results) for _ in ones])
                for tape, (ones, _) in zip(tapes, split, strict=True)
            ]
        except Exception as error:
            raise refusal(self.simulator, error) from error

    def _run(self, tapes: Sequence[tuple[QuantumScript, int]]) -> list[Any]:
        """Tapes with their seeds; those that draw nothing share a simulator."""
        plain, found = self._device(), []
        for tape, seed in tapes:
            draws = tape.shots or "MidMeasureMP" in {one.name for one in tape.operations}
            found += self._method([tape], self._device(seed=seed) if draws else plain)
        return found

    def _device(self, **seed: int) -> Any:
        return qml.device(self.simulator, wires=self.wires, **seed, **dict(self.options))

    def _method(self, tapes: list[QuantumScript], device: Any) -> list[Any]:
        config = ExecutionConfig(
            gradient_method=self.gradient, mcm_config=MCMConfig(self.mcm_method, self.postselect_mode)
        )
        if self.simulator == "default.qubit" and self.method != "execute":
            tapes = [_countable(one) for one in tapes]
        given = getattr(device, self.method)(tapes, config)
        if self.method == "execute":
            return [_arrays(one) for one in given]
        if self.method != "execute_and_compute_derivatives":
            return list(given)
        # default.qubit gives those of a state as one array, where those of all else are a tuple
        jacobians = [
            tuple(one) if isinstance(one, np.ndarray) and len(tape.trainable_params) > 1 else one
            for tape, one in zip(tapes, given[1], strict=True)
        ]
        return list(zip(map(_arrays, given[0]), jacobians, strict=True))


def _arrays(result: Any) -> Any:
    """The result with arrays in the place of Python's numbers: torch would make single precision of these."""
    if isinstance(result, tuple | list):
        return type(result)(map(_arrays, result))
    return np.asarray(result, dtype=np.float64) if type(result) is float else result


def _countable(tape: QuantumScript) -> QuantumScript:
    """The tape with at most one parameter for each operation.

    The adjoint gradients of ``default.qubit`` (PennyLane 0.45) count each operation with several parameters as none,
    and give the derivatives by other parameters than those before it.
    """
    operations: list[Any] = []
    places: dict[int, int] = {}
    old = new = 0
    for operation in tape.operations:
        if operation.num_params == 1:
            places[old] = new
        old += operation.num_params
        new += min(operation.num_params, 1)
        if operation.num_params > 1:  # not trainable: it would have been decomposed
            operation = qml.QubitUnitary(qml.matrix(operation), operation.wires)
        operations.append(operation)
    return tape.copy(operations=operations, trainable_params=[places[one] for one in tape.trainable_params])


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
        if circuit is not None and circuit.batch_size is not None:
            circuit = with_sets(circuit, slice(0, 1)) or circuit  # PennyLane would look at all sets, one by one
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
        """Those of the simulator; several sets of values stay in one tape where no gradient is computed here."""
        return self._pipeline(config, apart=config.gradient_method == "adjoint")

    def open_transforms(self, config: ExecutionConfig) -> qml.CompilePipeline:
        """Those of the simulator for adjoint gradients, with all sets of values in one tape."""
        return self._pipeline(config, apart=False)

    def _pipeline(self, config: ExecutionConfig, *, apart: bool) -> qml.CompilePipeline:
        pipeline = qml.CompilePipeline()
        pipeline.add_transform(_prepared, self._simulator, self._here.preprocess_transforms(config), apart)
        return pipeline

    def _is_together(self, tape: QuantumScript) -> bool:
        """A worker computes all sets of values of the tape at once, on ``default.qubit``, which gives the same."""
        if _has_middle(tape):
            return False
        narrow = self._simulator == "lightning.qubit" and not self._options and tape.num_wires <= MAX_TOGETHER_WIRES
        return narrow or self._simulator == "default.qubit"

    def plan(
        self,
        method: str,
        tapes: Sequence[QuantumScript],
        config: ExecutionConfig,
        seeds: Sequence[int],
        slots: int | None,
    ) -> Plan:
        """As many tasks as slots, for tapes that are not wide; each wide one, or each set of its values, is a task."""
        alone = Simulated(
            simulator=self._simulator,
            wires=self._wires,
            options=self._options,
            method=method,
            gradient="adjoint" if config.gradient_method == "adjoint" else None,
            mcm_method=config.mcm_config.mcm_method,
            postselect_mode=config.mcm_config.postselect_mode,
        )
        options = self._options if self._simulator == "default.qubit" else ()
        together = replace(alone, simulator="default.qubit", options=options, gradient=None)
        plain = [number for number, tape in enumerate(tapes) if tape.batch_size is None]
        work = _in_tasks(alone, plain, tapes, seeds, slots)
        for number, tape in enumerate(tapes):
            if tape.batch_size is not None:
                at_once = method == "execute" and self._is_together(tape)
                some = parts(tape, slots, together=at_once)
                drawn = draw_seeds(seeds[number], len(some))
                function = together if at_once else alone
                work += [_Work(function, [number], [part], [seed]) for part, seed in zip(some, drawn, strict=True)]
        descriptions = [
            TaskDescription(function=one.function, args=(one.tapes, one.seeds), **self._fields) for one in work
        ]

        def finish(results: list[Any]) -> list[Any]:
            found: dict[int, list[tuple[QuantumScript, Any]]] = {}
            for one, values in zip(work, results, strict=True):
                for number, tape, value in zip(one.numbers, one.tapes, values, strict=True):
                    found.setdefault(number, []).append((tape, value))
            return [joined(tape, found[number]) for number, tape in enumerate(tapes)]

        return Plan(descriptions=descriptions, finish=finish)


@dataclass(frozen=True)
class _Work:
    """A task: which of the tapes it runs, or a part of one."""

    function: Simulated
    numbers: list[int]
    tapes: list[QuantumScript]
    seeds: list[int]


def _in_tasks(
    function: Simulated,
    numbers: Sequence[int],
    tapes: Sequence[QuantumScript],
    seeds: Sequence[int],
    slots: int | None,
) -> list[_Work]:
    """As many tasks as slots; wide tapes, and all where the slots are not known, have tasks of their own."""
    wide = any(tapes[number].num_wires > MAX_SHARED_WIRES for number in numbers)
    number = min(len(numbers), MAX_TASKS if wide or not slots else slots) or 1
    chunks = [list(numbers[first::number]) for first in range(number)] if numbers else []
    return [_Work(function, some, [tapes[one] for one in some], [seeds[one] for one in some]) for some in chunks]


@qml.transform  # type: ignore[untyped-decorator]
def _prepared(tape: QuantumScript, simulator: str, one_by_one: qml.CompilePipeline, apart: bool) -> Any:
    """The tape as the simulator takes it. Several sets of values stay together, but for gradients that PennyLane
    computes here (``apart``).

    Raises:
        TapeRefused: it does not take it.
    """
    stays = tape.batch_size is not None and not _has_middle(tape) and not (apart and tape.trainable_params)
    try:
        if stays:
            with contextlib.suppress(NotImplementedError, ValueError):  # a decomposition for one set of values alone
                tapes, finish = _without_expansion(one_by_one)([tape])
                return tapes, lambda results: finish(results)[0]
        tapes, finish = one_by_one([tape])
    except DeviceError as error:
        raise refusal(simulator, error) from error
    return tapes, lambda results: finish(results)[0]


def _has_middle(tape: QuantumScript) -> bool:
    return any(one.name == "MidMeasureMP" for one in tape.operations)


def _without_expansion(pipeline: qml.CompilePipeline) -> qml.CompilePipeline:
    """The transforms but for the one that makes a tape of each set of values."""
    return qml.CompilePipeline(*(one for one in pipeline if one.tape_transform is not broadcast_expand.tape_transform))
