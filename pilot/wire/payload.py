"""How Python values travel: pickled, small ones inside the message, large ones through files.

Pickle protocol 5 throughout; ``pickles.py`` says what travels by name and what by value. A value above a limit (see
``spool.py``) is written to files below the session folder, with its large buffers out of band. Files above 1 MiB are
mapped: their arrays are not copied, and read-only.

A `Task` among the arguments pickles as a reference to its id; the process that loads the arguments supplies the
results. An `ObjectRef` pickles as a reference to its files, and becomes its value where the arguments are loaded.
"""

from __future__ import annotations

import errno
import pickle
import threading
import traceback
from collections.abc import Mapping
from typing import Any

import msgspec

from pilot import errors
from pilot.errors import NotPicklable, QPUError, SessionError, TaskError
from pilot.resources import QPUEstimate
from pilot.results import Failure, Spooled, Value
from pilot.wire import exceptions, pickles
from pilot.wire.callables import name_of
from pilot.wire.spool import Spool, Store

#: Errors of the system when there is no room or a file system cannot be written now: not the task's error.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE)
#: The largest pickle of a function with all that it refers to, in bytes.
FUNCTION_BYTES = 64 << 20

_local = threading.local()


def dump(value: Any, store: Store, what: str) -> Value:
    """The value, ready to travel.

    Args:
        value: any picklable Python value.
        store: where it goes when it is large.
        what: its name in errors, such as "the result".

    Raises:
        NotPicklable: it cannot be pickled; the message says what and why.
        SessionError: it is large and its file cannot be written.
    """
    if value is None:
        return None
    data, raws = frames_of(apart(value, store.limit), what)
    if len(data) > store.limit or (raws and len(data) + sum(raw.nbytes for raw in raws) > store.limit):
        return spooled([memoryview(data), *raws], store, what)
    return pickled(value) if raws else data


class _Apart:
    """Bytes that pickle as a buffer of their own, which pickle itself does for arrays only."""

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> Any:
        return type(self._value), (pickle.PickleBuffer(self._value),)


def apart(value: Any, limit: int) -> Any:
    """The value, or what pickles like it: bytes above the limit as a buffer, so that they are not copied."""
    return _Apart(value) if is_plain(value) and len(value) > limit else value


def is_plain(value: Any) -> bool:
    """True for bytes: a file with them has nothing else."""
    return type(value) in (bytes, bytearray)


def spooled(frames: list[memoryview], store: Store, what: str, limit: int | None = None) -> Spooled:
    """A value with these frames, written to files. Those above the store's limit have a file each; the others have one
    together, unless they take at most ``limit`` bytes (None: the store's).

    Raises:
        SessionError: they cannot be written.
    """
    size = sum(frame.nbytes for frame in frames)
    large: dict[int, str] = {}
    readonly: list[int] = []
    try:
        for place, frame in enumerate(frames):
            if frame.nbytes > store.limit:
                large[place] = store.store(frame.cast("B"))
            if frame.readonly and (place or place in large):  # a small pickle comes first and is not asked for
                readonly.append(place)
        small = [frame for place, frame in enumerate(frames) if place not in large]
        in_message = sum(frame.nbytes for frame in small) <= (store.limit if limit is None else limit)
        path = "" if in_message else store.write(small)
    except OSError as error:
        store.release(list(large.values()))
        raise unwritten(what, size, store, error) from error
    return Spooled(path, size, () if path else tuple(map(bytes, small)), large, tuple(readonly))


def unwritten(what: str, size: int, store: Store, error: OSError) -> SessionError:
    """The error about a value that cannot be written."""
    message = f"{what} ({size:,} bytes) cannot be written to {store.folder}: {error}"
    return SessionError(message, path=str(store.folder), size=size, errno=error.errno)


def pickled(value: Any) -> bytes:
    """The pickle of a value, with its buffers in it."""
    return _pickle(value, None)


