"""How Python values travel: pickled, small ones inside the message, large ones through a file.

Pickle protocol 5 throughout; ``pickles.py`` says what travels by name and what by value. A value above `SPOOL_BYTES` is
written to a file below the session folder with its large buffers out of band, and read by mmap: its arrays are not
copied. The arrays are read-only then.

A `Task` among the arguments pickles as a `Reference` to its id; the process that loads the arguments supplies the
results.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import pickle
import shutil
import struct
import threading
import traceback
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pilot import errors
from pilot.errors import NotPicklable, SessionError, TaskError
from pilot.results import Failure, Spooled, Value
from pilot.wire import exceptions, pickles
from pilot.wire.callables import name_of

#: Above this many bytes a value goes through a file.
SPOOL_BYTES = 1 << 20
#: Errors of the system when there is no room or a file system cannot be written now: not the task's error.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE)
#: Bytes that are written at most to see whether there is room.
PROBE_BYTES = 1 << 20
#: The largest pickle of a function with all that it refers to, in bytes.
FUNCTION_BYTES = 64 << 20

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<Q")
_local = threading.local()


class Spool:
    """Files for large values, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, frames: list[Any]) -> Spooled:
        """A new file with these frames, each behind its length; complete under its name or not there at all."""
        path = self.folder / f"{uuid.uuid4().hex}.pkl"
        part = path.with_suffix(".part")
        try:
            with part.open("wb", buffering=0) as file:
                for frame in frames:
                    view = memoryview(frame).cast("B")
                    file.write(_LENGTH.pack(view.nbytes))
                    while view.nbytes:  # one write takes at most 2 GiB
                        view = view[file.write(view) :]
                size = file.tell()
            part.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        return Spooled(path.name, size)

    def path(self, spooled: Spooled) -> Path:
        """Where the file is now: the folder may have been moved."""
        return self.folder / spooled.path

    def read(self, spooled: Spooled) -> list[memoryview]:
        """The frames of such a file, mapped and not copied."""
        with self.path(spooled).open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        frames, at = [], 0
        while at < whole.nbytes:
            (length,) = _LENGTH.unpack_from(whole, at)
            at += _LENGTH.size
            frames.append(whole[at : at + length])
            at += length
        return frames

    def has_room(self, size: int) -> bool:
        """True when so many bytes can probably be written; tried with a small file."""
        probe = self.folder / f"{uuid.uuid4().hex}.part"
        try:
            stat = os.statvfs(self.folder)
            if stat.f_bavail * stat.f_frsize < size:
                return False
            probe.write_bytes(bytes(min(size, PROBE_BYTES)))
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
        return True

    def copy(self, spooled: Spooled) -> Spooled:
        """The same value in a file that is discarded by itself; a link where the file system has them.

        Raises:
            OSError: the file is gone, or there is no room.
        """
        path = self.folder / f"{uuid.uuid4().hex}.pkl"
        try:
            os.link(self.path(spooled), path)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(self.path(spooled), path)
        return Spooled(path.name, spooled.size)

    def discard(self, value: Value) -> None:
        """Remove the file of a value that is no longer needed. A file that cannot be removed stays."""
        if isinstance(value, Spooled):
            try:
                self.path(value).unlink(missing_ok=True)
            except OSError as error:
                log.info("a file of the spool that is not needed any more stays: %s", error)


def dump(value: Any, spool: Spool, what: str) -> Value:
    """The value, ready to travel.

    Args:
        value: any picklable Python value.
        spool: where it goes when it is large.
        what: its name in errors, such as "the result".

    Raises:
        NotPicklable: it cannot be pickled; the message says what and why.
        SessionError: it is large and its file cannot be written.
    """
    if value is None:
        return None
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = _pickle(value, buffers)
    except Exception as error:
        kind = type(value).__qualname__
        raise NotPicklable(f"{what} cannot be pickled ({kind}): {type(error).__name__}: {error}") from error
    raws = [buffer.raw() for buffer in buffers]
    size = len(data) + sum(raw.nbytes for raw in raws)
    if size > SPOOL_BYTES:
        try:
            return spool.write([data, *raws])
        except OSError as error:
            message = f"{what} ({size:,} bytes) cannot be written to {spool.folder}: {error}"
            raise SessionError(message, path=str(spool.folder), size=size, errno=error.errno) from error
    return _pickle(value, None) if raws else data


def pieces(value: Any) -> list[bytes | memoryview]:
    """The pickle of a value, and the large buffers beside it."""
    buffers: list[pickle.PickleBuffer] = []
    return [_pickle(value, buffers), *(buffer.raw() for buffer in buffers)]


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


def _pickle(value: Any, buffers: list[pickle.PickleBuffer] | None) -> bytes:
    collect = None if buffers is None else buffers.append
    data = pickles.dumps_by_name(value, collect)
    if data is None:
        if buffers is not None:
            buffers.clear()
        if (found := getattr(_local, "found", None)) is not None:
            found.clear()
        data = pickles.dumps_by_value(value, collect)
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


# ---- tasks among the arguments --------------------------------------------------------------------------------


class collecting:  # noqa: N801 - reads as a statement: with collecting() as found
    """Within it, tasks may be pickled; their ids are collected."""

    def __enter__(self) -> dict[int, Any]:
        _local.found = {}
        return _local.found  # type: ignore[no-any-return]

    def __exit__(self, *exc: object) -> None:
        _local.found = None


def refer(task_id: int, task: Any) -> tuple[Any, ...]:
    """What ``Task.__reduce__`` returns: a reference inside `collecting`.

    Raises:
        TypeError: outside of it; a task is known to its own manager only.
    """
    found = getattr(_local, "found", None)
    if found is None:
        raise TypeError("a Task can be pickled only as an argument of a task: submit_task(function, task)")
    found[task_id] = task
    return _dereference, (task_id,)


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
    message, trace = _unicode(exceptions.text_of(error)), _unicode(_traceback_of(error))
    kind = type(error)  # isinstance may ask the exception itself
    pickled = exceptions.dumps(error) if issubclass(kind, Exception) else None
    instead = "TaskError" if issubclass(kind, Exception) else "TaskExited"
    return _failure_encode(Failure(pickled, kind.__qualname__, message, trace, instead))


def dump_unwritten(error: SessionError) -> bytes | None:
    """As `dump_exception`, for a value that there was no room for; None when something else was wrong."""
    if error.data.get("errno") not in NO_ROOM:
        return None
    return _failure_encode(msgspec.structs.replace(_failure_decode(dump_exception(error)), size=error.size))


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
        return "".join((*frames, f"{type(error).__qualname__}: {exceptions.text_of(error)}\n"))
