"""Tapes with many sets of values: made of equal tapes, cut into parts for tasks, and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.ops import Conditional, MidMeasure
from pennylane.tape import QuantumScript

#: Sets of values of a task have so many amplitudes together, at most.
AMPLITUDES = 1 << 20
#: A part has at least so many amplitudes times operations, unless there is no more: about 10 ms.
LEAST_WORK = 1 << 20
#: Numbers that need no conversion, which takes longer than all else here.
_NUMPY = (float, np.ndarray, np.generic)
#: Operations that cannot be compared: PennyLane's "==" makes a condition of theirs.
_OF_OUTCOMES = (MidMeasure, Conditional)
#: Wider tapes are long work: each set of values is a task.
MAX_SHARED_WIRES = 16


# ---- equal tapes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """Tapes that differ in their values only, as one with many sets of values; or one tape as it is."""

    tape: QuantumScript
    #: The tapes' places among all.
    numbers: list[int]
    #: Sets of values that each of the tapes has; None: one.
    sets: int | None

    def apart(self, result: Any) -> list[Any]:
        """The result of each of the tapes."""
        if len(self.numbers) == 1:
            return [result]
        width = self.sets or 1
        starts = range(0, width * len(self.numbers), width)
        pick = (lambda first: first) if self.sets is None else (lambda first: slice(first, first + width))
        return [_picked(result, pick(first)) for first in starts]


def _picked(result: Any, place: int | slice) -> Any:
    return tuple(_picked(one, place) for one in result) if isinstance(result, tuple) else result[place]


def stacked(tapes: Sequence[QuantumScript]) -> list[Stack]:
    """All tapes, those together that are equal but for their values and are not sampled.

    Tapes of a gradient share the operations that were not shifted, which makes the comparison quick.
    """
    groups: list[list[int]] = []
    for number, tape in enumerate(tapes):
        fitting = (one for one in groups if _is_alike(tapes[one[0]], tape))
        group = next(fitting, None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    stacks = []
    for group in groups:
        first = tapes[group[0]]
        whole = _whole([tapes[one] for one in group]) if len(group) > 1 else first
        if whole is None:
            stacks += [Stack(tapes[one], [one], None) for one in group]
        else:
            stacks.append(Stack(whole, group, first.batch_size))
    return stacks


def _is_alike(first: QuantumScript, other: QuantumScript) -> bool:
    if first.shots or other.shots or len(first.operations) != len(other.operations):
        return False
    if len(first.measurements) != len(other.measurements) or first.batch_size != other.batch_size:
        return False
    if any(one is not its and one != its for one, its in zip(first.measurements, other.measurements, strict=True)):
        return False
    pairs = zip(first.operations, other.operations, strict=True)
    return all(one is its or _is_same_but_values(one, its) for one, its in pairs)


def _is_same_but_values(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or one.wires != other.wires or one.batch_size != other.batch_size:
        return False
    if isinstance(one, _OF_OUTCOMES) or [np.shape(d) for d in one.data] != [np.shape(d) for d in other.data]:
        return False
    return bool(qml.pytrees.flatten(one)[1] == qml.pytrees.flatten(other)[1])


def _whole(tapes: Sequence[QuantumScript]) -> QuantumScript | None:
    """One tape with the sets of values of all; None: an operation cannot have several."""
    sets = tapes[0].batch_size or 1
    operations = []
    for same in zip(*(tape.operations for tape in tapes), strict=True):
        operation = same[0]
        if operation.batch_size is not None or any(one is not operation for one in same):
            columns = zip(*(one.data for one in same), strict=True)
            data = [_column(values, own, sets) for values, own in zip(columns, operation.ndim_params, strict=True)]
            operation = with_values(operation, data)
        if operation is None:
            return None
        operations.append(operation)
    whole = tapes[0].copy(operations=operations, trainable_params=())
    return whole if whole.batch_size == sets * len(tapes) else None


def _column(values: Sequence[Any], dimensions: int, sets: int) -> Any:
    """The values of one parameter in all tapes, which have the same shape, one below the other."""
    different = {id(one): one for one in values}  # few: tapes of a gradient share what was not shifted
    places = {key: place for place, key in enumerate(different)}
    arrays = [np.asarray(one if isinstance(one, _NUMPY) else qml.math.toarray(one)) for one in different.values()]
    whole = np.stack(arrays)[[places[id(one)] for one in values]]
    if whole.ndim - 1 > dimensions:
        return whole.reshape(-1, *whole.shape[2:])
    return np.repeat(whole, sets, axis=0)


def with_values(operation: Any, values: Sequence[Any]) -> Any:
    """The operation with other numbers in the place of its data, in order; None: it cannot be made of its parts, or not
    of several sets of values."""
    leaves, structure = qml.pytrees.flatten(operation)
    data = operation.data
    places = [place for place, leaf in enumerate(leaves) if any(leaf is one for one in data)]
    if [id(leaves[place]) for place in places] != [id(one) for one in data]:
        return None
    for place, value in zip(places, values, strict=True):
        leaves[place] = value
    try:
        changed = qml.pytrees.unflatten(leaves, structure)
        changed.batch_size  # noqa: B018 - raises where the operation is not whole
    except (AttributeError, TypeError, ValueError):  # such as `Evolution`
        return None
    return changed


# ---- parts --------------------------------------------------------------------------------------------------------


def parts(tape: QuantumScript, slots: int | None, *, together: bool) -> list[QuantumScript]:
    """The tape in ones with fewer sets of values, in order; one with a single set is a plain tape.

    Args:
        tape: with several sets.
        slots: of the pilots, each of which should have a part; None: not known.
        together: the sets of a part are in memory at the same time.
    """
    amplitudes = tape.batch_size << tape.num_wires
    most = max(1, min(slots or 1, amplitudes * max(1, len(tape.operations)) // LEAST_WORK))
    if together:
        number = max(most, -(-amplitudes // AMPLITUDES))
    else:
        number = tape.batch_size if tape.num_wires > MAX_SHARED_WIRES else most
    size = -(-tape.batch_size // min(number, tape.batch_size))
    if 1 < tape.batch_size <= size:  # one set is always a plain tape: PennyLane loses the axis of some values
        return [tape]
    cut = [with_sets(tape, slice(first, first + size)) for first in range(0, tape.batch_size, size)]
    return [tape] if None in cut else cut


def with_sets(tape: QuantumScript, sets: slice) -> QuantumScript | None:
    """The tape with some of its sets. PennyLane's ``bind_new_parameters`` keeps the old number of them.

    None: an operation is not made of its own parts, such as `Evolution`.
    """

    def cut(value: Any) -> Any:
        some = value[sets]
        return some if len(some) > 1 else some[0]

    operations = []
    for operation in tape.operations:
        if operation.batch_size is not None:
            pairs = zip(operation.data, operation.ndim_params, strict=True)
            operation = with_values(operation, [cut(value) if np.ndim(value) > own else value for value, own in pairs])
            if operation is None:
                return None
        operations.append(operation)
    return tape.copy(operations=operations, trainable_params=tape.trainable_params)


def single(tape: QuantumScript) -> list[QuantumScript]:
    """A tape for each set of values.

    Raises:
        NotImplementedError: an operation is not made of its own parts.
    """
    if tape.batch_size is None:
        return [tape]
    alone = [with_sets(tape, slice(number, number + 1)) for number in range(tape.batch_size)]
    if any(one is None for one in alone):
        raise NotImplementedError(f"a tape with {tape.batch_size} sets of values that cannot be taken apart")
    return alone


# ---- results ------------------------------------------------------------------------------------------------------


def joined(whole: QuantumScript, pieces: Sequence[tuple[QuantumScript, Any]]) -> Any:
    """The result of a tape from those of its parts, each of which has several sets of values or is a plain tape."""
    first, value = pieces[0]
    if first.batch_size == whole.batch_size:
        return value
    return _concatenated([value if part.batch_size is not None else _of_one_set(value) for part, value in pieces])


def one_below_the_other(values: Sequence[Any]) -> Any:
    """The result of a tape from those for each of its sets of values."""
    return _concatenated([_of_one_set(value) for value in values])


def _of_one_set(value: Any) -> Any:
    """With an axis for the sets in front; counts become a list of one mapping."""
    if isinstance(value, tuple | list):
        return tuple(_of_one_set(one) for one in value)
    return [value] if isinstance(value, dict) else np.asarray(value)[None]


def _concatenated(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, tuple | list):
        if isinstance(first[0], dict):
            return [one for value in values for one in value]
        return tuple(_concatenated(one) for one in zip(*values, strict=True))
    return np.concatenate(values)