def frames_of(value: Any, what: str) -> tuple[bytes, list[memoryview]]:
    """The pickle of a value, and its buffers.

    Raises:
        NotPicklable: it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = _pickle(value, buffers)
    except Exception as error:
        kind = type(value).__qualname__
        raise NotPicklable(f"{what} cannot be pickled ({kind}): {type(error).__name__}: {error}") from error
    return data, [buffer.raw() for buffer in buffers]


def pieces(value: Any, pickler: type[pickles.Pickler] | None = None) -> list[bytes | memoryview]:
    """The pickle of a value, and the large buffers beside it. A ``pickler`` is for what travels by value."""
    buffers: list[pickle.PickleBuffer] = []
    return [_pickle(value, buffers, pickler), *(buffer.raw() for buffer in buffers)]


def load(value: Value, references: Mapping[int, Value] | None = None, spool: Spool | None = None) -> Any:
    """What `dump` took, with its spool; references to tasks become their results."""
    if value is None:
        return None
    if not references and type(value) is bytes:
        return pickle.loads(value)
    before = getattr(_local, "loading", None)
    _local.loading = references or {}, spool
    try:
        if isinstance(value, Spooled):
            assert spool is not None
            data, *buffers = spool.read(value)
            return pickle.loads(data, buffers=buffers)
        return pickle.loads(value)
    finally:
        _local.loading = before


def dump_function(function: Any) -> bytes:
    """A callable as it is now, for `load`.

    Raises:
        NotPicklable: it cannot be pickled; says what and why.
    """
    try:
        code = _pickle(function, None)
    except Exception as error:
        raise NotPicklable(
            f"the function {name_of(function)} cannot be pickled: {type(error).__name__}: {error}"
        ) from error
    if len(code) > FUNCTION_BYTES:
        raise NotPicklable(
            f"the function {name_of(function)} takes {len(code):,} bytes along (at most {FUNCTION_BYTES:,}): give it "
            "large data as an argument"
        )
    return code


def _pickle(
    value: Any, buffers: list[pickle.PickleBuffer] | None, pickler: type[pickles.Pickler] | None = None
) -> bytes:
    collect = None if buffers is None else buffers.append
    data = pickles.dumps_by_name(value, collect)
    if data is None:
        if buffers is not None:
            buffers.clear()
        if (found := found_here()) is not None:
            found.tasks.clear()
            found.objects.clear()
        data = pickles.dumps_by_value(value, collect, pickler)
    return data


# ---- work of MPI ranks ----------------------------------------------------------------------------------------

_work_decode = msgspec.msgpack.Decoder(tuple[bytes, Value]).decode
_packed_decode = msgspec.msgpack.Decoder(tuple[int, int | Value]).decode


def dump_work(function: bytes, args: Any, kwargs: Any, spool: Spool) -> bytes:
    """A function of `dump_function` with its arguments, for `load_work` in another process that sees the spool."""
    return msgspec.msgpack.encode((function, dump((args, kwargs), spool, "an argument")))


def load_work(data: bytes, spool: Spool) -> tuple[Any, Any, Any]:
    """Function, args and kwargs."""
    code, value = _work_decode(data)
    args, kwargs = load(value, spool=spool)
    return load(code), args, kwargs


def pack(status: int, value: int | Value) -> bytes:
    """The result of a rank: a status, and its value."""
    return msgspec.msgpack.encode((status, value))


def unpack(data: bytes) -> tuple[int, Any]:
    """What `pack` took."""
    return _packed_decode(data)


# ---- tasks and objects among the arguments --------------------------------------------------------------------


class collecting:  # noqa: N801 - reads as a statement: with collecting() as found
    """Within it, tasks and objects may be pickled as references; they are collected, by id.

    With ``by_content`` objects pickle as digests of their contents, and tasks that have a key as that key: a later
    attempt, and the task of another run of a script, count as the same. What is pickled so is never loaded.
    """

    __slots__ = ("_outer", "by_content", "objects", "tasks")

    def __init__(self, by_content: bool = False) -> None:
        self.tasks: dict[int, Any] = {}
        self.objects: dict[int, Any] = {}
        self.by_content = by_content

    def __enter__(self) -> collecting:
        self._outer = found_here()  # while an argument is pickled, its class may submit a task
        _local.found = self
        return self

    def __exit__(self, *exc: object) -> None:
        _local.found = self._outer


def found_here() -> collecting | None:
    """What is collected in this thread; None outside of `collecting`."""
    return getattr(_local, "found", None)


def spool_here() -> Spool:
    """Where the value that this thread loads has its files."""
    spool: Spool = _local.loading[1]
    return spool


def refer(task_id: int, key: str | None, task: Any) -> tuple[Any, ...]:
    """What ``Task.__reduce__`` returns: a reference inside `collecting`; by its key, where it has one and is only to be
    compared.

    Raises:
        TypeError: outside of it; a task is known to its own manager only.
    """
    if (found := found_here()) is None:
        raise TypeError("a Task can be pickled only as an argument of a task: submit_task(function, task)")
    found.tasks[task_id] = task
    return _dereference, (key if found.by_content and key is not None else task_id,)


def _dereference(task_id: int) -> Any:
    references, spool = _local.loading
    return load(references[task_id], spool=spool)


# ---- exceptions -----------------------------------------------------------------------------------------------

_failure_encode = msgspec.msgpack.Encoder().encode
_failure_decode = msgspec.msgpack.Decoder(Failure).decode


class RemoteTraceback(Exception):
    """Shown as the cause of a task's exception: the traceback in the worker."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def dump_exception(error: BaseException) -> bytes:
    """An exception, ready to travel; as text only when its pickle does not restore it.

    What is no `Exception`, such as SystemExit, must not end the caller and travels as text.
    """
    message, trace = _unicode(errors.text_of(error)), _unicode(_traceback_of(error))
    kind = type(error)  # isinstance may ask the exception itself
    pickled = exceptions.dumps(error) if issubclass(kind, Exception) else None
    instead = "TaskError" if issubclass(kind, Exception) else "TaskExited"
    classes = tuple(map(_unicode, exceptions.classes_of(kind)))
    return _failure_encode(Failure(pickled, kind.__qualname__, message, trace, instead, classes=classes))


