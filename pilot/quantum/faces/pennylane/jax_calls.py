"""Tapes whose values JAX traces: one call for all sets of values of a ``vmap``, with and without gradients.

PennyLane hands such tapes to the device as they are. Here they become a function of their values that JAX can map,
differentiate and compile; it runs them on the host with numbers. Each ``vmap`` puts an axis in front of all values, of
size 1 where a value is the same for all, and all sets of values run together. Under ``jit`` the host is called from the
compiled program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jax.tree_util import tree_leaves, tree_map, tree_unflatten
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


def call(tapes: Sequence[QuantumScript], host: Host, num_wires: int | None) -> list[Any]:
    """The results of the tapes as arrays of JAX, in PennyLane's form.

    Args:
        tapes: with values of JAX, traced or not.
        host: runs them with numbers.
        num_wires: of the device; None: those of each tape.

    Raises:
        TapeRefused: counts of traced tapes, whose form is not known before they run.
    """
    calls = _Calls([_Tape(one, num_wires) for one in tapes], host)
    values = [value for one in calls.tapes for value in one.values]
    if _is_traced(values):
        return list(_differentiable(calls)(*values))
    results = host.values([one.bound([np.asarray(value) for value in one.values]) for one in calls.tapes])
    return [_arrays(one) for one in results]


def _is_traced(values: Sequence[Any]) -> bool:
    return any(isinstance(one, jax.core.Tracer) for one in values)


def _arrays(result: Any) -> Any:
    if isinstance(result, dict):  # counts
        return result
    return tuple(_arrays(one) for one in result) if isinstance(result, list | tuple) else jnp.asarray(result)


def _differentiable(calls: _Calls) -> Callable[..., Any]:
    """The function of the values that JAX works with."""

    @jax.custom_jvp
    def function(*values: Any) -> Any:
        return _mapped(partial(_results, calls, None))(*values)

    @partial(function.defjvp, symbolic_zeros=True)
    def derivative(primals: Any, tangents: Any) -> Any:
        wanted = tuple(number for number, one in enumerate(tangents) if not isinstance(one, SymbolicZero))
        calls.check_derivable(wanted)
        results, columns = _derivatives(calls, wanted)(*primals)
        return results, calls.products(results, columns, [tangents[number] for number in wanted], wanted)

    return function


def _derivatives(calls: _Calls, wanted: tuple[int, ...]) -> Callable[..., Any]:
    """The function of the values that gives results and derivatives."""

    @jax.custom_jvp
    def function(*values: Any) -> Any:
        return _mapped(partial(_results, calls, wanted))(*values)

    @function.defjvp
    def second(primals: Any, tangents: Any) -> Any:
        raise TapeRefused(
            "second derivatives are computed with diff_method='parameter-shift' or 'finite-diff' and max_diff=2 of the "
            "QNode only; set both"
        )

    return function


def _mapped(make: Callable[..., Any]) -> Callable[..., Any]:
    """A function that ``vmap`` calls once for all sets of values, at any depth. Numbers are not traced for it."""
    function = custom_vmap(make)

    @function.def_vmap
    def rule(size: int, batched: Sequence[bool], *values: Any) -> Any:
        in_front = [one if has else one[None] for one, has in zip(values, batched, strict=True)]
        results = _mapped(make)(*in_front)
        return results, tree_map(lambda _: True, results)

    return lambda *values: (function if _is_traced(values) else make)(*values)


def _results(calls: _Calls, wanted: tuple[int, ...] | None, *values: Any) -> Any:
    """Results, with their derivatives by the values that are ``wanted``, if any: from the host, which is called by the
    compiled program where there is one."""
    axes = calls.axes(values)
    forms = calls.forms(wanted, axes)
    if 0 in axes:
        return tree_map(lambda form: jnp.zeros(form.shape, form.dtype), forms)
    run = partial(calls.run, wanted, forms)
    if _is_traced(values):
        return jax.pure_callback(run, forms, *values)
    return tree_map(jnp.asarray, run(*values))


@dataclass(frozen=True, eq=False)
class _Tape:
    """A tape, and those of its parameters that are values of JAX's."""

    tape: QuantumScript
    #: Of the device; None: those of the tape.
    num_wires: int | None

    @cached_property
    def places(self) -> list[int]:
        """Which parameters are values."""
        parameters = self.tape.get_parameters(trainable_only=False)
        return [place for place, one in enumerate(parameters) if isinstance(one, jax.Array)]

    @cached_property
    def values(self) -> list[Any]:
        parameters = self.tape.get_parameters(trainable_only=False)
        return [parameters[place] for place in self.places]

    @property
    def sets(self) -> tuple[int, ...]:
        """The axis of a tape that is broadcast already."""
        return () if self.tape.batch_size is None else (self.tape.batch_size,)

    def form(self, axes: tuple[int, ...]) -> Any:
        """Shape and type of each result, with these axes in front, as PennyLane nests them."""
        tape = self.tape
        if any(isinstance(one, CountsMP) for one in tape.measurements):
            raise TapeRefused(
                "counts have no form that is known before they are there, which jax.jit, jax.vmap and jax.grad need; "
                "measure qml.probs or qml.sample, or call the QNode without them"
            )

        def of(measurement: Any, shots: int | None) -> Any:
            shape = measurement.shape(shots=shots, num_device_wires=self.num_wires or len(tape.wires))
            dtype = jnp.zeros((), measurement.numeric_type).dtype  # JAX's own, of single or double precision
            return jax.ShapeDtypeStruct((*axes, *self.sets, *shape), dtype)  # type: ignore[no-untyped-call]

        vector = [tuple(of(one, shots) for one in tape.measurements) for shots in tape.shots or [None]]
        each = [one if len(one) > 1 else one[0] for one in vector]
        return tuple(each) if tape.shots.has_partitioned_shots else each[0]

    def bound(self, numbers: Sequence[Any]) -> QuantumScript:
        """The tape with numbers in the place of its values."""
        return self.tape.bind_new_parameters(list(numbers), self.places)

    def with_sets(self, values: Sequence[Any], axes: tuple[int, ...]) -> list[QuantumScript]:
        """One tape with all sets of values; or one for each set, where an operation cannot have several.

        Args:
            values: numbers; in front the axes, or axes of size 1.
            axes: of all tapes of the call. A tape whose values are the same in all of them stays as it is.
        """
        own = [np.shape(one) for one in self.values]
        size = math.prod(axes)
        first = [value.reshape(-1, *shape)[0] for value, shape in zip(values, own, strict=True)]
        varied = [number for number, value in enumerate(values) if value.size > math.prod(own[number])]
        if not varied:
            return [self.bound(first)]
        every = {one: np.broadcast_to(values[one], (*axes, *own[one])).reshape(size, *own[one]) for one in varied}
        if self.tape.batch_size is None:
            whole = _broadcast(self.bound(first), {self.places[one]: value for one, value in every.items()})
            if whole is not None and whole.batch_size == size:
                return [whole]
        return [
            self.bound([every[one][place] if one in every else value for one, value in enumerate(first)])
            for place in range(size)
        ]


