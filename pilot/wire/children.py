"""What a running task asks its manager, and what that answers: the frames behind `TaskCall` and `TaskReply`.

The tasks that it submits are its *children*. A function and its arguments are pickled by the worker and travel as they
are: the manager, which may lack the modules of the workers, never loads them.
"""

from __future__ import annotations

import msgspec

from pilot.resources import Terms
from pilot.results import Value


class NewTask(msgspec.Struct, frozen=True, array_like=True):
    """A call of a function: ``function`` is an index into those of its `Submission`."""

    function: int
    payload: Value
    terms: Terms
    name: str | None = None
    #: The tasks whose results are among the arguments, and those that have to end first.
    needs: list[int] = []
    after: list[int] = []
    key: str | None = None
    #: What was submitted under the key: digests by name.
    digests: dict[str, bytes] = {}


class NewDescription(msgspec.Struct, frozen=True, array_like=True):
    """A circuit or a program: its pickled `TaskDescription`, of which the manager makes tasks."""

    description: bytes
    after: list[int] = []


class Call(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of what a task asks."""


class Submission(Call, frozen=True, array_like=True):
    """Submit these, in this order."""

    #: Names and pickles.
    functions: list[tuple[str, bytes]]
    tasks: list[NewTask]
    descriptions: list[NewDescription] = []


class Watching(Call, frozen=True, array_like=True):
    """Tell of the end of each of these, now or later."""

    tasks: list[int]


class Cancelling(Call, frozen=True, array_like=True):
    """Cancel these."""

    tasks: list[int]


class Owning(Call, frozen=True, array_like=True):
    """To a manager that has attached: these are the task's, and have not ended as far as it knows."""

    tasks: list[int]


class Reply(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of what the manager answers."""


class Accepted(Reply, frozen=True, array_like=True):
    """The ids and names of what was submitted, in order."""

    tasks: list[tuple[int, str]]


class Rejected(Reply, frozen=True, array_like=True):
    """What was asked for is refused: an exception, as `payload.dump_exception` has it."""

    error: bytes


class Stuck(Reply, frozen=True, array_like=True):
    """The wait of this number would never end: an exception that says why."""

    error: bytes


class Ended(Reply, frozen=True, array_like=True):
    """A child is over. ``value`` is its result (`results.OK`), or an exception, or None when it was cancelled."""

    task: int
    status: int
    value: Value
    #: Where it ran, for the text of an exception.
    where: str


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Submission | Watching | Cancelling | Owning).decode
decode_reply = msgspec.msgpack.Decoder(Accepted | Rejected | Stuck | Ended).decode
