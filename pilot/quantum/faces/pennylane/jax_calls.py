"""Tapes whose values JAX traces: one call for all sets of values of a ``vmap``, with and without gradients.

PennyLane hands such tapes to the device as they are. Here they become a function of their values that JAX can map,
differentiate and compile; it runs them on the host with numbers. Under ``vmap`` the values have further axes in front,
and all sets of values run together. Under ``jit`` the host is called from the compiled program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from pennylane.measurements import CountsMP
from pennylane.tape import QuantumScript

from pilot.quantum.faces.pennylane.refusals import TapeRefused
from pilot.quantum.faces.pennylane.sets import with_values


@dataclass(frozen=True)
class Host:
    """What runs tapes with numbers. Results and derivatives are in PennyLane's form; those of a tape with several sets
    of values have these in their first axis."""

    #: The results of tapes.
    values: Callable[[Sequence[QuantumScript]], list[Any]]
    #: Results of tapes and their derivatives by the trainable parameters; None: there are no derivatives.
    values_and_jacobians: Callable[[Sequence[QuantumScript]], list[tuple[Any, Any]]] | None


@dataclass(frozen=True)
class Level:
    """An axis that ``vmap`` put in front of the values."""

    size: int
    #: Which of the values have it.
    batched: tuple[bool, ...]


def call(tapes: Sequence[QuantumScript], host: Host, num_wires: int | None) -> list[Any]:
    """The results of the tapes as arrays of JAX.

    Args:
        tapes: with values of JAX, traced or not.
        host: runs them with numbers.
        num_wires: of the device; None: those of each tape.

    Raises:
        TapeRefused: counts of traced tapes, whose form is not known before they run.
    """
    calls = _Calls(tuple(tapes), host, num_wires)
    values = calls.given()
    if not _is_traced(values):
        return [_arrays(one) for one in host.values(calls.with_numbers(values))]
    return calls.folded(_differentiable(calls)(*values))


def _is_traced(values: Sequence[Any]) -> bool:
    return any(isinstance(one, jax.core.Tracer) for one in values)


def _arrays(result: Any) -> Any:
    if isinstance(result, dict):
        return result
    return tuple(_arrays(one) for one in result) if isinstance(result, list | tuple) else jnp.asarray(result)


def _differentiable(calls: _Calls) -> Callable[..., Any]:
    """The function of the values that JAX works with. It gives a flat list of results."""

    @jax.custom_jvp
    def function(*values: Any) -> Any:
        return _mapped(partial(_results, calls, None), ())(*values)

    @partial(function.defjvp, symbolic_zeros=True)
    def derivative(primals: Any, tangents: Any) -> Any:
        if calls.host.values_and_jacobians is None:
            raise TapeRefused("the QNode has diff_method=None, so that it has no gradient; leave that out")
        wanted = tuple(place for place, one in enumerate(tangents) if not isinstance(one, SymbolicZero))
        calls.check_derivable(wanted)
        results, jacobians = _mapped(partial(_results, calls, wanted), ())(*primals)
        return results, calls.products(results, jacobians, wanted, tangents)

    return function


def _mapped(make: Callable[..., Any], levels: tuple[Level, ...]) -> Callable[..., Any]:
    """A function that ``vmap`` calls once for all sets of values, at any depth. Numbers are not traced for it."""
    plain = partial(make, levels)
    function = custom_vmap(plain)

    @function.def_vmap
    def rule(size: int, batched: Sequence[bool], *values: Any) -> Any:
        results = _mapped(make, (Level(size, tuple(batched)), *levels))(*values)
        return results, jax.tree_util.tree_map(lambda _: True, results)

    return lambda *values: (function if _is_traced(values) else plain)(*values)


def _results(calls: _Calls, wanted: tuple[int, ...] | None, levels: tuple[Level, ...], *values: Any) -> Any:
    """Results, with the derivatives where some are ``wanted``; by a call from the compiled program where it must be."""
    shapes = calls.shapes(wanted, levels)
    run = partial(calls.run, wanted, levels, shapes)
    if _is_traced(values):
        return jax.pure_callback(run, shapes, *values)
    return jax.tree_util.tree_map(jnp.asarray, run(*values))


@dataclass(frozen=True, eq=False)
class _Calls:
    """The tapes of one call. Values are those of all tapes that are JAX's, one after another."""

    tapes: tuple[QuantumScript, ...]
    host: Host
    num_wires: int | None

    def places(self, tape: QuantumScript) -> list[int]:
        """Which parameters of a tape are values."""
        parameters = tape.get_parameters(trainable_only=False)
        return [place for place, one in enumerate(parameters) if isinstance(one, jax.Array)]

    def given(self) -> list[Any]:
        """The values."""
        return [tape.get_parameters(trainable_only=False)[place] for tape in self.tapes for place in self.places(tape)]

    def owners(self) -> list[tuple[int, int]]:
        """Of each value, its tape and its place among the parameters."""
        return [(number, place) for number, tape in enumerate(self.tapes) for place in self.places(tape)]

    # ---- forms ------------------------------------------------------------------------------------------------

    def _forms(self, tape: QuantumScript) -> list[tuple[tuple[int, ...], Any]]:
        """Shape and type of each result of a tape."""
        wires = self.num_wires or len(tape.wires)
        forms = []
        for shots in list(tape.shots) if tape.shots else [None]:
            for one in tape.measurements:
                if isinstance(one, CountsMP):
                    raise TapeRefused(
                        "counts have no form that is known before they are there, which jax.jit, jax.vmap and jax.grad "
                        "need; measure qml.probs or qml.sample, or call the QNode without them"
                    )
                shape = tuple(one.shape(shots=shots, num_device_wires=wires))
                forms.append(((*_sets(tape), *shape), jnp.zeros((), one.numeric_type).dtype))
        return forms

    def shapes(self, wanted: tuple[int, ...] | None, levels: tuple[Level, ...]) -> Any:
        """The results' forms; with the derivatives' where some are wanted."""
        axes = tuple(level.size for level in levels)
        owners = self.owners()
        results, jacobians = [], []
        for number, tape in enumerate(self.tapes):
            its = [one for one in wanted or () if owners[one][0] == number]
            for shape, dtype in self._forms(tape):
                form = jax.ShapeDtypeStruct((*axes, *shape), dtype)  # type: ignore[no-untyped-call]
                results.append(form)
                jacobians.append([form for _ in its])
        return results if wanted is None else (results, jacobians)

    def folded(self, results: list[Any]) -> list[Any]:
        """The flat list of results in PennyLane's form: for each tape, number of shots and measurement."""
        left = iter(results)
        found = []
        for tape in self.tapes:
            vector = [
                tuple(next(left) for _ in tape.measurements) for _ in (list(tape.shots) if tape.shots else [None])
            ]
            each = [one if len(one) > 1 else one[0] for one in vector]
            found.append(tuple(each) if tape.shots.has_partitioned_shots else each[0])
        return found

    def _flat(self, tape: QuantumScript, result: Any) -> list[Any]:
        """The reverse of `folded` for one tape."""
        vector = result if tape.shots.has_partitioned_shots else (result,)
        return [each for one in vector for each in (one if len(tape.measurements) > 1 else (one,))]

    # ---- derivatives ------------------------------------------------------------------------------------------

    def check_derivable(self, wanted: tuple[int, ...]) -> None:
        """Refuse derivatives by what is no single number."""
        values, owners = self.given(), self.owners()
        for one in wanted:
            tape = self.tapes[owners[one][0]]
            if np.ndim(values[one]) > len(_sets(tape)):
                raise TapeRefused(
                    f"the gradient by an array of the shape {np.shape(values[one])} is not computed: it is by numbers, "
                    "such as angles. Let only those depend on what jax.grad is taken by (jax.lax.stop_gradient)"
                )

    def products(
        self, results: list[Any], jacobians: list[list[Any]], wanted: tuple[int, ...], tangents: Sequence[Any]
    ) -> list[Any]:
        """Of each result the tangent."""
        owners = self.owners()
        found: list[Any] = []
        number_of = [number for number, tape in enumerate(self.tapes) for _ in self._forms(tape)]
        for number, result, columns in zip(number_of, results, jacobians, strict=True):
            its = [tangents[one] for one in wanted if owners[one][0] == number]
            if not jnp.issubdtype(result.dtype, jnp.inexact):
                found.append(np.zeros(result.shape, jax.dtypes.float0))
                continue
            total = jnp.zeros_like(result)
            for column, tangent in zip(columns, its, strict=True):
                factor = jnp.reshape(tangent, (*jnp.shape(tangent), *(1,) * (column.ndim - jnp.ndim(tangent))))
                total += column * factor.astype(total.dtype)
            found.append(total)
        return found

    # ---- with numbers -----------------------------------------------------------------------------------------

    def with_numbers(self, values: Sequence[Any]) -> list[QuantumScript]:
        """The tapes with these values, none of which has further axes."""
        left = iter(values)
        return [_bound(tape, {place: np.asarray(next(left)) for place in self.places(tape)}) for tape in self.tapes]

    def run(self, wanted: tuple[int, ...] | None, levels: tuple[Level, ...], shapes: Any, *values: Any) -> Any:
        """The results of all sets of values, as numpy's arrays of these shapes."""
        owners = self.owners()
        groups = []
        for number, tape in enumerate(self.tapes):
            its = [one for one, (owner, _) in enumerate(owners) if owner == number]
            arrays = {
                owners[one][1]: _Value(np.asarray(values[one]), [level.batched[one] for level in levels]) for one in its
            }
            trainable = tuple(owners[one][1] for one in wanted or () if owners[one][0] == number)
            groups.append([one.copy(trainable_params=trainable) for one in _with_levels(tape, arrays, levels)])
        everything = [tape for group in groups for tape in group]
        if wanted is None:
            plain = iter(self.host.values(everything))
            gathered: list[Any] = []
            for tape, group in zip(self.tapes, groups, strict=True):
                gathered += self._gathered(tape, [next(plain) for _ in group])
            return _shaped(gathered, shapes)
        assert self.host.values_and_jacobians is not None
        both = iter(self.host.values_and_jacobians(everything))
        results, jacobians = [], []
        for tape, group in zip(self.tapes, groups, strict=True):
            pairs = [next(both) for _ in group]
            results += self._gathered(tape, [result for result, _ in pairs])
            jacobians += self._columns(tape, len(group[0].trainable_params), [jacobian for _, jacobian in pairs])
        return _shaped(results, shapes[0]), [
            _shaped(columns, forms) for columns, forms in zip(jacobians, shapes[1], strict=True)
        ]

    def _gathered(self, tape: QuantumScript, results: list[Any]) -> list[Any]:
        """Of each measurement, the values of all sets one below the other."""
        flat = [self._flat(tape, one) for one in results]
        return [np.stack([np.asarray(one) for one in each]) for each in zip(*flat, strict=True)]

    def _columns(self, tape: QuantumScript, number: int, jacobians: list[Any]) -> list[list[Any]]:
        """Of each measurement and trainable parameter, the derivatives of all sets."""
        if number == 0:
            return [[] for _ in self._forms(tape)]
        flat = [[each if number > 1 else (each,) for each in self._flat(tape, one)] for one in jacobians]
        if any(len(each) != number for one in flat for each in one):
            raise TapeRefused(f"the simulator gave no derivative for one of {number} parameters of the tape")
        return [
            [np.stack([np.asarray(one[measurement][place]) for one in flat]) for place in range(number)]
            for measurement in range(len(flat[0]))
        ]