@dataclass(frozen=True, eq=False)
class _Calls:
    """The tapes of one call of the device. Values are those of all tapes, one after another."""

    tapes: list[_Tape]
    host: Host

    @cached_property
    def owners(self) -> list[tuple[int, int]]:
        """Of each value, its tape and its place among the parameters."""
        return [(number, place) for number, one in enumerate(self.tapes) for place in one.places]

    def axes(self, values: Sequence[Any]) -> tuple[int, ...]:
        """The sizes of the axes in front of the values."""
        own = [np.ndim(one) for tape in self.tapes for one in tape.values]
        return np.broadcast_shapes(*(np.shape(one)[: np.ndim(one) - n] for one, n in zip(values, own, strict=True)))

    def forms(self, wanted: tuple[int, ...] | None, axes: tuple[int, ...]) -> Any:
        """Of the results; and of the derivatives by each wanted value, which are like the results of its tape."""
        forms = [one.form(axes) for one in self.tapes]
        return forms if wanted is None else (forms, [forms[self.owners[one][0]] for one in wanted])

    # ---- derivatives ------------------------------------------------------------------------------------------

    def check_derivable(self, wanted: tuple[int, ...]) -> None:
        """Refuse derivatives that the host has not, and those by what is no single number."""
        if self.host.values_and_jacobians is None:
            raise TapeRefused("the QNode has diff_method=None, so that it has no gradient; leave that out")
        values = [(value, tape.sets) for tape in self.tapes for value in tape.values]
        for value, sets in (values[one] for one in wanted):
            if np.ndim(value) > len(sets):
                raise TapeRefused(
                    f"the gradient by an array of the shape {np.shape(value)} is not computed: it is by numbers, "
                    "such as angles. Let only those depend on what jax.grad is taken by (jax.lax.stop_gradient)"
                )

    def products(
        self, results: list[Any], columns: list[Any], tangents: Sequence[Any], wanted: tuple[int, ...]
    ) -> list[Any]:
        """Of each result the tangent: the sum of its derivatives times the tangents of the wanted values."""
        found = [tree_map(_no_tangent, one) for one in results]
        for column, tangent, one in zip(columns, tangents, wanted, strict=True):
            number = self.owners[one][0]
            found[number] = tree_map(partial(_added, tangent), found[number], column)
        return found

    # ---- with numbers -----------------------------------------------------------------------------------------

    def run(self, wanted: tuple[int, ...] | None, forms: Any, *values: Any) -> Any:
        """The results of all sets of values as numpy's arrays of these forms; with the derivatives if some are
        wanted."""
        axes, left = self.axes(values), iter(values)
        groups = [tape.with_sets([np.asarray(next(left)) for _ in tape.places], axes) for tape in self.tapes]
        if wanted is None:
            plain = iter(self.host.values([one for group in groups for one in group]))
            return [
                _gathered([tree_leaves(next(plain)) for _ in group], form)
                for group, form in zip(groups, forms, strict=True)
            ]
        assert self.host.values_and_jacobians is not None
        trainable: list[list[int]] = [[] for _ in self.tapes]
        for number, place in (self.owners[one] for one in wanted):
            trainable[number].append(place)
        both = iter(
            self.host.values_and_jacobians(
                [one.copy(trainable_params=its) for group, its in zip(groups, trainable, strict=True) for one in group]
            )
        )
        results: list[Any] = []
        columns: list[Any] = []
        for group, its, form in zip(groups, trainable, forms[0], strict=True):
            pairs = [next(both) for _ in group]
            results.append(_gathered([tree_leaves(one) for one, _ in pairs], form))
            columns += _columns([tree_leaves(one) for _, one in pairs], len(its), form)
        return results, columns


