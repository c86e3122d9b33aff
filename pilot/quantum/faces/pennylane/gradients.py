"""Derivatives by PennyLane's gradient transforms, such as parameter-shift: one batch of tapes for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pennylane.tape import QuantumScript

from pilot.quantum.faces.pennylane.sets import one_below_the_other, single

Run = Callable[[Sequence[QuantumScript]], list[Any]]


def by_transform(
    transform: Callable[..., Any], options: dict[str, Any], run: Run, tapes: Sequence[QuantumScript]
) -> list[tuple[Any, Any]]:
    """Results of tapes, and their Jacobians by the trainable parameters; `()` without any.

    Sets of values of what is not differentiated stay in one tape; of others each is a tape.

    Args:
        transform: of PennyLane's, from a tape to tapes and what makes the Jacobian.
        options: of the transform.
        run: gives the results of tapes; called once.
        tapes: with numbers.
    """
    batch = list(tapes)
    makers: list[tuple[int, int, Callable[..., Any], bool]] = []
    for number, tape in enumerate(tapes):
        split = _has_trainable_sets(tape)
        for one in single(tape) if split else [tape]:
            if tape.trainable_params:
                shifted, make = transform(one, **options)
                makers.append((number, len(shifted), make, split))
                batch += shifted
    results = iter(run(batch))
    own = [next(results) for _ in tapes]
    jacobians: list[list[Any]] = [[] for _ in tapes]
    for number, count, make, _ in makers:
        jacobians[number].append(make([next(results) for _ in range(count)]))
    apart = {number for number, _, _, split in makers if split}
    return [
        (result, one_below_the_other(each) if number in apart else each[0] if each else ())
        for number, (result, each) in enumerate(zip(own, jacobians, strict=True))
    ]


def _has_trainable_sets(tape: QuantumScript) -> bool:
    if tape.batch_size is None:
        return False
    operations = (tape.get_operation(place)[0] for place in range(len(tape.trainable_params)))
    return any(getattr(one, "batch_size", None) is not None for one in operations)