def dump_unwritten(error: SessionError) -> bytes | None:
    """As `dump_exception`, for a value that there was no room for; None when something else was wrong."""
    if error.data.get("errno") not in NO_ROOM:
        return None
    return _failure_encode(msgspec.structs.replace(_failure_decode(dump_exception(error)), size=error.size))


def dump_refused(error: BaseException) -> bytes | None:
    """As `dump_exception`, for a circuit that its QPU refuses and another one may take; None for any other error."""
    offer = error.data.get("offer") if isinstance(error, QPUError) else None
    if not isinstance(offer, QPUEstimate):
        return None
    return _failure_encode(msgspec.structs.replace(_failure_decode(dump_exception(error)), offer=offer))


def load_exception(value: bytes, where: str, *notes: str, **data: Any) -> BaseException:
    """The exception, if it can be restored here, else a `TaskError` with its text; with the remote traceback as
    its cause, and notes.

    Args:
        value: of `dump_exception`.
        where: who raised it, for the text of the `TaskError`.
        *notes: what to add; not ``where`` again where the text has it.
        **data: of the `TaskError`.
    """
    failure = _failure_decode(value)
    error = None if failure.pickled is None else _unpickled(failure.pickled)
    if error is None:
        kind: type[TaskError] = getattr(errors, failure.instead, TaskError)
        error = kind(f"{where} raised {failure.kind}: {failure.message}", **data)
        notes = tuple(note for note in notes if note != where)
    cause = RemoteTraceback(failure.traceback)
    for note in exceptions.explain(error, cause, notes):
        cause.text += f"{note}\n"
    return error


def _unpickled(data: bytes) -> Exception | None:
    try:
        error = pickle.loads(data)
    except KeyboardInterrupt:
        raise
    except BaseException:  # its class cannot be imported here, or has code that fails
        return None
    return error if exceptions.is_usable(error) else None


def _unicode(text: str) -> str:
    """Without what UTF-8 cannot express: surrogates, as in file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-50))
    except BaseException:  # its attributes cannot be read
        frames = traceback.format_tb(exceptions.traceback_of.__get__(error), limit=-50)
        return "".join((*frames, f"{type(error).__qualname__}: {errors.text_of(error)}\n"))