def _no_tangent(result: Any) -> Any:
    if jnp.issubdtype(result.dtype, jnp.inexact):
        return jnp.zeros_like(result)
    return np.zeros(result.shape, jax.dtypes.float0)


def _added(tangent: Any, total: Any, column: Any) -> Any:
    if total.dtype == jax.dtypes.float0:
        return total
    factor = jnp.reshape(tangent, (*jnp.shape(tangent), *(1,) * (column.ndim - jnp.ndim(tangent))))
    return total + column * factor.astype(total.dtype)


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


def _gathered(tapes: list[list[Any]], form: Any) -> Any:
    """Results of this form.

    Args:
        tapes: of each tape its results one after another; one tape has all sets of values, or what is the same for all.
        form: with the axes.
    """
    forms = tree_leaves(form)
    arrays = [np.stack([np.asarray(one[number]) for one in tapes]) for number in range(len(forms))]
    return tree_unflatten(
        jax.tree_util.tree_structure(form), [_shaped(*pair) for pair in zip(arrays, forms, strict=True)]
    )


def _shaped(array: Any, form: Any) -> Any:
    whole = array.reshape(form.shape) if array.size == math.prod(form.shape) else np.broadcast_to(array, form.shape)
    return whole.astype(form.dtype, copy=False)


def _columns(tapes: list[list[Any]], number: int, form: Any) -> Iterator[Any]:
    """For each of so many parameters, the derivatives of the results, in their form. PennyLane has for each result
    those by all parameters."""
    results = len(tree_leaves(form))
    if any(len(one) != results * number for one in tapes):
        raise TapeRefused(f"the simulator gave no derivative for one of {number} parameters of the tape")
    for parameter in range(number):
        yield _gathered([one[parameter::number] for one in tapes], form)
