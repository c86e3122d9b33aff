"""What a task that estimates has in the journal: all that a manager which attaches needs to have it done."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pilot.descriptions import TaskDescription
from pilot.errors import NotPicklable
from pilot.results import Value
from pilot.wire import payload

#: Of a description, in place of the work itself, and of what means nothing to another manager.
_LEFT_OUT: dict[str, Any] = {
    "circuit": None,
    "observables": (),
    "parameters": None,
    "noise_model": None,
    "function": None,
    "args": (),
    "kwargs": {},
    "initializer": None,
    "initargs": (),
    "alternatives": (),
    "depends_on": (),
    "key": None,
    "retries": 0,
    "retry_delay": 0.0,
    "retry_on": (),
}


class Sampled(NamedTuple):
    """What is to be estimated."""

    #: The name of the estimator.
    kind: str
    #: `Prepared.sample`.
    sample: Any
    #: The description, without the work.
    wanted: TaskDescription


def not_estimated(*sampled: Any) -> None:
    """What a task that estimates is until it is known for which QPUs."""


def arguments_of(kind: str, sample: Any, wanted: TaskDescription) -> bytes:
    """The arguments of `not_estimated` for a task.

    Raises:
        NotPicklable: the sample, or a field of the description, cannot be pickled.
    """
    rest = msgspec.structs.replace(wanted, kind=kind, **_LEFT_OUT)
    try:
        return payload.pickled(((kind, sample, rest), {}))
    except Exception as error:
        what = f"what is estimated of {wanted.name or kind} cannot be pickled"
        raise NotPicklable(f"{what}: {type(error).__name__}: {error}") from error


def sampled_of(arguments: Value) -> Sampled:
    """What `arguments_of` took."""
    sampled, _ = payload.load(arguments)
    return Sampled(*sampled)