@dataclass(frozen=True)
class _Value:
    """A parameter with the axes of those levels that it has."""

    array: Any
    has: Sequence[bool]

    @property
    def is_batched(self) -> bool:
        return any(self.has)

    def sets(self, axes: tuple[int, ...]) -> Any:
        """All sets of it in one axis, in front of its own."""
        own = self.array.shape[sum(self.has) :]
        sizes = [size if has else 1 for size, has in zip(axes, self.has, strict=True)]
        whole = np.broadcast_to(self.array.reshape(*sizes, *own), (*axes, *own))
        return whole.reshape(math.prod(axes), *own)


def _sets(tape: QuantumScript) -> tuple[int, ...]:
    return () if tape.batch_size is None else (tape.batch_size,)


def _with_levels(tape: QuantumScript, values: dict[int, _Value], levels: tuple[Level, ...]) -> list[QuantumScript]:
    """One tape with all sets of values; or one for each set where an operation cannot have several. A tape without
    levels stays as it is, also where others have some."""
    axes = tuple(level.size for level in levels)
    if not any(one.is_batched for one in values.values()):
        return [_bound(tape, {place: one.array for place, one in values.items()})]
    sets = {place: one.sets(axes) for place, one in values.items() if one.is_batched}
    same = {place: one.array for place, one in values.items() if not one.is_batched}
    if tape.batch_size is None:
        whole = _broadcast(_bound(tape, same), sets)
        if whole is not None and whole.batch_size == math.prod(axes):
            return [whole]
    every = range(math.prod(axes))
    return [_bound(tape, same | {place: one[number] for place, one in sets.items()}) for number in every]


def _bound(tape: QuantumScript, values: dict[int, Any]) -> QuantumScript:
    """The tape with these parameters."""
    return tape.bind_new_parameters(list(values.values()), list(values))


def _broadcast(tape: QuantumScript, sets: dict[int, Any]) -> QuantumScript | None:
    """The tape with several sets of values for these parameters; None: an operation cannot have them."""
    operations, place = [], 0
    for operation in tape.operations:
        data = [sets.get(place + number, value) for number, value in enumerate(operation.data)]
        if any(place + number in sets for number in range(len(data))):
            operation = with_values(operation, data)
            if operation is None:
                return None
        place += len(data)
        operations.append(operation)
    return tape.copy(operations=operations, trainable_params=tape.trainable_params) if max(sets) < place else None


def _shaped(values: Sequence[Any], forms: Sequence[Any]) -> list[Any]:
    """Arrays of these forms; what does not depend on the values of a level is the same in all of it."""
    shaped = []
    for value, form in zip(values, forms, strict=True):
        whole = value.reshape(form.shape) if value.size == math.prod(form.shape) else np.broadcast_to(value, form.shape)
        shaped.append(whole.astype(form.dtype, copy=False))
    return shaped
