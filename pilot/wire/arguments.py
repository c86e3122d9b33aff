"""Arguments of tasks: what is large in them is in files that several tasks may share; objects, which many tasks use.

Read ``payload.py`` first, and ``sharing.py`` of the manager next, which counts who uses a file.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from pilot.results import Spooled, Value
from pilot.wire import payload
from pilot.wire.spool import Spool, Store

#: Types of values that refer to nothing.
_SCALARS = frozenset({type(None), bool, int, float, complex, str})
#: Bytes of an object that are part of each reference to it, at most.
OBJECT_BYTES = 4 << 10


def dump_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], store: Store, what: str, found: payload.collecting
) -> Value:
    """Arguments, ready to travel. A large buffer becomes a file that other arguments with the same content share.

    Args:
        args: any picklable Python values, with the tasks and objects that are ``found``.
        kwargs: the same, by name.
        store: takes the large buffers.
        what: their name in errors.
        found: of `collecting`, around this call.

    Raises:
        NotPicklable: they cannot be pickled; the message says what and why.
        SessionError: they are large and their files cannot be written.
    """
    limit = store.limit
    value = _with_bytes_apart(args, kwargs, limit)
    data, raws = payload.frames_of(value, what)
    objects: tuple[str, ...] = ()
    if found.objects:
        objects = tuple(dict.fromkeys(file for one in found.objects.values() for file in one.value.files))
    if len(data) > limit or (raws and len(data) + sum(raw.nbytes for raw in raws) > limit):
        return msgspec.structs.replace(payload.spooled([memoryview(data), *raws], store, what), objects=objects)
    if raws:
        data = payload.pickled(value)
    return Spooled("", len(data), frames=(data,), objects=objects) if found.objects else data


def dump_scalars(args: tuple[Any, ...], limit: int) -> bytes | None:
    """Arguments as `dump_arguments` has them, in a third of the time; None: one of them is neither a number nor a text,
    or they take more than ``limit`` bytes."""
    if not _SCALARS.issuperset(map(type, args)):
        return None
    data = pickle.dumps((args, {}), 5)
    return data if len(data) <= limit else None


def _with_bytes_apart(args: tuple[Any, ...], kwargs: Mapping[str, Any], limit: int) -> tuple[Any, Any]:
    """Arguments and named arguments, those that are many bytes as `payload.apart` has them."""
    for one in (*args, *kwargs.values()) if kwargs else args:
        if payload.is_plain(one) and len(one) > limit:
            apart = payload.apart
            return tuple(apart(one, limit) for one in args), {key: apart(one, limit) for key, one in kwargs.items()}
    return args, kwargs


# ---- objects --------------------------------------------------------------------------------------------------


def dump_object(value: Any, store: Store) -> Spooled:
    """A value that many tasks use, in files but for its small frames. Bytes have a file of their own, however few.

    Raises:
        NotPicklable: as `dump_arguments`.
        SessionError: as `dump_arguments`.
    """
    data, raws = payload.frames_of(payload.apart(value, -1), "the object")
    if not payload.is_plain(value):
        return payload.spooled([memoryview(data), *raws], store, "the object", OBJECT_BYTES)
    size = len(data) + raws[0].nbytes
    try:
        return Spooled("", size, (data,), {1: store.store(raws[0])}, (1,))
    except OSError as error:
        raise payload.unwritten("the object", size, store, error) from error


def load_object(value: Spooled, spool: Spool) -> Any:
    """What `dump_object` took. Its arrays are read-only."""
    data, *buffers = spool.read(value, writable=False)
    return pickle.loads(data, buffers=buffers)


class Referred(Protocol):
    """What `refer_object` asks of an object."""

    @property
    def id(self) -> int:
        """Its number in the session."""

    @property
    def value(self) -> Spooled:
        """Its files."""

    def digest(self) -> bytes:
        """The same for the same content."""


def refer_object(one: Referred, *, as_file: bool = False) -> tuple[Any, ...]:
    """What ``ObjectRef.__reduce__`` returns: a reference inside `collecting`, which is loaded as the value.

    Args:
        one: the object.
        as_file: it is loaded as the path of the file that has its bytes.

    Raises:
        TypeError: outside of `collecting`.
    """
    if (found := payload.found_here()) is None:
        raise TypeError("an ObjectRef can be pickled only as an argument of a task: submit_task(function, ref)")
    found.objects[one.id] = one
    if found.by_content:
        return bytes, (one.digest(),)
    return (_path_of_object if as_file else _open_object), (_encode_spooled(one.value),)


_encode_spooled = msgspec.msgpack.Encoder().encode
_decode_spooled = msgspec.msgpack.Decoder(Spooled).decode


def _open_object(encoded: bytes) -> Any:
    return load_object(_decode_spooled(encoded), payload.spool_here())


def _path_of_object(encoded: bytes) -> str:
    (name,) = _decode_spooled(encoded).large.values()
    return str(payload.spool_here().path(name))


def digest_of(value: Spooled, spool: Spool) -> bytes:
    """A digest of the frames of a value."""
    digest = hashlib.blake2b(digest_size=16)
    for frame in spool.read(value):
        digest.update(len(frame).to_bytes(8, "little"))
        digest.update(frame)
    return digest.digest()
