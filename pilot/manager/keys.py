"""Keys that users give tasks, so that each is submitted once: what was submitted under a key, as digests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import msgspec

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, NotPicklable
from pilot.manager.handles import Task
from pilot.manager.journal import KeyRow
from pilot.scheduling.records import FunctionRecord
from pilot.wire import payload
from pilot.wire.digests import digest_of_code, digest_of_value

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class Key(NamedTuple):
    """The key of a task, and the digests of its description's fields."""

    name: str
    digests: dict[str, bytes]
    #: One of the tasks that it needs and that have no key; None: there is none.
    nameless: Task | None = None

    def row(self, task: int) -> KeyRow:
        """For the journal."""
        return KeyRow(self.name, task, _encode(self.digests))


def check_same(task: Task, known: KeyRow, key: Key) -> None:
    """Raise DescriptionError, with what is different, unless the task was submitted like this."""
    before, now = _decode(known.digests), key.digests
    if different := sorted(field for field in before | now if before.get(field) != now.get(field)):
        hint = ""
        if (other := key.nameless) is not None:
            hint = (
                f"; task {other.id} ({other.name}) among them has no key, so that each run has another one: give it one"
            )
        raise DescriptionError(
            f"key: {key.name!r} is the key of task {task.id} ({task.name}), which was submitted with a different value "
            f"of {', '.join(different)}{hint}",
            field="key",
            given=key.name,
        )


def key_of(wanted: TaskDescription, register: Callable[[Any], FunctionRecord]) -> Key:
    """The key of a description that has one, with digests of the fields that do not have their defaults.

    Args:
        wanted: the description.
        register: gives what is known of a function.

    Raises:
        NotPicklable: a field cannot be pickled.
    """
    assert wanted.key is not None
    digests: dict[str, bytes] = {}
    nameless: Task | None = None
    for field, (plain, default) in _defaults().items():
        value: Any = tuple(wanted.args) if field == "args" else getattr(wanted, field)
        if value is plain:
            continue
        if field in ("function", "initializer") and value is not None:
            digests[field] = digest_of_code(register(value).code)
            continue
        if field == "circuit" and hasattr(value, "copy_empty_like"):
            value = value.copy(name="circuit")  # Qiskit numbers circuits: two that are equal have two names
        try:
            with payload.collecting(by_content=True) as found:  # tasks among them count by their keys
                digest = digest_of_value(value)
        except Exception as error:
            text = f"{field} cannot be pickled, so that the task can have no key: {type(error).__name__}: {error}"
            raise NotPicklable(text) from error
        if digest != default:
            digests[field] = digest
        nameless = next((task for task in found.tasks.values() if task.key is None), nameless)
    return Key(wanted.key, digests, nameless)


@cache
def _defaults() -> dict[str, tuple[Any, bytes]]:
    """By name, what each field is in a description that does not give it, and its digest."""
    default = TaskDescription(kind="none")
    values = {field: getattr(default, field) for field in default.__struct_fields__ if field != "key"}
    return {field: (value, digest_of_value(value)) for field, value in {**values, "kind": None}.items()}
