"""Arguments of tasks: what is large in them is in files that several tasks may share; objects, which many tasks use.

Read ``payload.py`` first, and ``sharing.py`` of the manager next, which counts who uses a file.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from pilot.results import Spooled, Value
from pilot.wire import payload
from pilot.wire.spool import Spool

#: Bytes of an object that are part of each reference to it, at most.
OBJECT_BYTES = 4 << 10


class Store(Protocol):
    """Takes frames that other values may have, too."""

    @property
    def spool(self) -> Spool:
        """Where the other frames go."""

    def store(self, frame: memoryview) -> str:
        """The name of a file that is this frame: a new one, or one that is there already; OSError: there is no room."""

    def write(self, frames: Sequence[memoryview]) -> str:
        """The name of a new file with these frames."""

    def release(self, files: Sequence[str]) -> None:
        """These files, one for each call of `store` and `write`, are not needed after all."""


def dump_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], store: Store, what: str, found: payload.Found
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
    limit = store.spool.limit
    value: Any = args, kwargs
    if any(is_plain(one) and len(one) > limit for one in (*args, *kwargs.values())):
        value = tuple(_apart(one, limit) for one in args), {name: _apart(one, limit) for name, one in kwargs.items()}
    data, raws = payload.frames_of(value, what)
    objects: tuple[str, ...] = ()
    if found.objects:
        objects = tuple(dict.fromkeys(file for one in found.objects.values() for file in one.value.files))
    if len(data) > limit or (raws and len(data) + sum(raw.nbytes for raw in raws) > limit):
        frames = [memoryview(data), *raws]
        large = [place for place, frame in enumerate(frames) if frame.nbytes > limit]
        return msgspec.structs.replace(_spooled(frames, large, limit, store, what), objects=objects)
    if raws:
        data = payload.pickled(value)
    return Spooled("", len(data), frames=(data,), objects=objects) if objects else data


def dump_object(value: Any, store: Store) -> Spooled:
    """A value that many tasks use, in files but for its small frames. Bytes have a file of their own, however few.

    Raises:
        NotPicklable: as `dump_arguments`.
        SessionError: as `dump_arguments`.
    """
    data, raws = payload.frames_of(_apart(value, -1), "the object")
    frames = [memoryview(data), *raws]
    limit = -1 if is_plain(value) else store.spool.limit
    large = [place for place, frame in enumerate(frames) if frame.nbytes > limit and (place or limit >= 0)]
    return _spooled(frames, large, OBJECT_BYTES, store, "the object")


def _spooled(frames: list[memoryview], large: list[int], inline: int, store: Store, what: str) -> Spooled:
    """These frames: the ``large`` ones in a file each; the others together in one, unless they take at most ``inline``
    bytes."""
    size = sum(frame.nbytes for frame in frames)
    shared: dict[int, str] = {}
    with payload.writing(what, size, store.spool):
        try:
            for place in large:
                shared[place] = store.store(frames[place].cast("B"))
            small = [frame for place, frame in enumerate(frames) if place not in shared]
            path = "" if sum(frame.nbytes for frame in small) <= inline else store.write(small)
        except OSError:
            store.release(list(shared.values()))
            raise
    return Spooled(path, size, frames=() if path else tuple(map(bytes, small)), shared=shared)


class _Apart:
    """Bytes that pickle as a buffer of their own, which pickle itself does for arrays only."""

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> Any:
        return type(self._value), (pickle.PickleBuffer(self._value),)


def is_plain(value: Any) -> bool:
    """True for bytes, of which a file of the spool has nothing else."""
    return type(value) in (bytes, bytearray)


def _apart(value: Any, limit: int) -> Any:
    return _Apart(value) if is_plain(value) and len(value) > limit else value


# ---- objects --------------------------------------------------------------------------------------------------


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
    (name,) = _decode_spooled(encoded).shared.values()
    return str(payload.spool_here().path(name))


def digest_of(value: Spooled, spool: Spool) -> bytes:
    """A digest of the frames of a value."""
    digest = hashlib.blake2b(digest_size=16)
    for frame in spool.read(value):
        digest.update(len(frame).to_bytes(8, "little"))
        digest.update(frame)
    return digest.digest()
